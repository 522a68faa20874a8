//! Ways for bytes of a file, or of memory, to reach sockets: one thread that serves many receivers in one of them, so
//! that they can be measured side by side. For `corelog-bench fetch-paths`; a broker never runs it. What came of it is
//! docs/decisions/0008.
//!
//! A receiver asks with one byte, [`ASK`], and gets the next response of a stream that repeats the file without end. With
//! [`MARK`], on the first connection and when nothing is owed to anybody, everyone begins again at the start of the
//! file, a [`Mark`] is taken, and the byte comes back.
//!
//! All ways share one cycle: `poll`, then one step for each socket that takes bytes, which is never more than to the end
//! of an extent. Receivers are at about the same place: an extent is read once for all, two ahead of the foremost, and its
//! memory is used again when the last has passed it.
//!
//! Blocks its thread. Relies on no other part of the runtime, so that a way can be tried that the reactor could not take.

mod calls;
mod memory;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use calls::{Pipe, poll};
use memory::Mapping;

pub use calls::{CpuTime, process_cpu_time, thread_cpu_time};
pub use memory::Pages;

/// Asks for a response.
pub const ASK: u8 = b'a';
/// Asks for a mark.
pub const MARK: u8 = b'm';

/// Bytes that are read at once, as the broker does.
pub const EXTENT_BYTES: usize = 1 << 20;
/// Extents in memory.
const SLOTS: usize = 16;
/// How far ahead of the foremost receiver is read.
const AHEAD: u64 = 2;
/// What the file's size is a multiple of.
pub const FILE_UNIT_BYTES: u64 = memory::HUGE_BYTES as u64;

/// Where the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All in memory, which never changes.
    Memory,
    /// In memory that is replaced by fresh pages after all have taken it, as a log's tail would have to be whose pages were
    /// lent to sockets. The copy into the fresh pages, which an append makes anyway, is not counted, their making is.
    Replaced,
    /// Read from the drive (`O_DIRECT`) into memory that is used again, registered with the ring or not.
    Read { registered: bool },
    /// Read from the drive into fresh pages, which are let go afterwards.
    ReadFresh,
    /// In the page cache.
    Cached,
    /// In the file, whose pages the page cache was made to forget at the last mark.
    Uncached,
    /// In the file, past the page cache (`O_DIRECT`).
    Direct,
}

/// What brings them to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `send`: the kernel copies from memory.
    Send,
    /// The same by io_uring.
    RingSend,
    /// The same from memory that is registered with the ring (`IORING_OP_WRITE_FIXED`).
    RingWriteFixed,
    /// `IORING_OP_SEND_ZC`: the kernel copies nothing if the way of the packets allows it.
    SendZeroCopy { registered: bool },
    /// `vmsplice` of the pages into a pipe, and `splice` from there: nothing is copied.
    Lend,
    /// `sendfile`.
    Sendfile,
    /// `splice` into a pipe, which waits for the drive, and on to the socket.
    Splice,
    /// The same where io_uring splices into pipes ahead of need, in threads of the kernel.
    RingSplice,
}

/// A way.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub source: Source,
    pub carrier: Carrier,
    pub pages: Pages,
    /// Bytes that one call hands to a socket at most; not zero.
    pub call_bytes_max: usize,
    /// Looks at every extent before any of it is sent; what it returns is of no interest.
    pub check: Option<fn(&[u8]) -> u32>,
}

