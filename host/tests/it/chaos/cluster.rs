//! Three hosts on one NATS: a deploy to any one of them reaches all, whatever dies on the way; and no message is lost by it.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use tidegate::cluster::report::{OnHost, Presence, Standing};
use tidegate::deploy::report::{Failed, Line};
use tidegate::registry::Digest;
use tokio::runtime::Runtime;

use super::books::Books;
use super::rig::Rig;
use super::{Feed, audit, ledger, on_jetstream, until_settled};
use crate::support::nats::NatsServer;
use crate::support::until;

pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// A NATS server on which hosts meet.
pub(super) struct Ground {
    pub(super) runtime: Runtime,
    pub(super) server: NatsServer,
}

impl Ground {
    pub(super) fn new() -> Self {
        Self::new_with("")
    }

    /// The same with further lines of the server's configuration.
    pub(super) fn new_with(lines: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(NatsServer::start_with(lines));
        Self { runtime, server }
    }

    /// A host that is not started yet. Its configuration names the first ledger.
    pub(super) fn host(&self, name: &str) -> Rig {
        let more = format!("create = true\n[cluster]\nbroker = \"queue\"\nhost = \"{name}\"\n");
        Rig::new(&on_jetstream(&self.server), Duration::from_secs(30), &more)
    }

    pub(super) fn hosts<const COUNT: usize>(&self, names: [&str; COUNT]) -> [Rig; COUNT] {
        let hosts = names.map(|name| {
            let mut host = self.host(name);
            host.start();
            host
        });
        until_all_run(&hosts.each_ref(), 1, 1);
        hosts
    }

    /// Replaces the cluster's copy of a module.
    pub(super) fn tamper(&self, module: &[u8], with: &[u8]) {
        self.runtime.block_on(async {
            let context = async_nats::jetstream::new(self.server.client().await);
            let store = context.get_object_store("tidegate-main-modules").await.unwrap();
            let mut bytes = with;
            store.put(Digest::of(module).as_str(), &mut bytes).await.unwrap();
        });
    }
}

pub(super) fn runs(host: &Rig) -> Option<(u64, String)> {
    let handler = host.handler();
    let active = handler.versions.iter().find(|version| Some(version.number) == handler.active)?;
    Some((active.number, active.digest.to_string()))
}

/// Waits until hosts run a ledger under a number, all of them.
pub(super) fn until_all_run(hosts: &[&Rig], number: u64, module: u32) {
    let wanted = Some((number, Digest::of(&ledger(module)).to_string()));
    until(&format!("all run version {number}"), PATIENCE, || hosts.iter().all(|host| runs(host) == wanted));
}

pub(super) fn deploy(host: &Rig, module: u32) -> u64 {
    match host.deploy(&ledger(module)) {
        Some(Line::Done(done)) => done.version,
        other => panic!("the deploy of ledger {module}: {other:?}"),
    }
}

/// What a host knows of another one.
pub(super) fn seen(by: &Rig, host: &str) -> Option<(Presence, OnHost)> {
    let cluster = by.handlers().cluster.unwrap();
    assert_eq!(cluster.name, "main");
    let found = cluster.hosts.into_iter().find(|one| one.name == host)?;
    Some((found.presence, found.handlers.get("ledger")?.clone()))
}

pub(super) fn until_seen(by: &Rig, host: &str, standing: Standing, version: Option<u64>) -> OnHost {
    let mut found = None;
    until(&format!("{host} is seen as {}", standing.name()), PATIENCE, || {
        found = seen(by, host).map(|(_, on)| on).filter(|on| on.standing == standing && on.version == version);
        found.is_some()
    });
    found.unwrap()
}

pub(super) fn numbers(host: &Rig) -> Vec<u64> {
    host.handler().versions.iter().map(|version| version.number).collect()
}

