//! Shadows on a host that works: whatever a candidate does with the copies of messages has no effect, and is seen.

use std::time::Duration;

use tidegate::deploy::report::{Done, Kind, RolloutView, ShadowView};
use tidegate::dispatch::Share;
use tokio::runtime::Runtime;

use super::books::{Balance, Books};
use super::rig::{Rig, pause};
use super::rollouts::{begin, jetstream, killed_at_each_step, rollout};
use super::swap::ledger;
use super::{Feed, audit, balance, until_settled};
use crate::support::nats::NatsServer;
use crate::support::until;

/// They say that they are the first ledger; see the guest.
const SAME: u32 = 900_101;
const DIFFERS: u32 = 900_102;
const LOOPS: u32 = 900_103;
const TRAPS: u32 = 900_104;

fn on_embedded(test: impl FnOnce(&mut Rig) -> u64) -> Balance {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let published = test(&mut rig);
    let runtime = Runtime::new().unwrap();
    check(&mut rig, published, |rig, books| runtime.block_on(audit::read_embedded(rig, books)))
}

fn on_jetstream(ack_wait: Duration, test: impl FnOnce(&mut Rig) -> u64) -> Balance {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&jetstream(&server), ack_wait, "create = true");
    let published = test(&mut rig);
    check(&mut rig, published, |rig, books| runtime.block_on(audit::read_jetstream(rig, &server, books)))
}

/// The books balance by what the first version did, and nothing of a shadow is in the stream, in the dead-letter queue or
/// in the log.
fn check(rig: &mut Rig, published: u64, read: impl FnOnce(&Rig, &mut Books)) -> Balance {
    let (books, balance) = balance(rig, published, read);
    for (message, (first, last)) in &books.made_by {
        assert_eq!((first.as_str(), last.as_str()), ("000001", "000001"), "{message}");
        assert!(!message.ends_with('!'), "{message}: a shadow sent it");
    }
    assert!(!rig.log().contains("as this ledger does"), "a shadow's run is in the log");
    println!("a shadow beside {published} messages: {balance:?}");
    balance
}

fn shadow(rig: &Rig) -> ShadowView {
    rollout(rig).shadow.expect("it is a shadow")
}

/// Publishes under a shadow of all messages until so many are settled; how many were published.
fn under_load(rig: &Rig, messages: u64) -> u64 {
    let feed = Feed::start(rig.publisher(), "m");
    feed.go_on_for(messages);
    feed.finish()
}

/// Until something has become of the copy of each message.
fn until_seen(rig: &Rig, published: u64) -> RolloutView {
    until("each copy was compared or dropped", Duration::from_secs(120), || {
        let shadow = shadow(rig);
        shadow.compared + shadow.counts.dropped + shadow.counts.unfinished == published
    });
    rollout(rig)
}

fn does_the_same(rig: &mut Rig) -> u64 {
    rig.start();
    let done: Done = begin(rig, "shadow=100%25", &ledger(SAME));
    let plan = done.rollout.unwrap();
    assert_eq!((done.version, plan.kind, plan.share, plan.ends_after_seconds), (2, Kind::Shadow, Share::ALL, None));
    let published = under_load(rig, 600);
    let seen = until_seen(rig, published);
    let shadow = seen.shadow.unwrap();
    assert_eq!((shadow.counts.different, shadow.differences.as_slice()), (0, &[][..]), "{:?}", shadow.counts);
    assert!(shadow.counts.same > 0 && shadow.ends_at.is_none());
    let compared = shadow.compared;
    assert_eq!((seen.stable.messages, seen.candidate.messages), (compared, compared), "the same messages on both");
    assert!(seen.candidate.figures.mean_fuel.is_some() && seen.stable.figures.mean_fuel.is_some());
    let copies = format!("tidegate_shadow_copies_total{{handler=\"ledger\",version=\"2\",result=\"same\"}} {compared}");
    assert!(rig.metrics().contains(&copies), "no {copies}");

    until_settled(rig);
    let counts = rig.status().unwrap().subscriptions.remove(0).counts;
    assert_eq!(counts.runs, published + published / 20, "each message ran once, and one of twenty was retried");
    let handler = rig.handler();
    assert_eq!(handler.versions[0].figures.as_ref().unwrap().runs, 0, "a shadow's runs are no runs");
    assert_eq!(rig.post("promote").unwrap().0, 200);
    let handler = rig.handler();
    let last = &handler.history[0];
    assert_eq!((handler.active, handler.rollout.is_none(), last.event.as_str()), (Some(2), true, "promoted"));
    assert!(last.detail.starts_with(&format!("compared {compared} messages, none differs")), "{last:?}");
    published
}