impl Way {
    /// Whether memory could change under a socket that still holds it, and whether the parts fit at all.
    fn is_possible(&self) -> bool {
        let in_memory = match self.source {
            Source::Memory | Source::Replaced | Source::Read { .. } | Source::ReadFresh => true,
            Source::Cached | Source::Uncached | Source::Direct => false,
        };
        let registered = matches!(self.source, Source::Memory | Source::Read { .. });
        (in_memory || self.check.is_none())
            && match self.carrier {
                Carrier::Send | Carrier::RingSend => in_memory,
                Carrier::RingWriteFixed | Carrier::SendZeroCopy { registered: true } => registered,
                Carrier::SendZeroCopy { registered: false } => registered,
                // Never memory that is written to again.
                Carrier::Lend => matches!(self.source, Source::Memory | Source::Replaced | Source::ReadFresh),
                Carrier::Sendfile | Carrier::Splice => !in_memory,
                Carrier::RingSplice => self.source == Source::Direct,
            }
    }

    fn registers(&self) -> bool {
        matches!(self.source, Source::Read { registered: true })
            || matches!(self.carrier, Carrier::RingWriteFixed | Carrier::SendZeroCopy { registered: true })
    }

    fn extent_bytes(&self) -> usize {
        match self.pages {
            Pages::Small => EXTENT_BYTES,
            Pages::Huge => memory::HUGE_BYTES,
        }
    }
}

/// What had been used up to a moment at which nothing was owed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    pub sent_bytes: u64,
    /// Calls that sent something.
    pub sends: u64,
    /// Of the serving thread.
    pub thread: CpuTime,
    /// Of the whole process.
    pub process: CpuTime,
    /// Of `thread`, what does not belong to the way: see [`Source::Replaced`].
    pub apart: Duration,
    /// Sends without a copy that the kernel has reported as done with, and those of them where it had copied all the same.
    pub notified: u64,
    pub notified_copied: u64,
}

/// Serves `sockets` with the bytes of `file` until all peers have ended their side; the file's size is a multiple of
/// [`FILE_UNIT_BYTES`], and responses are of `response_bytes`, which divide it, in whole pages. Returns the marks that
/// were asked for.
///
/// # Errors
/// `InvalidInput` for a way that cannot be; else what the kernel refuses: registered memory beyond the limit of locked
/// memory, an operation that it does not know, a file system without `O_DIRECT`, a connection that was lost.
pub fn serve(way: Way, file: &Path, response_bytes: usize, sockets: &[TcpStream]) -> io::Result<Vec<Mark>> {
    let mut server = Server::new(way, file, response_bytes, sockets)?;
    let served = server.run();
    // The kernel may still be reading into our memory.
    let settled = server.settle();
    served.and_then(|marks| settled.map(|()| marks))
}

/// A receiver.
struct Connection {
    socket: RawFd,
    /// Responses that it asked for and that were not begun.
    asked: usize,
    wants_mark: bool,
    has_ended: bool,
    /// Where in the stream it is, and what is left of the response under way.
    at: u64,
    left: usize,
    /// The socket takes nothing at the moment.
    is_full: bool,
    /// Pages on their way, the first first; and pipes that are empty.
    pipes: VecDeque<Filled>,
    empty: Vec<Pipe>,
    /// Where the next pipe will begin.
    piped_to: u64,
}

struct Filled {
    pipe: Pipe,
    /// What is in it; `None` while it is being filled.
    bytes: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Empty,
    Coming,
    There,
}

struct Server {
    way: Way,
    file: File,
    /// The same file for what is not `O_DIRECT`.
    cached: File,
    file_bytes: u64,
    response_bytes: usize,
    memory: Option<Mapping>,
    /// What replaced memory is filled with.
    content: Vec<u8>,
    ring: Option<Ring>,
    slots: Vec<Slot>,
    /// The extent that comes into memory next.
    next_extent: u64,
    connections: Vec<Connection>,
    polled: Vec<libc::pollfd>,
    counts: Mark,
}

/// What an operation of the ring was for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read {
        slot: usize,
    },
    /// Of memory in this slot; 0 where there are none.
    Send {
        slot: usize,
    },
    /// Into the pipe with this end.
    Pipe {
        into: RawFd,
    },
}

