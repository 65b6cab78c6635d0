//! What a cluster makes of what goes wrong beside its hosts: buckets that are lost, hosts that are not like the others.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::cluster::report::{Presence, Standing};
use tidegate::deploy::report::Line;
use tidegate::registry::Digest;

use super::cluster::{Ground, PATIENCE, deploy, numbers, runs, seen, until_all_run, until_seen};
use super::cluster_rollouts::{begin, rollout, until_all_try, until_none_tries};
use super::ledger;
use super::rig::Rig;
use crate::deploy::fill;
use crate::embedded_disk::SmallDisk;
use crate::support::until;

const STREAMS: [&str; 3] = ["KV_tidegate-main-desired", "KV_tidegate-main-hosts", "OBJ_tidegate-main-modules"];

impl Ground {
    fn remove(&self, streams: &[&str]) {
        self.runtime.block_on(async {
            let context = async_nats::jetstream::new(self.server.client().await);
            for stream in streams {
                context.delete_stream(stream).await.unwrap();
            }
        });
    }

    /// From now on what is to run may have so many bytes; any number: -1.
    fn allow_bytes(&self, bytes: i32) {
        self.runtime.block_on(async {
            let context = async_nats::jetstream::new(self.server.client().await);
            let mut stream = context.get_stream(STREAMS[0]).await.unwrap();
            let mut config = stream.info().await.unwrap().config.clone();
            config.max_message_size = bytes;
            context.update_stream(config).await.unwrap();
        });
    }

    /// Applies another limit on a host while the cluster takes nothing, and sees that it is told.
    fn apply_in_vain(&self, host: &Rig) {
        self.allow_bytes(16);
        host.edit(|text| text.replace("[handlers.ledger]", "[handlers.ledger]\nlimits.fuel = 900_000_000"));
        let applied = host.apply().unwrap();
        assert!(applied.deployed.is_empty(), "{applied:?}");
        let [trouble] = applied.troubles.as_slice() else { panic!("{applied:?}") };
        assert!(trouble.starts_with("handler `ledger` waits for the cluster"), "{trouble}");
    }

    /// Whether somebody has put what is to run of the ledger into the bucket.
    fn is_known(&self) -> bool {
        self.runtime.block_on(async {
            let context = async_nats::jetstream::new(self.server.client().await);
            let Ok(bucket) = context.get_key_value("tidegate-main-desired").await else { return false };
            bucket.get("ledger").await.is_ok_and(|value| value.is_some())
        })
    }
}

/// Deploys as soon as the cluster can be asked.
fn deploy_soon(host: &Rig, module: u32) -> u64 {
    let mut version = None;
    until("the cluster can be asked", PATIENCE, || {
        let (status, answer) = host.try_deploy("", &ledger(module));
        match status {
            200 => version = answer["done"]["version"].as_u64(),
            _ => assert!(matches!(status, 409 | 503), "{answer}"),
        }
        version.is_some()
    });
    version.unwrap()
}

/// Rolls back as soon as nothing is in the way: the host that brings what it runs does so as one who deploys.
fn roll_back_soon(host: &Rig, to: u64) {
    until("it is rolled back", PATIENCE, || match host.post(&format!("rollback?to={to}")).unwrap() {
        (200, answer) => answer["to"] == to,
        (status, answer) => {
            assert!(matches!(status, 409 | 503), "{answer}");
            false
        }
    });
}

#[test]
fn buckets_that_are_lost_are_made_anew_and_numbers_go_on() {
    let mut ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    assert_eq!(deploy(&a, 2), 2);
    until_all_run(&[&a, &b], 2, 2);
    // Whoever deploys at that moment goes on from what runs, whether or not anybody has noticed.
    ground.remove(&STREAMS);
    assert_eq!(deploy_soon(&b, 3), 3);
    until_all_run(&[&a, &b], 3, 3);
    for host in [&a, &b] {
        assert_eq!(numbers(host), [3, 2, 1]);
    }
    // They bring what they run by themselves, too.
    ground.remove(&STREAMS);
    until("what is to run is known again", PATIENCE, || ground.is_known());
    roll_back_soon(&a, 2);
    until_all_run(&[&a, &b], 2, 2);
    // A server that comes back with nothing, not even the streams of the messages.
    ground.server.kill();
    std::fs::remove_dir_all(ground.server.folder().join("store")).unwrap();
    ground.runtime.block_on(ground.server.restart());
    until("what is to run is known again", PATIENCE, || ground.is_known());
    assert_eq!(deploy_soon(&a, 4), 4);
    until_all_run(&[&a, &b], 4, 4);
    until_seen(&a, "b", Standing::Current, Some(4));
    let mut c = ground.host("c");
    c.start();
    assert_eq!(runs(&c), Some((4, Digest::of(&ledger(4)).to_string())), "the modules are there too");
}

