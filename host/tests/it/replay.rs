//! `tidegate replay`: what a candidate would do otherwise with the messages that went by, on both brokers; and that to look
//! changes nothing.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::chaos::ledger;
use crate::command_line::{Desk, Running, until};
use crate::jetstream::publish_raw;
use crate::support::nats::NatsServer;

/// A desk with a handler that ends as the number in a message's id says, on a broker of these lines.
fn desk(broker: &str) -> Desk {
    let desk = Desk::new();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let text = text.replace("type = \"embedded\"", broker);
    let handler =
        "[handlers.books]\nmodule = \"books.wasm\"\noutputs.done = { broker = \"local\", subject = \"done\" }\n";
    let subscription =
        "[subscriptions.all]\nbroker = \"local\"\nsubjects = [\"in.>\"]\nhandler = \"books\"\ncreate = true\n";
    desk.write("tidegate.toml", &format!("{text}\n{handler}{subscription}retry = {{ preset = \"quick\" }}\n"));
    // It poses as the first one, and so do the candidates.
    for (name, number) in [("books", 1), ("candidate", 900_102), ("traps", 900_104), ("works", 900_105)] {
        std::fs::write(desk.path().join(format!("{name}.wasm")), ledger(number)).unwrap();
    }
    desk
}

fn publish(desk: &Desk, numbers: std::ops::Range<u64>) {
    let count = numbers.end - numbers.start;
    let mut lines = String::new();
    for number in numbers {
        let headers = json!({ "Kind": format!("k {number}") });
        let line =
            json!({ "subject": "in.a", "id": format!("m-{number}"), "headers": headers, "body": number.to_string() });
        writeln!(lines, "{line}").unwrap();
    }
    let counts = desk.json(&["publish", "--lines", "--broker", "local", "--json"], &lines, 0);
    assert_eq!(counts["published"], json!(count));
}

fn counts(desk: &Desk) -> Value {
    let whole = desk.json(&["status", "--json"], "", 0);
    let counts = whole["status"]["subscriptions"][0]["counts"].clone();
    assert!(counts.is_object(), "{whole:#}");
    counts
}

/// Waits until all that was published has its end.
fn settled(desk: &Desk, count: u64) {
    until("all to have their ends", || {
        let counts = counts(desk);
        ["completed", "skipped", "dead_lettered"].iter().map(|name| counts[*name].as_u64().unwrap()).sum::<u64>()
            == count
    });
}

/// What the host did.
fn work(desk: &Desk) -> Vec<Value> {
    let counts = counts(desk);
    ["runs", "completed", "dead_lettered", "outputs"].iter().map(|it| counts[*it].clone()).collect()
}

/// Waits until it is told that so many wait: they are counted every few seconds.
fn waiting(desk: &Desk, count: u64) {
    until("as many to wait", || {
        let counts = counts(desk);
        ["ready", "pending"].iter().map(|name| counts[*name].as_u64().unwrap()).sum::<u64>() == count
    });
}

fn replay(desk: &Desk, with: &str, more: &[&str], code: i32) -> Value {
    let arguments = ["replay", "--handler", "books", "--with", with, "--json"];
    desk.json(&[&arguments[..], more].concat(), "", code)
}

/// How many were the same, had other outputs, another outcome, another fault.
fn fates(report: &Value) -> [u64; 4] {
    ["same", "other_outputs", "other_outcome", "other_fault"].map(|it| report[it].as_u64().unwrap())
}

fn page(desk: &Desk, query: &str) -> Value {
    let url = format!("http://{}/v1/subscriptions/all/messages?since=2026-01-01&{query}", desk.address());
    ureq::get(url).call().unwrap().into_body().read_json().unwrap()
}

/// All that is found page by page, each of so many.
fn pages(desk: &Desk, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(desk, &format!("limit={limit}{after}"));
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() <= limit);
        all.extend(messages.iter().cloned());
        match page["next"].as_u64() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

