//! The main job, as a user has it: the example's configuration as it stands, on the embedded queue and on NATS JetStream, its feed
//! published twice by the command line, and what became of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::guests::guest;
use crate::support::nats::NatsServer;
use crate::support::ports::free_port;
use crate::support::until;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/github-webhooks")
}

fn tidegate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs the feed by one of the example's files; `server` is put in the place of the one that it names.
fn run(file: &str, server: Option<&str>) {
    run_text(file, &std::fs::read_to_string(example().join(file)).unwrap(), server);
}

/// The same by a text.
fn run_text(file: &str, text: &str, server: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let module = "../../target/guests/github_webhooks.wasm";
    let named = "nats://127.0.0.1:4222";
    assert!(text.contains(module) && text.contains(named) == server.is_some(), "{file} is as this test knows it");
    let port = free_port();
    let text = text.replace(module, "github_webhooks.wasm").replace(named, server.unwrap_or_default());
    std::fs::write(folder.path().join("github_webhooks.wasm"), guest("github_webhooks")).unwrap();
    let text = format!("{text}\n[http]\nlisten = \"127.0.0.1:{port}\"\n");
    std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
    let log = std::fs::File::create(folder.path().join("host.log")).unwrap();
    let host = tidegate(folder.path()).arg("run").stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let _host = Running(host);
    let get = |path: &str| {
        let mut answer = ureq::get(&format!("http://127.0.0.1:{port}{path}")).call().ok()?;
        answer.body_mut().read_json::<Value>().ok()
    };
    until("the host is ready", Duration::from_secs(120), || get("/ready").is_some_and(|it| it["ready"] == true));
    let publish = || {
        let mut command = tidegate(folder.path());
        command.args(["publish", "--json", "--host", &format!("http://127.0.0.1:{port}"), "--id-field", "delivery"]);
        command.args(["--subject-field", "event", "--subject-prefix", "github.", "--body-field", "payload"]);
        let said = command.arg(example().join("deliveries.jsonl")).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let counts: Value = serde_json::from_slice(&said.stdout).unwrap();
        (counts["published"].as_u64().unwrap(), counts["duplicates"].as_u64().unwrap())
    };
    assert_eq!(publish(), (177, 0), "{file}");
    let counts = || get("/v1/status").unwrap()["subscriptions"][0]["counts"].clone();
    let ended = |counts: &Value| ["completed", "skipped", "dead_lettered"].map(|name| counts[name].as_u64().unwrap());
    until("all of the feed has its end", Duration::from_secs(120), || ended(&counts()).iter().sum::<u64>() == 177);
    assert_eq!(ended(&counts()), [152, 6, 19], "{file}");
    // Seven open pull requests, of which the handler asks twice to see them again.
    assert_eq!((counts()["retried"].as_u64(), counts()["runs"].as_u64()), (Some(14), Some(191)), "{file}");
    assert_eq!(publish(), (0, 177), "{file}: every delivery's id is known");
    assert_eq!(counts()["runs"], 191, "{file}: the handler does not run");
}

#[test]
fn the_feed_has_its_ends_on_the_embedded_queue() {
    run("tidegate.toml", None);
}

#[test]
fn the_feed_has_the_same_ends_on_jetstream() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    run("nats.toml", Some(&server.url()));
}

/// The broker's entry that README puts in the place of the embedded one.
fn entry_of_the_readme() -> String {
    let readme = std::fs::read_to_string(example().join("../../README.md")).unwrap();
    let says = "To run it on NATS JetStream, change the broker's entry and nothing else:\n\n```toml\n";
    let (_, after) = readme.split_once(says).expect("README says how");
    after.split_once("```").unwrap().0.to_owned()
}

#[test]
fn with_the_entry_of_the_readme_and_nothing_else_changed_the_feed_has_the_same_ends() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let file = "tidegate.toml";
    let text = std::fs::read_to_string(example().join(file)).unwrap();
    let embedded = "[brokers.main]\ntype = \"embedded\"\n";
    assert_eq!(text.matches(embedded).count(), 1, "{file} is as this test knows it");
    let text = text.replace(embedded, &entry_of_the_readme());
    run_text("tidegate.toml with README's entry", &text, Some(&server.url()));
}
