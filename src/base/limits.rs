//! Every bound of a queue, loop, buffer or wait that is not a broker option, with
//! its reason. A bound that users may set is an option in `config/` instead.

use std::time::Duration;

/// Direct I/O unit: positions, lengths and addresses are multiples of it. 4096
/// serves every drive; 512 is refused by many.
pub const BLOCK_BYTES: usize = 4096;

/// Requests of one connection that may be under way (ordered, not yet answered).
/// Clients pipeline 5 by default (`max.in.flight.requests.per.connection`);
/// librdkafka allows far more, and is slowed by TCP beyond this.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// Bytes of one write to a log: large enough for full drive bandwidth at depth 1,
/// small enough that a flush behind it stays short.
pub const LOG_WRITE_BYTES_MAX: usize = 1 << 20;

/// Distance of the marks in a tail buffer: how far a read that starts or ends
/// within the buffer walks over batch headers, some hundred of them at most.
pub const TAIL_MARK_BYTES: usize = 16 << 10;

/// Bytes that one read from a log's files may take, so that a client's claim
/// does not size our memory. A single batch may be larger.
pub const LOG_READ_BYTES_MAX: usize = 4 << 20;

/// Bytes of one read for a consumer that reads on: full drive bandwidth at depth 2, and
/// no more than what a consumer asks of one partition.
pub const EXTENT_BYTES: usize = 1 << 20;

/// Bytes of one read of the drive beside small writes that producers wait for: what such a
/// write waits longer, some 40 µs here. Still a third of the drive's full bandwidth.
pub const READ_BESIDE_FLUSHES_BYTES: usize = 64 << 10;

/// Memory on each core for extents: two for each of a dozen consumers that lag.
pub const CORE_EXTENTS_BYTES_MAX: usize = 32 << 20;

/// Reads of the drive that one fetch has under way at a time: enough to keep the drive
/// busy while one is taken apart. Each is polled whenever another completes: few
/// hundred would be too many.
pub const READS_AT_ONCE: usize = 8;

/// Memory on each core for what it reads on behalf of others behind the same broker
/// (`advertise=host`), until it is copied for them. Apart from the memory of its own
/// fetches: two cores that wait for each other's would wait for ever.
pub const READS_FOR_OTHERS_BYTES_MAX: usize = 4 * LOG_READ_BYTES_MAX;

/// Bytes that wait to be written to one log before appends are refused. The
/// connection layer holds back at the core's budget long before; this is what
/// bounds memory against a producer that waits for no answer (acks=0).
pub const LOG_WAITING_BYTES_MAX: usize = 64 << 20;

/// Memory that batches of all logs of a core may hold before they are written. One
/// log may have [`LOG_WAITING_BYTES_MAX`] of it; this is what bounds thousands of them
/// against a drive that stalls. Enough for the drive's full bandwidth at a second's
/// delay; beyond it connections are not read until something was written.
pub const CORE_UNWRITTEN_BYTES_MAX: usize = 128 << 20;

/// The least of it that each of several drives has for itself: some writes of the largest size.
pub const DRIVE_UNWRITTEN_BYTES_MIN: usize = 16 << 20;

/// Bytes of one log that wait for the core's journal at most, and of one append that goes
/// there: what is larger costs less when it is written to its segment at once, because
/// the journal writes it a second time.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a journal's file that a start reads: what `journal.bytes.per.core` allows, and
/// the file's head.
pub const JOURNAL_FILE_BYTES_MAX: u64 = (1 << 30) + BLOCK_BYTES as u64;

/// Bytes of a journal's file that a start holds at a time: several groups.
pub const JOURNAL_PIECE_BYTES: usize = 4 << 20;

/// How long a flush may take to begin that `flush.messages` asks for and nobody waits
/// for: no acks=all, no consumer at the end. Producers with acks=1 are told before it
/// anyway; one flush then serves what they write in this time.
pub const FLUSH_LATER: Duration = Duration::from_millis(50);

/// How often a full drive is tried again: soon enough that producers hardly notice
/// when space is back, seldom enough to cost nothing.
pub const FULL_RETRY: Duration = Duration::from_millis(500);

/// Logs of a core that make their directories and files at the same time: such work goes through
/// one helper thread, and a topic that somebody creates must not queue behind a thousand logs.
pub const FILES_MADE_AT_ONCE: usize = 8;

/// Bytes by which a growing segment is allocated ahead of its writes: large
/// enough that an allocation is rare, small enough that thousands of partitions do
/// not fill a drive by it. Small segments take as much as they hold.
pub const SEGMENT_STEP_BYTES_MAX: u64 = 16 << 20;
/// See [`SEGMENT_STEP_BYTES_MAX`]: the first step.
pub const SEGMENT_STEP_BYTES_MIN: u64 = 64 << 10;

/// Bytes of one read of a scan (recovery, replay): full bandwidth, little memory.
pub const SCAN_BYTES: usize = 1 << 20;