#[test]
fn a_deploy_to_any_host_reaches_all_by_the_same_digest_and_so_does_a_rollback() {
    let ground = Ground::new();
    let [a, b, c] = ground.hosts(["a", "b", "c"]);
    let all = [&a, &b, &c];
    for (round, host) in all.into_iter().enumerate() {
        let number = round as u64 + 2;
        assert_eq!(deploy(host, number as u32), number);
        until_all_run(&all, number, number as u32);
    }
    assert_eq!(b.rollback(2).to, 2);
    until_all_run(&all, 2, 2);
    for host in all {
        assert_eq!(numbers(host), [4, 3, 2, 1]);
        for name in ["a", "b", "c"] {
            let on = until_seen(host, name, Standing::Current, Some(2));
            assert_eq!(on.digest, Some(Digest::of(&ledger(2))));
            assert_eq!(seen(host, name).unwrap().0, Presence::Here);
        }
    }
    let events = |host: &Rig| host.handler().history.iter().map(|one| one.event.clone()).collect::<Vec<_>>();
    assert_eq!(events(&b)[..2], ["rolled-back", "followed"]);
    assert_eq!(events(&c)[..2], ["followed", "deployed"]);
    // The same module once more is no change, and a number is not used twice.
    assert_eq!(deploy(&a, 2), 2);
    assert_eq!(deploy(&c, 5), 5);
    until_all_run(&all, 5, 5);
}

#[test]
fn a_host_that_was_away_catches_up_and_a_new_one_starts_from_what_the_cluster_has() {
    let ground = Ground::new();
    let [mut a, mut b] = ground.hosts(["a", "b"]);
    // Of a host that dies before its first word nobody knows.
    until_seen(&a, "b", Standing::Current, Some(1));
    b.kill();
    assert_eq!((deploy(&a, 2), deploy(&a, 3)), (2, 3));
    until("b is seen as gone", PATIENCE, || seen(&a, "b").is_some_and(|(presence, _)| presence == Presence::Gone));
    b.start();
    assert_eq!(runs(&b).unwrap().0, 3, "from its start on");
    let mut d = ground.host("d");
    d.start();
    assert_eq!(runs(&d), Some((3, Digest::of(&ledger(3)).to_string())), "though its configuration names the first");
    assert_eq!(numbers(&d), [3, 2, 1]);
    // It goes back to a version that it never had.
    assert_eq!(d.rollback(2).to, 2);
    until_all_run(&[&a, &b, &d], 2, 2);
    d.drain();
    until("d is seen as stopped", PATIENCE, || {
        seen(&a, "d").is_some_and(|(presence, _)| presence == Presence::Stopped)
    });
    // The whole cluster is stopped: what ran runs again, and nothing is deployed by the unchanged configurations.
    a.drain();
    b.drain();
    a.start();
    b.start();
    until_all_run(&[&a, &b], 2, 2);
    // One of them brings another module in its configuration: that is a deploy.
    b.drain();
    std::fs::write(b.path().join("ledger.wasm"), ledger(7)).unwrap();
    b.start();
    until_all_run(&[&a, &b], 4, 7);
}

/// Uploads a module, of which the second half comes when something else is done meanwhile; gives back the refusal.
pub(super) fn overtaken(host: &Rig, query: &str, module: &[u8], meanwhile: impl FnOnce()) -> Failed {
    let (half, rest) = module.split_at(module.len() / 2);
    let mut stream = host.connect();
    let head = format!(
        "POST /v1/handlers/ledger/versions{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        module.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(half).unwrap();
    until("the upload is under way", PATIENCE, || host.handler().deploying.is_some());
    meanwhile();
    stream.write_all(rest).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let last = answer.lines().rfind(|line| line.starts_with("{\"")).unwrap();
    let Line::Failed(failed) = serde_json::from_str(last).unwrap() else { panic!("{answer}") };
    assert_eq!((failed.step.name(), failed.code.as_str()), ("cluster", "conflict"));
    failed
}

#[test]
fn of_two_deploys_at_once_one_wins_and_the_other_is_told_who() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    let failed = overtaken(&a, "", &ledger(2), || assert_eq!(deploy(&b, 3), 2));
    for said in ["version 2 of handler `ledger`", "on host `b`", Digest::of(&ledger(3)).as_str()] {
        assert!(failed.message.contains(said), "{said}: {}", failed.message);
    }
    until_all_run(&[&a, &b], 2, 3);
    assert_eq!(deploy(&a, 2), 3, "after a look it is deployed again");
    until_all_run(&[&a, &b], 3, 2);
}

