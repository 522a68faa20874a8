//! TCP: listeners, and sockets that a reader task and a writer task share.
//!
//! Receiving goes straight into the caller's buffer and sending is gathered
//! straight from the pieces of a rope; the ring only tells when a socket is ready.
//! One task reads and one task writes a socket; one task accepts on a listener and
//! waits for nothing else meanwhile.
//!
//! Nothing is cancelled: [`Listener::close`] and [`Socket::shutdown`] make the
//! waiting tasks come back by themselves.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Protocol, SockRef, Type};

use super::ring::{Closes, Descriptor};
use super::{clock, ring, task};
use crate::base::{Rope, limits};

/// Accepts connections on one address, for one core.
pub struct Listener {
    listener: Rc<Descriptor>,
    local: SocketAddr,
    closed: Cell<bool>,
}

fn explain(address: SocketAddr, error: io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken; stop the process that listens there, or choose another port",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {hint}"))
}

/// How a listener is to be.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Other cores listen there too, and the kernel spreads connections among them.
    pub reuse_port: bool,
    /// Connections that may wait to be accepted (`socket.listen.backlog.size`).
    pub backlog: i32,
    /// Bytes of the kernel's buffers per connection (`socket.send.buffer.bytes`,
    /// `socket.receive.buffer.bytes`); `None` lets them grow with need.
    pub send_buffer_bytes: Option<usize>,
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        let backlog = limits::LISTEN_BACKLOG;
        ListenOptions { reuse_port: false, backlog, send_buffer_bytes: None, receive_buffer_bytes: None }
    }
}

/// A bound socket that listens.
fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<socket2::Socket> {
    // `new` sets CLOEXEC.
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of before in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit the sizes; the receive window is settled before.
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

/// Fails when somebody listens on `address`. Listeners that share a port
/// (`reuse_port`) would otherwise share it with another process of the same user
/// without a word.
pub fn check_port_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    listen(address, &ListenOptions::default()).map(drop).map_err(|error| explain(address, error))
}

impl Listener {
    /// Listens on `address`, with the default options but for `reuse_port`.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
        Listener::bind_with(address, &ListenOptions { reuse_port, ..ListenOptions::default() })
    }

    /// Listens on `address`. The error names it and says what to do.
    pub fn bind_with(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
        let socket = listen(address, options).map_err(|error| explain(address, error))?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Listener { listener: Descriptor::new(socket.into(), Closes::Here), local, closed: Cell::new(false) })
    }

    /// The next connection. Trouble of a moment (no descriptor left, a connection
    /// gone before it was accepted) is waited out with a warning; an error means
    /// that this listener is over, after [`Listener::close`] or else.
    ///
    /// A connection that arrives for a dropped future is closed.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            if self.closed.get() {
                return Err(io::Error::new(io::ErrorKind::NotConnected, format!("listener {} is closed", self.local)));
            }
            let error = match ring::accept(&self.listener).await {
                Ok(descriptor) => match Socket::new(descriptor) {
                    Ok(socket) => return Ok(socket),
                    // Gone already: its socket has no peer any more.
                    Err(error) => {
                        tracing::debug!("a connection to {} ended before it was accepted: {error}", self.local);
                        continue;
                    }
                },
                Err(error) => error,
            };
            if self.closed.get() {
                continue;
            }
            match error.raw_os_error() {
                // The connection is at fault, the next may be fine (accept(2)).
                Some(
                    libc::ECONNABORTED
                    | libc::EINTR
                    | libc::EPROTO
                    | libc::EPERM
                    | libc::ENETDOWN
                    | libc::ENOPROTOOPT
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::ETIMEDOUT,
                ) => {}
                // Nothing left to accept with; the connection waits in the backlog.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    tracing::warn!("cannot accept on {}: {error}; trying again in {ACCEPT_PAUSE:?}", self.local);
                    clock::sleep(ACCEPT_PAUSE).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Stops listening: a waiting [`Listener::accept`] returns an error, new
    /// connections are refused. The port is free once the listener is dropped.
    pub fn close(&self) {
        self.closed.set(true);
        let _ = SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both);
    }

    /// The address, with the port that was chosen if 0 was asked for.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

