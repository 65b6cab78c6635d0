//! The program as people and scripts use it: real processes, exit codes, what is on which stream.

use std::io::{BufRead as _, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use tidegate::access::TokenHash;

use crate::chaos::ledger;
use crate::support::exposition::series;
use crate::support::guests::{example, guest};
use crate::support::ports::free_port;

/// A directory with a configuration, and a port that nobody else has.
pub(crate) struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    /// An embedded queue and nothing else.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let desk = Self { directory };
        desk.write(
            "tidegate.toml",
            &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n[brokers.local]\ntype = \"embedded\"\n"),
        );
        desk
    }

    /// With a handler whose messages' subjects say what it does.
    pub(crate) fn with_handler() -> Self {
        let desk = Self::new();
        std::fs::write(desk.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
        let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
        text += "[handlers.behave]\nmodule = \"behaviours.wasm\"\n";
        text += "[subscriptions.all]\nbroker = \"local\"\nsubjects = [\">\"]\nhandler = \"behave\"\n";
        desk.write("tidegate.toml", &text);
        desk
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where its host answers.
    pub(crate) fn address(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("tidegate.toml")).unwrap();
        text.split('"').nth(1).unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).env_remove("TIDEGATE_CONFIG").env("XDG_CONFIG_HOME", self.path());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        // A command that reads nothing may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs to the end, expects a code, and gives back what is on standard output.
    pub(crate) fn expect(&self, arguments: &[&str], input: &str, code: i32) -> String {
        let output = self.run(arguments, input);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {error}");
        out.into_owned()
    }

    /// A host that answers.
    pub(crate) fn host(&self) -> Running {
        self.until_listening(self.command(&["run"]).stdin(Stdio::null()).spawn().unwrap(), String::new)
    }

    /// A host that answers, whose log is in a file.
    pub(crate) fn host_with_log(&self) -> Running {
        let log = std::fs::File::create(self.path().join("host.log")).unwrap();
        let child = self.command(&["run"]).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        self.until_listening(child, || self.log())
    }

    /// Waits until a host that was started answers; `said`: what it has said, where it ended.
    pub(crate) fn until_listening(&self, child: Child, said: impl Fn() -> String) -> Running {
        let (mut host, address) = (Running(child), self.address());
        until("the listener", || {
            assert!(host.0.try_wait().unwrap().is_none(), "the host ended {}", said());
            std::net::TcpStream::connect(&address).is_ok()
        });
        host
    }

    /// What that host has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("host.log")).unwrap()
    }

    /// Status and body of an answer of the host, whatever the status.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("http://{}{path}", self.address())).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// What `/ready` says, and with which status.
    pub(crate) fn ready(&self) -> (u16, Value) {
        let (status, body) = self.get("/ready");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// A metric with these labels, summed over its other ones; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let (_, metrics) = self.get("/metrics");
        series::<u64>(&metrics, name, labels).iter().sum()
    }

    /// The counts of the first subscription.
    pub(crate) fn counts(&self) -> Value {
        self.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["counts"].take()
    }

    pub(crate) fn json(&self, arguments: &[&str], input: &str, code: i32) -> Value {
        let out = self.expect(arguments, input, code);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }
}

/// A host that is killed when the test is over.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until the answer is right.
pub(crate) fn until(what: &str, mut right: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !right() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::yield_now();
    }
}

const LINES: &str = "{\"subject\":\"complete\",\"id\":\"1\"}\n{\"subject\":\"reject\",\"id\":\"2\",\"body\":\"b\"}\n";

#[test]
fn a_queue_is_used_without_a_host() {
    let desk = Desk::new();
    let counts = desk.json(&["publish", "--lines", "--json"], LINES, 0);
    assert_eq!((&counts["published"], &counts["duplicates"]), (&json!(2), &json!(0)));
    let counts = desk.json(&["publish", "--lines", "--json"], LINES, 0);
    assert_eq!((&counts["published"], &counts["duplicates"]), (&json!(0), &json!(2)), "the ids are known");
    desk.write("body.bin", "body");
    let told = desk.expect(&["publish", "body.bin", "--subject", "a.b"], "", 0);
    assert!(told.starts_with("1 published, in "), "{told}");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0), json!([]));
}

#[test]
fn codes_say_how_it_ended() {
    let desk = Desk::new();
    desk.write("wrong.toml", "[brokers.local]\ntype = \"embeded\"\n");
    let rows: [(&[&str], &str, i32); 15] = [
        (&["check"], "", 0),
        (&["check", "--config", "wrong.toml"], "", 2),
        (&["check", "--config", "none.toml"], "", 2),
        (&["nonsense"], "", 2),
        (&["publish", "--broker", "other", "-s", "a"], "x", 2),
        (&["publish"], "x", 1),
        (&["publish", "--lines"], "{\"subject\":\"a\"}\n{\"subject\":\"a b\"}\n", 4),
        (&["dlq", "show", "none"], "", 3),
        (&["dlq", "redrive", "none"], "", 3),
        (&["dlq", "redrive"], "", 2),
        (&["dlq", "replay", "none"], "", 3),
        (&["dlq", "stats"], "", 0),
        (&["dlq", "ls", "--since", "yesterday"], "", 2),
        (&["dlq", "discard", "none", "nothing"], "", 2),
        (&["invoke", "none.wasm"], "", 1),
    ];
    for (arguments, input, code) in rows {
        desk.expect(arguments, input, code);
    }
    let help = desk.expect(&["--help"], "", 0);
    assert!(help.contains("Exit codes:"), "help is data: {help}");
}

