//! A subscription is paused on all hosts of a cluster: nothing runs anywhere, whatever becomes of the hosts, of the server and
//! of the bucket, until somebody resumes it on all or its time is over.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::admin::wire::{AuditList, SubscriptionView};
use tidegate::pause::Reach;

use super::books::Books;
use super::called::{Said, call};
use super::cluster::{Ground, PATIENCE};
use super::rig::Rig;
use super::{audit, until_settled};
use crate::support::until;

const PAUSE: &str = "/v1/subscriptions/ledger/pause?hosts=all";
const RESUME: &str = "/v1/subscriptions/ledger/resume?hosts=all";

fn ask(host: &Rig, path: &str, status: u16) -> Value {
    let (got, answer) = host.ask(path).expect("the host answers");
    assert_eq!(got, status, "{path}: {answer}");
    answer
}

fn seen(host: &Rig) -> SubscriptionView {
    host.status().expect("the host answers").subscriptions.remove(0)
}

fn is_held(host: &Rig) -> bool {
    seen(host).pause.is_some_and(|pause| pause.hosts == Reach::All)
}

fn until_held(hosts: &[&Rig]) {
    until("all hold it", PATIENCE, || hosts.iter().all(|host| is_held(host)));
}

fn until_free(hosts: &[&Rig]) {
    until("none holds it", PATIENCE, || hosts.iter().all(|host| seen(host).pause.is_none()));
}

fn publish(host: &Rig, numbers: std::ops::Range<u64>) {
    let ids: Vec<String> = numbers.map(|number| format!("m-{number}")).collect();
    host.publisher().publish(&ids);
}

/// The broker says that so many wait, and nobody has one: every host had its chance to take them. What a pull had ordered before
/// the pause was given back, and counts as handed out until it is handed out again.
fn until_waiting(hosts: &[&Rig], count: u64) {
    until("the messages wait", PATIENCE, || {
        let all: Vec<_> = hosts.iter().map(|host| seen(host).counts).collect();
        all.iter().all(|counts| counts.ready + counts.pending == count && counts.in_flight == 0)
    });
}

fn runs(hosts: &[&Rig]) -> u64 {
    hosts.iter().map(|host| seen(host).counts.runs).sum()
}

/// What the audit log of a host says of pauses, the oldest first.
fn on_record(host: &Rig) -> Vec<String> {
    let list: AuditList = serde_json::from_str(&host.get("/v1/audit").unwrap()).unwrap();
    let of_pauses = list.entries.iter().rev().filter(|entry| entry.action.starts_with("subscription."));
    of_pauses.map(|entry| format!("{} {}: {}", entry.who, entry.action, entry.target)).collect()
}

#[test]
fn nothing_runs_on_any_host_whatever_becomes_of_them_until_it_is_resumed_on_all() {
    let mut ground = Ground::new();
    let [mut a, mut b, mut c] = ground.hosts(["a", "b", "c"]);
    publish(&a, 0..40);
    until_settled(&a);
    let paused = ask(&a, &format!("{PAUSE}&why=the%20database%20moves"), 200);
    let pause = &paused["subscriptions"][0]["pause"];
    assert_eq!((&pause["hosts"], &pause["by"]), (&json!("all"), &json!("local on a")));
    assert!(is_held(&a), "the host that was asked holds it when it answers");
    until_held(&[&a, &b, &c]);
    let before = runs(&[&a, &b, &c]);
    publish(&a, 40..80);
    until_waiting(&[&a, &b, &c], 40);
    assert_eq!(runs(&[&a, &b, &c]), before);
    let of_a = runs(&[&a]);

    // Killed, and started while NATS is there and while it is not.
    b.kill();
    b.start();
    assert!(is_held(&b), "from its start on");
    c.kill();
    ground.server.kill();
    c.start();
    assert!(is_held(&c), "by what it saw last");
    let (status, answer) = a.ask(RESUME).unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("cluster-not-told")), "{answer}");
    assert!(is_held(&a), "what cannot be told to all is not done on one");
    ground.runtime.block_on(ground.server.restart());
    until_waiting(&[&a, &b, &c], 40);
    // One that was never there finds it.
    let mut d = ground.host("d");
    d.start();
    assert!(is_held(&d));

    // Resumed on one host alone, it is still held there, and it is said by what.
    let resumed = ask(&b, "/v1/subscriptions/ledger/resume", 200);
    let still = &resumed["subscriptions"][0];
    assert_eq!((&still["was_paused"], &still["still"]["hosts"]), (&json!(false), &json!("all")));
    until_waiting(&[&a, &b, &c, &d], 40);
    assert_eq!((runs(&[&a]), runs(&[&b, &c, &d])), (of_a, 0), "nothing ran, and nothing in their second lives");

    let resumed = ask(&c, RESUME, 200);
    assert_eq!(resumed["subscriptions"][0], json!({ "name": "ledger", "handler": "ledger", "was_paused": true }));
    until_free(&[&a, &b, &c, &d]);
    publish(&a, 80..200);
    until_settled(&a);
    let resumed = "host subscription.resume: ledger: on all hosts, by local on c";
    let paused = format!("local subscription.pause: {PAUSE}&why=the%20database%20moves");
    assert_eq!(on_record(&a), [paused, format!("local subscription.resume: {RESUME}"), resumed.to_owned()]);
    let begun = "host subscription.pause: ledger: on all hosts, by local on a";
    assert_eq!(on_record(&b), [begun, "local subscription.resume: /v1/subscriptions/ledger/resume", resumed]);
    let mut books = Books::default();
    for host in [&mut a, &mut b, &mut c, &mut d] {
        host.drain();
        let log = host.log();
        if log.contains("settled=") {
            books.read_runs(&log);
        }
    }
    ground.runtime.block_on(audit::read_jetstream(&a, &ground.server, &mut books));
    books.check("m", 200);
}