impl Purpose {
    fn to_number(self) -> u64 {
        match self {
            Purpose::Send { slot } => slot as u64,
            Purpose::Read { slot } => 1 << 32 | slot as u64,
            Purpose::Pipe { into } => 2 << 32 | u64::from(into.unsigned_abs()),
        }
    }

    fn of_number(number: u64) -> Purpose {
        match (number >> 32, (number & u64::from(u32::MAX)) as usize) {
            (0, slot) => Purpose::Send { slot },
            (1, slot) => Purpose::Read { slot },
            (_, into) => Purpose::Pipe { into: into as RawFd },
        }
    }
}

/// A private ring, and what the kernel still has to do for it.
struct Ring {
    ring: IoUring,
    /// Operations whose completion is still to come, without notifications.
    under_way: usize,
    /// Sends whose memory the kernel still refers to, by slot.
    unnotified: [usize; SLOTS],
    completed: VecDeque<(Purpose, i32)>,
}

/// `IORING_SEND_ZC_REPORT_USAGE`, and the bit of a notification that says "copied".
const REPORT_USAGE: u16 = 1 << 3;
const WAS_COPIED: u32 = 1 << 31;

impl Ring {
    fn new() -> io::Result<Ring> {
        // Not `DEFER_TASKRUN`, as the broker's: who waits in `poll` would not be woken by such a ring.
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(256)?;
        Ok(Ring { ring, under_way: 0, unnotified: [0; SLOTS], completed: VecDeque::new() })
    }

    /// Hands an operation over.
    ///
    /// # Safety
    /// What it refers to lives, and what it writes to is not looked at, until it has completed.
    unsafe fn submit(&mut self, entry: squeue::Entry, purpose: Purpose) -> io::Result<()> {
        let entry = entry.user_data(purpose.to_number());
        // SAFETY: as this function's.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.under_way += 1;
        self.enter(0)
    }

    /// Whether the kernel still refers to memory that was sent.
    fn is_lent(&self) -> bool {
        self.unnotified.iter().any(|count| *count > 0)
    }

    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                entered => return entered.map(drop),
            }
        }
    }

    /// Takes what is complete; counts notifications.
    fn take(&mut self, counts: &mut Mark) {
        for entry in self.ring.completion() {
            let purpose = Purpose::of_number(entry.user_data());
            let sent_from = if let Purpose::Send { slot } = purpose { slot } else { 0 };
            if cqueue::notif(entry.flags()) {
                self.unnotified[sent_from] -= 1;
                counts.notified += 1;
                counts.notified_copied += u64::from(entry.result() as u32 & WAS_COPIED != 0);
                continue;
            }
            self.under_way -= 1;
            self.unnotified[sent_from] += usize::from(cqueue::more(entry.flags()));
            self.completed.push_back((purpose, entry.result()));
        }
    }

    /// Sends with an operation that completes at once.
    ///
    /// # Safety
    /// As [`Ring::submit`]; and of a send without a copy, the memory stays as it is until it is notified.
    unsafe fn send(&mut self, entry: squeue::Entry, slot: usize, counts: &mut Mark) -> io::Result<usize> {
        let purpose = Purpose::Send { slot };
        // SAFETY: pushed as by `submit`, but handed over together with the wait.
        unsafe { self.ring.submission().push(&entry.user_data(purpose.to_number())) }.map_err(io::Error::other)?;
        self.under_way += 1;
        loop {
            self.enter(1)?;
            self.take(counts);
            if let Some(index) = self.completed.iter().position(|(completed, _)| *completed == purpose) {
                let (_, result) = self.completed.remove(index).expect("found there");
                return usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            }
        }
    }
}