/// It was said that all was applied, and the limits from before ran on.
#[test]
fn what_the_cluster_does_not_take_at_an_apply_is_told_and_comes_by_itself() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ground.apply_in_vain(&a);
    assert_eq!(runs(&a).unwrap().0, 1);
    ground.allow_bytes(-1);
    until_all_run(&[&a, &b], 2, 1);
    assert_eq!(a.handler().versions[0].settings.limits.fuel.unwrap().get(), 900_000_000);
}

/// What waited for the cluster was sent there whenever it came back, over whatever a colleague had deployed meanwhile.
#[test]
fn what_waited_for_the_cluster_replaces_no_version_that_nobody_was_shown() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ground.apply_in_vain(&a);
    a.signal(Signal::STOP);
    ground.allow_bytes(-1);
    assert_eq!(deploy(&b, 2), 2);
    a.signal(Signal::CONT);
    until_all_run(&[&a, &b], 2, 2);
    // Whoever wants it applies it again, and is shown what it replaces: nothing was sent by itself.
    let applied = a.apply().unwrap();
    assert!(applied.troubles.is_empty() && applied.deployed.len() == 1, "{applied:?}");
    until_all_run(&[&a, &b], 3, 2);
    assert_eq!(a.handler().versions[0].settings.limits.fuel.unwrap().get(), 900_000_000);
}

#[test]
fn a_key_that_somebody_removes_comes_back_as_it_was() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    assert_eq!(deploy(&a, 2), 2);
    until_all_run(&[&a, &b], 2, 2);
    ground.runtime.block_on(async {
        let context = async_nats::jetstream::new(ground.server.client().await);
        context.get_key_value("tidegate-main-desired").await.unwrap().delete("ledger").await.unwrap();
    });
    until("what is to run is known again", PATIENCE, || ground.is_known());
    roll_back_soon(&b, 1);
    until_all_run(&[&a, &b], 1, 1);
    assert_eq!(numbers(&a), [2, 1]);
}

/// Nothing counted that end, and nobody had written it down: the host that ended it could not record it, and then followed.
#[test]
fn the_end_of_a_canary_is_told_though_the_host_that_ends_it_cannot_record_it() {
    let ground = Ground::new();
    // Its registry alone is on a disk that fills up.
    let disk = SmallDisk::mount();
    let [b] = ground.hosts(["b"]);
    let mut a = ground.host("a");
    std::fs::create_dir(a.path().join("tidegate-data")).unwrap();
    std::os::unix::fs::symlink(&disk.mounted, a.path().join("tidegate-data/registry")).unwrap();
    a.start();
    until_all_run(&[&a, &b], 1, 1);
    begin(&b, "canary=5%25", 2);
    until_all_try(&[&a, &b], 2, 1);
    let filler = disk.mounted.join("filler");
    fill(&filler);
    let (_, answer) = a.post("abort").unwrap();
    assert_eq!(answer["error"]["code"], "not-recorded", "{answer}");
    assert_eq!(rollout(&a), None, "no message runs on it any more");
    let counted = "tidegate_rollouts_ended_total{handler=\"ledger\",result=\"aborted\",by=\"person\"} 1";
    assert!(a.metrics().contains(counted));
    until("the other one follows", PATIENCE, || rollout(&b).is_none());
    std::fs::remove_file(&filler).unwrap();
    until_none_tries(&[&a, &b], 2);
    assert!(a.metrics().contains(counted), "once");
}

/// An apply said that a handler waits for the cluster that its host was just bringing there by itself.
#[test]
fn an_apply_waits_for_what_the_host_does_with_its_handlers_by_itself() {
    const HANDLERS: u32 = 6;
    let ground = Ground::new();
    let mut a = ground.host("a");
    let files = |host: &Rig, first: u32| {
        for number in 1..=HANDLERS {
            std::fs::write(host.path().join(format!("h{number}.wasm")), ledger(first + number)).unwrap();
        }
    };
    files(&a, 0);
    let handlers = (1..=HANDLERS).map(|number| format!("[handlers.h{number}]\nmodule = \"h{number}.wasm\"\n"));
    let handlers: String = handlers.collect();
    a.edit(|text| format!("{text}\n{handlers}"));
    a.start();
    until_all_run(&[&a], 1, 1);
    let is_there =
        |number: u32| a.get(&format!("/v1/handlers/h{number}")).is_some_and(|shown| shown.contains("\"active\":1"));
    until("all run", PATIENCE, || (1..=HANDLERS).all(is_there));
    files(&a, 100);
    let applied = std::thread::scope(|scope| {
        let applied = scope.spawn(|| a.apply());
        until("they are prepared", PATIENCE, || a.handlers().handlers.iter().any(|one| one.deploying.is_some()));
        // Something changes of each in the bucket: the host looks at it as soon as the apply lets go of it.
        ground.runtime.block_on(async {
            let context = async_nats::jetstream::new(ground.server.client().await);
            let bucket = context.get_key_value("tidegate-main-desired").await.unwrap();
            for number in 1..=HANDLERS {
                let key = format!("h{number}");
                let value = bucket.get(&key).await.unwrap().unwrap();
                bucket.put(&key, value).await.unwrap();
            }
        });
        applied.join().unwrap().unwrap()
    });
    assert!(applied.troubles.is_empty(), "{applied:?}");
    assert_eq!(applied.deployed.len(), HANDLERS as usize, "{applied:?}");
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signed").join(name)).unwrap()
}