#[test]
fn a_host_runs_from_its_start_to_its_drain() {
    let desk = Desk::with_handler();
    let mut host = desk.host();
    desk.expect(&["publish", "--lines"], LINES, 0);
    let mut letters = json!([]);
    until("the rejected message to be dead", || {
        letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        letters.as_array().is_some_and(|letters| !letters.is_empty())
    });
    let letter = &letters[0];
    assert_eq!((&letter["reason"], &letter["message_id"]), (&json!("handler-rejected"), &json!("2")));
    let id = letter["id"].as_str().unwrap();
    assert_eq!(desk.expect(&["dlq", "show", id, "--body"], "", 0), "b");
    assert!(desk.expect(&["dlq", "show", id], "", 0).contains("card-declined"));
    assert_eq!(desk.expect(&["dlq", "redrive", id], "", 0), "1 sent back\n");
    desk.expect(&["dlq", "redrive", id], "", 1);
    until("it to be dead again", || desk.json(&["dlq", "ls", "--json"], "", 0)[0]["redrives"] == json!(1));
    assert_eq!(desk.expect(&["dlq", "discard", "--all", "--count", "1"], "", 0), "1 removed\n");
    assert_eq!(desk.json(&["dlq", "ls", "--json"], "", 0), json!([]));
    kill_process(Pid::from_child(&host.0), Signal::TERM).unwrap();
    let status = host.0.wait().unwrap();
    assert_eq!(status.code(), Some(0), "a drain ends well");
    let mut told = String::new();
    std::io::Read::read_to_string(host.0.stderr.as_mut().unwrap(), &mut told).unwrap();
    assert!(told.contains("DEAD-LETTERED"), "the drain tells its counts: {told}");
}

#[test]
fn what_becomes_of_messages_is_seen_as_it_happens_until_the_host_ends() {
    let desk = Desk::with_handler();
    let mut host = desk.host();
    let look = |query: &str| {
        let answer = ureq::get(format!("http://{}/v1/live{query}", desk.address())).call().unwrap();
        let mut lines = std::io::BufReader::new(answer.into_body().into_reader()).lines().map(|line| line.unwrap());
        let mut next = move || lines.next().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        assert_eq!(next(), Some(json!({ "kind": "watching" })));
        next
    };
    let (mut payloads, mut endings) = (look("?payloads=true"), look("?handler=behave&broker=local"));
    let mut others = look("?handler=other");
    desk.expect(&["publish", "--lines"], LINES, 0);
    let both = |next: &mut dyn FnMut() -> Option<Value>| {
        let mut both = [next().unwrap(), next().unwrap()];
        both.sort_by_key(|line| line["sequence"].as_u64());
        both
    };
    let [completed, rejected] = both(&mut payloads);
    assert_eq!((&completed["kind"], &completed["settled_as"]), (&json!("ended"), &json!("completed")));
    assert_eq!((&completed["subject"], &completed["version"]), (&json!("complete"), &json!(1)));
    assert_eq!((&rejected["settled_as"], &rejected["reason"]), (&json!("dead-lettered"), &json!("handler-rejected")));
    assert_eq!((&rejected["detail"], &rejected["message"]["body"]), (&json!("card-declined"), &json!("b")));
    let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
    assert_eq!(letters[0]["id"], rejected["dead_letter"]);
    let [completed, rejected] = both(&mut endings);
    assert!(completed.get("message").is_none() && rejected.get("message").is_none(), "{completed} {rejected}");
    kill_process(Pid::from_child(&host.0), Signal::TERM).unwrap();
    assert_eq!((payloads(), endings(), others()), (None, None, None), "the host's end ends it");
    assert_eq!(host.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_module_is_deployed_looked_at_and_rolled_back() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    let told = desk.run(&["handlers"], "");
    assert_eq!(told.status.code(), Some(1), "there is no host");
    assert!(String::from_utf8_lossy(&told.stderr).contains("start it with `tidegate run`"));
    let _host = desk.host();

    let deployed = desk.run(&["deploy", "ledger.wasm", "--handler", "behave"], "");
    let (out, steps) = (String::from_utf8_lossy(&deployed.stdout), String::from_utf8_lossy(&deployed.stderr));
    assert_eq!(deployed.status.code(), Some(0), "{out}{steps}");
    let names: Vec<&str> = steps.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["upload", "validate", "compile", "imports", "init", "switch"], "{steps}");
    assert!(out.starts_with("behave@2 sha256:") && out.contains("\n  size: "), "{out}");

    let again = desk.json(&["deploy", "ledger.wasm", "--handler", "behave", "--json"], "", 0);
    assert_eq!((&again["version"], &again["unchanged"]), (&json!(2), &json!(true)));
    let refused = desk.json(&["deploy", "tidegate.toml", "--handler", "behave", "--json"], "", 6);
    assert_eq!((&refused["step"], &refused["code"]), (&json!("validate"), &json!("module-refused")));
    // Larger than `limits.module_size`.
    std::fs::File::create(desk.path().join("large.wasm")).unwrap().set_len(65 << 20).unwrap();
    desk.expect(&["deploy", "large.wasm", "--handler", "behave"], "", 6);
    desk.expect(&["deploy", "ledger.wasm", "--handler", "../behave"], "", 3);
    desk.expect(&["deploy", "none.wasm", "--handler", "behave"], "", 2);

    let listed = desk.json(&["handlers", "--json"], "", 0);
    assert_eq!(listed["handlers"][0]["active"]["source"], json!("ledger.wasm"));
    assert!(desk.expect(&["handlers"], "", 0).contains("behave"));
    let rolled = desk.json(&["rollback", "behave", "--json"], "", 0);
    assert_eq!((&rolled["from"], &rolled["to"], &rolled["was_loaded"]), (&json!(2), &json!(1), &json!(true)));
    desk.expect(&["rollback", "behave"], "", 3);
    desk.expect(&["rollback", "behave", "--to", "1"], "", 1);
    let shown = desk.expect(&["handlers", "show", "behave"], "", 0);
    for part in ["rolled-back", "refused", "configuration", "loaded"] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    desk.expect(&["handlers", "show", "none"], "", 3);
}

