//! A subscription is paused on all hosts of a cluster: nothing runs anywhere, whatever becomes of the hosts, of the server and
//! of the bucket, until somebody resumes it on all or its time is over.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::access::TokenHash;
use tidegate::admin::wire::AuditList;
use tidegate::cluster::report::Standing;
use tidegate::pause::Reach;

use super::books::Books;
use super::called::{Said, call};
use super::cluster::{Ground, PATIENCE, until_seen};
use super::pauses::{ask, publish, seen};
use super::rig::{Rig, pause};
use super::{audit, until_settled};
use crate::support::until;

const PAUSE: &str = "/v1/subscriptions/ledger/pause?hosts=all";
/// Messages that wait meanwhile.
const WAITING: u64 = 1_000;
const RESUME: &str = "/v1/subscriptions/ledger/resume?hosts=all";

fn is_held(host: &Rig) -> bool {
    seen(host).pause.is_some_and(|pause| pause.hosts == Reach::All)
}

fn until_held(hosts: &[&Rig]) {
    until("all hold it", PATIENCE, || hosts.iter().all(|host| is_held(host)));
}

fn until_free(hosts: &[&Rig]) {
    until("none holds it", PATIENCE, || hosts.iter().all(|host| seen(host).pause.is_none()));
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
    // Two that do not hear of it.
    b.kill();
    c.kill();
    let paused = ask(&a, &format!("{PAUSE}&why=the%20database%20moves"), 200);
    let pause = &paused["subscriptions"][0]["pause"];
    assert_eq!((&pause["hosts"], &pause["by"]), (&json!("all"), &json!("local on a")));
    assert!(is_held(&a), "the host that was asked holds it when it answers");
    let of_a = runs(&[&a]);
    // More than a pull of before may bring: the others are there for whoever asks.
    publish(&a, 40..WAITING + 40);
    until_waiting(&[&a], WAITING);

    // Started while NATS is there, and while it is not.
    b.start();
    until_held(&[&b]);
    ground.server.kill();
    c.start();
    assert!(!is_held(&c), "nobody told it");
    let (status, answer) = a.ask(RESUME).unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("cluster-not-told")), "{answer}");
    assert!(is_held(&a), "what cannot be told to all is not done on one");
    b.kill();
    b.start();
    assert!(is_held(&b), "by what it saw last");
    ground.runtime.block_on(ground.server.restart());
    until_held(&[&c]);
    until_waiting(&[&a, &b, &c], WAITING);
    // One that was never there finds it.
    let mut d = ground.host("d");
    d.start();
    until_held(&[&d]);

    // Resumed on one host alone, it is still held there, and it is said by what.
    let resumed = ask(&b, "/v1/subscriptions/ledger/resume", 200);
    let still = &resumed["subscriptions"][0];
    assert_eq!((&still["was_paused"], &still["still"]["hosts"]), (&json!(false), &json!("all")));
    until_waiting(&[&a, &b, &c, &d], WAITING);
    assert_eq!((runs(&[&a]), runs(&[&b, &c, &d])), (of_a, 0), "nothing ran, before they heard of it neither");

    let resumed = ask(&c, RESUME, 200);
    assert_eq!(resumed["subscriptions"][0], json!({ "name": "ledger", "handler": "ledger", "was_paused": true }));
    until_free(&[&a, &b, &c, &d]);
    publish(&a, WAITING + 40..WAITING + 200);
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
    books.check("m", WAITING + 200);
}

#[test]
fn a_host_that_was_cut_off_hears_of_it_before_it_receives_more() {
    // The server ends the connection of a host that says nothing for two seconds: with its pulls, before there is anything for them.
    let ground = Ground::new_with("ping_interval: \"1s\"\nping_max: 1");
    let [a, b] = ground.hosts(["a", "b"]);
    // A stall of this machine may end that of the other host too.
    let well = |path: &str| until(path, PATIENCE, || a.ask(path).is_some_and(|(status, _)| status == 200));
    b.signal(Signal::STOP);
    well(PAUSE);
    pause(Duration::from_secs(6));
    publish(&a, 0..WAITING);
    until_waiting(&[&a], WAITING);
    b.signal(Signal::CONT);
    until_held(&[&b]);
    until_waiting(&[&a, &b], WAITING);
    assert!(b.log().contains("the connection to NATS ended"), "it was not cut off");
    assert_eq!(runs(&[&a, &b]), 0);
    well(RESUME);
    until_settled(&a);
}

