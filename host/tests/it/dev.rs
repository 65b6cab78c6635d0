//! `tidegate dev` as a person uses it: sources are saved, and what it says is read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::guests::guest;
use crate::support::modules::{answer, handler};
use crate::support::ports::free_port;
use crate::support::until;

/// A build with a compiler can wait for other tests' builds.
const PATIENCE: Duration = Duration::from_secs(180);

/// A build that copies the module that is named in `choice`; it says which it has read, and waits for the gate.
const MAKEFILE: &str = "\
handler.wasm:
\t@chosen=$$(cat choice); echo \"$$chosen\" > ../read; \\
\twhile [ ! -e ../gate ]; do sleep 0.01; done; cp \"../$$chosen.wasm\" handler.wasm
.PHONY: handler.wasm
";

/// A project whose builds take no time, and the modules that it can come to.
struct Project {
    directory: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(project.path()).unwrap();
        fs::write(project.beside("behaviours.wasm"), guest("behaviours")).unwrap();
        fs::write(project.beside("other.wasm"), handler("", &answer(""))).unwrap();
        fs::write(project.beside("gate"), "").unwrap();
        project.write("Makefile", MAKEFILE);
        project.write("choice", "behaviours");
        let listener =
            format!("[http]\nlisten = \"127.0.0.1:{}\"\n[brokers.local]\ntype = \"embedded\"\n", free_port());
        // What a test publishes by, whatever it makes of the project's own file.
        fs::write(project.beside("publish.toml"), &listener).unwrap();
        let handler = "[handlers.mine]\nmodule = \"handler.wasm\"\n[subscriptions.all]\nbroker = \"local\"\n";
        project.write("tidegate.toml", &format!("{listener}{handler}subjects = [\">\"]\nhandler = \"mine\"\n"));
        project
    }

    fn path(&self) -> PathBuf {
        self.beside("project")
    }

    /// A file beside the project's folder: not among its sources.
    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn publish(&self, subject: &str) {
        self.write("tidegate-data/body", "body");
        let arguments = ["publish", "--config", "../publish.toml", "-s", subject, "tidegate-data/body"];
        let output = tidegate(&self.path(), &arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn session(&self, arguments: &[&str]) -> Session {
        Session::begin(&self.path(), &self.beside("said"), arguments)
    }
}

fn tidegate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_remove("TIDEGATE_CONFIG");
    // So that a build that fails is not taken for one that lacks its compiler, which it does not need.
    command.env("WASM_CC", "none");
    for variable in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_MANIFEST_DIR"] {
        command.env_remove(variable);
    }
    // Shared by all runs, so that only what changed is built.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/templates");
    command.env("CARGO_TARGET_DIR", target).env("CARGO_TERM_COLOR", "never");
    command
}

/// A session whose words go into a file, as they would on a terminal: all in one place, in their order.
struct Session {
    child: Child,
    said: PathBuf,
}

impl Session {
    fn begin(folder: &Path, said: &Path, arguments: &[&str]) -> Self {
        let file = File::create(said).unwrap();
        let mut command = tidegate(folder, &[&["dev"], arguments].concat());
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, said: said.to_owned() }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap()).into_owned()
    }

    /// Waits until it has said something.
    fn says(&mut self, what: &str) {
        let mut ended = None;
        until(what, PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some() || self.said().contains(what)
        });
        let said = self.said();
        assert!(said.contains(what), "it ended ({ended:?}) without: {what}\n{said}");
    }

    fn end(&mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.said());
        self.said()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("what the session said:\n{}", self.said());
        }
    }
}

#[test]
fn what_is_saved_comes_live_and_what_is_broken_changes_nothing() {
    let project = Project::new();
    let mut session = project.session(&[]);
    session.says("mine@1 is live, ");
    project.publish("reject");
    session.says("reject #1 on @1: dead-lettered as handler-rejected in ");
    session.says("fuel: card-declined\n    tidegate dlq show ");
    project.publish("probe.log");
    session.says("    warn  structured key=value\n");

    project.write("choice", "nothing");
    session.says("changed: choice\n");
    session.says("nothing.wasm");
    session.says("error: `make` failed (exit status: 2); what it said stands above\nmine@1 goes on\n");
    project.publish("complete");
    session.says("complete #3 on @1: completed in ");
    // It is no module: it builds, and no host would run it.
    fs::write(project.beside("garbage.wasm"), "garbage").unwrap();
    project.write("choice", "garbage");
    session.says("error: validate failed: ");
    session.says("nothing was changed\nmine@1 goes on\n");

    project.write("choice", "other");
    session.says("mine@2 is live, ");
    project.publish("reject");
    session.says("reject #4 on @2: completed in ");
    let said = session.end();
    assert!(said.contains("SIGTERM: draining\n") && said.contains("DEAD-LETTERED"), "the drain tells its counts");
}

#[test]
fn what_is_saved_during_a_build_is_in_the_next_one() {
    let project = Project::new();
    let mut session = project.session(&[]);
    session.says("mine@1 is live, ");
    fs::remove_file(project.beside("gate")).unwrap();
    project.write("choice", "other");
    until("the build has read the choice", PATIENCE, || {
        fs::read_to_string(project.beside("read")).is_ok_and(|read| read == "other\n")
    });
    project.write("choice", "behaviours");
    fs::write(project.beside("gate"), "").unwrap();
    session.says("mine@2 is live, ");
    session.says("mine@3 is live, ");
    project.publish("reject");
    session.says("reject #1 on @3: dead-lettered");
    // A build that is under way does not hold the end up.
    fs::remove_file(project.beside("gate")).unwrap();
    project.write("choice", "other");
    until("the build has read the choice", PATIENCE, || {
        fs::read_to_string(project.beside("read")).is_ok_and(|read| read == "other\n")
    });
    session.end();
}

