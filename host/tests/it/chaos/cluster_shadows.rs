//! Shadows over three hosts on one NATS: each host runs copies of its own messages with no effect, what came of them is told of
//! all together and of each, and the end is the end on all.

use tidegate::deploy::report::{Kind, OnAllHosts};
use tidegate::dispatch::Share;
use tidegate::telemetry::ShadowCounts;

use super::cluster::{Ground, PATIENCE, deploy, runs, until_all_run};
use super::cluster_rollouts::{
    balance, begin, killed_at_each_step, on_all_hosts, rollout, until_all_try, until_none_tries, with_its_own_messages,
};
use super::rig::Rig;
use super::{Feed, ledger, until_settled};
use crate::support::until;

/// They say that they are the first ledger; see the guest.
const SAME: u32 = 900_101;
const DIFFERS: u32 = 900_102;

/// The counts of all hosts together, and of each by its name. They fit together.
fn counts(all: &OnAllHosts) -> (ShadowCounts, Vec<(&str, ShadowCounts)>) {
    let hosts: Vec<_> = all.hosts.iter().map(|host| (host.host.as_str(), host.shadow.unwrap())).collect();
    let mut sum = ShadowCounts::default();
    hosts.iter().for_each(|(_, counts)| sum.add(counts));
    assert_eq!(all.shadow, Some(sum), "{hosts:?}");
    (sum, hosts)
}

#[test]
fn a_shadow_sees_the_messages_of_every_host_and_is_promoted_on_all() {
    let ground = Ground::new();
    let [mut a, mut b, mut c] = ground.hosts(["a", "b", "c"]);
    let done = begin(&b, "shadow=100%25&for=1h", SAME);
    let plan = done.rollout.unwrap();
    assert_eq!((done.version, plan.kind, plan.share), (2, Kind::Shadow, Share::ALL));
    assert_eq!(plan.ends_after_seconds, Some(3600.0));
    until_all_try(&[&a, &b, &c], 2, 1);
    let begun = rollout(&a).unwrap();
    let feed = Feed::start(a.publisher(), "m");
    feed.go_on_for(300);
    b.kill();
    // One that comes in the middle takes part, and so does the one that began it when it is back.
    let mut d = ground.host("d");
    d.start();
    b.start();
    for host in [&b, &d] {
        let on = rollout(host).expect("from its start on");
        assert_eq!((on.version, &on.started_at, &on.plan), (2, &begun.started_at, &begun.plan));
        assert_eq!(on.shadow.unwrap().ends_at, begun.shadow.as_ref().unwrap().ends_at);
    }
    let hosts = [&a, &b, &c, &d];
    until("all hosts compare, and all are told of", PATIENCE, || {
        hosts.iter().all(|host| {
            let all = on_all_hosts(host);
            let (_, of_each) = counts(&all);
            let names: Vec<&str> = of_each.iter().map(|(name, _)| *name).collect();
            let who = (all.trying.join(" "), all.not_yet.len());
            let all_compare = of_each.iter().all(|(_, counts)| counts.compared() > 0);
            names == ["a", "b", "c", "d"] && all_compare && who == ("a b c d".to_owned(), 0)
        })
    });
    let published = feed.finish();
    hosts.into_iter().for_each(until_settled);
    let (sum, _) = counts(&on_all_hosts(&c));
    assert_eq!(sum.different, 0, "{sum:?}");
    let (status, promoted) = d.post("promote").unwrap();
    assert_eq!((status, promoted["from"].as_u64(), promoted["to"].as_u64()), (200, Some(1), Some(2)), "{promoted}");
    until_all_run(&hosts, 2, SAME);
    for end in until_none_tries(&hosts, 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "local"), "{end:?}");
        for said in ["on host d: compared ", "none differs", "on 4 hosts"] {
            assert!(end.detail.contains(said), "{said}: {end:?}");
        }
    }
    let (_, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c, &mut d], published);
    println!("a shadow over three hosts, one killed and one new: {balance:?}");
}

/// Messages of each host: of twenty, one would be rejected by the shadow and one would be sent otherwise.
const EACH: u64 = 40;

