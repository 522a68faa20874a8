//! Offsets: commits, fetches, expiry and deletion, as conversations (see [`super::talk`]).

use super::talk::{check, check_from_stable};
use super::*;

#[test]
fn offsets_are_committed_and_fetched() {
    check_from_stable(
        "
        fetch all t/0 => offsets []
        commit a t/0=5 t/1=6 u/0=7 => a: t/0 ok t/1 ok u/0 ok
        commit b t/0=4 => b: t/0 ok
        fetch t/1 t/0 t/9 v/0 => offsets [t/1=6 t/0=4 t/9=-1 v/0=-1]
        fetch all => offsets [t/0=4 t/1=6 u/0=7]
        crash
        fetch all => offsets [t/0=4 t/1=6 u/0=7]
        commit a t/0=8 => a: t/0 ok
        group other
        fetch all => offsets []
        fetch t/0 => offsets [t/0=-1]
    ",
    );
}

#[test]
fn commits_are_checked() {
    check_from_stable(
        "
        commit a gen=1 t/0=1 => a: IllegalGeneration
        commit a gen=-1 t/0=1 => a: IllegalGeneration
        commit nobody gen=2 t/0=1 => nobody: UnknownMemberId
        # Without membership only while the group has no members.
        commit - t/0=1 => UnknownMemberId
        commit a t/0=1 meta=4096 => a: t/0 ok
        commit a t/0=2 meta=4097 => a: t/0 OffsetMetadataTooLarge
        fetch t/0 => offsets [t/0=1]
        join a =>
        # In a rebalance what was read before may still be committed.
        commit b t/0=3 => b: t/0 ok
        join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        commit b t/0=4 => b: RebalanceInProgress
        leave a b => ok ok
        commit - t/0=5 => t/0 ok
        commit a t/0=1 => a: UnknownMemberId
        group other
        commit a t/0=1 => a: GroupIdNotFound
        commit a t/0=1 v8 => a: IllegalGeneration
        list => g Empty 'consumer'
        commit - t/0=5 => t/0 ok
        list => g Empty 'consumer'; other Empty ''
        # The empty id was once allowed here.
        group
        commit - t/0=6 => t/0 ok
        fetch all => offsets [t/0=6]
    ",
    );
}

#[test]
fn an_offset_shows_when_it_is_durable() {
    check_from_stable(
        "
        commit a t/0=1 => a: t/0 ok
        hold
        commit a t/0=2 => append t/0=2
        commit a t/0=3 => append t/0=3
        fetch t/0 => offsets [t/0=1]
        fetch stable t/0 =>
        ok => a: t/0 ok
        fetch t/0 => offsets [t/0=2]
        ok => a: t/0 ok; offsets [t/0=3]
        commit a t/0=4 => append t/0=4
        fetch stable t/0 =>
        fail offline => a: NotCoordinator; offsets [t/0=3]
        # A simple group that could not be stored never was.
        group other
        commit - t/0=1 => append t/0=1
        list => g Stable 'consumer'; other Empty ''
        fail offline => NotCoordinator
        list => g Stable 'consumer'
    ",
    );
}

const DAY: u64 = 24 * 3600 * 1000;

#[test]
fn offsets_expire() {
    let week = 7 * DAY;
    // Of an empty group: seven days after its last member left, at the next look (each 600 s).
    check_from_stable(&format!(
        "
        commit a t/0=1 u/0=2 => a: t/0 ok u/0 ok
        leave a b => ok ok
        crash
        wait {}
        hold
        wait {} => append t/0=none u/0=none g=none
        list =>
        ok =>
        fetch all => offsets []
        crash
        list =>
    ",
        week - 600_000,
        1_200_000
    ));
    // Not stored: the group and its offsets are still there, and tried again.
    check_from_stable(&format!(
        "
        commit a t/0=1 => a: t/0 ok
        leave a b => ok ok
        crash
        hold
        wait {} => append t/0=none g=none
        fail unavailable =>
        list => g Empty 'consumer'
        fetch all => offsets [t/0=1]
        wait 600000 => append t/0=none g=none
    ",
        week + 600_000
    ));
    // Of simple groups: seven days after each commit.
    check(&format!(
        "
        commit - t/0=1 => t/0 ok
        wait {week}
        commit - u/0=1 => u/0 ok
        wait 600000
        fetch all => offsets [u/0=1]
        list => g Empty ''
        wait {week}
        list =>
    "
    ));
    // An old client may say how long.
    check(
        "
        commit - t/0=1 keep=1000000 => t/0 ok
        crash
        wait 600000
        fetch all => offsets [t/0=1]
        wait 600000
        fetch all => offsets []
    ",
    );
    // A group that only gave out an id is kept as long as that.
    check(
        "
        join a session=1800000 => a: MemberIdRequired
        wait 1800000
        wait 600000
        list =>
    ",
    );
}