#[test]
fn the_last_messages_are_run_again_on_a_new_version_with_no_effect() {
    let project = Project::new();
    let mut session = project.session(&["--rerun", "--last", "2"]);
    session.says("mine@1 is live, ");
    for (subject, ended) in [("skip", "skipped"), ("complete", "completed"), ("reject", "dead-lettered")] {
        project.publish(subject);
        session.says(&format!(" on @1: {ended}"));
    }
    project.write("choice", "other");
    session.says("the last 2 on mine@2, with no effect:\n");
    session.says("1 of 2 ended as before\n");
    session.says("complete #2: completed in ");
    session.says("reject #3: completed, was handler-rejected in ");
    let letters = tidegate(&project.path(), &["dlq", "ls", "--json"]).output().unwrap();
    let letters: Value = serde_json::from_slice(&letters.stdout).unwrap();
    assert_eq!(letters.as_array().unwrap().len(), 1, "what was given up stays so: {letters}");
    session.end();
}

#[test]
fn a_changed_configuration_is_taken_up() {
    let project = Project::new();
    let mut session = project.session(&[]);
    session.says("mine@1 is live, ");
    let text = fs::read_to_string(project.path().join("tidegate.toml")).unwrap();
    project.write("tidegate.toml", &text.replace("[subscriptions.all]", "limits.feul = 5\n[subscriptions.all]"));
    session.says("did you mean `fuel`");
    session.says("the configuration of before goes on\n");
    project.publish("complete");
    session.says("complete #1 on @1: completed in ");
    // A limit that the module cannot be started within is found out by the start.
    project
        .write("tidegate.toml", &text.replace("[subscriptions.all]", "limits.memory = \"64KiB\"\n[subscriptions.all]"));
    until("it goes on once more", PATIENCE, || {
        session.said().matches("the configuration of before goes on\n").count() == 2
    });
    project.write("tidegate.toml", &format!("{text}retry = {{ max_attempts = 1 }}\n"));
    session.says("the host runs by the changed configuration\n");
    project.publish("retry");
    session.says("retry #2 on @1: dead-lettered as attempts-exhausted in ");
    session.end();
}

#[test]
fn sessions_do_not_get_into_each_others_way_and_another_host_can_be_deployed_to() {
    let project = Project::new();
    let mut session = project.session(&[]);
    session.says("mine@1 is live, ");
    let told = |output: Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let (code, second) = told(tidegate(&project.path(), &["dev"]).output().unwrap());
    assert!(code == Some(1) && second.contains("another `tidegate dev` works with"), "{second}");
    let text = fs::read_to_string(project.path().join("tidegate.toml")).unwrap();
    let address = text.split('"').nth(1).unwrap().to_owned();
    session.end();

    let mut host = tidegate(&project.path(), &["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the host answers", PATIENCE, || std::net::TcpStream::connect(&address).is_ok());
    let (code, taken) = told(tidegate(&project.path(), &["dev"]).output().unwrap());
    assert!(code == Some(1) && taken.contains(&format!("`--host http://{address}`")), "{taken}");
    project.write("choice", "other");
    let mut session = project.session(&["--host", &format!("http://{address}")]);
    session.says("mine@2 is live, ");
    project.publish("reject");
    session.says("reject #1 on @2: completed in ");
    host.kill().unwrap();
    host.wait().unwrap();
    session.says("the host does not answer");
    session.end();
}

#[test]
fn a_project_in_rust_is_worked_on() {
    let folder = tempfile::tempdir().unwrap();
    assert!(tidegate(folder.path(), &["new", "my-handler"]).output().unwrap().status.success());
    let project = folder.path().join("my-handler");
    // The versions that this repository was tested with are here already; a user's cargo would look for newer ones.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, project.join("Cargo.lock")).unwrap();
    let configuration = fs::read_to_string(project.join("tidegate.toml")).unwrap();
    let listen = format!("[http]\nlisten = \"127.0.0.1:{}\"\n", free_port());
    fs::write(project.join("tidegate.toml"), configuration + &listen).unwrap();
    let mut session = Session::begin(&project, &folder.path().join("said"), &[]);
    session.says("try: tidegate publish --subject orders.new order.json\n");
    session.says("my-handler@1 is live, ");
    let published = tidegate(&project, &["publish", "--subject", "orders.new", "order.json"]).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    session.says("orders.new #1 on @1: completed in ");
    session.says("    -> invoices, 19 B: order 7: 1250 cents\n");

    let source = fs::read_to_string(project.join("src/lib.rs")).unwrap();
    fs::write(project.join("src/lib.rs"), source.clone() + "\nfn broken() -> u32 { \"no number\" }\n").unwrap();
    session.says("expected `u32`, found `&str`");
    session.says("my-handler@1 goes on\n");
    fs::write(project.join("src/lib.rs"), source.replace("cents\"", "cents!\"")).unwrap();
    session.says("my-handler@2 is live, ");
    session.end();
}