#[test]
fn a_changed_configuration_is_shown_and_applied() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let file = desk.path().join("tidegate.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    assert!(desk.expect(&["apply", "--dry-run"], "", 0).contains("changes nothing"));
    desk.expect(&["apply"], "", 0);
    std::fs::write(&file, format!("{before}\n[handlers.second]\n")).unwrap();
    let shown = desk.json(&["apply", "--dry-run", "--json"], "", 0);
    assert_eq!(shown["changes"][0]["what"], json!("handlers.second"));
    std::fs::write(&file, format!("{before}\n[handlers.second]\nlimits.fuel = 7\n")).unwrap();
    let shown = desk.expect(&["apply", "--dry-run"], "", 0);
    assert!(shown.contains("handlers.second.limits.fuel: + 7"), "{shown}");
    let asked = desk.run(&["apply"], "");
    assert_eq!(asked.status.code(), Some(2), "there is no terminal to ask on");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("confirm with --yes"));
    assert!(desk.expect(&["apply", "--yes"], "", 0).starts_with("applied, after "));
    let names = desk.json(&["handlers", "--json"], "", 0);
    assert_eq!(names["handlers"].as_array().unwrap().len(), 2);
    std::fs::write(&file, format!("{before}\n[host]\nname = \"other\"\n")).unwrap();
    desk.expect(&["apply", "--yes"], "", 6);
    std::fs::write(&file, format!("{before}\n[handlers.second]\nlimit.fuel = 7\n")).unwrap();
    let told = desk.run(&["apply", "--yes"], "");
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("did you mean `limits`"), "{told:?}");
}