#[test]
fn a_candidate_that_does_the_same_differs_nowhere_and_is_promoted_by_hand() {
    assert_eq!(on_embedded(does_the_same).extra_runs, 0);
}

#[test]
fn a_candidate_that_does_the_same_on_jetstream_differs_nowhere_and_is_promoted_by_hand() {
    assert_eq!(on_jetstream(Duration::from_secs(30), does_the_same).extra_runs, 0);
}

fn does_otherwise(rig: &mut Rig) -> u64 {
    rig.start();
    begin(rig, "shadow=100%25", &ledger(DIFFERS));
    for query in ["", "canary=5%25", "shadow=5%25"] {
        let (status, answer) = rig.try_deploy(query, &ledger(3));
        assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("rollout-in-progress")), "{answer}");
    }
    assert_eq!(rig.post("rollback").unwrap().0, 409);
    let published = under_load(rig, 600);
    let shadow = until_seen(rig, published).shadow.unwrap();
    let counts = shadow.counts;
    assert!(counts.by_outcome > 0 && counts.by_outputs > 0 && counts.by_fault == 0, "{counts:?}");
    assert_eq!(
        (counts.different, shadow.compared),
        (counts.by_outcome + counts.by_outputs, counts.same + counts.different)
    );
    assert!(!shadow.differences.is_empty() && shadow.differences.len() <= 16 && !shadow.payload_withheld);
    for one in &shadow.differences {
        let number: u64 = one.message_id.strip_prefix("m-").unwrap().parse().unwrap();
        assert_eq!((one.subject.as_str(), one.body_start.as_ref()), ("in.x", Some(&one.message_id)));
        let (ours, theirs) = (&one.stable, &one.candidate);
        let start = |place: usize| theirs.outputs.get(place).and_then(|output| output.start.clone());
        assert_eq!((ours.outcome.as_str(), ours.outputs[0].start.as_ref()), ("completed", Some(&one.message_id)));
        match number % 20 {
            1 => {
                assert_eq!(one.told, "completed would have been handler-rejected (as-this-ledger-does)");
                assert_eq!((one.by.as_str(), theirs.outcome.as_str(), start(0)), ("outcome", "handler-rejected", None));
            }
            2 => {
                assert!(one.told.starts_with("output 1 would have had another body"), "{}", one.told);
                let expected = Some(format!("{}!", one.message_id));
                assert_eq!((one.by.as_str(), theirs.outcome.as_str(), start(0)), ("outputs", "completed", expected));
            }
            _ => panic!("{one:?}"),
        }
    }
    let listed = rig.handlers().handlers.remove(0).rollout.unwrap().shadow.unwrap();
    assert_eq!((listed.counts, listed.differences.len()), (counts, 0), "a list is short");
    assert_eq!(rig.post("abort").unwrap().0, 200);
    let handler = rig.handler();
    let last = &handler.history[0];
    assert_eq!((handler.active, handler.rollout.is_none(), last.event.as_str()), (Some(1), true, "aborted"));
    assert!(last.detail.contains(&format!("{} differ (", counts.different)), "{last:?}");
    assert!(!rig.metrics().contains("tidegate_shadow_copies_total"), "what is over is not shown");
    published
}

#[test]
fn a_candidate_that_does_otherwise_is_seen_and_sends_nothing() {
    assert_eq!(on_embedded(does_otherwise).extra_runs, 0);
}

#[test]
fn a_candidate_that_does_otherwise_on_jetstream_is_seen_and_sends_nothing() {
    assert_eq!(on_jetstream(Duration::from_secs(30), does_otherwise).extra_runs, 0);
}

fn loops(rig: &mut Rig) -> u64 {
    rig.start();
    begin(rig, "shadow=100%25", &ledger(LOOPS));
    let published = under_load(rig, 1_000);
    until_settled(rig);
    let shadow_of = |rig: &Rig| shadow(rig).counts;
    until("a run was stopped by its fuel", Duration::from_secs(120), || shadow_of(rig).by_fault > 1);
    let shadow = shadow(rig);
    assert!(shadow.counts.dropped > 0, "the queue is bounded: {:?}", shadow.counts);
    assert_eq!((shadow.counts.same, shadow.counts.by_fault), (0, shadow.counts.different));
    let stopped = &shadow.differences[0].candidate.outcome;
    assert!(["out-of-fuel", "timeout"].contains(&stopped.as_str()), "{stopped}");
    // What loops is stopped with its shadow.
    assert_eq!(rig.post("abort").unwrap().0, 200);
    assert_eq!(rig.handler().rollout, None);
    published
}