#[test]
fn a_host_that_lists_keys_runs_only_what_they_signed_whoever_deploys_it() {
    let ground = Ground::new();
    let [a] = ground.hosts(["a"]);
    let mut b = ground.host("b");
    let key = String::from_utf8(fixture("release.pub")).unwrap();
    b.edit(|text| format!("{text}\n[signatures.keys]\nrelease = \"{}\"\n", key.lines().nth(1).unwrap()));
    b.start();
    let on = until_seen(&a, "b", Standing::Refused, None);
    assert!(on.wants == Some(1) && on.why.as_deref().unwrap().contains("sign"), "{on:?}");
    // Whoever deploys asks for no signature, and sends the one that it is given along.
    let signed = a.deploy_signed(&fixture("module.wasm"), &fixture("module.wasm.minisig"));
    assert!(matches!(&signed, Some(Line::Done(done)) if done.version == 2), "{signed:?}");
    let digest = Digest::of(&fixture("module.wasm")).to_string();
    until("both run it", PATIENCE, || [&a, &b].iter().all(|host| runs(host) == Some((2, digest.clone()))));
    // What is not signed runs on the one, and the other goes on with what is.
    assert_eq!(deploy(&a, 3), 3);
    assert_eq!(until_seen(&a, "b", Standing::Refused, Some(2)).wants, Some(3));
    assert_eq!(runs(&b), Some((2, digest)));
    // The host with keys cannot be made to deploy it either.
    let (_, answer) = b.try_deploy("", &ledger(4));
    assert_eq!(answer["failed"]["step"], "signature", "{answer}");
}

#[test]
fn a_host_without_the_handler_is_there_and_has_no_part_in_it() {
    let ground = Ground::new();
    let [a] = ground.hosts(["a"]);
    let mut c = ground.host("c");
    c.edit(|text| {
        text.replace("handlers.ledger", "handlers.other").replace("handler = \"ledger\"", "handler = \"other\"")
    });
    c.start();
    assert_eq!(deploy(&a, 2), 2);
    until("c is seen", PATIENCE, || {
        let hosts = a.handlers().cluster.unwrap().hosts;
        hosts.iter().any(|host| host.name == "c" && host.presence == Presence::Here && host.handlers.len() == 1)
    });
    assert_eq!(seen(&a, "c"), None);
    assert!(a.handlers().handlers.iter().all(|handler| handler.name == "ledger"));
}

#[test]
fn two_hosts_of_one_name_say_so_until_one_has_another() {
    let ground = Ground::new();
    let [a] = ground.hosts(["a"]);
    let mut copy = ground.host("a");
    copy.start();
    let trouble = |host: &Rig| host.handlers().cluster.unwrap().trouble;
    let says = |host: &Rig| trouble(host).is_some_and(|why| why.contains("another host is called `a` too"));
    until("both say so", PATIENCE, || says(&a) && says(&copy));
    assert_eq!(deploy(&copy, 2), 2);
    until_all_run(&[&a, &copy], 2, 2);
    copy.drain();
    copy.edit(|text| text.replace("host = \"a\"", "host = \"b\""));
    copy.start();
    until("it is over", PATIENCE, || trouble(&a).is_none() && trouble(&copy).is_none());
    until_seen(&a, "b", Standing::Current, Some(2));
}

#[test]
fn killed_in_the_middle_of_a_rollback_every_host_ends_on_the_same_version() {
    for (place, expected) in [("shared", 2), ("proposed", 1), ("recorded", 1)] {
        let ground = Ground::new();
        let [mut a, b] = ground.hosts(["a", "b"]);
        assert_eq!(deploy(&b, 2), 2);
        until_all_run(&[&a, &b], 2, 2);
        a.drain();
        a.dies_at = Some(place);
        a.start();
        assert_eq!(a.post("rollback?to=1"), None, "{place}");
        a.dead();
        a.dies_at = None;
        a.start();
        assert_eq!(runs(&a).unwrap().0, expected, "{place}: from its start on");
        until_all_run(&[&a, &b], expected, u32::try_from(expected).unwrap());
    }
}

#[test]
fn a_host_that_is_stopped_in_order_is_not_taken_for_one_that_is_gone() {
    let ground = Ground::new();
    let [a, mut b] = ground.hosts(["a", "b"]);
    for _ in 0..5 {
        until_seen(&a, "b", Standing::Current, Some(1));
        b.drain();
        until("b is seen as stopped", Duration::from_secs(5), || {
            seen(&a, "b").is_some_and(|(presence, _)| presence == Presence::Stopped)
        });
        b.start();
        until("b is seen", PATIENCE, || seen(&a, "b").is_some_and(|(presence, _)| presence == Presence::Here));
    }
}