#[test]
fn a_canary_is_begun_looked_at_promoted_and_aborted() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    let _host = desk.host();
    desk.expect(&["promote", "behave"], "", 3);
    desk.expect(&["abort", "none"], "", 3);
    let deploy = |more: &[&str], code| {
        let output = desk.run(&[&["deploy", "ledger.wasm", "--handler", "behave"], more].concat(), "");
        let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{more:?}: {out}{told}");
        (out.into_owned(), told.into_owned())
    };
    deploy(&["--canary", "5"], 2);
    deploy(&["--canary", "0%"], 2);
    deploy(&["--canary", "5%", "--promote-after", "soon"], 2);
    deploy(&["--promote-after", "10m"], 2);
    assert!(deploy(&["--canary", "100%"], 1).1.contains("nothing to be compared with"));
    assert!(deploy(&["--canary", "5%", "--promote-after", "1ms"], 1).1.contains("between a second and 30 days"));

    let (out, steps) = deploy(&["--canary", "12.5%"], 0);
    assert!(out.contains("behave@2 sha256:") && out.contains("gets 12.5% of the messages as a canary"), "{out}");
    let last = steps.lines().last().unwrap();
    assert!(last.starts_with("canary ") && last.ends_with("version 2 gets 12.5% of the messages"), "{steps}");
    let refused = deploy(&[], 1).1;
    assert!(refused.contains("`tidegate promote behave`") && refused.contains("`tidegate abort behave`"), "{refused}");
    desk.expect(&["rollback", "behave"], "", 1);
    let listed = desk.json(&["handlers", "--json"], "", 0);
    let handler = &listed["handlers"][0];
    assert_eq!((&handler["active"]["number"], &handler["rollout"]["version"]), (&json!(1), &json!(2)));
    assert_eq!((&handler["rollout"]["kind"], &handler["rollout"]["share"]), (&json!("canary"), &json!("12.5%")));
    assert!(desk.expect(&["handlers"], "", 0).contains("12.5% canary"));
    let shown = desk.expect(&["handlers", "show", "behave"], "", 0);
    for part in ["canary: version 2 gets 12.5%", "begun by local", "candidate", "stable", "canary-started"] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }

    let aborted = desk.json(&["abort", "behave", "--json"], "", 0);
    assert_eq!((&aborted["version"], &aborted["active"]), (&json!(2), &json!(1)));
    desk.expect(&["abort", "behave"], "", 3);
    let deployed = desk.json(
        &["deploy", "ledger.wasm", "--handler", "behave", "--canary", "5%", "--promote-after", "1h", "--json"],
        "",
        0,
    );
    assert_eq!(deployed["rollout"], json!({ "kind": "canary", "share": "5%", "promote_after_seconds": 3600.0 }));
    desk.expect(&["promote", "behave", "--tried", "2"], "", 1);
    let promoted = desk.json(&["promote", "behave", "--json"], "", 0);
    assert_eq!((&promoted["from"], &promoted["to"]), (&json!(1), &json!(3)));
    let shown = desk.json(&["handlers", "show", "behave", "--json"], "", 0);
    assert_eq!((&shown["active"], shown.get("rollout")), (&json!(3), None));
    let events: Vec<_> = shown["history"].as_array().unwrap().iter().map(|one| &one["event"]).collect();
    assert_eq!(events, ["promoted", "canary-started", "aborted", "canary-started", "deployed"]);
    let audit = std::fs::read_to_string(desk.path().join("tidegate-data/audit.jsonl")).unwrap();
    assert!(audit.contains("handler.promote") && audit.contains("handler.abort"), "{audit}");
    // The version that was aborted never was active: going back passes over it.
    assert_eq!(desk.json(&["rollback", "behave", "--json"], "", 0)["to"], json!(1));
}

#[test]
fn what_was_rolled_back_from_or_is_tried_is_not_brought_live_by_a_restart() {
    let desk = Desk::with_handler();
    let built = desk.path().join("behaviours.wasm");
    let shown = || desk.json(&["handlers", "show", "behave", "--json"], "", 0);
    // It has looked at the file by then: what is written there from then on is of no start.
    let runs = |host: Running| {
        until("a version runs", || shown()["active"] != Value::Null);
        host
    };
    let stands = |rollout: Option<u64>| {
        let _host = runs(desk.host_with_log());
        let shown = shown();
        assert_eq!((&shown["active"], shown["rollout"]["version"].as_u64()), (&json!(1), rollout), "{shown}");
        desk.log()
    };
    let host = runs(desk.host());
    // As a build does: the file that the configuration names is the one that is deployed.
    std::fs::write(&built, guest("ledger")).unwrap();
    desk.expect(&["deploy", "behaviours.wasm", "--handler", "behave"], "", 0);
    desk.expect(&["rollback", "behave"], "", 0);
    drop(host);
    let log = stands(None);
    assert!(
        log.contains("that of version 2, which ran after it was deployed, and does not any more: version 1 stays"),
        "{log}"
    );
    assert!(!stands(None).contains("of version 2"), "it was said");
    let host = runs(desk.host());
    let changes = desk.expect(&["apply", "--dry-run"], "", 0);
    assert!(
        changes.contains("is that of version 2, and version 1 stays the active one; `tidegate deploy`"),
        "{changes}"
    );
    // A mend of what ran then changes nothing about the file.
    std::fs::write(desk.path().join("hotfix.wasm"), guest("hello")).unwrap();
    desk.expect(&["deploy", "hotfix.wasm", "--handler", "behave"], "", 0);
    desk.expect(&["rollback", "behave"], "", 0);
    drop(host);

    let host = runs(desk.host());
    std::fs::write(&built, guest("order")).unwrap();
    desk.expect(&["deploy", "behaviours.wasm", "--handler", "behave", "--canary", "5%"], "", 0);
    drop(host);
    let log = stands(Some(4));
    assert!(log.contains("that of version 4, which is tried beside it: version 1 stays"), "{log}");
    let host = runs(desk.host());
    desk.expect(&["abort", "behave"], "", 0);
    drop(host);
    stands(None);

    // What nobody has decided about is deployed by the configuration, as ever.
    std::fs::write(&built, [guest("hello").as_slice(), &[0, 2, 1, b'x']].concat()).unwrap();
    let _host = runs(desk.host());
    assert_eq!(shown()["active"], json!(5));
}