#[test]
fn while_nats_is_away_nothing_is_deployed_and_what_runs_goes_on() {
    let mut ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ground.server.kill();
    for (status, answer) in [a.try_deploy("", &ledger(2)), b.post("rollback?to=1").unwrap()] {
        assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("cluster-unavailable")), "{answer}");
    }
    assert_eq!((runs(&a).unwrap().0, runs(&b).unwrap().0), (1, 1));
    until("a says that it sees nobody", PATIENCE, || a.handlers().cluster.unwrap().trouble.is_some());
    let ready = || serde_json::from_str::<serde_json::Value>(&a.get("/ready").unwrap()).unwrap();
    assert!(ready()["cluster"].is_string(), "{}", ready());
    ground.runtime.block_on(ground.server.restart());
    until("NATS is back", PATIENCE, || a.handlers().cluster.unwrap().trouble.is_none());
    assert!(ready()["cluster"].is_null(), "{}", ready());
    assert_eq!(deploy(&a, 2), 2);
    until_all_run(&[&a, &b], 2, 2);
    assert_eq!(numbers(&a), [2, 1]);
}

#[test]
fn a_host_that_starts_while_nats_is_away_runs_what_it_ran() {
    let mut ground = Ground::new();
    let [a, mut b] = ground.hosts(["a", "b"]);
    assert_eq!(deploy(&a, 2), 2);
    until_all_run(&[&a, &b], 2, 2);
    b.kill();
    ground.server.kill();
    b.start();
    assert_eq!(runs(&b).unwrap().0, 2);
    ground.runtime.block_on(ground.server.restart());
    until("NATS is back", PATIENCE, || a.handlers().cluster.unwrap().trouble.is_none());
    assert_eq!(deploy(&a, 3), 3);
    until_all_run(&[&a, &b], 3, 3);
}

#[test]
fn another_module_under_a_digest_is_never_run_and_a_deploy_mends_it() {
    let ground = Ground::new();
    let [a, mut b] = ground.hosts(["a", "b"]);
    b.kill();
    assert_eq!(deploy(&a, 2), 2);
    ground.tamper(&ledger(2), &ledger(9));
    b.start();
    let on = until_seen(&a, "b", Standing::Refused, Some(1));
    assert_eq!(on.wants, Some(2));
    let why = on.why.unwrap();
    for said in ["cluster's copy of module", Digest::of(&ledger(2)).as_str(), Digest::of(&ledger(9)).as_str()] {
        assert!(why.contains(said), "{said}: {why}");
    }
    assert_eq!(runs(&b), Some((1, Digest::of(&ledger(1)).to_string())), "what ran before goes on");
    // A larger one is not even read to its end.
    ground.tamper(&ledger(2), &vec![0; 4 << 20]);
    b.kill();
    b.start();
    // What it said in its life before stands there until it says something else.
    until("b says that it is too large", PATIENCE, || {
        let why = seen(&a, "b").and_then(|(_, on)| on.why);
        why.is_some_and(|why| why.contains("larger than the limit"))
    });
    let Some(Line::Done(done)) = a.deploy(&ledger(2)) else { panic!("the same module again") };
    assert!(done.unchanged);
    until_all_run(&[&a, &b], 2, 2);
    until_seen(&a, "b", Standing::Current, Some(2));
}