#[test]
fn it_ends_on_all_hosts_by_itself_and_a_pause_of_one_host_stands_beside_it() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ask(&b, "/v1/subscriptions/ledger/pause?why=of%20b%20alone", 200);
    // Long beside a moment at which this machine does nothing.
    ask(&a, &format!("{PAUSE}&for=15s"), 200);
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

const BUCKET: &str = "tidegate-main-pauses";

/// Sets a key of the bucket by hand, or removes it.
fn put(ground: &Ground, key: &str, value: Option<&str>) {
    let client = ground.runtime.block_on(ground.server.client());
    ground.runtime.block_on(async {
        let bucket = async_nats::jetstream::new(client).get_key_value(BUCKET).await.unwrap();
        match value {
            Some(value) => drop(bucket.put(key, value.to_owned().into()).await.unwrap()),
            None => bucket.delete(key).await.unwrap(),
        }
    });
}

/// The names that the bucket has; none where there is no bucket.
fn stored(ground: &Ground) -> Vec<String> {
    let client = ground.runtime.block_on(ground.server.client());
    ground.runtime.block_on(async {
        let Ok(bucket) = async_nats::jetstream::new(client).get_key_value(BUCKET).await else { return Vec::new() };
        let Ok(Some(json)) = bucket.get("pauses").await else { return Vec::new() };
        let stored: Value = serde_json::from_slice(&json).unwrap();
        stored["subscriptions"].as_object().unwrap().keys().cloned().collect()
    })
}

#[test]
fn a_bucket_that_is_lost_is_made_anew_with_what_the_hosts_hold() {
    let ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    ask(&a, PAUSE, 200);
    until_held(&[&a, &b]);
    assert_eq!(stored(&ground), ["ledger"]);
    let client = ground.runtime.block_on(ground.server.client());
    let lose = || {
        let lost = client.request(format!("$JS.API.STREAM.DELETE.KV_{BUCKET}"), "".into());
        ground.runtime.block_on(lost).unwrap();
    };
    lose();
    until("the bucket is there again, with the pause", PATIENCE, || stored(&ground) == ["ledger"]);
    // Somebody is first to put something into the new one, and does not know of what the others hold.
    [&a, &b].into_iter().for_each(|host| host.signal(Signal::STOP));
    lose();
    let client = ground.runtime.block_on(ground.server.client());
    let config = async_nats::jetstream::kv::Config { bucket: BUCKET.to_owned(), ..Default::default() };
    ground.runtime.block_on(async { async_nats::jetstream::new(client).create_key_value(config).await }).unwrap();
    let other = r#"{"layout":1,"by":"x","subscriptions":{"other":{"by":"x","since":"2026-11-30T06:00:00Z"}}}"#;
    put(&ground, "pauses", Some(other));
    [&a, &b].into_iter().for_each(|host| host.signal(Signal::CONT));
    until("both are there", PATIENCE, || stored(&ground) == ["ledger", "other"]);
    // One that has not yet seen the new bucket would put what it holds into it, whoever ended that.
    until("all have seen it", PATIENCE, || {
        [&a, &b].into_iter().all(|host| host.log().contains("subscription=\"other\""))
    });
    let mut d = ground.host("d");
    d.start();
    until_held(&[&a, &b, &d]);
    // What somebody else keeps there is none of the hosts' business, and what cannot be read changes nothing.
    put(&ground, "notes", Some("hello"));
    put(&ground, "notes", None);
    put(&ground, "pauses", Some("hello"));
    until("a tells of it", PATIENCE, || a.log().contains("cannot be read, and this host goes by what it saw last"));
    assert!([&a, &b, &d].into_iter().all(is_held));
    let answer = ask(&a, RESUME, 503);
    assert!(answer["error"]["message"].as_str().unwrap().contains("mend it, or remove the key"), "{answer}");
    // A person who removes it resumes all.
    put(&ground, "pauses", None);
    until_free(&[&a, &b, &d]);
    ask(&d, PAUSE, 200);
    until_held(&[&a, &b, &d]);
    ask(&d, RESUME, 200);
    until_free(&[&a, &b, &d]);
}

