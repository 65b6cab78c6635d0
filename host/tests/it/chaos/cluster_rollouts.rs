//! Canaries over three hosts on one NATS: the same messages on every host, judged by the counts of all, ended by whoever sees
//! enough; whatever dies on the way, and with no message lost.

use std::collections::BTreeSet;

use tidegate::cluster::report::Standing;
use tidegate::deploy::report::{Done, HistoryView, Line, OnAllHosts, RolloutView, Tally};
use tidegate::dispatch::Share;
use tidegate::registry::Digest;

use super::books::{Balance, Books};
use super::cluster::{Ground, PATIENCE, deploy, overtaken, runs, seen, until_all_run};
use super::rig::Rig;
use super::{Feed, audit, ledger, until_settled};
use crate::support::until;

/// A ledger that finishes no message.
const FAILS: u32 = 900_001;

pub(super) fn begin(host: &Rig, query: &str, module: u32) -> Done {
    match host.deploy_as(query, &ledger(module)) {
        Some(Line::Done(done)) => *done,
        other => panic!("{query}: {other:?}"),
    }
}

/// A configuration in which a message that comes again every few milliseconds does not run out of attempts meanwhile.
fn patient(text: &str) -> String {
    text.replace("max_attempts = 100", "max_attempts = 10000")
}

pub(super) fn rollout(host: &Rig) -> Option<RolloutView> {
    host.handler().rollout
}

/// Waits until hosts try a version beside another one, all of them.
pub(super) fn until_all_try(hosts: &[&Rig], version: u64, beside: u64) {
    until(&format!("all try version {version}"), PATIENCE, || {
        hosts.iter().all(|host| {
            let handler = host.handler();
            handler.active == Some(beside) && handler.rollout.is_some_and(|rollout| rollout.version == version)
        })
    });
}

/// Waits until no host tries anything, and gives back what each says of that.
pub(super) fn until_none_tries(hosts: &[&Rig], version: u64) -> Vec<HistoryView> {
    let end = |host: &Rig| {
        let history = host.handler().history;
        let is_end = |event: &str| matches!(event, "promoted" | "aborted" | "ended");
        history.into_iter().find(|one| one.version == Some(version) && is_end(&one.event))
    };
    // Also on a host that had not begun when it was over.
    until("nobody tries anything, and all know why", PATIENCE * 2, || {
        hosts.iter().all(|host| rollout(host).is_none() && end(host).is_some())
    });
    hosts.iter().map(|host| end(host).unwrap()).collect()
}

pub(super) fn on_all_hosts(host: &Rig) -> OnAllHosts {
    rollout(host).and_then(|rollout| rollout.cluster).expect("a version is tried in a cluster")
}

/// Ends the hosts, and balances what they did.
pub(super) fn balance(ground: &Ground, hosts: &mut [&mut Rig], published: u64) -> (Books, Balance) {
    let mut books = Books::default();
    for host in hosts.iter_mut() {
        host.drain();
        books.read_runs(&host.log());
    }
    ground.runtime.block_on(audit::read_jetstream(hosts[0], &ground.server, &mut books));
    let balance = books.check("m", published);
    let torn: Vec<_> = books.made_by.iter().filter(|(_, (first, last))| first != last).collect();
    assert!(torn.is_empty(), "run on two versions: {torn:?}");
    (books, balance)
}

#[test]
fn a_canary_that_is_as_good_is_promoted_on_every_host() {
    let ground = Ground::new();
    let [mut a, mut b, mut c] = ground.hosts(["a", "b", "c"]);
    let feed = Feed::start(a.publisher(), "m");
    feed.go_on_for(100);
    let done = begin(&b, "canary=30%25&promote_after=3s", 2);
    assert_eq!((done.version, done.rollout.unwrap().share.to_string()), (2, "30%".to_owned()));
    until_all_run(&[&a, &b, &c], 2, 2);
    let ends = until_none_tries(&[&a, &b, &c], 2);
    for end in &ends {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "host"), "{end:?}");
        assert!(end.detail.contains("nothing spoke against it") && end.detail.contains("on 3 hosts"), "{end:?}");
    }
    assert_eq!(ends.iter().map(|end| &end.detail).collect::<BTreeSet<_>>().len(), 1, "one host promoted it");
    let ended =
        |host: &Rig| host.metrics().contains("tidegate_rollouts_ended_total{handler=\"ledger\",result=\"promoted\"");
    assert_eq!([&a, &b, &c].iter().filter(|host| ended(host)).count(), 1);
    feed.go_on_for(300);
    let published = feed.finish();
    [&a, &b, &c].into_iter().for_each(until_settled);
    let (books, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c], published);
    println!("a canary over three hosts that is as good: {balance:?}");
    assert_eq!(balance.extra_runs, 0, "a canary made messages run again");
    books.check_the_runs();
    let makers: BTreeSet<&str> = books.made_by.values().map(|(first, _)| first.as_str()).collect();
    assert_eq!(makers, BTreeSet::from(["000001", "000002"]), "both versions worked");
}