fn traps(rig: &mut Rig) -> u64 {
    rig.start();
    begin(rig, "shadow=100%25", &ledger(TRAPS));
    let published = under_load(rig, 1_000);
    let shadow = until_seen(rig, published).shadow.unwrap();
    assert!(shadow.counts.by_fault > 0);
    assert_eq!((shadow.counts.same, shadow.compared), (0, shadow.counts.by_fault), "{:?}", shadow.counts);
    assert!(shadow.differences.iter().all(|one| one.candidate.outcome == "trap:unreachable" && one.by == "fault"));
    published
}

#[test]
fn a_candidate_that_loops_or_traps_costs_its_own_runs_alone() {
    assert_eq!(on_embedded(loops).extra_runs, 0);
    assert_eq!(on_embedded(traps).extra_runs, 0);
}

#[test]
fn a_candidate_that_loops_or_traps_on_jetstream_costs_its_own_runs_alone() {
    assert_eq!(on_jetstream(Duration::from_secs(30), loops).extra_runs, 0);
    assert_eq!(on_jetstream(Duration::from_secs(30), traps).extra_runs, 0);
}

/// Each output of the candidate says that it is the second one.
fn through_a_kill(rig: &mut Rig) -> u64 {
    let share: Share = "50%".parse().unwrap();
    rig.start();
    begin(rig, "shadow=50%25&for=1h", &ledger(2));
    let feed = Feed::start(rig.publisher(), "m");
    feed.go_on_for(600);
    let seen = rollout(rig);
    rig.kill();
    rig.start();
    let after = rollout(rig);
    assert_eq!((after.version, &after.plan, &after.started_at), (2, &seen.plan, &seen.started_at));
    assert_eq!(after.shadow.unwrap().ends_at, seen.shadow.unwrap().ends_at, "it ends when it would have ended");
    assert_eq!(rig.handler().active, Some(1));
    feed.go_on_for(600);
    let published = feed.finish();
    until_settled(rig);
    let shadow = shadow(rig);
    assert!(shadow.counts.by_outputs > 0, "{:?}", shadow.counts);
    for one in &shadow.differences {
        assert!(share.has(&one.message_id), "{one:?}");
        assert_eq!(one.told, "output 1 would have had other headers");
    }
    published
}

#[test]
fn a_shadow_goes_on_after_a_kill_and_nothing_is_lost() {
    on_embedded(through_a_kill);
}

#[test]
fn a_shadow_on_jetstream_goes_on_after_a_kill_and_nothing_is_lost() {
    on_jetstream(Duration::from_secs(3), through_a_kill);
}

#[test]
fn killed_at_each_step_of_a_shadow_the_next_start_goes_on_with_it_or_knows_nothing_of_it() {
    killed_at_each_step("shadow=50%25");
}

#[test]
fn a_shadow_ends_by_itself_when_it_has_had_its_time() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    let over = |rig: &Rig, tried: u64| {
        until("it ends by itself", Duration::from_secs(60), || rig.handler().rollout.is_none());
        let handler = rig.handler();
        let last = &handler.history[0];
        assert_eq!((handler.active, last.version, last.who.as_str()), (Some(1), Some(tried), "host"), "{last:?}");
        assert!(last.event == "ended" && last.detail.starts_with("it had its time: compared "), "{last:?}");
    };
    begin(&rig, "shadow=100%25&for=1s", &ledger(2));
    over(&rig, 2);
    let ended = "tidegate_rollouts_ended_total{handler=\"ledger\",result=\"ended\",by=\"host\"} 1";
    assert!(rig.metrics().contains(ended));
    // Its time goes on while the host is away.
    begin(&rig, "shadow=100%25&for=2s", &ledger(3));
    rig.kill();
    pause(Duration::from_millis(2_500));
    rig.start();
    over(&rig, 3);
    // Nothing is in the way of the next deploy.
    assert_eq!(begin(&rig, "", &ledger(4)).version, 4);
    rig.drain();
}