/// Bytes that a core's logs write until somebody looks whether one of them wants a recovery
/// point: a look costs some nanoseconds a partition.
pub const POINT_LOOK_BYTES: u64 = 16 << 20;
/// Bytes of one log behind its last recovery point that make the next one due: a start after a
/// crash reads them in some 20 ms, and a point costs a flush and about 2 % of them in index files.
pub const POINT_BYTES: u64 = 64 << 20;
/// Bytes of all logs of a core behind their last recovery points: beyond it the logs with the most
/// get one. A start after a crash reads them in some 200 ms.
pub const POINTS_BYTES_MAX: u64 = 512 << 20;
/// Bytes of a log that are worth a point when a core has more than [`POINTS_BYTES_MAX`]: below,
/// making it costs more than a start saves.
pub const POINT_WORTH_BYTES: u64 = 4 << 20;
/// Bytes of a log that are worth a point each `log.flush.offset.checkpoint.interval.ms`.
pub const POINT_BYTES_MIN: u64 = 1 << 20;

/// Bytes of `recovery-point-offset-checkpoint` that a start reads: a million partitions with the
/// longest names.
pub const POINTS_FILE_BYTES_MAX: u64 = 300 << 20;

/// Sealed segments of one log whose files stay open between reads.
pub const SEALED_FILES_MAX: usize = 16;
/// Sealed segments of one log whose indexes stay in memory between reads.
pub const SEALED_INDEXES_MAX: usize = 4;

/// Messages that may wait from one core to another before the sender waits. Only
/// metadata and forwarded requests cross cores; thousands mean a stuck core.
pub const MESH_MESSAGES_MAX: usize = 4096;

/// Longest stretch of work on a core without a yield, in microseconds.
pub const SLICE_US_MAX: u64 = 100;

/// Bytes that one compressed batch may become while it is looked into. What a
/// request may hold at all (`socket.request.max.bytes` is 100 MiB by default),
/// rounded up: a client that sent the same batch plain would be refused too.
pub const BATCH_PLAIN_BYTES_MAX: usize = 128 << 20;

/// Faulty records of one batch that are named in an answer. The batch is refused
/// as a whole; naming more would let a small request make a large answer.
pub const RECORD_ERRORS_MAX: usize = 1000;

/// Members of a consumer group. `group.max.size` is unlimited by default, but a group
/// is one record, which has to fit a batch of the offsets topic: with some 200
/// bytes a member no larger group could be stored anyhow. The same number bounds
/// the member ids that a group has given out and that have not been used yet.
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// Tombstones that one write to the offsets topic holds: at most 64 KiB of keys
/// of usual length, far below what a batch there may hold (1 MiB).
pub const GROUP_TOMBSTONES_PER_WRITE_MAX: usize = 500;

/// Bytes that one call hands to a socket: the kernel copies them before it returns, at some
/// 3 to 5 GB/s, and over loopback also does the receiver's part. A large answer must not hold
/// up the core's small ones; calls of half of this cost a tenth more.
pub const SEND_BYTES_MAX: usize = 512 << 10;

/// The same while writes are waited for: each takes several turns of the core, and may find such a
/// call before each of them.
pub const SEND_IN_HASTE_BYTES_MAX: usize = 32 << 10;

/// Connections that may wait to be accepted; the kernel caps it at
/// `net.core.somaxconn` (4096 by default). A restart meets all clients at once.
pub const LISTEN_BACKLOG: i32 = 4096;

/// How long a start waits for a port that is taken. A killed broker's rings are
/// taken apart within milliseconds, on a loaded machine within tenths of a second;
/// whoever else holds the port must not hold up the error for long.
pub const PORT_RELEASE_MS_MAX: u64 = 3000;

/// How long opening a file to write waits for the writes of a killed process that the
/// drive has not finished. Usually they take milliseconds; drives and their drivers
/// give a request up after 30 s, most of them.
pub const FILE_LOCK_MS_MAX: u64 = 30_000;

/// Operations that may take the kernel a thread of a core's ring (flushes, allocations, opening, writes to new
/// space), at a time, of each of several drives. The kernel has four for each CPU by default, which a drive that stalls
/// would hold all of, and with them the core's other drives.
pub const DRIVE_WORKERS: usize = 64;

/// From when on a drive that ends nothing is taken to stand still: what is written to it then is begun by the kernel's own
/// threads, as beginning it could stop the core. Many times what a durable write takes on a good SSD; where one takes as long, the
/// 30 microseconds that it costs do not matter.
pub const DRIVE_STILL: Duration = Duration::from_millis(1);

/// Bytes of a removed file that a drive is given back at once: some tenths of a millisecond where it is told of each (`discard`).
pub const GIVEN_BACK_AT_ONCE_BYTES: u64 = 1 << 20;

/// Directories of `log.dirs`: each has a journal on every core, and a machine has fewer drives.
pub const LOG_DIRS_MAX: usize = 64;

/// Partitions that do not exist yet and have a directory to go to: their names are all that a client can have kept for it.
pub const WISHES_MAX: usize = 10_000;

/// Messages that one hand-over between cores carries at most: enough to spread its
/// cost, few enough to keep the receiver's slice short.
pub const MESH_BATCH_MAX: usize = 256;

/// Bytes of one batch of the metadata log or of a snapshot of it that are believed
/// when its header claims them. Kafka writes at most 8 MiB
/// (`KafkaRaftClient.MAX_BATCH_SIZE_BYTES`), and one intention at most 10,000 records.
pub const METADATA_BATCH_BYTES_MAX: usize = 64 << 20;