#[test]
fn a_canary_goes_on_without_the_host_that_began_it_and_each_message_gets_the_version_of_its_share() {
    let ground = Ground::new();
    let [mut a, mut b, mut c] = ground.hosts(["a", "b", "c"]);
    let share: Share = "20%".parse().unwrap();
    begin(&a, "canary=20%25", 2);
    until_all_try(&[&a, &b, &c], 2, 1);
    let begun = rollout(&b).unwrap();
    let feed = Feed::start(b.publisher(), "m");
    feed.go_on_for(500);
    a.kill();
    feed.go_on_for(300);
    assert_eq!(rollout(&c).unwrap().started_at, begun.started_at, "it goes on without the host that began it");
    a.start();
    let mut d = ground.host("d");
    d.start();
    for host in [&a, &d] {
        let on = rollout(host).expect("from its start on");
        assert_eq!((on.version, &on.started_at, &on.plan), (2, &begun.started_at, &begun.plan));
    }
    feed.go_on_for(300);
    let published = feed.finish();
    [&a, &b, &c, &d].into_iter().for_each(until_settled);
    // Every host shows the same, within a word of each: all hosts, and their sums.
    until("all hosts are told of", PATIENCE, || {
        [&a, &b, &c, &d].iter().all(|host| {
            let all = on_all_hosts(host);
            let names: Vec<&str> = all.hosts.iter().map(|one| one.host.as_str()).collect();
            let sum = |side: fn(&tidegate::deploy::report::HostSides) -> Tally| {
                all.hosts.iter().map(|one| side(one).messages).sum::<u64>()
            };
            let sums = (sum(|one| one.stable), sum(|one| one.candidate));
            assert_eq!((all.stable.messages, all.candidate.messages), sums);
            names == ["a", "b", "c", "d"] && all.candidate.messages > 0
        })
    });
    let (status, promoted) = d.post("promote").unwrap();
    assert_eq!((status, promoted["from"].as_u64(), promoted["to"].as_u64()), (200, Some(1), Some(2)), "{promoted}");
    until_all_run(&[&a, &b, &c, &d], 2, 2);
    for end in until_none_tries(&[&a, &b, &c, &d], 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("promoted", "local"), "{end:?}");
        assert!(end.detail.contains("on host d"), "{end:?}");
    }
    let (books, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c, &mut d], published);
    println!("a canary over three hosts, one killed and one new: {balance:?}");
    for (message, (first, _)) in &books.made_by {
        let expected = if share.has(message) { "000002" } else { "000001" };
        assert_eq!(first, expected, "{message}");
    }
}

/// A host that has messages of its own, so that a test can say how many it gets: those of `in.NAME.>`.
pub(super) fn with_its_own_messages(ground: &Ground, name: &str) -> Rig {
    let host = ground.host(name);
    host.edit(|text| {
        text.replace("subscriptions.ledger", &format!("subscriptions.ledger-{name}"))
            .replace("in.>\"]\nhandler", &format!("in.{name}.>\"]\nhandler"))
    });
    host
}

/// How many messages of the share each host gets: fewer than the judge looks at.
const FEW: usize = 4;

#[test]
fn a_canary_whose_faults_are_too_few_on_each_host_is_aborted_by_the_counts_of_all() {
    let ground = Ground::new();
    let names = ["a", "b", "c"];
    let hosts = names.map(|name| {
        let mut host = with_its_own_messages(&ground, name);
        host.edit(patient);
        host.start();
        host
    });
    let [mut a, mut b, mut c] = hosts;
    until_all_run(&[&a, &b, &c], 1, 1);
    begin(&c, "canary=10%25", FAILS);
    until_all_try(&[&a, &b, &c], 2, 1);
    let share: Share = "10%".parse().unwrap();
    let (mut tried, mut others) = (Vec::new(), Vec::new());
    let mut published = 0;
    while tried.len() < FEW * names.len() {
        let id = format!("m-{published}");
        if share.has(&id) {
            tried.push(id)
        } else {
            others.push(id)
        }
        published += 1;
    }
    for ids in [others, tried] {
        let size = ids.len().div_ceil(names.len());
        for (name, part) in names.iter().zip(ids.chunks(size)) {
            a.publisher().publish_to(&format!("in.{name}.x"), part);
        }
    }
    for end in until_none_tries(&[&a, &b, &c], 2) {
        assert_eq!((end.event.as_str(), end.who.as_str()), ("aborted", "host"), "{end:?}");
        let (_, rest) = end.detail.split_once("too many failures: ").expect(&end.detail);
        let (count, _) = rest.split_once(' ').unwrap();
        assert!(count.parse::<usize>().unwrap() > 2 * FEW, "no host has seen so many alone: {}", end.detail);
    }
    until_all_run(&[&a, &b, &c], 1, 1);
    [&a, &b, &c].into_iter().for_each(until_settled);
    let (books, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c], published);
    println!("a canary over three hosts that fails a little on each: {balance:?}");
    books.check_the_runs();
}