fn check_pages(desk: &Desk, numbers: std::ops::Range<u64>) {
    let found = pages(desk, 7);
    let told: Vec<_> = found.iter().map(|one| (&one["id"], &one["subject"], &one["body"])).collect();
    let expected: Vec<_> = numbers
        .clone()
        .map(|number| (json!(format!("m-{number}")), json!("in.a"), json!(number.to_string())))
        .collect();
    assert_eq!(told, expected.iter().map(|(id, subject, body)| (id, subject, body)).collect::<Vec<_>>());
    for (one, number) in found.iter().zip(numbers) {
        let headers = one["headers"].as_array().unwrap();
        assert!(headers.contains(&json!(["Kind", format!("k {number}")])), "{one:#}");
    }
}

/// JetStream's API, asked as an operator does.
struct Api<'a> {
    runtime: &'a Runtime,
    server: &'a NatsServer,
}

impl Api<'_> {
    fn ask(&self, verb: &str, question: &Value) -> Value {
        let answer: Value = self.runtime.block_on(async {
            let client = self.server.client().await;
            let reply = client.request(format!("$JS.API.{verb}"), question.to_string().into()).await.unwrap();
            serde_json::from_slice(&reply.payload).unwrap()
        });
        assert!(answer.get("error").is_none(), "{verb}: {answer}");
        answer
    }

    /// The names under a key of an answer.
    fn names(&self, verb: &str, key: &str, question: &Value) -> Vec<String> {
        let answer = self.ask(verb, question);
        answer[key].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// The stream that takes the messages.
    fn stream(&self) -> String {
        let mut names = self.names("STREAM.NAMES", "streams", &json!({ "subject": "in.a" }));
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }

    /// How all streams and their consumers are made, and what is in them; of consumers these figures too.
    fn all(&self, figures: &[&str]) -> Vec<Value> {
        let mut all = Vec::new();
        for stream in self.names("STREAM.NAMES", "streams", &json!({})) {
            let info = self.ask(&format!("STREAM.INFO.{stream}"), &json!({}));
            all.push(json!([info["config"], info["state"]]));
            for name in self.names(&format!("CONSUMER.NAMES.{stream}"), "consumers", &json!({})) {
                let info = self.ask(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({}));
                all.push(json!([info["config"], figures.iter().map(|it| &info[*it]).collect::<Vec<_>>()]));
            }
        }
        all
    }
}

fn on_jetstream(server: &NatsServer) -> Desk {
    desk(&format!("type = \"jetstream\"\nservers = [\"{}\"]", server.url()))
}

fn running(desk: &Desk) -> Running {
    let host = desk.host();
    until("the subscription to run", || desk.json(&["status", "--json"], "", 0)["ready"]["ready"] == json!(true));
    host
}

