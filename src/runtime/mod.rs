//! Executors, tasks, clock, files, sockets and the mesh between cores: the only
//! place that knows glommio, libc and `unsafe`.
//!
//! Each core is one glommio `LocalExecutor` on one CPU ([`run_cores`]). glommio
//! 0.9 has known traps; every one has its remedy here and nowhere else:
//!
//! | trap | remedy |
//! |---|---|
//! | the IOPOLL probe is fooled by an empty file, and its answer is kept | [`disk`] warms each device up with a full file before the first open |
//! | reads at the end of a file return bytes beyond it | [`disk::File::read`] reads aligned blocks and cuts by its own length |
//! | a waker is counted once per poll, in 16 bits | one task per channel end and per listener, nothing else polled in it ([`mesh`], [`net`]) |
//! | who waits for room in a channel whose receiver ends is woken for ever and told nothing | the sending task asks by itself ([`mesh`]) |
//! | cancelling a pending task leaks it | tasks are detached and told to stop ([`task::StopFlag`]), never cancelled |
//! | a panic ends the executor, or the helper thread | [`task::spawn`] and [`task::on_helper`] catch it |
//! | a slice of 100 ms for a busy queue | preempt timer of 500 µs |
//! | a core may park with tasks ready to run | a heartbeat and nudges by signal bound that sleep (`cores::heartbeat`) |
//! | dropped accepted sockets leak; no CLOEXEC | [`net::Listener::accept`] binds at once and sets it |
//! | io_uring refused or too old: a panic in a lazy static, or an exit with a joke | [`check_host`] probes first |
//! | the helper thread shares the reactor's CPU | core threads start on spare CPUs, then move |
//!
//! Relies on `base` only. Never knows Kafka: no topic, no request.

pub mod clock;
mod cores;
mod dir_lock;
pub mod disk;
mod host;
pub mod local_socket;
pub mod mailbox;
pub mod mesh;
pub mod net;
mod process;
pub mod signal;
pub mod task;
mod watch;

pub use cores::{CorePlan, allowed_cpus, failed, request_stop, run_cores, run_one, stop_flag};
pub use dir_lock::{DirLock, DirLockError};
pub use host::{HostError, HostFacts, HostNeeds, check_host};
pub use process::RuntimeError;
pub use watch::Stall;

/// Random bytes from the kernel: ids and salts.
///
/// # Panics
/// When the kernel has none, which Linux rules out after boot.
pub fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("getrandom works on every Linux that has io_uring");
    bytes
}
