//! Members: how groups form, rebalance, lose members and come back, as conversations
//! (see [`super::talk`]). The scenarios are those of Kafka's `GroupMetadataManagerTest`.

use super::talk::{STABLE, Talk, at, check, check_from_stable};
use super::*;

#[test]
fn members_join_sync_and_are_stable() {
    check_from_stable(
        "
        beat a => a: ok
        beat b => b: ok
        describe => Stable consumer/range [a:a:x b:b:y]
        list => g Stable 'consumer'
    ",
    );
}

#[test]
fn join_is_checked() {
    check(
        "
        group =>
        join a => a: InvalidGroupId
        group g
        join a session=5999 => a: InvalidSessionTimeout
        join a session=1800001 => a: InvalidSessionTimeout
        join a type= => a: InconsistentGroupProtocol
        list =>
        join a id=a => a: MemberIdRequired
        join b id=nobody => b: MemberIdRequired
        # A protocol type other than the group's, or no protocol that all support.
        join a
        join c type=connect => c: InconsistentGroupProtocol
        join c protocols=sticky => c: InconsistentGroupProtocol
    ",
    );
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    // Each new member extends the delay, until the rebalance timeout (here 7 s) is used up.
    check(
        "
        join a v3 rebalance=7000 =>
        wait 2999 =>
        join b v3 rebalance=7000 =>
        wait 2999 =>
        join c v3 rebalance=7000 =>
        wait 1001 =>
        wait 1 => a: joined 1 range leader a [a:a b':b c':c]; b: joined 1 range leader a []; c: joined 1 range leader a []
    ",
    );
    // Without newcomers it is over after the delay.
    check(
        "
        join a v3 =>
        wait 2999 =>
        wait 1 => a: joined 1 range leader a [a:a]
    ",
    );
    // Without a delay the group begins at once.
    check(
        "
        delay 0 =>
        join a v3 =>
        wait 0 => a: joined 1 range leader a [a:a]
    ",
    );
}

#[test]
fn an_id_given_out_is_kept_for_a_session_and_holds_up_a_rebalance() {
    check_from_stable(
        "
        join c session=8000 => c: MemberIdRequired
        # No rebalance for an id alone.
        beat a => a: ok
        join a =>
        join b =>
        # All members have joined, but c is on its way.
        join c => a: joined 3 range leader a [a:a b:b c:c]; b: joined 3 range leader a []; c: joined 3 range leader a []
        join d session=8000 => d: MemberIdRequired
        sync c =>
        sync b =>
        sync a => a: synced ''; b: synced ''; c: synced ''
        join a =>
        join b =>
        join c =>
        wait 8000 => a: joined 4 range leader a [a:a b:b c:c]; b: joined 4 range leader a []; c: joined 4 range leader a []
        join d => d: UnknownMemberId
        join d static=D => d: UnknownMemberId
    ",
    );
}

