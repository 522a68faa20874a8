//! kill -9 of the broker under load, again and again on the same data, while it compacts, retains, deletes records and
//! topics and makes them again; what must hold is said in `harness::crash` and `harness::turmoil`.
//!
//! `CORELOG_TEST_KILLS` sets how often (default 30), `CORELOG_TEST_SEED` the seed of an earlier run.

mod harness;

use harness::broker::{Broker, Options};
use harness::{crash, turmoil};

#[test]
fn acknowledged_records_and_committed_offsets_survive() {
    // Recovery points as often as they come.
    let options = Options::default().journal(2 << 20).set("log.flush.offset.checkpoint.interval.ms=0");
    let mut broker = Broker::with(turmoil::SETTINGS.iter().fold(options, |options, setting| options.set(setting)));
    if !broker.is_ours() {
        return;
    }
    let kills = crash::number("CORELOG_TEST_KILLS", 30);
    let seed = crash::number("CORELOG_TEST_SEED", u64::from(std::process::id()));
    println!("replay with CORELOG_TEST_SEED={seed} CORELOG_TEST_KILLS={kills} cargo test --test kill_nine");
    let bootstrap = broker.bootstrap();
    turmoil::beside(&bootstrap, || crash::survives(&mut broker, kills, seed, |broker, _| broker.kill()));
    crash::the_journals_were_used(&broker);
    crash::recovery_points_used(&broker);
}