#[test]
fn offsets_of_a_living_group_expire_for_topics_it_left() {
    let subscription = "\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{1}t";
    let mut script = format!(
        "
        join a v3 session=1800000 protocols=range:{subscription}
        wait 3000 => a: joined 1 range leader a [a:{subscription}]
        sync a => a: synced ''
        commit a t/0=1 u/0=2 => a: t/0 ok u/0 ok
    "
    );
    for _ in 0..7 * 48 + 1 {
        script.push_str("wait 1799999 =>\nbeat a => a: ok\n");
    }
    check(&format!("{script} fetch all => offsets [t/0=1]"));
    // What another kind of protocol uses is not known: nothing is removed.
    check(&format!("{script} fetch all => offsets [t/0=1 u/0=2]").replace(subscription, "?"));
}

#[test]
fn groups_are_deleted() {
    check_from_stable(
        "
        commit a t/0=1 t/1=1 => a: t/0 ok t/1 ok
        delete g other => g NonEmptyGroup other GroupIdNotFound
        leave a b => ok ok
        hold
        delete g other => append t/0=none t/1=none g=none
        describe => GroupIdNotFound
        fail offline => g NotCoordinator other GroupIdNotFound
        describe => Empty consumer/ []
        fetch all => offsets [t/0=1 t/1=1]
        delete g => append t/0=none t/1=none g=none
        # A new group of the same name may begin meanwhile.
        join a id=- v3 => append g=0[]
        fail offline => g NotCoordinator
        ok =>
        auto
        wait 3000 => a: joined 1 range leader a [a:a]
    ",
    );
    check(
        "
        commit - t/0=1 => t/0 ok
        delete g => g ok
        list =>
        fetch all => offsets []
        crash
        list =>
    ",
    );
}

#[test]
fn offsets_are_deleted() {
    check_from_stable(
        "
        commit a t/0=1 u/0=2 u/1=3 => a: t/0 ok u/0 ok u/1 ok
        # Whether these members read u cannot be known: their metadata is no subscription.
        offsets-delete u/0 => NonEmptyGroup
        leave a b => ok ok
        offsets-delete u/0 v/0 => u/0 ok v/0 ok
        fetch all => offsets [t/0=1 u/1=3]
        topic-deleted u =>
        fetch all => offsets [t/0=1]
        crash
        fetch all => offsets [t/0=1]
        group other
        offsets-delete u/0 => GroupIdNotFound
    ",
    );
    let subscription = "\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}\u{0}\u{1}t";
    check(&format!(
        "
        join a v3 protocols=range:{subscription}
        wait 3000 => a: joined 1 range leader a [a:{subscription}]
        sync a => a: synced ''
        commit a t/0=1 u/0=2 => a: t/0 ok u/0 ok
        offsets-delete t/0 u/0 => t/0 GroupSubscribedToTopic u/0 ok
        fetch all => offsets [t/0=1]
    "
    ));
}

#[test]
fn many_offsets_are_deleted_in_several_writes() {
    let places = |end: &str| (0..=GROUP_TOMBSTONES_PER_WRITE_MAX).map(|p| format!("t/{p}{end}")).collect::<Vec<_>>();
    let tombstones = places("=none");
    let (first, rest) = tombstones.split_at(GROUP_TOMBSTONES_PER_WRITE_MAX);
    let (first, rest) = (first.join(" "), rest.join(" "));
    check(&format!(
        "
        commit - {} => {}
        hold
        delete g => append {first}; append {rest} g=none
        ok =>
        ok => g ok
        list =>
    ",
        places("=1").join(" "),
        places(" ok").join(" "),
    ));
}