impl Server {
    fn new(way: Way, path: &Path, response_bytes: usize, sockets: &[TcpStream]) -> io::Result<Server> {
        let invalid = |what: &str| io::Error::new(ErrorKind::InvalidInput, what.to_owned());
        if !way.is_possible() || way.call_bytes_max == 0 {
            return Err(invalid("this way of sending does not go with this source"));
        }
        let is_direct = matches!(way.source, Source::Read { .. } | Source::ReadFresh | Source::Direct);
        let flags = if is_direct { libc::O_DIRECT } else { 0 };
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let cached = File::open(path)?;
        let file_bytes = cached.metadata()?.len();
        if file_bytes == 0 || !file_bytes.is_multiple_of(FILE_UNIT_BYTES) {
            return Err(invalid("the file's size is no multiple of its unit"));
        }
        if response_bytes == 0 || !response_bytes.is_multiple_of(4096) || file_bytes % response_bytes as u64 != 0 {
            return Err(invalid("responses are of whole pages, and divide the file"));
        }
        let extent_bytes = way.extent_bytes();
        let (memory, content, slots) = match way.source {
            Source::Memory => {
                let bytes = usize::try_from(file_bytes).map_err(io::Error::other)?;
                let mut memory = Mapping::new(bytes, way.pages)?;
                cached.read_exact_at(memory.bytes_mut(0..bytes), 0)?;
                (Some(memory), Vec::new(), 0)
            }
            Source::Replaced => {
                let mut content = vec![0; usize::try_from(file_bytes).map_err(io::Error::other)?];
                cached.read_exact_at(&mut content, 0)?;
                (Some(Mapping::new(SLOTS * extent_bytes, way.pages)?), content, SLOTS)
            }
            Source::Read { .. } | Source::ReadFresh => {
                let mut memory = Mapping::new(SLOTS * extent_bytes, way.pages)?;
                if way.source != Source::ReadFresh {
                    memory.populate(0..memory.len())?;
                }
                (Some(memory), Vec::new(), SLOTS)
            }
            Source::Cached => {
                // Into the page cache.
                let mut block = vec![0; EXTENT_BYTES];
                for at in (0..file_bytes).step_by(EXTENT_BYTES) {
                    cached.read_exact_at(&mut block, at)?;
                }
                (None, Vec::new(), 0)
            }
            Source::Uncached | Source::Direct => (None, Vec::new(), 0),
        };
        let by_ring = matches!(way.source, Source::Read { .. } | Source::ReadFresh)
            || !matches!(way.carrier, Carrier::Send | Carrier::Lend | Carrier::Sendfile | Carrier::Splice);
        let ring = by_ring.then(Ring::new).transpose()?;
        if let (Some(ring), Some(memory), true) = (&ring, &memory, way.registers()) {
            let whole = 0..memory.len();
            let piece = libc::iovec { iov_base: memory.place(&whole).cast(), iov_len: whole.len() };
            // SAFETY: the kernel holds the pages of its own accord; the mapping outlives every operation on them.
            unsafe { ring.ring.submitter().register_buffers(&[piece])? };
        }
        let connections = sockets.iter().map(|socket| {
            // With `sendfile` from the drive, a page that was read and finds no room in the socket is read again, from
            // the middle of a block, which is refused. So that way waits for room within the call.
            let waits = way.source == Source::Direct && way.carrier == Carrier::Sendfile;
            socket.set_nonblocking(!waits)?;
            let pipes = match way.carrier {
                Carrier::Lend | Carrier::Splice => 1,
                Carrier::RingSplice => 1 + AHEAD as usize,
                _ => 0,
            };
            Ok(Connection {
                socket: socket.as_raw_fd(),
                asked: 0,
                wants_mark: false,
                has_ended: false,
                at: 0,
                left: 0,
                is_full: false,
                pipes: VecDeque::new(),
                empty: (0..pipes).map(|_| Pipe::new(EXTENT_BYTES)).collect::<io::Result<_>>()?,
                piped_to: 0,
            })
        });
        Ok(Server {
            way,
            file,
            cached,
            file_bytes,
            response_bytes,
            memory,
            content,
            ring,
            slots: vec![Slot::Empty; slots],
            next_extent: 0,
            connections: connections.collect::<io::Result<_>>()?,
            polled: Vec::new(),
            counts: Mark::default(),
        })
    }

