//! A real host in a process of its own, to be killed, stopped and started again.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use tidegate::admin::wire::{ErrorAnswer, ErrorBody, PublishSummary, Status};
use tidegate::apply::report::{Applied, Changes};
use tidegate::deploy::report::{HandlerList, HandlerView, Line, RolledBack};

use crate::support::guests::guest;
use crate::support::ports::free_port;
use crate::support::until;

/// A line of the log that no host writes: from here on it is that of another process.
pub const START_OF_A_LIFE: &str = "--- a host starts ---";

/// How many messages a host of these tests holds at once: the default of `max_in_flight`.
pub const HELD_AT_ONCE: u64 = 256;

/// A host with its directory, configuration and log.
pub struct Rig {
    pub directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    starts: u32,
    /// Where the next host is to die.
    pub dies_at: Option<&'static str>,
    /// What the host finds in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Rig {
    /// Writes a configuration whose `broker` entry is as given, and everything else the same for each broker.
    pub fn new(broker: &str, ack_wait: Duration, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ledger.wasm"), guest("ledger")).unwrap();
        let port = free_port();
        let mut text = String::new();
        writeln!(
            text,
            r#"
[host]
name = "chaos"
log = {{ level = "debug" }}

[http]
listen = "127.0.0.1:{port}"

[brokers.queue]
{broker}

[handlers.ledger]
module = "ledger.wasm"
outputs.done = {{ broker = "queue", subject = "out.done" }}

[subscriptions.ledger]
broker = "queue"
subjects = ["in.>"]
handler = "ledger"
ack_wait = "{}ms"
retry = {{ preset = "quick", max_attempts = 100 }}
{more}
"#,
            ack_wait.as_millis()
        )
        .unwrap();
        std::fs::write(directory.path().join("tidegate.toml"), text).unwrap();
        Self { directory, port, child: None, starts: 0, dies_at: None, environment: Vec::new() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn log_path(&self) -> PathBuf {
        self.path().join("host.log")
    }

    /// All that the host has said so far, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts the host and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the host runs already");
        self.starts += 1;
        let mut log: File = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        // The last host may have died in the middle of a line.
        writeln!(log, "\n{START_OF_A_LIFE}").unwrap();
        let mut host = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        // What steers the tests is no setting of the host.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            host.env_remove(name);
        }
        if let Some(place) = self.dies_at {
            host.env("TEST_TIDEGATE_DIES_AT", place);
        }
        let child = host
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg("run")
            .arg("--config")
            .arg(self.path().join("tidegate.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the host answers", Duration::from_secs(60), || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the host ended by itself: {ended:?}\n{}", last_lines(&self.log(), 30));
            self.get("/live").is_some()
        });
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the host has died by itself, as by `kill -9`.
    pub fn dead(&mut self) {
        assert_eq!(self.ended().signal(), Some(Signal::KILL.as_raw()));
    }

    /// SIGTERM, and waits for the end of the drain.
    pub fn drain(&mut self) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "the drain ended with {status}\n{}", last_lines(&self.log(), 30));
    }

    /// Waits until it has ended by itself; how.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        until("the host ends by itself", Duration::from_secs(60), || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The host's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn get(&self, path: &str) -> Option<String> {
        let agent = agent();
        let mut answer = agent.get(format!("http://127.0.0.1:{}{path}", self.port)).call().ok()?;
        answer.body_mut().read_to_string().ok()
    }

    /// What the host counts; `None` while it does not answer.
    pub fn status(&self) -> Option<Status> {
        serde_json::from_str(&self.get("/v1/status")?).ok()
    }

    /// Its metrics, as Prometheus gets them.
    pub fn metrics(&self) -> String {
        self.get("/metrics").unwrap()
    }

    /// What runs, and which versions there are.
    pub fn handler(&self) -> HandlerView {
        serde_json::from_str(&self.get("/v1/handlers/ledger").unwrap()).unwrap()
    }

    /// Deploys a module; the last line of the answer, or `None` when the host is gone.
    pub fn deploy(&self, module: &[u8]) -> Option<Line> {
        self.deploy_as("", module)
    }

    /// The same, as the query says: `canary=5%25`.
    pub fn deploy_as(&self, query: &str, module: &[u8]) -> Option<Line> {
        let mut answer = agent().post(self.url(&format!("/v1/handlers/ledger/versions?{query}"))).send(module).ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        let last = text.lines().last()?;
        Some(serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// Deploys a module; status and the last line of the answer.
    pub fn try_deploy(&self, query: &str, module: &[u8]) -> (u16, serde_json::Value) {
        let url = self.url(&format!("/v1/handlers/ledger/versions?{query}"));
        let mut answer = agent().post(url).send(module).unwrap();
        let (status, text) = (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap());
        (status, serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap())
    }

    /// Deploys a module with its signature, as minisign wrote it.
    pub fn deploy_signed(&self, module: &[u8], signature: &[u8]) -> Option<Line> {
        let url = self.url("/v1/handlers/ledger/versions");
        let signature = STANDARD.encode(signature);
        let mut answer = agent().post(url).header("tidegate-signature", signature).send(module).ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some(serde_json::from_str(text.lines().last()?).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// All handlers, and the cluster as this host sees it.
    pub fn handlers(&self) -> HandlerList {
        serde_json::from_str(&self.get("/v1/handlers").unwrap()).unwrap()
    }

    /// Asks for something of the handler; status and answer, or `None` when the host is gone.
    pub fn post(&self, what: &str) -> Option<(u16, serde_json::Value)> {
        let mut answer = agent().post(self.url(&format!("/v1/handlers/ledger/{what}"))).send_empty().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), serde_json::from_str(&text).ok()?))
    }

    /// Asks for something else; status and answer, or `None` when the host is gone.
    pub fn ask(&self, path: &str) -> Option<(u16, serde_json::Value)> {
        let mut answer = agent().post(self.url(path)).send_empty().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), serde_json::from_str(&text).ok()?))
    }

    /// Goes back to a version.
    pub fn rollback(&self, to: u64) -> RolledBack {
        let mut answer = agent().post(self.url(&format!("/v1/handlers/ledger/rollback?to={to}"))).send_empty().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Changes the configuration file.
    pub fn edit(&self, edit: impl FnOnce(&str) -> String) {
        let path = self.path().join("tidegate.toml");
        std::fs::write(&path, edit(&std::fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// What the configuration file changes; an error as the host answers it.
    pub fn changes(&self) -> Result<Changes, ErrorBody> {
        read(agent().get(self.url("/v1/configuration/changes")).call().unwrap())
    }

    /// Applies what was shown; `None` when the host is gone before it answers.
    pub fn apply_shown(&self, digest: &str) -> Option<Result<Applied, ErrorBody>> {
        let url = self.url(&format!("/v1/configuration/apply?digest={digest}"));
        Some(read(agent().post(url).send_empty().ok()?))
    }

    /// Looks at the changes and applies them.
    pub fn apply(&self) -> Result<Applied, ErrorBody> {
        let changes = self.changes()?;
        self.apply_shown(&changes.digest).expect("the host answers")
    }

    /// A bare connection, for a client that does not behave.
    pub fn connect(&self) -> std::net::TcpStream {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// The address of a path of its listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Where to publish.
    pub fn publisher(&self) -> Publisher {
        Publisher { url: format!("http://127.0.0.1:{}/v1/publish?broker=queue", self.port) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the end of the host's log:\n{}", last_lines(&self.log(), 60));
        }
    }
}

/// Publishes to a host that may be away.
#[derive(Clone)]
pub struct Publisher {
    url: String,
}

impl Publisher {
    /// Publishes messages by their ids and waits until all are confirmed, again and again while the host is away. The
    /// ids make that safe.
    pub fn publish(&self, ids: &[String]) {
        self.publish_to("in.x", ids);
    }

    /// The same on another subject.
    pub fn publish_to(&self, subject: &str, ids: &[String]) {
        let line = |id: &String| format!("{{\"subject\":\"{subject}\",\"id\":\"{id}\",\"body\":\"{id}\"}}\n");
        let lines: String = ids.iter().map(line).collect();
        until("the host takes the messages", Duration::from_secs(120), || {
            let sent = agent().post(&self.url).header("content-type", "application/x-ndjson").send(lines.as_str());
            let Ok(mut answer) = sent else { return false };
            let Ok(text) = answer.body_mut().read_to_string() else { return false };
            let Ok(summary) = serde_json::from_str::<PublishSummary>(&text) else { return false };
            (summary.published + summary.duplicates) as usize == ids.len()
        });
    }
}

fn read<T: serde::de::DeserializeOwned>(mut answer: ureq::http::Response<ureq::Body>) -> Result<T, ErrorBody> {
    let is_success = answer.status().is_success();
    let text = answer.body_mut().read_to_string().unwrap();
    let unreadable = |error| panic!("{error}: {text}");
    if is_success {
        return Ok(serde_json::from_str(&text).unwrap_or_else(unreadable));
    }
    Err(serde_json::from_str::<ErrorAnswer>(&text).unwrap_or_else(|error| panic!("{error}: {text}")).error)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Waits so long, for an event that has no condition to ask for: a moment to kill at.
pub fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