#[test]
fn a_shadow_is_begun_looked_at_promoted_and_aborted() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("ledger.wasm"), guest("ledger")).unwrap();
    let _host = desk.host();
    let deploy = |more: &[&str], code| {
        let output = desk.run(&[&["deploy", "ledger.wasm", "--handler", "behave"], more].concat(), "");
        let (out, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{more:?}: {out}{told}");
        (out.into_owned(), told.into_owned())
    };
    deploy(&["--shadow", "0%"], 2);
    deploy(&["--shadow", "--for", "soon"], 2);
    deploy(&["--for", "10m"], 2);
    deploy(&["--shadow", "--canary", "5%"], 2);
    assert!(deploy(&["--shadow", "--for", "1ms"], 1).1.contains("between a second and 30 days"));

    let (out, steps) = deploy(&["--shadow"], 0);
    let words = "sees copies of 100% of the messages as a shadow, with no effect";
    assert!(out.contains("behave@2 sha256:") && out.contains(words), "{out}");
    let last = steps.lines().last().unwrap();
    assert!(last.starts_with("shadow ") && last.ends_with("version 2 sees copies of 100% of the messages"), "{steps}");
    let refused = deploy(&[], 1).1;
    assert!(refused.contains("is tried as a shadow") && refused.contains("`tidegate abort behave`"), "{refused}");
    desk.expect(&["rollback", "behave"], "", 1);
    // Both reject the first one, for other reasons, and the ledger skips the second one.
    let line = "{\"subject\":\"reject\",\"id\":\"m-17\"}\n{\"subject\":\"reject\",\"id\":\"m-18\"}\n";
    desk.expect(&["publish", "--lines"], line, 0);
    until("both messages are compared", || {
        let shown = desk.json(&["handlers", "show", "behave", "--json"], "", 0);
        shown["rollout"]["shadow"]["compared"] == json!(2)
    });
    let listed = desk.expect(&["handlers"], "", 0);
    assert!(listed.contains("100% shadow: compared 2 messages, 2 differ (2 by outcome)"), "{listed}");
    let shown = desk.expect(&["handlers", "show", "behave"], "", 0);
    for part in [
        "shadow: version 2 sees copies of 100%",
        "begun by local",
        "handler-rejected (card-declined) would have been handler-rejected (as-the-number-says)",
        "handler-rejected (card-declined) would have been skipped (as-the-number-says)",
        "shadow-started",
    ] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    let aborted = desk.json(&["abort", "behave", "--json"], "", 0);
    assert_eq!((&aborted["version"], &aborted["active"]), (&json!(2), &json!(1)));
    let deployed =
        desk.json(&["deploy", "ledger.wasm", "--handler", "behave", "--shadow", "5%", "--for", "1h", "--json"], "", 0);
    let plan = json!({ "kind": "shadow", "share": "5%", "promote_after_seconds": null, "ends_after_seconds": 3600.0 });
    assert_eq!(deployed["rollout"], plan);
    let promoted = desk.json(&["promote", "behave", "--json"], "", 0);
    assert_eq!((&promoted["from"], &promoted["to"]), (&json!(1), &json!(3)));
}

#[test]
fn what_a_shadow_would_have_sent_is_for_those_who_may_see_payloads() {
    let desk = Desk::new();
    std::fs::write(desk.path().join("first.wasm"), ledger(1)).unwrap();
    std::fs::write(desk.path().join("second.wasm"), ledger(900_102)).unwrap();
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    text +=
        "[handlers.ledger]\nmodule = \"first.wasm\"\noutputs.done = { broker = \"local\", subject = \"out.done\" }\n";
    text += "[subscriptions.all]\nbroker = \"local\"\nsubjects = [\"in.>\"]\nhandler = \"ledger\"\n";
    for role in ["read", "deploy"] {
        let hash = TokenHash::of(&format!("tidegate_{role}"));
        text += &format!("[http.tokens.{role}]\nhash = \"{hash}\"\nrole = \"{role}\"\n");
    }
    desk.write("tidegate.toml", &text);
    let _host = desk.host();
    let run = |role: &str, arguments: &[&str], input: &str| {
        let mut command = desk.command(arguments);
        let mut child = command.env("TIDEGATE_TOKEN", format!("tidegate_{role}")).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?} as {role}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("deploy", &["deploy", "second.wasm", "--handler", "ledger", "--shadow"], "");
    let line = "{\"subject\":\"in.x\",\"id\":\"m-2\",\"body\":\"a secret\"}\n";
    run("deploy", &["publish", "--lines"], line);
    let show = ["handlers", "show", "ledger"];
    until("the message is compared", || {
        let shown: Value = serde_json::from_str(&run("read", &[&show[..], &["--json"]].concat(), "")).unwrap();
        shown["rollout"]["shadow"]["compared"] == json!(1)
    });
    let whole = run("deploy", &show, "");
    let told = "output 1 would have had another body: 3 bytes would have been 4, from byte 3 on";
    for part in [told, ": m-2!", "Ledger-First=000001", "a secret", "sha256:"] {
        assert!(whole.contains(part), "no `{part}` in {whole}");
    }
    for more in [&[][..], &["--json"]] {
        let shown = run("read", &[&show[..], more].concat(), "");
        assert!(shown.contains(told), "no `{told}` in {shown}");
        assert!(shown.contains("need the role `operate`") || shown.contains("\"payload_withheld\": true"), "{shown}");
        for part in ["m-2!", "Ledger-First", "a secret", "body_start", "\"start\""] {
            assert!(!shown.contains(part), "`{part}` in {shown}");
        }
    }
}