#[test]
fn a_host_that_cannot_take_a_version_keeps_the_old_one_and_says_why() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    // Another output on one host is another version, which the other host's configuration does not grant.
    a.edit(|text| {
        text.replace("outputs.done =", "outputs.more = { broker = \"queue\", subject = \"out.more\" }\noutputs.done =")
    });
    let applied = a.apply().unwrap();
    assert_eq!(applied.deployed.iter().map(|one| one.version).collect::<Vec<_>>(), [2], "{applied:?}");
    until_all_run(&[&a], 2, 1);
    let on = until_seen(&a, "b", Standing::Refused, Some(1));
    assert!(on.wants == Some(2) && on.why.as_deref().unwrap().contains("(output more)"), "{on:?}");
    assert_eq!(runs(&b).unwrap().0, 1);
    // Once it is granted there too, the host takes it.
    b.edit(|text| {
        text.replace("outputs.done =", "outputs.more = { broker = \"queue\", subject = \"out.more\" }\noutputs.done =")
    });
    b.apply().unwrap();
    until_all_run(&[&a, &b], 2, 1);
    assert_eq!(numbers(&b), [2, 1], "and made no version of its own");
}

#[test]
fn killed_at_each_step_every_host_ends_on_the_same_version() {
    // Where the host that deploys dies, and the version that all run then.
    for (place, expected) in [("checked", 1), ("shared", 1), ("proposed", 2), ("recorded", 2), ("switched", 2)] {
        let ground = Ground::new();
        let mut a = ground.host("a");
        a.start();
        let mut b = ground.host("b");
        b.start();
        until_all_run(&[&a, &b], 1, 1);
        a.drain();
        a.dies_at = Some(place);
        a.start();
        assert!(a.deploy(&ledger(2)).is_none_or(|line| !matches!(line, Line::Failed(_))), "{place}");
        a.dead();
        a.dies_at = None;
        a.start();
        let module = u32::try_from(expected).unwrap();
        assert_eq!(runs(&a).unwrap().0, expected, "{place}: from its start on");
        until_all_run(&[&a, &b], expected, module);
        assert_eq!(deploy(&b, 3), expected + 1, "{place}: and the next one is deployed");
        until_all_run(&[&a, &b], expected + 1, 3);
    }
}

#[test]
fn a_host_killed_while_it_takes_a_version_takes_it_at_its_next_start() {
    for place in ["compiled", "initialized", "follower-checked", "follower-recorded"] {
        let ground = Ground::new();
        let [a, mut b] = ground.hosts(["a", "b"]);
        b.drain();
        b.dies_at = Some(place);
        b.start();
        assert_eq!(deploy(&a, 2), 2, "{place}");
        b.dead();
        b.dies_at = None;
        b.start();
        assert_eq!(runs(&b).unwrap().0, 2, "{place}");
    }
}

#[test]
fn deploys_across_the_cluster_under_load_lose_and_repeat_nothing() {
    let ground = Ground::new();
    let [mut a, mut b, mut c] = ground.hosts(["a", "b", "c"]);
    let feed = Feed::start(a.publisher(), "m");
    feed.go_on_for(200);
    let mut number = 1;
    for round in 0..9u32 {
        let (host, module) = ([&a, &b, &c][round as usize % 3], round % 2 + 2);
        number += 1;
        assert_eq!(deploy(host, module), number);
        until_all_run(&[&a, &b, &c], number, module);
        feed.go_on_for(100);
    }
    assert_eq!(b.rollback(number - 1).to, number - 1);
    feed.go_on_for(200);
    let published = feed.finish();
    for host in [&a, &b, &c] {
        until_settled(host);
    }
    let mut books = Books::default();
    for host in [&mut a, &mut b, &mut c] {
        host.drain();
        books.read_runs(&host.log());
    }
    ground.runtime.block_on(audit::read_jetstream(&a, &ground.server, &mut books));
    let balance = books.check("m", published);
    println!("three hosts, deployed to {} times: {balance:?}", number - 1);
    assert_eq!(balance.extra_runs, 0, "a deploy made messages run again");
    books.check_the_runs();
    let torn: Vec<_> = books.made_by.iter().filter(|(_, (first, last))| first != last).collect();
    assert!(torn.is_empty(), "run on two versions: {torn:?}");
}