#[test]
fn what_a_shadow_would_do_otherwise_is_told_with_its_host_and_is_not_done() {
    let ground = Ground::new();
    let names = ["a", "b", "c"];
    let [mut a, mut b, mut c] = names.map(|name| {
        let mut host = with_its_own_messages(&ground, name);
        host.start();
        host
    });
    until_all_run(&[&a, &b, &c], 1, 1);
    begin(&c, "shadow=100%25", DIFFERS);
    until_all_try(&[&a, &b, &c], 2, 1);
    let ids: Vec<String> = (0..EACH * 3).map(|number| format!("m-{number}")).collect();
    let of_each = || names.iter().zip(ids.chunks(ids.len() / names.len()));
    for (name, ids) in of_each() {
        a.publisher().publish_to(&format!("in.{name}.x"), ids);
    }
    for (host, here) in [&a, &b, &c].into_iter().zip(names) {
        until("all copies were compared", PATIENCE, || counts(&on_all_hosts(host)).0.compared() == EACH * 3);
        let all = on_all_hosts(host);
        let (sum, of_hosts) = counts(&all);
        let expected =
            ShadowCounts { same: EACH - 4, different: 4, by_outcome: 2, by_outputs: 2, ..Default::default() };
        assert_eq!(of_hosts, names.map(|name| (name, expected)));
        assert_eq!((sum.by_outcome, sum.by_outputs, sum.by_fault), (6, 6, 0));
        for ((name, ids), found) in of_each().zip(&all.hosts) {
            assert_eq!(found.differences.len(), 4, "{found:?}");
            for one in &found.differences {
                let of_host = ids.contains(&one.message_id) && one.subject == format!("in.{name}.x");
                assert!(of_host && one.subscription == format!("ledger-{name}"), "{one:?}");
                let told = ["completed would have been handler-rejected", "output 1 would have had another body"];
                assert!(told.iter().any(|told| one.told.starts_with(told)), "{one:?}");
            }
        }
        // What the messages and the outputs were is told by the host that had them.
        let differences = rollout(host).unwrap().shadow.unwrap().differences;
        assert_eq!(differences.len(), 4);
        assert!(differences.iter().all(|one| one.subject == format!("in.{here}.x") && one.body_start.is_some()));
        let listed = host.handlers().handlers.remove(0).rollout.unwrap();
        assert!(listed.note.starts_with("compared 120 messages, 12 differ"), "{}", listed.note);
        let listed = listed.cluster.unwrap();
        assert_eq!(listed.shadow, Some(sum));
        assert!(listed.hosts.iter().all(|host| host.differences.is_empty()), "a list is short");
    }
    let refused = b.try_deploy("", &ledger(3));
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (409, Some("rollout-in-progress")));
    assert_eq!(a.post("abort").unwrap().0, 200);
    for end in until_none_tries(&[&a, &b, &c], 2) {
        let told = "aborted on host a: compared 120 messages, 12 differ (6 by outcome, 6 by outputs); on 3 hosts";
        assert_eq!((end.event.as_str(), end.detail.as_str()), ("aborted", told));
    }
    [&a, &b, &c].into_iter().for_each(until_settled);
    let (books, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c], EACH * 3);
    println!("a shadow over three hosts that differs: {balance:?}");
    // A shadow's runs are in no log.
    assert_eq!(balance.extra_runs, 0);
    books.check_the_runs();
    for (message, (first, last)) in &books.made_by {
        assert_eq!((first.as_str(), last.as_str()), ("000001", "000001"), "{message}");
        assert!(!message.ends_with('!'), "{message}: a shadow sent it");
    }
}

#[test]
fn a_shadow_ends_by_itself_on_every_host_and_one_that_was_away_does_nothing() {
    let ground = Ground::new();
    let [a, mut b, c] = ground.hosts(["a", "b", "c"]);
    begin(&a, "shadow=100%25&for=10s", 2);
    let ends_at = rollout(&a).unwrap().shadow.unwrap().ends_at.unwrap();
    until("b tries it, unless it is over", PATIENCE, || rollout(&b).is_some() || rollout(&a).is_none());
    b.kill();
    let ended = |host: &Rig, end: &tidegate::deploy::report::HistoryView| {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("ended", "host"), "{end:?}");
        assert!(end.detail.contains("it had its time: compared 0 messages, none differs"), "{end:?}");
        assert!(end.at >= ends_at, "{end:?} is before {ends_at}");
        assert_eq!(runs(host).unwrap().0, 1);
    };
    for (host, end) in [&a, &c].into_iter().zip(until_none_tries(&[&a, &c], 2)) {
        ended(host, &end);
    }
    let counted = "tidegate_rollouts_ended_total{handler=\"ledger\",result=\"ended\",by=\"host\"} 1";
    assert_eq!([&a, &c].iter().filter(|host| host.metrics().contains(counted)).count(), 1, "one host ended it for all");
    b.start();
    assert_eq!(rollout(&b), None, "from its start on");
    until_none_tries(&[&b], 2).iter().for_each(|end| ended(&b, end));
    // Nothing is in the way of the next deploy, on any host.
    assert_eq!(deploy(&b, 3), 3);
    until_all_run(&[&a, &b, &c], 3, 3);
}

#[test]
fn a_shadow_whose_time_ends_while_nats_is_away_sees_nothing_more_and_ends_when_it_is_back() {
    let mut ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    begin(&a, "shadow=100%25&for=5s", 2);
    ground.server.kill();
    until("it says that its time is over", PATIENCE, || {
        rollout(&a).is_some_and(|on| on.note.contains("has had its time, and sees nothing more"))
    });
    let (status, answer) = a.post("abort").unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("cluster-unavailable")), "{answer}");
    ground.runtime.block_on(ground.server.restart());
    for end in until_none_tries(&[&a, &b], 2) {
        assert!(end.event == "ended" && end.detail.contains("it had its time"), "{end:?}");
    }
}

#[test]
fn killed_at_each_step_of_a_shadow_every_host_goes_on_with_it_or_knows_nothing_of_it() {
    killed_at_each_step("shadow=50%25&for=1h");
}