#[test]
fn what_a_candidate_would_change_is_told_of_what_jetstream_still_has() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let api = Api { runtime: &runtime, server: &server };
    let desk = on_jetstream(&server);
    let _host = running(&desk);
    publish(&desk, 0..10);
    let between = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    publish(&desk, 10..20);
    settled(&desk, 20);

    let place = ["delivered", "ack_floor", "num_ack_pending"];
    let before = (work(&desk), api.all(&place));
    let report = replay(&desk, "candidate.wasm", &["--from", "1h"], 5);
    assert_eq!((&report["messages"], fates(&report)), (&json!(20), [18, 1, 1, 0]), "{report:#}");
    assert_eq!((&report["sources"][0]["keeps_settled"], &report["stopped"]), (&json!(true), &json!(false)));
    let examples = report["examples"].as_array().unwrap();
    let told = |id: &str| {
        let found = examples.iter().find(|example| example["message_id"] == id);
        found.unwrap_or_else(|| panic!("no {id}: {report:#}"))["difference"].as_str().unwrap().to_owned()
    };
    assert_eq!(told("m-1"), "completed would have been handler-rejected (as-this-ledger-does)");
    assert!(told("m-2").starts_with("output 1 would have had another body: 3 bytes would have been 4"));

    // Another fault, other fuel, and nothing else.
    assert_eq!(fates(&replay(&desk, "traps.wasm", &["--from", "1h"], 5)), [0, 0, 0, 20]);
    let same = replay(&desk, "books.wasm", &["--from", "1h"], 0);
    let works = replay(&desk, "works.wasm", &["--from", "1h"], 0);
    assert_eq!((fates(&same), fates(&works)), ([20, 0, 0, 0], [20, 0, 0, 0]));
    assert_eq!(same["fuel_before"], same["fuel_after"], "to the unit");
    assert_eq!(works["fuel_before"], same["fuel_before"], "each time");
    assert!(works["fuel_after"].as_u64() > works["fuel_before"].as_u64().map(|fuel| fuel + 20 * 100_000));

    // A part of it, from its place in time.
    let ids = |arguments: &[&str]| {
        let report = replay(&desk, "traps.wasm", &[arguments, &["--examples", "99"]].concat(), 5);
        let examples = report["examples"].as_array().unwrap();
        let ids = examples.iter().map(|one| one["message_id"].as_str().unwrap()[2..].parse::<u64>().unwrap());
        (ids.collect::<Vec<_>>(), report["sources"][0]["is_cut"] == json!(true))
    };
    assert_eq!(ids(&["--from", &between]), ((10..20).collect(), false));
    assert_eq!(ids(&["--from", "1h", "--to", &between]), ((0..10).collect(), false));
    assert_eq!(ids(&["--from", "1h", "--limit", "7"]), ((0..7).collect(), true));
    assert_eq!(ids(&["--from", &between, "--limit", "10"]), ((10..20).collect(), false));
    assert_eq!(replay(&desk, "candidate.wasm", &["--from", "1h", "--to", "30m"], 3)["messages"], json!(0));
    let people = desk.expect(&["replay", "--handler", "books", "--with", "candidate.wasm", "--from", "1h"], "", 5);
    assert!(people.contains("goes back to") && people.contains("completed -> handler-rejected"), "{people}");
    check_pages(&desk, 0..20);
    assert_eq!(before, (work(&desk), api.all(&place)), "nothing ran on the host, and the server is as it was");

    // What the client library cannot read ends the connection that it comes on; to look at it there ends none.
    desk.expect(&["pause", "all"], "", 0);
    runtime.block_on(publish_raw(&server, &[(b"in.a", b"NATS/1.0\r\nno colon\r\n\r\n", b"body")]));
    let url = format!("http://{}/v1/subscriptions/all/messages?since=2026-01-01", desk.address());
    until("a page beside it", || ureq::get(&url).call().is_ok());
    check_pages(&desk, 0..20);

    // What the stream has no more is not there, and that is said.
    let stream = api.stream();
    api.ask(&format!("STREAM.MSG.DELETE.{stream}"), &json!({ "seq": 10 }));
    api.ask(&format!("STREAM.PURGE.{stream}"), &json!({ "seq": 6 }));
    let left: Vec<u64> = (5..9).chain(10..20).collect();
    assert_eq!(ids(&["--from", "1h"]), (left, false));
    assert_eq!(ids(&["--from", &between]).0, (10..20).collect::<Vec<_>>());
    api.ask(&format!("STREAM.PURGE.{stream}"), &json!({}));
    assert_eq!(replay(&desk, "candidate.wasm", &["--from", "1h"], 3)["messages"], json!(0));
}

/// A work queue takes no second consumer.
#[test]
fn of_a_work_queue_there_is_what_waits() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let api = Api { runtime: &runtime, server: &server };
    for retention in ["workqueue", "interest"] {
        let config = json!({ "name": retention, "subjects": ["in.>", "done"], "retention": retention });
        api.ask(&format!("STREAM.CREATE.{retention}"), &config);
        let desk = on_jetstream(&server);
        let _host = running(&desk);
        desk.expect(&["pause", "all"], "", 0);
        publish(&desk, 0..20);
        // What a pull of before the pause had asked for may come and go back meanwhile.
        let before = (work(&desk), api.all(&[]));
        let report = replay(&desk, "candidate.wasm", &["--from", "1h"], 5);
        assert_eq!(fates(&report), [18, 1, 1, 0], "{report:#}");
        assert_eq!(report["sources"][0]["keeps_settled"], json!(false));
        check_pages(&desk, 0..20);
        assert_eq!(before, (work(&desk), api.all(&[])), "{retention}");
        api.ask(&format!("STREAM.DELETE.{retention}"), &json!({}));
    }
}

