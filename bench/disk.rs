//! What the drive under a directory can do, measured without a broker: the
//! limits that a broker's figures are held against.
//!
//! Large blocks by several threads, each with one direct write under way (so as
//! deep a queue as a ring of the same depth gives, and no code that is not safe);
//! small ones one after the other. The small ones are service times of a closed
//! loop with one write under way: what a write costs when nothing waits before it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags};
use serde_json::{Value, json};

use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::host::{BLOCK_BYTES, Scratch};
use crate::latency::Latencies;

/// Bytes of a large write or read.
const LARGE_BYTES: usize = 1 << 20;

/// What is asked of the drive.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Each measurement ends after so long, or when the file is full.
    pub duration: Duration,
    /// The file's size: a whole number of large blocks.
    pub file_bytes: u64,
    /// Large writes under way at once.
    pub depth: usize,
}

/// A rate of large blocks.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: u64,
    /// Until the last write completed.
    completed: Duration,
    /// Until a flush behind it completed, too; `None` for reads.
    flushed: Option<Duration>,
}

impl Rate {
    fn mb_per_second(&self, time: Duration) -> f64 {
        self.bytes as f64 / 1e6 / time.as_secs_f64()
    }

    fn json(&self) -> Value {
        json!({
            "bytes": self.bytes,
            "mb_per_second": self.mb_per_second(self.completed),
            "mb_per_second_with_flush": self.flushed.map(|flushed| self.mb_per_second(flushed)),
        })
    }

    fn line(&self, name: &str) -> String {
        let flushed = self.flushed.map_or_else(String::new, |flushed| {
            format!(" ({:.0} with a flush at the end)", self.mb_per_second(flushed))
        });
        format!("{name}: {:.0} MB/s{flushed}", self.mb_per_second(self.completed))
    }
}

/// Measures all of it in a file of `folder` that is removed afterwards; returns lines to read and the JSON.
pub fn measure(folder: &Path, probe: Probe) -> Outcome<(Vec<String>, Value)> {
    if probe.depth == 0 || probe.file_bytes < (probe.depth * LARGE_BYTES) as u64 {
        return Err(failure!("the file must hold at least one block of 1 MiB for each write under way"));
    }
    let (mut lines, mut result) = (Vec::new(), json!({}));

    for (name, what, kind) in [
        ("write_fresh", "direct writes of 1 MiB, blocks allocated but never written", Large::Fresh),
        ("write_again", "direct writes of 1 MiB, blocks written before", Large::Again),
        ("write_growing", "direct writes of 1 MiB, file grows", Large::Growing),
        ("read", "direct reads of 1 MiB", Large::Read),
    ] {
        let scratch = Scratch::create(folder, "disk")?;
        let rate = large(&scratch.path, probe, kind)?;
        lines.push(rate.line(&format!("{what}, {} under way", probe.depth)));
        result[name] = rate.json();
    }
    for (name, what, kind) in [
        (
            "sync_again",
            "4 KiB over blocks written before, fdatasync",
            Small { direct: true, dsync: false, flush: true, from: Found::Written },
        ),
        (
            "dsync_again",
            "4 KiB over blocks written before, O_DSYNC",
            Small { direct: true, dsync: true, flush: false, from: Found::Written },
        ),
        (
            "write_only_again",
            "4 KiB over blocks written before, not flushed",
            Small { direct: true, dsync: false, flush: false, from: Found::Written },
        ),
        (
            "sync_fresh",
            "4 KiB to blocks never written, fdatasync",
            Small { direct: true, dsync: false, flush: true, from: Found::Allocated },
        ),
        (
            "sync_growing_cached",
            "4 KiB at the end of a growing file through the page cache, fdatasync",
            Small { direct: false, dsync: false, flush: true, from: Found::Nothing },
        ),
    ] {
        let scratch = Scratch::create(folder, "disk")?;
        let times = small(&scratch.path, probe, kind)?;
        lines.push(format!("{what}: {}", times.line()));
        result[name] = times.json();
    }
    Ok((lines, result))
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Large {
    /// Into blocks that `fallocate` gave: the file system notes for each that it was written.
    Fresh,
    /// Over blocks that were written and flushed before.
    Again,
    Growing,
    Read,
}

/// Opens with these flags; a file system without direct I/O is said to be one.
fn open(path: &Path, flags: OFlags) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags.bits() as i32);
    options.open(path).doing(|| format!("open {} ({flags:?}; not every file system has direct I/O)", path.display()))
}

fn allocate(file: &File, bytes: u64) -> Outcome<()> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)
        .doing(|| format!("allocate {} MB", bytes / 1_000_000))
}

/// Writes all of the file once and flushes it.
fn fill(file: &File, bytes: u64) -> Outcome<()> {
    let block = Aligned::new(LARGE_BYTES);
    for at in (0..bytes).step_by(LARGE_BYTES) {
        file.write_all_at(block.bytes(), at).doing(|| String::from("fill a file"))?;
    }
    file.sync_all().doing(|| String::from("flush a file"))
}