#[test]
fn a_message_is_tried_without_a_broker() {
    let desk = Desk::with_handler();
    let run = desk.json(&["invoke", "behaviours.wasm", "-s", "echo", "--json"], "hello", 0);
    assert_eq!((&run["outcome"]["code"], &run["outputs"][0]["body"]), (&json!("completed"), &json!("hello")));
    let run = desk.json(&["invoke", "behaviours.wasm", "-s", "hostile.spin", "--fuel", "100_000", "--json"], "", 5);
    assert_eq!((&run["outcome"]["code"], &run["usage"]["fuel_limit"]), (&json!("out-of-fuel"), &json!(100_000)));
    // The configuration grants no output, so what may not be sent is told as a host would.
    let run = desk.json(&["invoke", "--handler", "behave", "-s", "echo", "--json"], "hello", 5);
    assert_eq!(run["outcome"]["code"], json!("denied"));
    let shown = desk.expect(&["invoke", "behaviours.wasm", "-s", "reject"], "", 5);
    assert!(shown.contains("outcome   handler-rejected\n          card-declined"), "{shown}");
}

/// Whether lines are as expected, where `*` stands for what differs from run to run.
fn expect_lines(shown: &str, expected: &[&str]) {
    let fits = |line: &str, pattern: &str| {
        let mut parts = pattern.split('*');
        let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
        for part in parts {
            // One that is empty ends the pattern, and takes all.
            let place = if part.is_empty() { Some(rest.len()) } else { rest.find(part) };
            let Some(place) = place.filter(|place| *place > 0) else { return false };
            rest = &rest[place + part.len()..];
        }
        rest.is_empty()
    };
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{shown}");
    for (line, pattern) in lines.iter().zip(expected) {
        assert!(fits(line, pattern), "`{line}` is not as `{pattern}` says:\n{shown}");
    }
}

#[test]
fn a_person_is_shown_all_that_came_of_a_run() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("hello.wasm"), example("hello")).unwrap();
    desk.write("ada.json", "{\"name\": \"Ada\"}");
    let well = desk.run(&["invoke", "hello.wasm", "ada.json", "--timeout", "7s"], "");
    assert_eq!((well.status.code(), well.stderr.as_slice()), (Some(0), &b""[..]), "nothing but the answer: {well:?}");
    expect_lines(
        &String::from_utf8_lossy(&well.stdout),
        &[
            "module    hello.wasm (*, * KiB)",
            "contract  tidegate:events/handler@0.1.0",
            "message   invoke-1 on invoke, 15 B",
            "outcome   completed",
            "fuel      * of *",
            "time      * of 7.00 s",
            "memory    * MiB of 64.0 MiB",
            "output    greetings, 11 B",
            "          Content-Type: text/plain; charset=utf-8",
            "          Hello, Ada!",
            "log       * info somebody came name=Ada",
        ],
    );

    let fault = desk.run(&["invoke", "behaviours.wasm", "-s", "hostile.panic", "--fuel", "5_000_000"], "x");
    assert_eq!((fault.status.code(), fault.stderr.as_slice()), (Some(5), &b""[..]), "{fault:?}");
    let shown = String::from_utf8_lossy(&fault.stdout);
    let is_frame = |line: &&str| line.starts_with("          at ");
    assert!(shown.lines().filter(is_frame).any(|frame| frame.contains("behaviours::Handler as")), "{shown}");
    let plain: Vec<&str> = shown.lines().filter(|line| !is_frame(line)).collect();
    expect_lines(
        &plain.join("\n"),
        &[
            "module    behaviours.wasm (*, * KiB)",
            "contract  tidegate:events/handler@0.1.0",
            "message   invoke-1 on hostile.panic, 1 B",
            "outcome   trap:unreachable",
            "          wasm `unreachable` instruction executed",
            "fuel      * of 5,000,000",
            "time      * of 10.00 s",
            "memory    * MiB of 64.0 MiB",
            "log       * warn ",
            "log       * warn thread '<unnamed>' (1) panicked at behaviours/src/hostile.rs:*",
            "log       * warn the handler gave up",
            "log       * warn note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        ],
    );
}