#[test]
fn what_the_embedded_queue_still_has_is_run_and_it_says_what_it_does_not_keep() {
    let desk = desk("type = \"embedded\"");
    let _host = desk.host();
    desk.expect(&["pause", "all"], "", 0);
    publish(&desk, 0..20);
    let before = work(&desk);
    let report = replay(&desk, "candidate.wasm", &["--from", "1h"], 5);
    assert_eq!((&report["messages"], fates(&report)), (&json!(20), [18, 1, 1, 0]), "{report:#}");
    assert_eq!(report["sources"][0]["keeps_settled"], json!(false));
    let people = desk.expect(&["replay", "--handler", "books", "--with", "candidate.wasm", "--from", "1h"], "", 5);
    assert!(people.contains("replayed  20 messages of all that the queue still has: those that wait"), "{people}");
    check_pages(&desk, 0..20);
    assert_eq!(page(&desk, "limit=3&until=2026-01-02")["messages"], json!([]));
    assert_eq!(work(&desk), before);
    waiting(&desk, 20);
    desk.expect(&["resume", "all"], "", 0);
    settled(&desk, 20);
    let gone = desk.expect(&["replay", "--handler", "books", "--with", "candidate.wasm", "--from", "1h"], "", 3);
    assert!(gone.contains("what every subscription has settled is gone"), "{gone}");

    // One was rejected; what it died of is done again, and nothing becomes of the dead letter.
    let letters = || desk.json(&["dlq", "ls", "--json"], "", 0);
    let before = letters();
    let report = replay(&desk, "candidate.wasm", &["--from", "1h", "--dead-letters"], 0);
    assert_eq!((&report["messages"], &report["same"]), (&json!(1), &json!(1)), "{report:#}");
    assert_eq!(fates(&replay(&desk, "traps.wasm", &["--from", "1h", "--dead-letters"], 5)), [0, 0, 0, 1]);
    assert_eq!(letters(), before);
}

#[test]
fn whoever_stops_it_gets_what_is_known_by_then() {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    // It runs for as long as somebody lets it.
    let limits = "[handlers.behave]\nlimits.fuel = 1000000000000000\nlimits.timeout = \"10m\"\n";
    desk.write("tidegate.toml", &text.replace("[handlers.behave]\n", limits));
    let _host = desk.host();
    desk.expect(&["pause", "all"], "", 0);
    let lines = "{\"subject\":\"complete\",\"id\":\"1\"}\n{\"subject\":\"hostile.spin\",\"id\":\"2\"}\n";
    desk.expect(&["publish", "--lines"], lines, 0);
    let arguments = ["replay", "--handler", "behave", "--with", "behaviours.wasm", "--from", "1h", "--json"];
    let mut command = Running(desk.command(&arguments).stdin(Stdio::null()).spawn().unwrap());
    let mut told = BufReader::new(command.0.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(told.next().unwrap().starts_with("running on behave@1 and on behaviours.wasm; Ctrl-C ends it"));
    assert_eq!(told.next().unwrap(), "1 message, 0 would be handled otherwise");
    kill_process(Pid::from_child(&command.0), Signal::INT).unwrap();
    let mut out = String::new();
    command.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(command.0.wait().unwrap().code(), Some(4), "{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["stopped"], &report["messages"], &report["same"]), (&json!(true), &json!(1), &json!(1)));
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let desk = desk("type = \"embedded\"");
    let rows: [(&[&str], i32, &str); 4] = [
        (&["--handler", "books", "--with", "none.wasm", "--from", "1h"], 1, "reading the module none.wasm"),
        (&["--handler", "books", "--with", "candidate.wasm", "--from", "1h"], 1, "tidegate run"),
        (&["--handler", "books", "--with", "candidate.wasm", "--from", "noon"], 2, "expected a duration such as 2h"),
        (
            &["--handler", "books", "--with", "candidate.wasm", "--from", "1h", "--to", "2h"],
            2,
            "--to lies before --from",
        ),
    ];
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let output = desk.run(&[&["replay"], arguments].concat(), "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && told.contains(expected), "{arguments:?}: {told}");
    };
    for (arguments, code, expected) in rows {
        check(arguments, code, expected);
    }
    let _host = desk.host();
    check(&["--handler", "other", "--with", "candidate.wasm", "--from", "1h"], 3, "other");
    let with = ["--handler", "books", "--with", "candidate.wasm", "--from", "1h", "--subscription", "none"];
    check(&with, 3, "handler `books` has no subscription `none`; there is: all");
    check(&["--handler", "books", "--with", "tidegate.toml", "--from", "1h"], 1, "loading tidegate.toml");
}