#[test]
fn a_canary_that_fails_under_load_is_aborted_on_every_host_and_loses_nothing() {
    let ground = Ground::new();
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|name| {
        let mut host = ground.host(name);
        host.edit(patient);
        host.start();
        host
    });
    until_all_run(&[&a, &b, &c], 1, 1);
    let feed = Feed::start(c.publisher(), "m");
    feed.go_on_for(100);
    begin(&a, "canary=10%25&promote_after=1h", FAILS);
    for end in until_none_tries(&[&a, &b, &c], 2) {
        assert!(end.event == "aborted" && end.detail.contains("too many failures"), "{end:?}");
    }
    until_all_run(&[&a, &b, &c], 1, 1);
    feed.go_on_for(300);
    let published = feed.finish();
    [&a, &b, &c].into_iter().for_each(until_settled);
    let (books, balance) = balance(&ground, &mut [&mut a, &mut b, &mut c], published);
    println!("a canary over three hosts that fails: {balance:?}");
    books.check_the_runs();
}

#[test]
fn of_two_canaries_at_once_one_is_on_and_the_other_is_told() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    let failed = overtaken(&a, "?canary=5%25", &ledger(2), || assert_eq!(begin(&b, "canary=20%25", 3).version, 2));
    for said in ["began to try version 2 of handler `ledger`", "on host `b`", Digest::of(&ledger(3)).as_str()] {
        assert!(failed.message.contains(said), "{said}: {}", failed.message);
    }
    until_all_try(&[&a, &b], 2, 1);
    assert_eq!(rollout(&a).unwrap().digest, Digest::of(&ledger(3)));
    // While it is on, nothing else changes the handler, on any host.
    for host in [&a, &b] {
        for query in ["", "canary=5%25"] {
            let (status, answer) = host.try_deploy(query, &ledger(4));
            assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("rollout-in-progress")), "{answer}");
        }
        let (status, answer) = host.post("rollback?to=1").unwrap();
        assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("rollout-in-progress")), "{answer}");
    }
    let (status, answer) = a.post("abort").unwrap();
    assert_eq!((status, answer["version"].as_u64(), answer["active"].as_u64()), (200, Some(2), Some(1)), "{answer}");
    for end in until_none_tries(&[&a, &b], 2) {
        assert!(end.event == "aborted" && end.detail.contains("on host a"), "{end:?}");
    }
    assert_eq!(a.post("promote").unwrap().0, 404);
    assert_eq!(deploy(&b, 4), 3, "and its number is not used again");
    until_all_run(&[&a, &b], 3, 4);
}

#[test]
fn a_canary_that_one_host_cannot_run_is_aborted_and_says_which_host() {
    let ground = Ground::new();
    let [a] = ground.hosts(["a"]);
    let mut b = ground.host("b");
    // This host knows how a message must end.
    b.edit(|text| text.replace("module = \"ledger.wasm\"", "module = \"ledger.wasm\"\ngolden = \"golden\""));
    std::fs::create_dir(b.path().join("golden")).unwrap();
    let golden = "{\"subject\": \"in.x\", \"id\": \"m-1\", \"body\": \"m-1\", \"expect\": \"completed\"}\n";
    std::fs::write(b.path().join("golden/one.jsonl"), golden).unwrap();
    b.start();
    until_all_run(&[&a, &b], 1, 1);
    for (version, query) in [(2, "canary=5%25&promote_after=1s"), (3, "shadow=5%25")] {
        begin(&a, query, FAILS);
        for end in until_none_tries(&[&a, &b], version) {
            assert_eq!((end.event.as_str(), end.who.as_str()), ("aborted", "host"), "{end:?}");
            for said in [format!("host `b` cannot run version {version}"), "golden".to_owned()] {
                assert!(end.detail.contains(&said), "{said}: {}", end.detail);
            }
        }
        until_all_run(&[&a, &b], 1, 1);
    }
    // One that it can run is tried on both.
    assert_eq!(begin(&a, "canary=5%25", 2).version, 4);
    until_all_try(&[&a, &b], 4, 1);
    for what in ["promote?version=3", "abort?version=3"] {
        assert_eq!(b.post(what).unwrap().0, 409, "another one is tried than was looked at");
    }
    for name in ["a", "b"] {
        until("it is seen who tries it", PATIENCE, || {
            let on = seen(&a, name).unwrap().1;
            (on.standing, on.version, on.tries) == (Standing::Current, Some(1), Some(4))
        });
    }
}