#[test]
fn a_signature_is_taken_from_beside_the_module() {
    let desk = Desk::new();
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signed").join(name);
    let copy = |name: &str, to: &str| std::fs::copy(fixture(name), desk.path().join(to)).unwrap();
    let key = std::fs::read_to_string(fixture("release.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    text += &format!("[signatures]\nkeys.release = \"{key}\"\n[handlers.h]\n");
    desk.write("tidegate.toml", &text);
    copy("module.wasm", "m.wasm");
    let _host = desk.host();
    let refused = desk.json(&["deploy", "m.wasm", "--handler", "h", "--json"], "", 6);
    assert_eq!((&refused["step"], &refused["code"]), (&json!("signature"), &json!("not-signed")));
    copy("module.wasm.minisig", "m.wasm.minisig");
    copy("module.wasm.by-other.minisig", "other.minisig");
    let with = |signature: &str, code| {
        desk.json(&["deploy", "m.wasm", "--handler", "h", "--json", "--signature", signature], "", code)
    };
    assert_eq!(with("other.minisig", 6)["code"], json!("untrusted-key"));
    desk.expect(&["deploy", "m.wasm", "--handler", "h", "--signature", "m.wasm"], "", 2);
    desk.expect(&["deploy", "m.wasm", "--handler", "h", "--signature", "none"], "", 2);
    let output = desk.run(&["deploy", "m.wasm", "--handler", "h"], "");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("by release (BAF329C90B5C17E4)"), "{told}");
    let shown = desk.expect(&["handlers", "show", "h"], "", 0);
    assert!(shown.contains("SIGNED BY") && shown.contains("release (BAF329C90B5C17E4)"), "{shown}");
    // And so does a check.
    desk.write("tidegate.toml", &text.replace("[handlers.h]", "[handlers.h]\nmodule = \"m.wasm\""));
    let checked = desk.json(&["check", "--json"], "", 0);
    assert_eq!(checked["handlers"][0]["signed_by"]["name"], json!("release"));
    std::fs::remove_file(desk.path().join("m.wasm.minisig")).unwrap();
    let checked = desk.json(&["check", "--json"], "", 2);
    assert!(checked["problems"][0]["message"].as_str().unwrap().contains("is not signed"), "{checked}");
}

/// A profile is made by a token that the host knows, and used by every command that speaks to a host.
#[test]
fn a_profile_is_logged_in_to_used_and_forgotten() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    let made = desk.json(&["token", "new", "--role", "deploy", "--name", "ops", "--json"], "", 0);
    let (token, lines) = (made["token"].as_str().unwrap(), made["configuration"].as_str().unwrap());
    let mut text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let url = format!("http://{}", text.split('"').nth(1).unwrap());
    text += &format!("[handlers.h]\n{lines}");
    desk.write("tidegate.toml", &text);
    let _host = desk.host();
    // Nothing is kept of a token that the host does not know, or of a host that is none.
    for (arguments, input) in [
        (vec!["login", &url], "tidegate_wrong"),
        (vec!["login", &url], ""),
        (vec!["login", "http://127.0.0.1:1"], token),
    ] {
        let output = desk.run(&arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was kept"), "{output:?}");
    }
    let file = desk.path().join("tidegate/profiles.toml");
    assert!(!file.exists());
    desk.write("token", token);
    desk.expect(&["login", &url, "--token-file", "token", "--profile", "prod"], "", 0);
    let elsewhere = desk.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let away = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = desk.command(arguments);
        command.current_dir(&elsewhere).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, who, _) = away(&["whoami", "--json", "--profile", "prod"], &[]);
    assert_eq!((code, serde_json::from_str::<Value>(&who).unwrap()), (0, json!({"name": "ops", "role": "deploy"})));
    assert_eq!(away(&["whoami"], &[("TIDEGATE_PROFILE", "prod")]).0, 0);
    // The address alone brings no token; the variable does, and goes before the profile's.
    assert_eq!(away(&["whoami", "--host", &url], &[]).0, 1);
    assert_eq!(away(&["whoami", "--host", &url], &[("TIDEGATE_TOKEN", token)]).0, 0);
    assert_eq!(away(&["whoami", "--profile", "prod"], &[("TIDEGATE_TOKEN", "tidegate_wrong")]).0, 1);
    let (code, _, told) = away(&["whoami", "--profile", "none"], &[]);
    assert!(code == 2 && told.contains("there is: prod"), "{told}");
    // Without a name it is the profile `default`, and that is said; with a configuration named it is not.
    desk.expect(&["login", &url], token, 0);
    let (code, _, told) = away(&["publish", "-s", "a.b", "--broker", "local"], &[]);
    assert!(code == 0 && told.contains("by the profile `default`"), "{told}");
    assert_eq!(away(&["dlq", "ls", "--json"], &[]).0, 0);
    let config = desk.path().join("tidegate.toml");
    assert_eq!(away(&["handlers", "--config", config.to_str().unwrap()], &[]).0, 1, "it has no token there");
    // Who did what is seen by the same way.
    assert_eq!(away(&["rollback", "h"], &[]).0, 3);
    let (_, entries, _) = away(&["audit", "--json", "--who", "ops", "--action", "handler"], &[]);
    let entries: Value = serde_json::from_str(&entries).unwrap();
    assert_eq!((&entries[0]["action"], &entries[0]["result"]["status"]), (&json!("handler.rollback"), &json!(404)));
    assert_eq!(away(&["audit", "--json", "--action", "dead-letter"], &[]).1.trim(), "[]");
    assert!(away(&["audit", "--failed"], &[]).1.contains("/v1/handlers/h/rollback"));
    // A file that others can read is refused, whatever is asked for.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for arguments in [&["whoami"][..], &["login", &url], &["logout"]] {
        let (code, _, told) = away(arguments, &[]);
        assert!(code == 2 && told.contains("chmod 600") && !told.contains(token), "{arguments:?}: {told}");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.expect(&["logout"], "", 0);
    assert!(std::fs::read_to_string(&file).unwrap().contains("[profiles.prod]"));
    assert_eq!(away(&["logout"], &[]).0, 3);
    desk.expect(&["logout", "--profile", "prod"], "", 0);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("tidegate_"));
}

