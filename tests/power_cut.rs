//! Power cuts under load, again and again on the same drive, with a real file system on it (see `harness::drive`).
//! What must hold is said in `harness::crash`: what was acknowledged to acks=all was flushed. After each second cut the power
//! goes again while the broker starts, at any read or write of what its recovery does, and sometimes once more.
//!
//! `CORELOG_TEST_CUTS` sets how often (default 5), `CORELOG_TEST_SEED` the seed of an earlier run, `CORELOG_TEST_FS`
//! the file system (`ext4`, or `xfs` where it is installed).

mod harness;

use harness::broker::{Broker, Options};
use harness::crash;
use harness::drive::{Drive, in_own_namespace, next_random};
use harness::program::Program;
use harness::wait::{self, PATIENCE};
use harness::wire;
use std::process::Command;

#[test]
fn acknowledged_records_and_committed_offsets_survive() {
    if !in_own_namespace("acknowledged_records_and_committed_offsets_survive") {
        return;
    }
    let cuts = crash::number("CORELOG_TEST_CUTS", 5);
    let seed = crash::number("CORELOG_TEST_SEED", u64::from(std::process::id()));
    let file_system = std::env::var("CORELOG_TEST_FS").unwrap_or_else(|_| "ext4".into());
    println!("replay with CORELOG_TEST_SEED={seed} CORELOG_TEST_CUTS={cuts} cargo test --test power_cut");
    let mut drive = Drive::new(&file_system);
    // The smallest segments there are: cuts while they roll are part of it.
    // And a journal so small that it is filled again and again, and that the larger batches pass it by.
    let options = Options { data_in: Some(drive.mounted()), ..Options::default() }
        .set("log.segment.bytes=1048576")
        .set("log.flush.offset.checkpoint.interval.ms=0")
        .journal(262_144);
    let mut broker = Broker::with(options);
    if !broker.is_ours() {
        return;
    }
    // What it says of a drive that no longer answers.
    broker.expect_error("Input/output error");
    // A start that is cut leaves what is in the journals where it is.
    broker.expect_error("hold batches that could not be filed");
    // ext4 says so once it has met that.
    broker.expect_error("Read-only file system");
    let (mut in_starts, mut too_late) = (0, 0);
    crash::survives(&mut broker, cuts, seed, |broker, seed| {
        drive.cut(seed);
        broker.kill();
        drive.restore();
        // Once at the least, and then at the first operation of all.
        while next_random(seed).is_multiple_of(2) || in_starts + too_late == 0 {
            // Few operations are as likely as many.
            let span = if in_starts + too_late == 0 { 1 } else { 1 << (next_random(seed) % 9) };
            drive.cut_in(1 + next_random(seed) % span, next_random(seed));
            broker.spawn();
            let last = *broker.addresses().last().expect("a core");
            let ready = wait::until("a cut, or a broker that has started", PATIENCE, || match drive.has_power() {
                false => Some(false),
                true => wire::api_versions(last).ok().map(|_| true),
            });
            if drive.has_power() {
                drive.cut(seed);
            }
            (in_starts, too_late) = (in_starts + u64::from(!ready), too_late + u64::from(ready));
            broker.kill();
            drive.restore();
        }
    });
    broker.stop();
    println!("{in_starts} more cuts in the middle of a start, {too_late} right after one");
    assert!(in_starts > 0, "no cut came in the middle of a start");
    crash::the_journals_were_used(&broker);
    crash::recovery_points_used(&broker);
}

#[test]
fn formatting_survives() {
    if !in_own_namespace("formatting_survives") {
        return;
    }
    let cuts = crash::number("CORELOG_TEST_CUTS", 6);
    let mut seed = crash::number("CORELOG_TEST_SEED", u64::from(std::process::id()));
    println!("replay with CORELOG_TEST_SEED={seed} CORELOG_TEST_CUTS={cuts} cargo test --test power_cut");
    let id = "4L6g3nShT-eMCtK--X86sw";
    let mut drive = Drive::new(&std::env::var("CORELOG_TEST_FS").unwrap_or_else(|_| "ext4".into()));
    let format = |directory: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
        command.arg("format").arg("--data-dir").arg(directory).args(["--cluster-id", id, "--ignore-formatted"]);
        Program::start(&mut command)
    };
    let mut promised = 0;
    for cut in 0..cuts {
        let folder = drive.mounted().join(cut.to_string());
        let directory = folder.join("data");
        let under_way = format(&directory);
        let ended = match next_random(&mut seed) % 3 {
            // Right after it said so.
            0 => {
                let ended = under_way.end(PATIENCE);
                drive.cut(&mut seed);
                ended
            }
            _ => {
                drive.cut(&mut seed);
                under_way.end(PATIENCE)
            }
        };
        drive.restore();
        let properties = std::fs::read_to_string(directory.join("meta.properties"));
        if ended.status.success() {
            promised += 1;
            let properties = properties.expect("it said that the directory is formatted");
            assert!(properties.contains(&format!("cluster.id={id}")), "{properties}");
        }
        // Whatever is left, formatting it again is enough for a broker.
        let again = format(&directory).end(PATIENCE);
        assert!(again.status.success(), "after a cut: {}", again.errors);
        let mut broker = Broker::with(Options { data_in: Some(folder), ..Options::default() });
        broker.stop();
    }
    println!("{promised} of {cuts} were formatted before the cut");
}