    fn run(&mut self) -> io::Result<Vec<Mark>> {
        let mut marks = Vec::new();
        loop {
            self.load()?;
            let mut has_moved = false;
            for index in 0..self.connections.len() {
                let connection = &mut self.connections[index];
                if connection.left == 0 && connection.asked > 0 {
                    connection.asked -= 1;
                    connection.left = self.response_bytes;
                }
                if connection.left > 0 && !connection.is_full && self.is_there(index) {
                    has_moved |= self.step(index)?;
                }
            }
            if has_moved {
                continue;
            }
            if self.connections.iter().all(|connection| connection.has_ended) {
                return Ok(marks);
            }
            self.wait()?;
            if self.connections.first().is_some_and(|first| first.wants_mark) {
                marks.push(self.mark()?);
            }
        }
    }

    /// Waits for requests, for room in sockets and for the ring.
    fn wait(&mut self) -> io::Result<()> {
        self.polled.clear();
        for connection in &self.connections {
            let mut events = 0;
            if connection.left == 0 && connection.asked == 0 && !connection.has_ended {
                events |= libc::POLLIN;
            }
            if connection.left > 0 && connection.is_full {
                events |= libc::POLLOUT;
            }
            // A negative descriptor is passed over.
            let fd = if events == 0 { -1 } else { connection.socket };
            self.polled.push(libc::pollfd { fd, events, revents: 0 });
        }
        // Notifications matter only where memory is used again.
        let waits = |ring: &&Ring| ring.under_way > 0 || (!self.slots.is_empty() && ring.is_lent());
        if let Some(ring) = self.ring.as_ref().filter(waits) {
            self.polled.push(libc::pollfd { fd: ring.ring.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        }
        poll(&mut self.polled)?;
        for (connection, polled) in self.connections.iter_mut().zip(&self.polled) {
            if polled.revents & libc::POLLOUT != 0 {
                connection.is_full = false;
            }
            if polled.revents & !libc::POLLOUT != 0 {
                connection.hear()?;
            }
        }
        if self.polled.get(self.connections.len()).is_some_and(|ring| ring.revents != 0) {
            self.reap(1)?;
        }
        Ok(())
    }

    /// Enters the ring, waits for so many completions, and notes what came.
    fn reap(&mut self, wanted: usize) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        ring.enter(wanted)?;
        ring.take(&mut self.counts);
        self.arrive()
    }

    /// Notes what the ring has done.
    fn arrive(&mut self) -> io::Result<()> {
        while let Some((purpose, result)) = self.ring.as_mut().and_then(|ring| ring.completed.pop_front()) {
            let count = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))?;
            let extent_bytes = self.way.extent_bytes();
            let expected = match purpose {
                Purpose::Read { slot } => {
                    self.slots[slot] = Slot::There;
                    if let (Some(memory), Some(check)) = (&self.memory, self.way.check) {
                        std::hint::black_box(check(memory.bytes(range(slot, extent_bytes))));
                    }
                    extent_bytes
                }
                Purpose::Pipe { into } => {
                    // The kernel's workers may end in another order than they began.
                    let mut pipes = self.connections.iter_mut().flat_map(|connection| &mut connection.pipes);
                    let filled = pipes.find(|filled| filled.pipe.into.as_raw_fd() == into);
                    let filled = filled.ok_or(ErrorKind::NotFound)?;
                    filled.bytes = Some(count);
                    filled.pipe.capacity.min(EXTENT_BYTES)
                }
                Purpose::Send { .. } => count,
            };
            if count != expected {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{count} bytes read, not {expected}")));
            }
        }
        Ok(())
    }

    /// Begins with all extents that are wanted soon and have room.
    fn load(&mut self) -> io::Result<()> {
        if self.way.carrier == Carrier::RingSplice {
            return self.fill_pipes();
        }
        if self.slots.is_empty() {
            return Ok(());
        }
        let extent_bytes = self.way.extent_bytes();
        let extents = || {
            let alive = self.connections.iter().filter(|connection| !connection.has_ended);
            alive.map(|connection| connection.at / extent_bytes as u64)
        };
        let (Some(last), Some(first)) = (extents().min(), extents().max()) else { return Ok(()) };
        let slots = self.slots.len() as u64;
        // What a tail has was appended some time ago.
        let ahead = if self.way.source == Source::Replaced { slots - 1 } else { AHEAD };
        while self.next_extent <= first + ahead && self.next_extent < last + slots {
            let slot = (self.next_extent % slots) as usize;
            // Memory that the kernel still sends from is not read into.
            if self.ring.as_ref().is_some_and(|ring| ring.unnotified[slot] > 0) {
                break;
            }
            let position = self.next_extent * extent_bytes as u64 % self.file_bytes;
            self.next_extent += 1;
            self.load_into(slot, position)?;
        }
        Ok(())
    }

    fn load_into(&mut self, slot: usize, position: u64) -> io::Result<()> {
        let extent_bytes = self.way.extent_bytes();
        let place = range(slot, extent_bytes);
        let Some(memory) = &mut self.memory else { return Ok(()) };
        match self.way.source {
            Source::Replaced => {
                memory.let_go(place.clone())?;
                memory.populate(place.clone())?;
                let before = thread_cpu_time();
                let from = position as usize;
                memory.bytes_mut(place).copy_from_slice(&self.content[from..from + extent_bytes]);
                self.counts.apart += thread_cpu_time().since(before).total();
                self.slots[slot] = Slot::There;
            }
            source => {
                if source == Source::ReadFresh {
                    memory.let_go(place.clone())?;
                }
                self.slots[slot] = Slot::Coming;
                let (fd, into) = (types::Fd(self.file.as_raw_fd()), memory.place(&place));
                let entry = if source == (Source::Read { registered: true }) {
                    opcode::ReadFixed::new(fd, into, extent_bytes as u32, 0).offset(position).build()
                } else {
                    opcode::Read::new(fd, into, extent_bytes as u32).offset(position).build()
                };
                let ring = self.ring.as_mut().ok_or(ErrorKind::Unsupported)?;
                // SAFETY: the slot is looked at when it is `There`, and `serve` waits for what is under way before
                // file and memory go.
                unsafe { ring.submit(entry, Purpose::Read { slot })? };
            }
        }
        Ok(())
    }

    /// Has the ring fill the empty pipes of all who are served.
    fn fill_pipes(&mut self) -> io::Result<()> {
        let ring = self.ring.as_mut().ok_or(ErrorKind::Unsupported)?;
        for connection in &mut self.connections {
            if connection.has_ended || (connection.left == 0 && connection.asked == 0) {
                continue;
            }
            while let Some(pipe) = connection.empty.pop() {
                let bytes = pipe.capacity.min(EXTENT_BYTES);
                let position = (connection.piped_to % self.file_bytes) as i64;
                let (from, end) = (types::Fd(self.file.as_raw_fd()), pipe.into.as_raw_fd());
                let entry = opcode::Splice::new(from, position, types::Fd(end), -1, bytes as u32).build();
                connection.piped_to += bytes as u64;
                connection.pipes.push_back(Filled { pipe, bytes: None });
                // SAFETY: the kernel holds both files of its own accord.
                unsafe { ring.submit(entry, Purpose::Pipe { into: end })? };
            }
        }
        Ok(())
    }

    /// Whether what a connection wants next is where it is sent from.
    fn is_there(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        if self.way.carrier == Carrier::RingSplice {
            return connection.pipes.front().is_some_and(|filled| filled.bytes.is_some());
        }
        if self.slots.is_empty() {
            return true;
        }
        let extent = connection.at / self.way.extent_bytes() as u64;
        extent < self.next_extent && self.slots[(extent % self.slots.len() as u64) as usize] == Slot::There
    }

    /// Sends once; whether anything was sent.
    fn step(&mut self, index: usize) -> io::Result<bool> {
        match self.send(index) {
            Ok(count) if count > 0 => {
                let connection = &mut self.connections[index];
                connection.at += count as u64;
                connection.left -= count;
                self.counts.sent_bytes += count as u64;
                self.counts.sends += 1;
                Ok(true)
            }
            Ok(_) => Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.connections[index].is_full = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, index: usize) -> io::Result<usize> {
        let extent_bytes = self.way.extent_bytes();
        let Server { way, file, cached, memory, ring, connections, counts, .. } = self;
        let connection = &mut connections[index];
        let (socket, position) = (connection.socket, connection.at % self.file_bytes);
        let to_end = extent_bytes - (connection.at % extent_bytes as u64) as usize;
        let most = connection.left.min(to_end).min(way.call_bytes_max);
        let slot = match self.slots.len() as u64 {
            0 => 0,
            slots => (connection.at / extent_bytes as u64 % slots) as usize,
        };
        // Where in memory it lies.
        let bytes: &[u8] = match memory {
            Some(memory) => {
                let from = match self.slots.len() as u64 {
                    0 => position,
                    slots => connection.at % (slots * extent_bytes as u64),
                } as usize;
                memory.bytes(from..from + most)
            }
            None => &[],
        };
        let fd = types::Fd(socket);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = match way.carrier {
            Carrier::Send => return calls::send(socket, bytes),
            Carrier::Sendfile => {
                let file = if way.source == Source::Direct { file } else { cached };
                return calls::sendfile(socket, file, position, most);
            }
            Carrier::Lend => {
                if connection.pipes.is_empty() {
                    let pipe = connection.empty.pop().ok_or(ErrorKind::Unsupported)?;
                    // SAFETY: `Way::is_possible` has seen to it: this memory never changes, or is let go before it does.
                    let count = unsafe { calls::lend(bytes, &pipe)? };
                    connection.pipes.push_back(Filled { pipe, bytes: Some(count) });
                }
                return connection.splice_out();
            }
            Carrier::Splice => {
                if connection.pipes.is_empty() {
                    let pipe = connection.empty.pop().ok_or(ErrorKind::Unsupported)?;
                    let count = calls::splice_in(file, position, &pipe, to_end)?;
                    connection.pipes.push_back(Filled { pipe, bytes: Some(count) });
                }
                return connection.splice_out();
            }
            Carrier::RingSplice => return connection.splice_out(),
            Carrier::RingSend => opcode::Send::new(fd, bytes.as_ptr(), most as u32).flags(flags).build(),
            Carrier::RingWriteFixed => opcode::WriteFixed::new(fd, bytes.as_ptr(), most as u32, 0).build(),
            Carrier::SendZeroCopy { registered } => opcode::SendZc::new(fd, bytes.as_ptr(), most as u32)
                .flags(flags)
                .zc_flags(REPORT_USAGE)
                .buf_index(registered.then_some(0))
                .build(),
        };
        let ring = ring.as_mut().ok_or(ErrorKind::Unsupported)?;
        // SAFETY: the bytes are of the mapping; extents whose memory the kernel may still refer to are not read into.
        let sent = unsafe { ring.send(entry, slot, counts) };
        // What else has completed meanwhile.
        self.arrive()?;
        sent
    }

    /// Waits until the kernel does nothing for us any more.
    fn settle(&mut self) -> io::Result<()> {
        while let Some(ring) = &mut self.ring {
            if ring.under_way == 0 {
                break;
            }
            ring.enter(1)?;
            ring.take(&mut self.counts);
        }
        Ok(())
    }

    /// Has everyone begin again, and takes a mark.
    fn mark(&mut self) -> io::Result<Mark> {
        while self.ring.as_ref().is_some_and(|ring| ring.under_way > 0 || ring.is_lent()) {
            self.reap(1)?;
        }
        self.slots.fill(Slot::Empty);
        self.next_extent = 0;
        for connection in &mut self.connections {
            if connection.left > 0 || connection.asked > 0 {
                return Err(io::Error::new(ErrorKind::InvalidInput, "a mark while responses are owed"));
            }
            (connection.at, connection.piped_to) = (0, 0);
            for _ in connection.pipes.drain(..) {
                connection.empty.push(Pipe::new(EXTENT_BYTES)?);
            }
        }
        if self.way.source == Source::Uncached {
            calls::forget_cached(&self.cached, self.file_bytes)?;
        }
        self.counts.thread = thread_cpu_time();
        self.counts.process = process_cpu_time();
        let first = &mut self.connections[0];
        first.wants_mark = false;
        calls::send(first.socket, &[MARK])?;
        Ok(self.counts)
    }
}