#[test]
fn a_host_that_was_away_takes_up_what_is_tried_and_goes_on_with_it_while_nats_is_away() {
    let mut ground = Ground::new();
    let [mut a, mut b] = ground.hosts(["a", "b"]);
    b.kill();
    begin(&a, "canary=5%25", 2);
    b.start();
    assert_eq!((rollout(&b).unwrap().version, runs(&b).unwrap().0), (2, 1), "from its start on");
    b.kill();
    ground.server.kill();
    b.start();
    assert_eq!(rollout(&b).unwrap().version, 2, "by its own records");
    for what in ["promote", "abort"] {
        let (status, answer) = b.post(what).unwrap();
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("cluster-unavailable")), "{answer}");
    }
    ground.runtime.block_on(ground.server.restart());
    until("NATS is back", PATIENCE, || a.handlers().cluster.unwrap().trouble.is_none());
    // It ends while the one that began it is away, which finds it ended.
    a.drain();
    until("b can end it", PATIENCE, || b.post("promote").unwrap().0 == 200);
    a.start();
    assert_eq!((rollout(&a), runs(&a).unwrap().0), (None, 2), "from its start on");
    until_all_run(&[&a, &b], 2, 2);
}

/// Where the host dies that begins or ends a canary, what is asked of it there, and what both run and try then.
const PLACES: [(&str, Option<&str>, u64, Option<u64>); 9] = [
    ("checked", None, 1, None),
    ("shared", None, 1, None),
    ("proposed", None, 1, Some(2)),
    ("recorded", None, 1, Some(2)),
    ("switched", None, 1, Some(2)),
    ("proposed", Some("promote"), 2, None),
    ("promoted", Some("promote"), 2, None),
    ("proposed", Some("abort"), 1, None),
    ("aborted", Some("abort"), 1, None),
];

#[test]
fn killed_at_each_step_of_a_canary_every_host_goes_on_with_it_or_knows_nothing_of_it() {
    killed_at_each_step("canary=50%25");
}

/// Kills a host at each step of a rollout that is begun as the query says, and of its end.
pub(super) fn killed_at_each_step(query: &str) {
    for (place, asked, active, tried) in PLACES {
        let ground = Ground::new();
        let [mut a, b] = ground.hosts(["a", "b"]);
        if let Some(asked) = asked {
            begin(&b, query, 2);
            until_all_try(&[&a, &b], 2, 1);
            a.drain();
            a.dies_at = Some(place);
            a.start();
            assert_eq!(a.post(asked), None, "{place}");
        } else {
            a.drain();
            a.dies_at = Some(place);
            a.start();
            let answer = a.deploy_as(query, &ledger(2));
            assert!(answer.is_none_or(|line| !matches!(line, Line::Failed(_))), "{place}");
        }
        a.dead();
        a.dies_at = None;
        a.start();
        let of = |host: &Rig| (host.handler().active, rollout(host).map(|rollout| rollout.version));
        assert_eq!(of(&a), (Some(active), tried), "{place} {asked:?}: from its start on");
        until("the other one follows", PATIENCE, || of(&b) == (Some(active), tried));
        // From there it goes on as ever.
        if tried.is_none() {
            begin(&b, query, 3);
        }
        assert_eq!(b.post("promote").unwrap().0, 200, "{place} {asked:?}");
        let promoted = b.handler().active;
        until("both run it", PATIENCE, || of(&a) == (promoted, None) && of(&b) == (promoted, None));
    }
}

#[test]
fn a_host_killed_while_it_takes_up_a_canary_tries_it_from_its_next_start_on() {
    for place in ["compiled", "initialized", "follower-checked", "follower-recorded"] {
        let ground = Ground::new();
        let [a, mut b] = ground.hosts(["a", "b"]);
        b.drain();
        b.dies_at = Some(place);
        b.start();
        begin(&a, "canary=50%25", 2);
        b.dead();
        b.dies_at = None;
        b.start();
        assert_eq!((rollout(&b).unwrap().version, runs(&b).unwrap().0), (2, 1), "{place}");
    }
}