#[test]
fn it_ends_on_all_hosts_by_itself_and_a_pause_of_one_host_stands_beside_it() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ask(&b, "/v1/subscriptions/ledger/pause?why=of%20b%20alone", 200);
    ask(&a, &format!("{PAUSE}&for=2s"), 200);
    until_held(&[&a, &b]);
    until("a takes messages again", PATIENCE, || seen(&a).pause.is_none());
    until("b is held by its own pause", PATIENCE, || {
        seen(&b).pause.is_some_and(|pause| (pause.hosts, pause.why.as_deref()) == (Reach::This, Some("of b alone")))
    });
    publish(&a, 0..20);
    until_settled(&a);
    assert_eq!(runs(&[&b]), 0);
    // The next pause is another one, though what is over still stood in the bucket.
    ask(&b, PAUSE, 200);
    until_held(&[&a, &b]);
    let resumed = ask(&b, RESUME, 200);
    assert_eq!(resumed["subscriptions"][0]["still"]["why"], json!("of b alone"));
    until_free(&[&a]);
    assert_eq!(seen(&b).pause.map(|pause| pause.hosts), Some(Reach::This));
}

#[test]
fn a_bucket_that_is_lost_is_made_anew_with_what_the_hosts_hold() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ask(&a, PAUSE, 200);
    until_held(&[&a, &b]);
    let client = ground.runtime.block_on(ground.server.client());
    let stream = "KV_tidegate-main-pauses";
    let has = |verb: &str| {
        let answer = ground.runtime.block_on(client.request(format!("$JS.API.STREAM.{verb}.{stream}"), "".into()));
        let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
        answer["state"]["messages"].as_u64().unwrap_or_default() > 0
    };
    assert!(has("INFO"));
    has("DELETE");
    until("the bucket is there again, with the pause", PATIENCE, || has("INFO"));
    let mut d = ground.host("d");
    d.start();
    assert!(is_held(&a) && is_held(&b) && is_held(&d));
    ask(&d, RESUME, 200);
    until_free(&[&a, &b, &d]);
}

/// Calls a command, and gives back its exit code and all that it said.
fn tidegate(host: &Rig, arguments: &[&str]) -> (Option<i32>, String) {
    let Said { code, data, talk } = call(host, arguments);
    (code, data + &talk)
}

#[test]
fn the_command_line_tells_which_hosts_hold_it_and_waits_until_nothing_is_in_flight() {
    let ground = Ground::new();
    let [a, mut b] = ground.hosts(["a", "b"]);
    let (code, said) = tidegate(&a, &["pause", "ledger"]);
    assert!(code == Some(0) && said.contains("go on with its messages: b ("), "{said}");
    assert!(said.contains("--all-hosts stops them too"), "{said}");
    tidegate(&a, &["resume", "ledger"]);

    let (code, said) = tidegate(&a, &["pause", "ledger", "--all-hosts", "--drain", "--why", "it moves"]);
    assert!(code == Some(0), "{said}");
    for line in [
        "ledger is paused on all hosts: `tidegate resume ledger --all-hosts` resumes it",
        "held by a, b",
        "drained: nothing is in flight on any host",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (_, said) = tidegate(&b, &["status"]);
    assert!(said.contains("local on a (all hosts): it moves"), "{said}");
    let (code, said) = tidegate(&b, &["resume", "ledger"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("still paused on all hosts, by local on a"), "{said}");
    b.kill();
    until("b is gone", PATIENCE, || {
        tidegate(&a, &["pause", "ledger", "--all-hosts"]).1.contains("not there, and to hold it when they are back: b")
    });
    b.start();
    let (code, said) = tidegate(&b, &["resume", "--handler", "ledger", "--all-hosts"]);
    assert!(code == Some(0) && said.contains("takes messages again on all hosts"), "{said}");
    until_free(&[&a, &b]);
    let (_, said) = tidegate(&a, &["resume", "ledger", "--all-hosts"]);
    assert!(said.contains("ledger was not paused on all hosts"), "{said}");
}

#[test]
fn a_host_in_no_cluster_says_so_and_pauses_nothing() {
    let mut host = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    host.start();
    for path in [PAUSE, RESUME] {
        assert_eq!(ask(&host, path, 409)["error"]["code"], json!("no-cluster"));
    }
    assert_eq!(seen(&host).pause, None);
    let answer = ask(&host, "/v1/subscriptions/ledger/pause?hosts=some", 400);
    assert_eq!(answer["error"]["code"], json!("invalid-query"), "{answer}");
}
