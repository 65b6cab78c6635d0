//! A canary over hosts of which one is there and has not begun to try it: who is waited for, and until when.

use tidegate::admin::wire::Readiness;

use super::books::Balance;
use super::cluster::{Ground, PATIENCE, seen, until_all_run};
use super::cluster_rollouts::{balance, begin, on_all_hosts, rollout, until_all_try, until_none_tries};
use super::rig::Rig;
use super::{Feed, ledger, until_settled};
use crate::support::until;

/// A canary that would be promoted but for one host, which cannot fetch it; how many messages there were.
fn held_up(ground: &Ground) -> ([Rig; 3], u64) {
    let [a, b] = ground.hosts(["a", "b"]);
    begin(&a, "canary=50%25&promote_after=1s", 2);
    until_all_try(&[&a, &b], 2, 1);
    // Before a message came: until then it is promoted in no case.
    ground.tamper(&ledger(2), &ledger(9));
    let mut c = ground.host("c");
    c.start();
    let waits = |host: &Rig| {
        let on = rollout(host)?;
        let waits = on.note.contains("waits for c to begin to try it");
        waits.then_some((on.candidate.version, on.cluster.unwrap()))
    };
    until("c is waited for, by its name", PATIENCE, || [&a, &b].iter().all(|host| waits(host).is_some()));
    let feed = Feed::start(a.publisher(), "m");
    until("both versions have had their messages", PATIENCE, || {
        let all = on_all_hosts(&a);
        all.stable.messages >= 100 && all.candidate.messages >= 100
    });
    let published = feed.finish();
    // Whoever counts says so once a second, and looks four times as often.
    let last_word = || {
        let hosts = a.handlers().cluster.unwrap().hosts;
        hosts.into_iter().find(|host| host.name == "b").unwrap().last_word
    };
    let mut words = std::collections::BTreeSet::from([last_word()]);
    until("b counted four times more", PATIENCE, || {
        words.insert(last_word());
        words.len() > 4
    });
    for host in [&a, &b] {
        let (version, all) = waits(host).expect("it is not promoted");
        assert_eq!((version, all.trying.join(" "), all.not_yet.join(" ")), (2, "a b".to_owned(), "c".to_owned()));
    }
    let on = seen(&a, "c").unwrap().1;
    let (why, since) = (on.why.expect("c says why"), on.since.expect("and since when"));
    assert!(why.contains("cluster's copy of module"), "{why}");
    let note = rollout(&a).unwrap().note;
    assert!(note.contains(&format!("; c: version 2 cannot be taken since {since}: ")), "{note}");
    // It says so itself, of the same time, though it has tried it again meanwhile; and takes messages all the same.
    let ready: Readiness = serde_json::from_str(&c.get("/ready").unwrap()).unwrap();
    let [refused] = ready.refused.as_slice() else { panic!("{ready:?}") };
    assert!(ready.ready && refused.what == "handler ledger", "{ready:?}");
    assert!(refused.why.starts_with(&format!("version 2 cannot be taken since {since}: ")), "{refused:?}");
    let again =
        |ready: &Readiness| ready.refused.first().is_some_and(|one| one.why.contains("; it is tried again at "));
    let looks_again = || c.get("/ready").is_some_and(|ready| again(&serde_json::from_str(&ready).unwrap()));
    until("it is known when it is tried again", PATIENCE, looks_again);
    assert!(c.metrics().contains("tidegate_cluster_behind{handler=\"ledger\"} 1"));
    assert!(a.log().contains("waits for c to begin to try it"));
    ([a, b, c], published)
}

fn ends(ground: &Ground, hosts: [Rig; 3], published: u64) -> Balance {
    let [mut a, mut b, mut c] = hosts;
    until_all_run(&[&a, &b, &c], 2, 2);
    // One that has just started may get no message any more; what it had before is pending for all on the same consumer.
    [&a, &b].into_iter().for_each(until_settled);
    balance(ground, &mut [&mut a, &mut b, &mut c], published).1
}

#[test]
fn a_canary_is_not_promoted_before_every_host_that_is_there_has_begun_to_try_it() {
    let ground = Ground::new();
    let (hosts, published) = held_up(&ground);
    ground.tamper(&ledger(2), &ledger(2));
    for end in until_none_tries(&hosts.each_ref(), 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "host"), "{end:?}");
        assert!(end.detail.contains("on 3 hosts"), "{end:?}");
    }
    let balance = ends(&ground, hosts, published);
    assert_eq!(balance.extra_runs, 0);
}

#[test]
fn a_host_that_goes_away_holds_up_no_promotion() {
    let ground = Ground::new();
    let ([a, b, mut c], published) = held_up(&ground);
    c.kill();
    for end in until_none_tries(&[&a, &b], 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "host"), "{end:?}");
        assert!(end.detail.contains("on 2 hosts"), "{end:?}");
    }
    ground.tamper(&ledger(2), &ledger(2));
    c.start();
    ends(&ground, [a, b, c], published);
}

#[test]
fn a_person_promotes_without_a_host_that_has_not_begun() {
    let ground = Ground::new();
    let (hosts, published) = held_up(&ground);
    assert_eq!(hosts[1].post("promote").unwrap().0, 200);
    for end in until_none_tries(&[&hosts[0], &hosts[1]], 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "local"), "{end:?}");
    }
    ground.tamper(&ledger(2), &ledger(2));
    ends(&ground, hosts, published);
}