#[test]
fn a_rebalance_removes_those_who_do_not_join_again() {
    // The follower is late.
    check(
        "
        join a v3 rebalance=20000
        join b v3 rebalance=20000
        wait 6000 => a: joined 1 range leader a [a:a b':b]; b: joined 1 range leader a []
        sync b =>
        sync a => a: synced ''; b: synced ''
        join a rebalance=20000 =>
        # It still sends heartbeats.
        wait 9000
        beat b => b: RebalanceInProgress
        wait 9000
        beat b => b: RebalanceInProgress
        wait 2000 => a: joined 2 range leader a [a:a]
        beat b => b: UnknownMemberId
    ",
    );
    // The leader is late: the longest-standing of the others leads.
    check_from_stable(
        "
        join c => c: MemberIdRequired
        join c =>
        join b rebalance=5000 =>
        wait 9999 =>
        wait 1 => b: joined 3 range leader b [b:b c:c]; c: joined 3 range leader b []
        beat a => a: UnknownMemberId
        join a => a: UnknownMemberId
    ",
    );
}

#[test]
fn nobody_comes_back_and_the_group_is_empty() {
    check_from_stable(
        "
        hold =>
        wait 9999 =>
        # Both sessions end at once.
        wait 1 => append g=3[]
        describe => Empty consumer/ []
        join a => a: UnknownMemberId
        sync a => a: UnknownMemberId
        beat a => a: UnknownMemberId
        ok =>
        crash =>
        describe => Empty consumer/ []
    ",
    );
}

#[test]
fn joining_again_means_what_the_role_and_the_metadata_say() {
    check_from_stable(
        "
        # A follower with nothing new: the generation goes on.
        join b => b: joined 2 range leader a []
        sync b => b: synced 'y'
        # Something new: all join again.
        join b as=B2 =>
        beat a => a: RebalanceInProgress
        join a => a: joined 3 range leader a [a:a b:B2]; b: joined 3 range leader a []
        # In CompletingRebalance the answer is given again, to the leader with the members.
        join a => a: joined 3 range leader a [a:a b:B2]
        join b as=B2 => b: joined 3 range leader a []
        sync b =>
        join b as=B3 => b: RebalanceInProgress
        join a => a: joined 4 range leader a [a:a b:B3]; b: joined 4 range leader a []
        sync a a=1 b=2 => a: synced '1'
        sync b => b: synced '2'
        # The leader wants new assignments.
        join a =>
        join b as=B3 => a: joined 5 range leader a [a:a b:B3]; b: joined 5 range leader a []
    ",
    );
}

#[test]
fn a_second_ask_ends_the_first() {
    check_from_stable(
        "
        join a =>
        join a => a: RebalanceInProgress
        join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        sync b =>
        sync b => b: RebalanceInProgress
        hold
        sync a a=1 b=2 => append g=3[a b]
        sync a a=1 b=2 => a: RebalanceInProgress; append g=3[a b]
        ok => a: synced '1'; b: synced '2'
        ok =>
        beat a => a: ok
    ",
    );
}

#[test]
fn sync_is_checked() {
    check_from_stable(
        "
        sync a gen=1 => a: IllegalGeneration
        sync a protocol=sticky => a: InconsistentGroupProtocol
        sync a protocol=range => a: synced 'x'
        sync nobody gen=2 => nobody: UnknownMemberId
        join a =>
        sync b => b: RebalanceInProgress
        group other
        sync a => a: UnknownMemberId
        group
        sync a => a: InvalidGroupId
        beat a => a: InvalidGroupId
    ",
    );
}

#[test]
fn an_assignment_counts_when_it_is_stored() {
    check_from_stable(
        "
        join a
        join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        hold
        sync b =>
        sync a a=1 b=2 => append g=3[a b]
        describe => CompletingRebalance consumer/ [a::x b::y]
        ok => a: synced '1'; b: synced '2'
        describe => Stable consumer/range [a:a:1 b:b:2]
    ",
    );
    // Not stored: all learn it and join again.
    for (reason, error) in
        [("too-large", "UnknownServerError"), ("unavailable", "CoordinatorNotAvailable"), ("offline", "NotCoordinator")]
    {
        check_from_stable(&format!(
            "
            join a
            join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
            hold
            sync b =>
            sync a a=1 b=2 => append g=3[a b]
            fail {reason} => a: {error}; b: {error}
            describe => PreparingRebalance consumer/ [a:: b::]
            beat b => b: RebalanceInProgress
        "
        ));
    }
    // A member came before the assignment was stored: it is of no consequence any more.
    check_from_stable(
        "
        join a
        join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        sync b =>
        hold
        sync a a=1 b=2 => append g=3[a b]
        join c v3 => a: RebalanceInProgress; b: RebalanceInProgress
        ok =>
        describe => PreparingRebalance consumer/ [a:: b:: c'::]
    ",
    );
}

#[test]
fn who_does_not_sync_in_time_leaves() {
    // In CompletingRebalance.
    check_from_stable(
        "
        join a rebalance=30000
        join b rebalance=30000 => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        sync a a=1 b=2 => a: synced '1'
        wait 9000
        beat a => a: ok
        beat b => b: ok
        wait 9000
        beat a => a: ok
        beat b => b: ok
        wait 9000
        beat a => a: ok
        beat b => b: ok
        wait 3000
        beat b => b: UnknownMemberId
        beat a => a: RebalanceInProgress
        join a => a: joined 4 range leader a [a:a]
    ",
    );
    // The leader did not.
    check_from_stable(
        "
        join a rebalance=5000
        join b rebalance=5000 => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        sync b =>
        wait 5000 => b: RebalanceInProgress
        beat a => a: UnknownMemberId
        join b => b: joined 4 range leader b [b:b]
    ",
    );
}

#[test]
fn sessions_end_without_heartbeats() {
    check_from_stable(
        "
        wait 9999
        beat a gen=1 => a: IllegalGeneration
        beat a => a: ok
        wait 1
        beat b => b: UnknownMemberId
        beat a => a: RebalanceInProgress
        join a => a: joined 3 range leader a [a:a]
    ",
    );
    // A commit is a sign of life as well.
    check_from_stable(
        "
        wait 9999
        beat a => a: ok
        commit b t/0=1 => b: t/0 ok
        wait 9999
        beat a => a: ok
        beat b => b: ok
    ",
    );
    // Who waits for the others in a rebalance need not send any.
    check_from_stable(
        "
        join b as=B2 =>
        wait 9000
        beat a => a: RebalanceInProgress
        wait 9000
        beat a => a: RebalanceInProgress
        join a => a: joined 3 range leader a [a:a b:B2]; b: joined 3 range leader a []
    ",
    );
    // A new member has to ask again after five minutes.
    check(
        "
        join a v3 rebalance=600000
        wait 3000 => a: joined 1 range leader a [a:a]
        sync a => a: synced ''
        join b v3 session=20000
        beat a => a: RebalanceInProgress
        wait 9000
        beat a => a: RebalanceInProgress
    ",
    );
}

#[test]
fn members_leave() {
    check_from_stable(
        "
        leave b => ok
        beat b => b: UnknownMemberId
        beat a => a: RebalanceInProgress
        join a => a: joined 3 range leader a [a:a]
        sync a => a: synced ''
        join c => c: MemberIdRequired
        hold
        leave b c a => append g=4[]
        ok => UnknownMemberId ok ok
    ",
    );
    // The leader leaves: the next one leads. A waiting join is told.
    check_from_stable(
        "
        join b as=B2 =>
        leave a => b: joined 3 range leader b [b:B2]; ok
        leave a => UnknownMemberId
    ",
    );
    // It is answered when the empty group is stored, or that it could not be.
    check_from_stable(
        "
        leave a => ok
        hold
        leave b => append g=3[]
        fail unavailable => CoordinatorNotAvailable
        describe => Empty consumer/ []
    ",
    );
    check(
        "
        leave a => UnknownMemberId
        group
        leave a => InvalidGroupId
    ",
    );
}

#[test]
fn a_member_removed_by_others_is_answered_what_it_waits_for() {
    check_from_stable(
        "
        join a
        join b => a: joined 3 range leader a [a:a b:b]; b: joined 3 range leader a []
        sync b =>
        leave b => b: UnknownMemberId; ok
        join a => a: joined 4 range leader a [a:a]
        join c v3 =>
        join b id=- v3 =>
        join a => a: joined 5 range leader a [a:a b':b c':c]; b: joined 5 range leader a []; c: joined 5 range leader a []
    ",
    );
}

#[test]
fn a_group_has_room_for_so_many() {
    check_from_stable(
        "
        max 2
        join c => c: GroupMaxSizeReached
        join c v3 => c: GroupMaxSizeReached
        join b => b: joined 2 range leader a []
        # The bound was lowered: the last to join again has no room.
        max 1
        join a =>
        join b => b: GroupMaxSizeReached; a: joined 3 range leader a [a:a]
        beat b => b: UnknownMemberId
    ",
    );
    // After a restart with a lower bound the group rebalances by itself.
    check_from_stable(
        "
        max 1
        crash
        beat a => a: RebalanceInProgress
        join a =>
        join b => b: GroupMaxSizeReached; a: joined 3 range leader a [a:a]
    ",
    );
}

#[test]
fn so_many_ids_are_given_out() {
    check_from_stable(
        "
        max-pending 2
        join c => c: MemberIdRequired
        join d => d: MemberIdRequired
        join e => e: GroupMaxSizeReached
        # Those who have theirs, and those who need none, may join.
        join e static=e =>
        join d =>
        join f => f: MemberIdRequired
        # After a session they are free again.
        wait 10000 => d: joined 3 range leader e' []; e: joined 3 range leader e [d:d e:e]
        join c => c: UnknownMemberId
        join c id=- => c: MemberIdRequired
    ",
    );
}

#[test]
fn members_vote_for_a_protocol() {
    check(
        "
        join a v3 protocols=range:1,sticky:2,mine:3
        join b v3 protocols=sticky:4,range:5
        join c v3 protocols=sticky:6,other:7,range:8
        wait 6000 => a: joined 1 sticky leader a [a:2 b':4 c':6]; b: joined 1 sticky leader a []; c: joined 1 sticky leader a []
    ",
    );
    // A name twice: the first counts.
    check(
        "
        join a v3 protocols=range:1,range:2
        wait 3000 => a: joined 1 range leader a [a:1]
    ",
    );
}

/// A leads; s is static with instance id s.
const WITH_STATIC: &str = "
    join a => a: MemberIdRequired
    join a =>
    join s static=s =>
    wait 6000 => a: joined 1 range leader a [a:a s':s]; s: joined 1 range leader a []
    sync s =>
    sync a a=x s=y => a: synced 'x'; s: synced 'y'
";

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    check(&format!(
        "{WITH_STATIC}
        hold
        join s static=s id=- as=s => append g=1[a s']
        ok => s: joined 1 range leader a []
        sync s => s: synced 'y'
        beat s static=s => s: ok
        beat a => a: ok
        describe => Stable consumer/range [a:a:x s:s:y]
        crash
        beat s static=s => s: ok
        sync s => s: synced 'y'
    "
    ));
    // The former self, wherever it still runs, is fenced.
    check(&format!(
        "{WITH_STATIC}
        join s static=s id=-  as=s => s: joined 1 range leader a []
        beat a static=s => a: FencedInstanceId
        join a static=s => a: FencedInstanceId
        beat s static=T => s: UnknownMemberId
    "
    ));
    // Other metadata of the selected protocol changes nothing here (KAFKA-13435 asks the leader).
    check(&format!(
        "{WITH_STATIC}
        join s static=s id=- as=new => s: joined 1 range leader a []
    "
    ));
    // It does not support the selected protocol alone: another one is selected, all join again.
    check(
        "
        join a v3 protocols=range:1,sticky:2
        join s v3 static=s protocols=range:3,sticky:4
        wait 6000 => a: joined 1 range leader a [a:1 s':3]; s: joined 1 range leader a []
        sync s =>
        sync a => a: synced ''; s: synced ''
        join s static=s id=- protocols=sticky:5 =>
        beat a => a: RebalanceInProgress
        join a protocols=range:1,sticky:2 => a: joined 2 sticky leader a [a:2 s':5]; s: joined 2 sticky leader a []
    ",
    );
}

#[test]
fn a_static_leader_comes_back() {
    let stable = "
        join s static=s
        wait 3000 => s: joined 1 range leader s [s:s]
        sync s s=x => s: synced 'x'
    ";
    // An older client is not told that it leads, so that it assigns nothing.
    check(&format!("{stable} join s v3 static=s id=- => s: joined 1 range leader s' []"));
    // From version 9 on it is, with all members, and told to skip the assignment.
    check(&format!("{stable} join s v9 static=s id=- => s: joined 1 range leader s skip [s:s]"));
}

#[test]
fn a_static_member_comes_back_during_a_rebalance() {
    // While members join.
    check(&format!(
        "{WITH_STATIC}
        join a =>
        join s static=s id=- => a: joined 2 range leader a [a:a s':s]; s: joined 2 range leader a []
    "
    ));
    // Twice: the first is fenced.
    check(&format!(
        "{WITH_STATIC}
        join b v3
        join s static=s id=- =>
        join s static=s id=- => s: FencedInstanceId
        join a => a: joined 2 range leader a [a:a b':b s':s]; b: joined 2 range leader a []; s: joined 2 range leader a []
    "
    ));
    // After them: the leader has to learn of the new id.
    check(&format!(
        "{WITH_STATIC}
        join a =>
        join s static=s => a: joined 2 range leader a [a:a s:s]; s: joined 2 range leader a []
        sync s =>
        join s static=s id=- => s: FencedInstanceId
        beat a => a: RebalanceInProgress
    "
    ));
}

#[test]
fn a_static_member_is_the_former_one_when_the_new_one_cannot_be_stored() {
    check(&format!(
        "{WITH_STATIC}
        hold
        join s static=s id=- as=new => append g=1[a s']
        fail unavailable => s: CoordinatorNotAvailable
        describe => Stable consumer/range [a:a:x s:s:y]
        beat s static=s => s: ok
    "
    ));
    // A rebalance began before it was stored: the member is a part of that, stored or not.
    for stored in ["ok", "fail offline"] {
        check(&format!(
        "{WITH_STATIC}
        hold
        join s static=s id=- => append g=1[a s']
        join b v3 =>
        {stored} =>
        join a => a: joined 2 range leader a [a:a b':b s':s]; b: joined 2 range leader a []; s: joined 2 range leader a []
    "
    ));
    }
}

#[test]
fn static_members_keep_their_place_in_a_rebalance_until_their_session_ends() {
    check(
        "
        join a v3
        join s static=s session=30000 rebalance=5000
        wait 6000 => a: joined 1 range leader a [a:a s':s]; s: joined 1 range leader a []
        sync s =>
        sync a a=x s=y => a: synced 'x'; s: synced 'y'
        join a rebalance=5000 =>
        wait 5000 => a: joined 2 range leader a [a:a s:s]
        sync a a=x s=z => a: synced 'x'
        # Who does not sync, static or not, is out at the end of the sync phase.
        wait 4999
        describe => Stable consumer/range [a:a:x s:s:z]
        wait 1
        describe => PreparingRebalance consumer/ [a::x]
    ",
    );
    // None of the members is here: the join phase begins again, until the sessions end.
    check(
        "
        join s static=s session=30000 rebalance=5000
        wait 3000 => s: joined 1 range leader s [s:s]
        sync s s=x => s: synced 'x'
        join d v3 rebalance=5000
        wait 5000 => d: joined 2 range leader d [d:d s:s]
    ",
    );
    check(
        "
        join s v3 static=s session=30000 rebalance=5000
        join t v3 static=t session=6000 rebalance=5000
        wait 5000 => s: joined 1 range leader s [s:s t':t]; t: joined 1 range leader s []
        sync t =>
        sync s s=x t=y => s: synced 'x'; t: synced 'y'
        # t is lost; s stays away from the rebalance, which begins anew each 5 s.
        wait 6000
        describe => PreparingRebalance consumer/ [s::x]
        wait 19000
        describe => PreparingRebalance consumer/ [s::x]
        wait 5000
        describe => Empty consumer/ []
    ",
    );
    // An administrator removes one by its instance id.
    check(&format!(
        "{WITH_STATIC}
        leave =s => ok
        leave =s => UnknownMemberId
        beat s => s: UnknownMemberId
        beat a => a: RebalanceInProgress
    "
    ));
}

#[test]
fn a_new_group_is_known_after_a_restart() {
    check(
        "
        hold
        join a => a: MemberIdRequired; append g=0[]
        ok =>
        crash
        list => g Empty ''
        # The id given out was not stored.
        join a => a: UnknownMemberId
    ",
    );
    // Not stored: as if nobody had asked.
    check(
        "
        hold
        join a v3 => append g=0[]
        fail unavailable => a: CoordinatorNotAvailable
        list =>
        wait 10000 =>
    ",
    );
}

#[test]
fn members_of_a_replayed_group_have_a_fresh_session() {
    check_from_stable(
        "
        wait 9000
        crash
        wait 9999
        beat a => a: ok
        describe => Stable consumer/range [a:a:x b:b:y]
        wait 1
        beat b => b: UnknownMemberId
        beat a => a: RebalanceInProgress
        join a => a: joined 3 range leader a [a:a]
    ",
    );
}

#[test]
fn unloading_answers_everybody() {
    check_from_stable(
        "
        hold
        commit a t/0=1 => append t/0=1
        fetch stable all =>
        join a =>
        unload => a: NotCoordinator; a: NotCoordinator; NotCoordinator
        beat a => a: NotCoordinator
        commit a t/0=1 => a: NotCoordinator
        fetch all => NotCoordinator
        delete g => g NotCoordinator
        ok =>
        wait 1000000 =>
    ",
    );
}

#[test]
fn no_bytes_of_a_log_are_too_strange_to_replay() {
    let mut talk = Talk::new();
    for step in STABLE.lines().chain(["commit a t/0=5"]).map(|line| line.split("=>").next().unwrap_or_default().trim())
    {
        if !step.is_empty() {
            talk.step(step);
        }
    }
    // Each byte of each record in turn is another one, or the last.
    for record in &talk.log {
        let value = record.value.as_deref().unwrap_or_default();
        for position in 0..record.key.len() + value.len() {
            for changed in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let (mut key, mut value) = (record.key.to_vec(), value.to_vec());
                match position.checked_sub(key.len()) {
                    None => key[position] = changed,
                    Some(position) => value[position] = changed,
                }
                let mut coordinator = GroupCoordinator::new(GroupOptions::default());
                let _ = coordinator.replay(&key, Some(&value));
                let _ = coordinator.replay(&key, Some(&value[..position.min(value.len())]));
                coordinator.loaded(at(0));
                for _ in 0..3 {
                    let Some(next) = coordinator.next_deadline() else { break };
                    coordinator.handle(Event::Tick, Now { monotonic: next, ..at(0) });
                }
                let _ = coordinator.list().expect("loaded").count();
            }
        }
    }
}
