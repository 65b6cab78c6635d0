//! The audit log of a real host says how each deploy ended, whatever ended it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tidegate::admin::wire::{AuditEntry, AuditList, AuditResult};
use tidegate::deploy::report::{End, Line, Step};

use crate::chaos::{Rig, ledger};
use crate::support::modules::{answer, handler};
use crate::support::until;

/// A host with a second handler, whose modules have a minute for their start.
fn rig() -> Rig {
    let patient = "\n[handlers.patient]\nlimits.fuel = \"unmetered\"\nlimits.timeout = \"60s\"\n";
    Rig::new("type = \"embedded\"", Duration::from_secs(30), patient)
}

/// A module that spins at its start until the wall clock stops it: a deploy that goes on long enough to be ended.
fn spinning() -> Vec<u8> {
    handler("(func $spin (loop $again (br $again))) (start $spin)", &answer(""))
}

/// A module that counts to a billion at its start, and then runs.
fn slow() -> Vec<u8> {
    let count = "(func $count (local $at i32) (loop $again
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (i32.const 1000000000)))))";
    handler(&format!("{count} (start $count)"), &answer(""))
}

/// What came of the deploys, the first one first.
fn deploys(rig: &Rig) -> Vec<Option<AuditResult>> {
    let list: AuditList = serde_json::from_str(&rig.get("/v1/audit").unwrap()).unwrap();
    let deploys = list.entries.into_iter().rev().filter(|entry| entry.action == "handler.deploy");
    deploys.map(|entry| entry.result).collect()
}

fn last(rig: &Rig) -> Option<AuditResult> {
    deploys(rig).pop().expect("there was a deploy")
}