fn range(slot: usize, extent_bytes: usize) -> Range<usize> {
    slot * extent_bytes..(slot + 1) * extent_bytes
}

impl Connection {
    /// Takes what was asked for.
    fn hear(&mut self) -> io::Result<()> {
        let mut requests = [0; 64];
        match calls::receive(self.socket, &mut requests) {
            Ok(0) => self.has_ended = true,
            Ok(count) => {
                for request in &requests[..count] {
                    match *request {
                        MARK => self.wants_mark = true,
                        _ => self.asked += 1,
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// From the first pipe to the socket.
    fn splice_out(&mut self) -> io::Result<usize> {
        let filled = self.pipes.front_mut().ok_or(ErrorKind::Unsupported)?;
        let there = filled.bytes.ok_or(ErrorKind::Unsupported)?;
        let count = calls::splice_out(&filled.pipe, self.socket, self.left.min(there))?;
        filled.bytes = Some(there - count);
        if there == count {
            self.empty.extend(self.pipes.pop_front().map(|filled| filled.pipe));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(source: Source, carrier: Carrier) -> Way {
        Way { source, carrier, pages: Pages::Small, call_bytes_max: EXTENT_BYTES, check: None }
    }

    #[test]
    fn memory_that_is_written_to_again_is_never_lent() {
        let read = Source::Read { registered: true };
        for (source, carrier, expected) in [
            (Source::Memory, Carrier::Lend, true),
            (Source::Replaced, Carrier::Lend, true),
            (Source::ReadFresh, Carrier::Lend, true),
            (read, Carrier::Lend, false),
            // What a notification tells the end of may be used again; what is replaced is not registered.
            (read, Carrier::SendZeroCopy { registered: true }, true),
            (Source::Replaced, Carrier::SendZeroCopy { registered: false }, false),
            (Source::ReadFresh, Carrier::SendZeroCopy { registered: true }, false),
            (Source::Direct, Carrier::Send, false),
            (Source::Memory, Carrier::Sendfile, false),
            (Source::Cached, Carrier::RingSplice, false),
        ] {
            assert_eq!(way(source, carrier).is_possible(), expected, "{source:?} {carrier:?}");
        }
        let checked = Way { check: Some(|_| 0), ..way(Source::Direct, Carrier::Splice) };
        assert!(!checked.is_possible(), "what does not come into memory cannot be looked at");
        let file = std::env::current_exe().unwrap();
        let refused = serve(way(read, Carrier::Lend), &file, 4096, &[]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn purposes_are_numbers_and_back() {
        for purpose in [Purpose::Send { slot: 15 }, Purpose::Read { slot: 3 }, Purpose::Pipe { into: 1_000_000 }] {
            assert!(Purpose::of_number(purpose.to_number()) == purpose);
        }
    }
}