#[test]
fn a_subscription_is_paused_looked_at_and_resumed() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    let paused = desk.run(&["pause", "all", "--why", "the database moves", "--for", "1h 30m", "--drain"], "");
    let (out, talk) = (String::from_utf8_lossy(&paused.stdout), String::from_utf8_lossy(&paused.stderr));
    assert_eq!(paused.status.code(), Some(0), "{out}{talk}");
    assert!(out.starts_with("all is paused on this host until 20") && talk.contains("drained"), "{out}{talk}");
    let shown = desk.expect(&["status"], "", 0);
    assert!(
        shown.contains(": ready\n") && shown.contains("paused") && shown.contains("local: the database moves"),
        "{shown}"
    );
    let whole = desk.json(&["status", "--json"], "", 0);
    assert_eq!((&whole["ready"]["ready"], &whole["ready"]["paused"]), (&json!(true), &json!(["all"])));
    assert_eq!(whole["status"]["subscriptions"][0]["pause"]["by"], json!("local"));
    desk.expect(&["publish", "--lines"], LINES, 0);

    assert_eq!(desk.expect(&["resume", "all"], "", 0), "all takes messages again, few at first\n");
    assert_eq!(desk.expect(&["resume", "--handler", "behave"], "", 0), "all was not paused\n");
    until("the messages to be done with", || {
        let counts = &desk.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["counts"];
        (&counts["completed"], &counts["dead_lettered"]) == (&json!(1), &json!(1))
    });
    let misspelt = desk.run(&["pause", "--handler", "behaves"], "");
    assert_eq!(misspelt.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("did you mean `behave`?"));
    let handler = desk.run(&["pause", "behave"], "");
    let said = String::from_utf8_lossy(&handler.stderr).into_owned();
    assert!(handler.status.code() == Some(3) && said.contains("`behave` is a handler, and has all"), "{said}");
    desk.expect(&["pause"], "", 2);
    desk.expect(&["pause", "all", "--handler", "behave"], "", 2);
    let log = desk.expect(&["audit", "--action", "subscription"], "", 0);
    assert!(log.contains("subscription.pause") && log.contains("why=the"), "{log}");
}

#[test]
fn many_bad_messages_end_as_dead_letters_and_a_good_one_gets_its_turn() {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let quick = "retry = { preset = \"quick\" }\ncircuit = { pause = \"100ms\", max_pause = \"500ms\" }\n";
    desk.write("tidegate.toml", &format!("{text}{quick}"));
    let _host = desk.host();
    let bad: String =
        (0..25).map(|n| format!("{{\"subject\":\"hostile.unreachable\",\"id\":\"bad-{n}\"}}\n")).collect();
    let good: String = (0..5).map(|n| format!("{{\"subject\":\"complete\",\"id\":\"good-{n}\"}}\n")).collect();
    desk.expect(&["publish", "--lines"], &bad, 0);
    until("the circuit to open", || {
        desk.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["pause"]["kind"] == json!("circuit")
    });
    desk.expect(&["publish", "--lines"], &good, 0);
    until("the bad ones to be given up and the good ones to be done", || {
        let counts = &desk.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["counts"];
        (&counts["completed"], &counts["dead_lettered"]) == (&json!(5), &json!(25))
    });
    let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
    let all_proven = letters.as_array().unwrap().iter().all(|letter| letter["reason"] == json!("trap:unreachable"));
    assert!(all_proven, "each by the same fault twice: {letters}");
}

#[test]
fn one_bad_message_alone_ends_as_a_dead_letter() {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &format!("{text}retry = {{ schedule = [\"10ms\"], max_attempts = 40 }}\n"));
    let _host = desk.host();
    // It fails more often than a circuit asks for, and is one message.
    desk.expect(&["publish", "-s", "retry"], "x", 0);
    until("it to be given up", || desk.json(&["dlq", "ls", "--json"], "", 0)[0]["attempts"] == json!(40));
    assert_eq!(desk.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["counts"]["returned"], json!(0));
}