/// How long a listener waits when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One connection. Clones are the same connection; the last one closes it.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    descriptor: Rc<Descriptor>,
    peer: SocketAddr,
    local: SocketAddr,
    /// The last receive took all there was: ask for readiness before trying again.
    drained: Cell<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The peer learns of the end now, not when the last operation on the socket has
        // been cancelled.
        let _ = SockRef::from(&*self.descriptor).shutdown(std::net::Shutdown::Both);
    }
}

impl Socket {
    /// Takes an accepted or connected stream over and sets its options.
    fn new(descriptor: OwnedFd) -> io::Result<Socket> {
        let descriptor = Descriptor::new(descriptor, Closes::Here);
        let (peer, local) = {
            let socket = SockRef::from(&*descriptor);
            // Answers are written whole; waiting for more to send only delays them.
            socket.set_tcp_nodelay(true)?;
            // As Kafka does: finds peers that vanished without a word.
            socket.set_keepalive(true)?;
            let address = |address: socket2::SockAddr| address.as_socket().ok_or(io::ErrorKind::InvalidData);
            (address(socket.peer_addr()?)?, address(socket.local_addr()?)?)
        };
        Ok(Socket(Rc::new(Inner { descriptor, peer, local, drained: Cell::new(true) })))
    }

    /// Connects to a listener: for clients and tests.
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        // `new` sets CLOEXEC.
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        let descriptor = Descriptor::new(socket.try_clone()?.into(), Closes::Here);
        ring::connect(&descriptor, address.into()).await?;
        Socket::new(socket.into())
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&*self.0.descriptor)
    }

    /// Waits until there is something to receive, the end included.
    pub async fn readable(&self) -> io::Result<()> {
        if self.0.drained.get() {
            ring::ready(&self.0.descriptor, libc::POLLIN).await?;
            self.0.drained.set(false);
        }
        Ok(())
    }

    /// Appends received bytes to `into`, as many as there are, `most` at most and what its
    /// spare capacity holds; waits until there is at least one. 0: the peer has ended its
    /// side, or [`Socket::shutdown`] was called.
    ///
    /// # Panics
    /// Without room: 0 would be taken for the end.
    pub async fn receive(&self, into: &mut BytesMut, most: usize) -> io::Result<usize> {
        assert!(into.capacity() > into.len() && most > 0, "no room to receive into");
        loop {
            self.readable().await?;
            match self.receive_now(into, most) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.drained.set(true),
                result => return result,
            }
        }
    }

    /// Receives what is there; `WouldBlock` when nothing is.
    fn receive_now(&self, into: &mut BytesMut, most: usize) -> io::Result<usize> {
        loop {
            let spare: &mut [MaybeUninit<u8>] = into.spare_capacity_mut();
            let room = spare.len().min(most);
            match self.socket().recv_with_flags(&mut spare[..room], libc::MSG_DONTWAIT) {
                Ok(count) => {
                    self.0.drained.set(count < room);
                    // SAFETY: the kernel says it wrote the first `count` bytes of the
                    // spare capacity.
                    unsafe { into.set_len(into.len() + count) };
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the whole rope, piece after piece without joining them, and empties it;
    /// waits while the peer does not read. After an error, or when the future is
    /// dropped, the rope holds what was not sent. One task at a time.
    pub async fn send(&self, rope: &mut Rope) -> io::Result<()> {
        while !rope.is_empty() {
            self.send_some(rope).await?;
            task::give_way(!rope.is_empty()).await;
        }
        Ok(())
    }

    /// Sends what the kernel takes of the rope in one go, waiting for room if there is
    /// none: for a caller that watches whether the peer still takes anything.
    pub async fn send_some(&self, rope: &mut Rope) -> io::Result<()> {
        match self.send_now(rope) {
            Ok(count) => rope.advance(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ring::ready(&self.0.descriptor, libc::POLLOUT).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends what the kernel takes at once of the first pieces, of
    /// [`limits::SEND_BYTES_MAX`] at most, or less when the core is in haste.
    fn send_now(&self, rope: &Rope) -> io::Result<usize> {
        /// Most answers are a header and a handful of batches.
        const FEW: usize = 16;
        /// What one call takes (IOV_MAX).
        const MANY: usize = 1024;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut left = match task::is_in_haste() {
            true => limits::SEND_IN_HASTE_BYTES_MAX,
            false => limits::SEND_BYTES_MAX,
        };
        let slices = rope.pieces().map_while(|piece| {
            let bytes = piece.as_slice();
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            (!bytes.is_empty()).then(|| IoSlice::new(bytes))
        });
        if rope.pieces().len() <= FEW {
            let mut few = [IoSlice::new(&[]); FEW];
            let mut count = 0;
            for slice in slices {
                few[count] = slice;
                count += 1;
            }
            self.socket().send_vectored_with_flags(&few[..count], flags)
        } else {
            let many: Vec<IoSlice<'_>> = slices.take(MANY).collect();
            self.socket().send_vectored_with_flags(&many, flags)
        }
    }

    /// Ends both directions: waiting receives return 0, sends fail, the peer sees
    /// the end. What was sent before still arrives.
    pub fn shutdown(&self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Both);
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Piece;
    use crate::runtime::run_one;
    use crate::runtime::task::{self, OnPanic, Queue};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn localhost() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    /// Sends back what arrives, for every connection, until closed.
    fn echo(listener: &Rc<Listener>) {
        let listener = Rc::clone(listener);
        task::spawn(Queue::Network, "accept", OnPanic::StopProcess, async move {
            while let Ok(socket) = listener.accept().await {
                task::spawn(Queue::Network, "echo", OnPanic::EndTask, async move {
                    let mut bytes = BytesMut::with_capacity(1 << 16);
                    while socket.receive(&mut bytes, usize::MAX).await.is_ok_and(|count| count > 0) {
                        let mut rope = Rope::from(bytes.split().freeze());
                        if socket.send(&mut rope).await.is_err() {
                            break;
                        }
                        bytes.reserve(1 << 16);
                    }
                });
            }
        });
    }

    #[test]
    fn bytes_come_back_as_they_were_sent() {
        run_one(async {
            let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
            echo(&listener);
            let socket = Socket::connect(listener.local()).await.unwrap();
            let mut sent = Vec::new();
            let mut rope = Rope::new();
            for i in 0..3000usize {
                let piece: Vec<u8> = (0..i % 700).map(|byte| (byte * i) as u8).collect();
                sent.extend_from_slice(&piece);
                if i % 2 == 0 {
                    rope.push_bytes(Bytes::from(piece));
                } else {
                    let len = piece.len();
                    rope.push(Piece::shared(Rc::new(piece), 0..len));
                }
            }
            let writer = socket.clone();
            task::spawn(Queue::Network, "writer", OnPanic::StopProcess, async move {
                writer.send(&mut rope).await.unwrap();
                assert!(rope.is_empty());
            });
            let mut back = BytesMut::with_capacity(100);
            while back.len() < sent.len() {
                back.reserve(1000);
                assert!(socket.receive(&mut back, usize::MAX).await.unwrap() > 0);
            }
            assert!(back == sent);
            socket.shutdown();
            drop(socket);
            listener.close();
            task::all_ended("accept").await;
            task::all_ended("echo").await;
        });
    }

    /// Two ends of one connection.
    async fn pair() -> (Listener, Socket, Socket) {
        let listener = Listener::bind(localhost(), false).unwrap();
        // The kernel completes the connection before it is accepted.
        let client = Socket::connect(listener.local()).await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!((client.peer(), client.local()), (server.local(), server.peer()));
        (listener, client, server)
    }

    #[test]
    fn shutdown_ends_a_waiting_receive_and_the_peer_sees_it() {
        run_one(async {
            let (_listener, client, server) = pair().await;
            let reader = server.clone();
            task::spawn(Queue::Network, "reader", OnPanic::StopProcess, async move {
                let mut bytes = BytesMut::with_capacity(10);
                assert_eq!(reader.receive(&mut bytes, usize::MAX).await.unwrap(), 0);
            });
            task::yield_now().await;
            assert_eq!(task::alive(), [("reader", 1)]);
            server.shutdown();
            task::all_ended("reader").await;
            let mut bytes = BytesMut::with_capacity(10);
            assert_eq!(client.receive(&mut bytes, usize::MAX).await.unwrap(), 0);
            let error = server.send(&mut Rope::from(Bytes::from_static(b"x"))).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn the_last_clone_closes_at_once_while_a_peer_waits() {
        run_one(async {
            let (_listener, client, server) = pair().await;
            drop(server.clone());
            server.send(&mut Rope::from(Bytes::from_static(b"bye"))).await.unwrap();
            drop(server);
            let mut bytes = BytesMut::with_capacity(10);
            assert_eq!(client.receive(&mut bytes, usize::MAX).await.unwrap(), 3);
            assert_eq!(client.receive(&mut bytes, usize::MAX).await.unwrap(), 0);
        });
    }

    #[test]
    fn closing_a_listener_ends_its_waiting_accept() {
        run_one(async {
            let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
            let address = listener.local();
            let accepting = Rc::clone(&listener);
            task::spawn(Queue::Network, "accept", OnPanic::StopProcess, async move {
                assert!(accepting.accept().await.is_err());
            });
            task::yield_now().await;
            // Long enough for the operation to be with the kernel.
            clock::sleep(Duration::from_millis(2)).await;
            listener.close();
            task::all_ended("accept").await;
            assert!(listener.accept().await.is_err());
            drop(listener);
            Listener::bind(address, false).unwrap();
        });
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        run_one(async {
            let one = Listener::bind(localhost(), true).unwrap();
            let other = Listener::bind(one.local(), true).unwrap();
            assert_eq!(other.local(), one.local());
            for refused in [Listener::bind(one.local(), false).map(drop), check_port_free(one.local())] {
                let text = refused.unwrap_err().to_string();
                assert!(text.contains(&format!("cannot listen on {}: the port is taken", one.local())), "{text}");
            }
            let elsewhere = SocketAddr::from(([203, 0, 113, 1], 9092));
            let text = Listener::bind(elsewhere, false).err().unwrap().to_string();
            assert!(text.contains("no interface of this machine has that address"), "{text}");
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Whatever the pieces and however little the kernel takes at a time.
        #[test]
        fn ropes_arrive_byte_for_byte(lengths in prop::collection::vec(0..3000usize, 1..60), small in prop::collection::vec(0..3usize, 0..2500), chunk in 1..5000usize) {
            run_one(async {
                let (_listener, client, server) = pair().await;
                // The kernel makes a few KiB of it: most sends are partial, and wait.
                server.socket().set_send_buffer_size(1).unwrap();
                let mut sent = Vec::new();
                let mut rope = Rope::new();
                for (index, len) in lengths.iter().chain(&small).enumerate() {
                    let piece: Vec<u8> = (0..*len).map(|byte| (byte + 7 * index) as u8).collect();
                    sent.extend_from_slice(&piece);
                    match index % 2 {
                        0 => rope.push_bytes(piece),
                        _ => rope.push(Piece::shared(Rc::new(piece), 0..*len)),
                    }
                }
                task::spawn(Queue::Network, "sender", OnPanic::StopProcess, async move {
                    server.send(&mut rope).await.unwrap();
                    assert!(rope.is_empty());
                });
                let mut back = BytesMut::new();
                loop {
                    back.reserve(chunk);
                    if client.receive(&mut back, usize::MAX).await.unwrap() == 0 {
                        break;
                    }
                }
                assert!(back == sent, "{} bytes of {}", back.len(), sent.len());
            });
        }
    }
}
