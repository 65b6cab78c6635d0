//! A host that is killed in the middle of a redrive, on each broker: nothing lost anywhere, nothing twice on the embedded
//! queue.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Rig, on_jetstream};
use crate::support::nats::NatsServer;
use crate::support::until;

/// More than a task takes at once, so that it is killed with some done and some not.
const COUNT: u64 = 300;

/// Ids of messages that the ledger rejects by their numbers, each time that it gets them.
fn rejected() -> Vec<String> {
    (0..COUNT).map(|number| format!("m-{}", number * 20 + 17)).collect()
}

fn json(rig: &Rig, path: &str) -> Value {
    rig.get(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn depth(rig: &Rig) -> u64 {
    json(rig, "/v1/dead-letters/stats")["matched"].as_u64().unwrap_or(0)
}

/// How often each message is among the dead letters that wait, with how often it was sent back before.
fn letters(rig: &Rig) -> BTreeMap<String, Vec<u64>> {
    let list = json(rig, "/v1/dead-letters?limit=1000");
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for letter in list["letters"].as_array().unwrap() {
        let id = letter["message_id"].as_str().unwrap().to_owned();
        found.entry(id).or_default().push(letter["redrives"].as_u64().unwrap());
    }
    found
}

fn task(rig: &Rig) -> Value {
    json(rig, "/v1/dead-letters/tasks")["tasks"][0].clone()
}

/// Kills the host in the middle of a redrive of all, and lets the next one go on with it.
fn redriven(rig: &mut Rig) -> BTreeMap<String, Vec<u64>> {
    rig.start();
    rig.publisher().publish(&rejected());
    until("all are dead", Duration::from_secs(120), || depth(rig) == COUNT);
    rig.kill();

    rig.dies_at = Some("task-page");
    rig.start();
    // The host may be gone before it answers.
    let _ = rig.ask("/v1/dead-letters/tasks?action=redrive");
    rig.dead();
    rig.dies_at = None;
    rig.start();
    until("the task is done", Duration::from_secs(120), || task(rig)["standing"] == "done");
    let done = task(rig);
    let count = |key: &str| done[key].as_u64().unwrap_or(0);
    // What the last second before the kill came to is not written down: it is told as unknown, and not as sent back.
    assert_eq!((count("done") + count("unknown"), count("failed")), (COUNT, 0), "{done}");
    until("all are dead again", Duration::from_secs(120), || depth(rig) >= COUNT);
    letters(rig)
}

#[test]
fn a_redrive_goes_on_after_a_kill_and_sends_nothing_twice_on_the_embedded_queue() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let letters = redriven(&mut rig);
    assert_eq!(letters.len() as u64, COUNT, "one is lost");
    for (id, redrives) in letters {
        assert_eq!(redrives, [1], "{id} was sent back once");
    }
}

#[test]
fn a_redrive_goes_on_after_a_kill_and_loses_nothing_on_jetstream() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = Rig::new(&on_jetstream(&server), Duration::from_secs(30), "create = true");
    let letters = redriven(&mut rig);
    assert_eq!(letters.len() as u64, COUNT, "one is lost");
    assert!(letters.values().flatten().all(|redrives| *redrives == 1), "{letters:?}");
}

/// The canary was sent and not yet written down when the host was killed: the next one sends no other.
#[test]
fn a_canary_of_a_redrive_that_is_killed_in_the_middle_is_sent_once_and_judged_whole() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    rig.publisher().publish(&rejected());
    until("all are dead", Duration::from_secs(120), || depth(&rig) == COUNT);
    rig.kill();

    rig.dies_at = Some("task-first");
    rig.start();
    let _ = rig.ask("/v1/dead-letters/tasks?action=redrive&canary=5&canary_wait=5s");
    rig.dead();
    rig.dies_at = None;
    rig.start();
    // They fail again; or their ends were missed, which is no better.
    until("the task is aborted", Duration::from_secs(120), || task(&rig)["standing"] == "aborted");
    let ended = task(&rig);
    assert_eq!((&ended["done"], &ended["canary"]["sent"]), (&5.into(), &5.into()), "{ended}");
    until("the five are dead again", Duration::from_secs(120), || {
        letters(&rig).values().flatten().filter(|redrives| **redrives == 1).count() == 5
    });
    assert_eq!(letters(&rig).len() as u64, COUNT, "one is lost, or others were sent");
}
