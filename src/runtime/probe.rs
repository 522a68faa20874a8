//! What a second of measuring says of a host: what reading the clock costs, how long a
//! sleeping thread takes to wake up, what a small overwrite and a flush cost in a
//! directory. For `corelog tune`; a running broker never measures.
//!
//! Blocks its thread. Leaves nothing behind in the directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::clock;
use super::cores::allowed_cpus;
use super::disk::{Buffer, WARM_UP_PREFIX};
use crate::base::limits::BLOCK_BYTES;

/// No measurement takes longer than this by much: one more round.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one read of the clock that stamps requests costs, in nanoseconds: the median of several batches, so that
/// being held up once does not count.
pub fn clock_read_ns() -> f64 {
    const READS: u32 = 4096;
    let mut batches = [0.0; 15];
    for batch in &mut batches {
        let begun = Instant::now();
        for _ in 0..READS {
            std::hint::black_box(clock::moment());
        }
        *batch = begun.elapsed().as_nanos() as f64 / f64::from(READS);
    }
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

/// How long a thread that sleeps on an idle CPU takes from the moment that another CPU wakes it: what a request pays
/// that finds its core asleep. `None` with a single CPU, or where threads cannot be pinned.
pub fn wake_up_times() -> Option<Vec<Duration>> {
    const ROUNDS: usize = 200;
    // Long enough for the deepest idle state that a CPU has (they ask for some hundred microseconds).
    const IDLE: Duration = Duration::from_millis(2);
    let cpus = allowed_cpus();
    let (&from, &to) = (cpus.first()?, cpus.get(1)?);
    let (wake, woken) = mpsc::channel::<Instant>();
    let sleeper = thread::spawn(move || {
        let pinned = pin(to);
        let times: Vec<Duration> = woken.iter().map(|sent| sent.elapsed()).collect();
        pinned.then_some(times)
    });
    let waker = thread::spawn(move || {
        let (pinned, begun) = (pin(from), Instant::now());
        for _ in 0..ROUNDS {
            thread::sleep(IDLE);
            // At least one, however long this thread was held up.
            if !pinned || wake.send(Instant::now()).is_err() || begun.elapsed() > PATIENCE {
                break;
            }
        }
        pinned
    });
    let pinned = waker.join().ok()?;
    let times = sleeper.join().ok()??;
    (pinned && !times.is_empty()).then_some(times)
}

fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// What an overwrite of 4 KiB and a flush of it take in `dir`, one after the other: what acks=all waits for. Writes as
/// a log does, directly into blocks that are there, or through the page cache where the file system has no direct I/O.
/// The file takes 1 MiB; a broker may run on the directory.
pub fn overwrite_and_flush_times(dir: &Path) -> io::Result<Vec<Duration>> {
    const ROUNDS: usize = 256;
    const BLOCKS: usize = 256;
    let scratch = Scratch(dir.join(format!("{WARM_UP_PREFIX}tune-{}", std::process::id())));
    let file = scratch.create()?;
    let mut content = Buffer::with_capacity(BLOCKS * BLOCK_BYTES);
    content.push(&vec![0x5a; BLOCKS * BLOCK_BYTES]);
    file.write_all_at(content.as_slice(), 0)?;
    file.sync_all()?;
    let (mut times, begun) = (Vec::with_capacity(ROUNDS), Instant::now());
    for round in 0..ROUNDS {
        let at = Instant::now();
        file.write_all_at(&content.as_slice()[..BLOCK_BYTES], (round % BLOCKS * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        times.push(at.elapsed());
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(times)
}

/// A file that goes when it is dropped. Its name is one that a start of a broker removes, should we be killed.
struct Scratch(PathBuf);

impl Scratch {
    fn create(&self) -> io::Result<File> {
        let open = |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&self.0);
        match open(libc::O_DIRECT) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
            opened => opened,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_costs_something() {
        let ns = clock_read_ns();
        assert!(ns > 0.0 && ns.is_finite(), "{ns}");
    }

    #[test]
    fn a_flush_is_timed_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let times = overwrite_and_flush_times(dir.path()).unwrap();
        assert!(!times.is_empty() && times.iter().all(|time| !time.is_zero()), "{times:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = overwrite_and_flush_times(&dir.path().join("no")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_wake_up_is_timed_where_there_are_two_cpus() {
        let times = wake_up_times();
        assert_eq!(times.is_some(), allowed_cpus().len() > 1);
        assert!(times.into_iter().flatten().all(|time| !time.is_zero()));
    }
}