#[test]
fn a_server_that_comes_back_from_before_the_pause_gets_it_from_the_hosts() {
    // The story: the power failed a moment after the pause was confirmed, and everything ran.
    let mut ground = Ground::new();
    let [a, b] = ground.hosts(["a", "b"]);
    let kept = ground.server.copy();
    ask(&a, PAUSE, 200);
    until_held(&[&a, &b]);
    ground.runtime.block_on(ground.server.put_back(&kept));
    until("the bucket has the pause again", PATIENCE, || stored(&ground) == ["ledger"]);
    publish(&a, 0..20);
    until_waiting(&[&a, &b], 20);
    assert!(is_held(&a) && is_held(&b));
    assert_eq!(runs(&[&a, &b]), 0);
    ask(&b, RESUME, 200);
    until_settled(&a);
}

#[test]
fn killed_when_the_cluster_has_it_it_is_held_at_the_next_start() {
    let ground = Ground::new();
    let mut a = ground.host("a");
    a.dies_at = Some("paused-in-cluster");
    a.start();
    assert!(a.ask(PAUSE).is_none(), "it died before it answered");
    a.dead();
    a.dies_at = None;
    publish_when_started(&mut a);
    until_held(&[&a]);
    assert_eq!(runs(&[&a]), 0);
}

/// Starts a host that is to take nothing, with messages for it.
fn publish_when_started(host: &mut Rig) {
    host.start();
    publish(host, 0..20);
    until_waiting(&[host], 20);
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
    until_seen(&a, "b", Standing::Current, Some(1));
    let (code, said) = tidegate(&a, &["pause", "ledger"]);
    assert!(code == Some(0) && said.contains("go on with its messages: b ("), "{said}");
    assert!(said.contains("--all-hosts stops them too"), "{said}");
    tidegate(&a, &["resume", "ledger"]);

    let (code, said) = tidegate(&a, &["pause", "ledger", "--all-hosts", "--drain", "--why", "it moves"]);
    assert!(code == Some(0), "{said}");
    for line in [
        "ledger is paused on all hosts: `tidegate resume ledger --all-hosts` resumes it",
        "held by a, b",
        "drained: nothing is in flight on a, b",
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
        let (code, said) = tidegate(&a, &["pause", "ledger", "--all-hosts"]);
        code == Some(4) && said.contains("not seen just now, to hold it when they are back: b")
    });
    b.start();
    let (code, said) = tidegate(&b, &["resume", "--handler", "ledger", "--all-hosts"]);
    assert!(code == Some(0) && said.contains("is not paused on all hosts any more"), "{said}");
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

#[test]
fn who_is_limited_to_handlers_pauses_one_host_and_not_all() {
    let hash = TokenHash::of("tidegate_limited");
    let more = format!("[http.tokens.limited]\nhash = \"{hash}\"\nrole = \"operate\"\nhandlers = [\"ledger\"]\n");
    let mut host = Rig::new("type = \"embedded\"", Duration::from_secs(30), &more);
    host.start();
    let agent = ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
    for (what, hosts, status) in
        [("pause", "this", 200), ("pause", "all", 403), ("resume", "all", 403), ("resume", "this", 200)]
    {
        for of in ["subscriptions", "handlers"] {
            let url = host.url(&format!("/v1/{of}/ledger/{what}?hosts={hosts}"));
            let answer = agent.post(&url).header("authorization", "Bearer tidegate_limited").send_empty().unwrap();
            assert_eq!(answer.status(), status, "{url}");
        }
    }
}
