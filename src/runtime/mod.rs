//! Executors, tasks, clock, files, sockets and the mesh between cores: the only
//! place that knows glommio, libc and `unsafe`.
//!
//! Each core is one thread on one CPU ([`run_cores`]): a glommio `LocalExecutor` whose
//! only task is the core's own `reactor`, with the core's tasks, its timers and its
//! io_uring. Why, and what glommio's own parts cost: docs/decisions/0006.
//!
//! Relies on `base` only. Never knows Kafka: no topic, no request.

pub mod clock;
mod cores;
mod dir_lock;
pub mod disk;
pub mod fetch_ways;

mod host;
mod jobs;
pub mod local_socket;
pub mod mailbox;
pub mod mesh;
pub mod net;
pub mod probe;
mod process;
mod reactor;
mod ring;
pub mod signal;
#[cfg(test)]
pub mod simulation;
pub mod task;
mod watch;

pub use cores::{CorePlan, allowed_cpus, fail, failed, request_stop, run_behind_others, run_cores, run_one, stop_flag};
pub use dir_lock::{DirLock, DirLockError};
pub use host::{HostError, HostFacts, HostNeeds, check_data_dir, check_host, locked_bytes_needed};
pub use process::RuntimeError;
pub use watch::Stall;

/// Random bytes from the kernel: ids and salts.
///
/// # Panics
/// When the kernel has none, which Linux rules out after boot.
pub fn random_bytes() -> [u8; 16] {
    #[cfg(test)]
    if let Some(bytes) = simulation::random_bytes() {
        return bytes;
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("getrandom works on every Linux that has io_uring");
    bytes
}