/// As a person sees it.
fn shown(rig: &Rig, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("audit").args(arguments).current_dir(rig.path()).env_remove("TIDEGATE_CONFIG");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn upload(rig: &Rig, handler: &str, module: &[u8], bytes: usize) -> TcpStream {
    let mut stream = rig.connect();
    let length = module.len();
    let head =
        format!("POST /v1/handlers/{handler}/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&module[..bytes]).unwrap();
    stream
}

/// Reads the lines of a deploy until one tells of a step.
fn until_step(stream: &mut TcpStream, step: &str) {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    while !String::from_utf8_lossy(&text).contains(&format!("\"name\":\"{step}\"")) {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "it ended before {step}: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn the_audit_log_says_how_each_deploy_ended() {
    let mut rig = rig();
    rig.start();
    // Whoever reads the last line finds the end on record.
    assert!(matches!(rig.deploy(&ledger(2)), Some(Line::Done(_))));
    let result = last(&rig).unwrap();
    assert_eq!((result.status, result.code, result.deploy), (Some(200), None, Some(End::Live { version: 2 })));
    assert!(matches!(rig.deploy(&ledger(2)), Some(Line::Done(_))));
    assert_eq!(last(&rig).unwrap().deploy, Some(End::Unchanged { version: 2 }));
    assert!(matches!(rig.deploy(b"no module"), Some(Line::Failed(_))));
    let result = last(&rig).unwrap();
    assert_eq!((result.status, result.code.as_deref()), (Some(200), Some("module-refused")));
    let Some(End::Failed { step: Step::Validate, why }) = result.deploy else { panic!("{:?}", result.deploy) };
    assert!(why.contains("not a WebAssembly binary"), "{why}");
    // One that did not begin has the answer alone.
    let (status, _) = rig.try_deploy(&format!("digest={}", "0".repeat(64)), &ledger(3));
    let result = last(&rig).unwrap();
    assert_eq!((status, result.status, result.code.as_deref()), (422, Some(422), Some("wrong-digest")));
    assert_eq!(result.deploy, None);
    assert!(matches!(rig.deploy_as("canary=5%25", &ledger(3)), Some(Line::Done(_))));
    assert_eq!(last(&rig).unwrap().deploy, Some(End::Tried { version: 3 }));
    let shown = shown(&rig, &["--action", "handler.deploy"]);
    for expected in [
        "200 live: version 2",
        "200 unchanged: version 2",
        "200 failed at validate (module-refused): ",
        "200 tried: version 3",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    rig.drain();
    let log = std::fs::read_to_string(rig.path().join("tidegate-data/audit.jsonl")).unwrap();
    assert_eq!(log.matches("\"line\":\"begun\"").count(), log.matches("\"line\":\"ended\"").count(), "{log}");
}

/// A client that goes away stops its upload, and not its deploy.
#[test]
fn a_deploy_whose_client_goes_is_written_down_with_its_end() {
    let mut rig = rig();
    rig.start();
    let module = ledger(2);
    let stream = upload(&rig, "ledger", &module, module.len() / 2);
    until("the upload is under way", Duration::from_secs(20), || rig.handler().deploying.is_some());
    assert_eq!(last(&rig), None, "it is unfinished");
    drop(stream);
    until("the end of the upload is on record", Duration::from_secs(20), || last(&rig).is_some());
    let code = last(&rig).unwrap().code.unwrap();
    assert!(["cut-off", "broken-body"].contains(&code.as_str()), "{code}");
    assert_eq!(rig.handler().active, Some(1));
    until("the handler is free", Duration::from_secs(20), || rig.handler().deploying.is_none());
    // The whole of it, and gone in the middle of the answer, while the module starts.
    let module = slow();
    let mut stream = upload(&rig, "patient", &module, module.len());
    until_step(&mut stream, "imports");
    drop(stream);
    until("the end of the deploy is on record", Duration::from_secs(60), || last(&rig).is_some());
    assert_eq!(last(&rig).unwrap().deploy, Some(End::Live { version: 1 }));
    let handlers = rig.handlers().handlers;
    let patient = handlers.iter().find(|handler| handler.name == "patient").unwrap();
    assert_eq!(patient.active.as_ref().map(|version| version.number), Some(1));
}

/// The entries of one action, the first one first.
fn entries(rig: &Rig, action: &str) -> Vec<AuditEntry> {
    let list: AuditList = serde_json::from_str(&rig.get("/v1/audit").unwrap()).unwrap();
    list.entries.into_iter().rev().filter(|entry| entry.action == action).collect()
}

/// How an action ended.
fn ended(entry: &AuditEntry) -> Option<(Option<u16>, Option<&str>)> {
    entry.result.as_ref().map(|result| (result.status, result.code.as_deref()))
}

/// SIGHUP applied a changed file with no word in the log, and did so with a log that could not be written.
#[test]
fn what_a_signal_applies_is_on_record_or_is_not_done() {
    let mut rig = rig();
    rig.start();
    // What the configuration deployed at the start, and nobody asked for.
    let deployed = entries(&rig, "handler.deploy");
    assert_eq!((deployed.len(), deployed[0].who.as_str()), (1, "host"), "{deployed:?}");
    assert!(deployed[0].target.starts_with("ledger@1: sha256:"), "{deployed:?}");
    let applied = || entries(&rig, "configuration.apply");
    rig.edit(|text| text.replace("[handlers.ledger]", "[handlers.ledger]\nlimits.fuel = 900_000_000"));
    rig.signal(Signal::HUP);
    until("it is applied and on record", Duration::from_secs(60), || {
        applied().iter().any(|entry| entry.result.is_some())
    });
    let done = applied();
    assert_eq!((done[0].who.as_str(), ended(&done[0])), ("SIGHUP", Some((Some(200), None))), "{done:?}");
    assert!(done[0].target.ends_with("tidegate.toml"), "{done:?}");
    assert_eq!(rig.handler().active, Some(2));
    rig.edit(|text| format!("{text}[[\n"));
    rig.signal(Signal::HUP);
    until("the refusal is on record", Duration::from_secs(60), || {
        applied().len() == 2 && applied()[1].result.is_some()
    });
    assert_eq!(ended(&applied()[1]), Some((Some(422), Some("config-invalid"))));
    // A log that cannot be written: a folder is where its file was.
    let log = rig.path().join("tidegate-data/audit.jsonl");
    std::fs::rename(&log, rig.path().join("aside")).unwrap();
    std::fs::create_dir(&log).unwrap();
    rig.edit(|text| text.replace("[[\n", "").replace("900_000_000", "800_000_000"));
    rig.signal(Signal::HUP);
    until("it is refused", Duration::from_secs(60), || rig.log().contains("because it cannot be written down"));
    assert_eq!((rig.handler().active, rig.changes().unwrap().changes.len()), (Some(2), 1));
}

#[test]
fn a_deploy_that_the_end_of_the_host_cuts_off_is_written_down_as_cut_off() {
    let mut rig = rig();
    rig.start();
    let module = spinning();
    let mut stream = upload(&rig, "patient", &module, module.len());
    until_step(&mut stream, "imports");
    rig.drain();
    drop(stream);
    rig.start();
    let result = last(&rig).unwrap();
    assert_eq!((result.code.as_deref(), result.deploy), (Some("cut-off"), Some(End::CutOff { step: Step::Init })));
    assert!(shown(&rig, &["--failed"]).contains("200 cut off at init"));
}

#[test]
fn a_deploy_that_a_kill_cuts_off_is_unfinished_and_not_fine() {
    let mut rig = rig();
    rig.start();
    let module = spinning();
    let mut stream = upload(&rig, "patient", &module, module.len());
    until_step(&mut stream, "imports");
    rig.signal(Signal::KILL);
    rig.dead();
    rig.start();
    assert_eq!(last(&rig), None);
    for arguments in [&["--who", "local"][..], &["--failed"]] {
        let shown = shown(&rig, arguments);
        assert!(shown.contains("unfinished") && !shown.contains("200"), "{shown}");
    }
    // What is recorded and not yet said to be is unfinished too: the next start runs it.
    rig.drain();
    rig.dies_at = Some("recorded");
    rig.start();
    assert!(!matches!(rig.deploy(&ledger(2)), Some(Line::Done(_) | Line::Failed(_))));
    rig.dead();
    rig.dies_at = None;
    rig.start();
    assert_eq!((last(&rig), rig.handler().active), (None, Some(2)));
}