fn large(path: &Path, probe: Probe, kind: Large) -> Outcome<Rate> {
    let file = open(path, OFlags::DIRECT)?;
    match kind {
        Large::Fresh => allocate(&file, probe.file_bytes)?,
        Large::Again | Large::Read => fill(&file, probe.file_bytes)?,
        Large::Growing => {}
    }
    // What the preparation left to the file system must not be part of the measurement.
    file.sync_all().doing(|| String::from("flush a file"))?;
    let blocks = probe.file_bytes / LARGE_BYTES as u64;
    let wraps = matches!(kind, Large::Again | Large::Read);
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    let over =
        |index: u64| (!wraps && index >= blocks) || (index >= probe.depth as u64 && begun.elapsed() >= probe.duration);
    let outcome: Outcome<Vec<u64>> = std::thread::scope(|scope| {
        let work = || -> Outcome<u64> {
            let mut block = Aligned::new(LARGE_BYTES);
            let mut done = 0;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if over(index) {
                    return Ok(done);
                }
                let at = index % blocks * LARGE_BYTES as u64;
                if kind == Large::Read {
                    file.read_exact_at(block.bytes_mut(), at).doing(|| String::from("read"))?;
                } else {
                    file.write_all_at(block.bytes(), at).doing(|| String::from("write"))?;
                }
                done += LARGE_BYTES as u64;
            }
        };
        let workers: Vec<_> = (0..probe.depth).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| failure!("a writing thread panicked"))?).collect()
    });
    let bytes = outcome?.iter().sum();
    let completed = begun.elapsed();
    if kind == Large::Read {
        return Ok(Rate { bytes, completed, flushed: None });
    }
    file.sync_data().doing(|| String::from("flush a file"))?;
    Ok(Rate { bytes, completed, flushed: Some(begun.elapsed()) })
}

/// What a small write finds on the drive.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Found {
    Written,
    Allocated,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Small {
    direct: bool,
    dsync: bool,
    flush: bool,
    from: Found,
}

/// Small files suffice here: this many bytes of the probe's are prepared.
const SMALL_FILE_BYTES: u64 = 64 << 20;

fn small(path: &Path, probe: Probe, kind: Small) -> Outcome<Latencies> {
    let bytes = probe.file_bytes.min(SMALL_FILE_BYTES);
    let mut flags = OFlags::empty();
    flags.set(OFlags::DIRECT, kind.direct);
    flags.set(OFlags::DSYNC, kind.dsync);
    let file = open(path, flags)?;
    match kind.from {
        Found::Written => fill(&open(path, OFlags::DIRECT)?, bytes)?,
        Found::Allocated => allocate(&file, bytes)?,
        Found::Nothing => {}
    }
    file.sync_all().doing(|| String::from("flush a file"))?;
    let block = Aligned::new(BLOCK_BYTES);
    let blocks = bytes / BLOCK_BYTES as u64;
    let mut times = Latencies::new();
    let begun = Instant::now();
    for index in 0u64.. {
        if (kind.from != Found::Written && index >= blocks) || (index > 0 && begun.elapsed() >= probe.duration) {
            break;
        }
        let started = Instant::now();
        file.write_all_at(block.bytes(), index % blocks * BLOCK_BYTES as u64).doing(|| String::from("write"))?;
        if kind.flush {
            file.sync_data().doing(|| String::from("flush"))?;
        }
        times.record(started.elapsed(), 1);
    }
    Ok(times)
}

/// Memory that begins at a multiple of a block, as direct I/O wants it.
struct Aligned {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        // Nothing that a drive could compress or leave out as zeroes.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let memory: Vec<u8> = (0..len + BLOCK_BYTES)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let from = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, from, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Probe = Probe { duration: Duration::from_millis(20), file_bytes: 4 << 20, depth: 2 };

    #[test]
    fn every_measurement_gives_figures_and_leaves_nothing_behind() {
        // Beside this program: the usual place of temporary files may have no direct I/O.
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let (lines, result) = measure(folder.path(), TINY).unwrap();
        assert_eq!(lines.len(), 9);
        for name in ["write_fresh", "write_again", "write_growing", "read"] {
            let bytes = result[name]["bytes"].as_u64().unwrap();
            assert!(bytes > 0 && bytes % LARGE_BYTES as u64 == 0, "{result:#}");
            let without = result[name]["mb_per_second"].as_f64().unwrap();
            let with = result[name]["mb_per_second_with_flush"].as_f64();
            assert_eq!(with.is_none(), name == "read");
            assert!(without > 0.0 && with.is_none_or(|with| with > 0.0 && with <= without), "{result:#}");
        }
        // Blocks that were never written can be written once only.
        assert!(result["write_fresh"]["bytes"].as_u64().unwrap() <= TINY.file_bytes);
        for name in ["sync_again", "dsync_again", "write_only_again", "sync_fresh", "sync_growing_cached"] {
            assert!(result[name]["count"].as_u64().unwrap() > 0 && result[name]["p50_us"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_without_room_for_the_queue_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(measure(folder.path(), Probe { depth: 5, ..TINY }).is_err());
        assert!(measure(folder.path(), Probe { depth: 0, ..TINY }).is_err());
    }

    #[test]
    fn memory_for_direct_writes_is_aligned() {
        for len in [BLOCK_BYTES, LARGE_BYTES] {
            let block = Aligned::new(len);
            assert_eq!((block.bytes().as_ptr() as usize % BLOCK_BYTES, block.bytes().len()), (0, len));
        }
    }
}
