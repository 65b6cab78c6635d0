//! A version that fails at everything, or a neighbour that is away: the circuit opens, attempts are kept, and all is done with
//! once it is over.

use std::time::Duration;

use tidegate::admin::wire::{AuditList, PauseKind, PauseView, Readiness};
use tidegate::deploy::report::Line;

use super::books::Books;
use super::pauses::seen;
use super::rig::Rig;
use super::swap::ledger;
use super::{audit, balance, on_jetstream};
use crate::support::exposition::series;
use crate::support::nats::NatsServer;
use crate::support::until;

const PATIENCE: Duration = Duration::from_secs(120);
const MESSAGES: u64 = 60;
/// Asks for a retry whatever the message is.
const FAILS: u32 = 900_001;

/// A host whose circuit opens on twenty messages as by default, and probes soon; its messages have three attempts.
fn rig(broker: &str, more: &str) -> Rig {
    let circuit = "circuit = { pause = \"200ms\", max_pause = \"1s\" }";
    let rig = Rig::new(broker, Duration::from_secs(30), &format!("{circuit}\n{more}"));
    rig.edit(|text| text.replace("max_attempts = 100", "max_attempts = 3"));
    rig
}

fn circuit(rig: &Rig) -> Option<PauseView> {
    seen(rig).pause.filter(|pause| pause.kind == PauseKind::Circuit)
}

/// The probes that came to a result.
fn probes(rig: &Rig, result: &str) -> u64 {
    let found = series(&rig.metrics(), "tidegate_circuit_probes_total", &[&format!("result=\"{result}\"")]);
    found.first().copied().expect("the metric stands there")
}

/// A version comes that fails at everything; three probes later the one of before comes back.
fn fail_and_roll_back(rig: &mut Rig) {
    rig.start();
    assert!(matches!(rig.deploy(&ledger(FAILS)), Some(Line::Done(_))));
    let ids: Vec<String> = (0..MESSAGES).map(|number| format!("m-{number}")).collect();
    rig.publisher().publish(&ids);
    until("the circuit opens", PATIENCE, || circuit(rig).is_some());
    until("probes fail", PATIENCE, || probes(rig, "failed") >= 3);
    let pause = circuit(rig).expect("it stays open while everything fails");
    assert!(
        pause.by == "host" && pause.why.is_some_and(|why| why.contains("messages failed, the last as handler-retry"))
    );
    let ready: Readiness = serde_json::from_str(&rig.get("/ready").unwrap()).unwrap();
    assert!(ready.ready && ready.paused == ["ledger"], "{ready:?}");
    let metrics = rig.metrics();
    assert!(metrics.contains("tidegate_paused{subscription=\"ledger\",kind=\"circuit\"} 1"), "{metrics}");
    let counts = seen(rig).counts;
    assert_eq!(counts.dead_lettered, 0, "without a circuit all of them were dead by now: {counts:?}");

    rig.rollback(1);
    until("it closes", PATIENCE, || circuit(rig).is_none() && probes(rig, "well") > 0);
}

/// Each message had an attempt left when it was over.
fn check(rig: &Rig) {
    let runs = rig.log();
    let attempts = runs
        .lines()
        .filter_map(|line| line.split_once("ran m-"))
        .filter_map(|(_, rest)| rest.split_whitespace().nth(2)?.parse::<u32>().ok());
    assert!(attempts.max().unwrap() <= 3);
}

#[test]
fn what_fails_while_the_circuit_is_open_costs_no_attempt() {
    let mut rig = rig("type = \"embedded\"", "");
    fail_and_roll_back(&mut rig);
    let list: AuditList = serde_json::from_str(&rig.get("/v1/audit").unwrap()).unwrap();
    let by_host = list.entries.iter().rev().filter(|one| one.who == "host" && one.action.starts_with("circuit."));
    let by_host: Vec<&str> = by_host.map(|one| one.action.as_str()).collect();
    assert!(by_host.starts_with(&["circuit.open", "circuit.close"]), "{by_host:?}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    balance(&mut rig, MESSAGES, |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
    check(&rig);
}

#[test]
fn what_fails_while_the_circuit_is_open_costs_no_attempt_on_jetstream() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = rig(&on_jetstream(&server), "create = true");
    fail_and_roll_back(&mut rig);
    let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_jetstream(rig, &server, books));
    balance(&mut rig, MESSAGES, read);
    check(&rig);
}

#[test]
fn somebody_who_resumes_closes_the_circuit() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.edit(|text| text.replace("max_attempts = 3", "max_attempts = 100"));
    rig.start();
    rig.deploy(&ledger(FAILS)).unwrap();
    let ids: Vec<String> = (0..20).map(|number| format!("m-{number}")).collect();
    rig.publisher().publish(&ids);
    until("the circuit opens", PATIENCE, || circuit(&rig).is_some());
    let (status, answer) = rig.ask("/v1/subscriptions/ledger/resume").unwrap();
    assert_eq!((status, &answer["subscriptions"][0]["was_paused"]), (200, &serde_json::json!(true)), "{answer}");
    // The next failures open it again, and a configuration in which it never opens closes it.
    let twice = "tidegate_circuit_opened_total{subscription=\"ledger\",messaging_system=\"embedded\"} 2";
    until("it opens again", PATIENCE, || rig.metrics().contains(twice));
    rig.edit(|text| text.replace("circuit = {", "circuit = { enabled = false,"));
    rig.apply().unwrap();
    until("everything has had its attempts", PATIENCE, || seen(&rig).counts.dead_lettered == 20);
    assert!(circuit(&rig).is_none());
}
