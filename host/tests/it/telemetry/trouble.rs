//! The collector is away, hangs, or refuses: messages flow, what is dropped is counted, and a shutdown is not held up.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{PATIENCE, SECOND, counted, host, publish, to};
use crate::chaos::Rig;
use crate::support::receiver::Receiver;
use crate::support::until;

/// More than wait for a collector: what there is no room for is dropped.
const MANY: usize = 12_000;

/// Publishes many messages in few requests.
fn flood(rig: &Rig) {
    let mut lines = String::new();
    for number in 0..MANY {
        writeln!(lines, "{{\"subject\":\"complete\",\"id\":\"{number}\"}}").unwrap();
    }
    let url = rig.url("/v1/publish?broker=queue");
    let sent = super::agent().post(url).header("content-type", "application/x-ndjson").send(lines).unwrap();
    assert_eq!(sent.status(), 200);
    until("all messages to be done", PATIENCE, || {
        let status = rig.status().unwrap();
        status.subscriptions.iter().map(|one| one.counts.completed).sum::<u64>() >= MANY as u64
    });
}

/// Metrics alone are exported, each second, and a request may take so long.
fn measured(url: &str, timeout: &str) -> Rig {
    let telemetry = to(url, "enabled = false").replace("timeout = \"2s\"", &format!("timeout = \"{timeout}\""));
    host("type = \"embedded\"", &[SECOND, &telemetry, "metrics = { enabled = true, interval = \"1s\" }\n"])
}

/// Points that no collector took.
fn points_dropped(rig: &Rig) -> u64 {
    counted(rig, "tidegate_telemetry_dropped_total{signal=\"metrics\",reason=\"collector\"}")
}

/// Stops the host: nothing is in flight, and the collector gets two seconds at the most.
fn drain_in_time(rig: &mut Rig) {
    let began = Instant::now();
    rig.drain();
    let took = began.elapsed();
    // The rest is for a machine that has much else to do.
    assert!(took < Duration::from_secs(20), "the drain took {took:?}\n{}", rig.log());
}

fn dropped(rig: &Rig, reason: &str) -> u64 {
    counted(rig, &format!("tidegate_telemetry_dropped_total{{signal=\"traces\",reason=\"{reason}\"}}"))
}

/// A collector that takes connections and reads, and never answers; the connections that it holds.
fn hanging() -> (String, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let held = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::clone(&held);
    // Ends with the process: nobody connects any more.
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let mut reader = connection.try_clone().unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64 << 10];
                while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
            });
            connections.lock().unwrap().push(connection);
        }
    });
    (url, held)
}

#[test]
fn while_the_collector_hangs_messages_flow_and_the_end_is_not_held_up() {
    let (url, held) = hanging();
    // A request may take longer than the test: nothing waits for it.
    let telemetry = to(&url, "ratio = 1").replace("timeout = \"2s\"", "timeout = \"10m\"");
    let mut rig = host("type = \"embedded\"", &[SECOND, &telemetry]);
    publish(&rig, "complete", None);
    until("it to be asked", PATIENCE, || !held.lock().unwrap().is_empty());
    flood(&rig);
    assert!(dropped(&rig, "queue-full") > 0, "{}", rig.metrics());
    rig.drain();
    assert!(rig.log().contains("could not be exported"), "{}", rig.log());
    assert_eq!(held.lock().unwrap().len(), 1, "one request at a time");
}

#[test]
fn while_the_collector_is_away_messages_flow_and_it_is_found_again() {
    let mut receiver = Receiver::not_started();
    let mut rig = host("type = \"embedded\"", &[SECOND, &to(&receiver.url(), "ratio = 1")]);
    flood(&rig);
    // The first request is tried four times, with a second, two and four in between, and then dropped.
    until("spans to be dropped", PATIENCE, || dropped(&rig, "collector") > 0);
    assert!(dropped(&rig, "queue-full") > 0, "{}", rig.metrics());
    assert!(rig.log().contains("telemetry is not taken"), "{}", rig.log());
    receiver.restart();
    publish(&rig, "complete", None);
    let exported = || counted(&rig, "tidegate_telemetry_exported_total{signal=\"traces\"}");
    until("spans to be taken", PATIENCE, || exported() > 0);
    rig.drain();
    assert!(rig.log().contains("telemetry is taken again"), "{}", rig.log());
    assert!(!receiver.spans().is_empty());
}

#[test]
fn metrics_that_a_hanging_collector_does_not_take_are_dropped_and_counted() {
    let (url, held) = hanging();
    let mut rig = measured(&url, "500ms");
    until("points to be dropped", PATIENCE, || points_dropped(&rig) > 0);
    flood(&rig);
    // It is asked again and again, with what is counted by then.
    let before = points_dropped(&rig);
    until("more of them to be dropped", PATIENCE, || points_dropped(&rig) > before);
    assert_eq!(counted(&rig, "tidegate_telemetry_exported_total{signal=\"metrics\"}"), 0, "{}", rig.metrics());
    assert!(held.lock().unwrap().len() > 1, "each try has a connection of its own");
    drain_in_time(&mut rig);
    assert_eq!(rig.log().matches("telemetry is not taken").count(), 1, "told once: {}", rig.log());
}

#[test]
fn a_request_with_metrics_that_hangs_holds_up_neither_messages_nor_the_end() {
    let (url, held) = hanging();
    let mut rig = measured(&url, "10m");
    until("it to be asked", PATIENCE, || !held.lock().unwrap().is_empty());
    flood(&rig);
    drain_in_time(&mut rig);
    assert!(rig.log().contains("could not be exported"), "{}", rig.log());
    assert_eq!(held.lock().unwrap().len(), 1, "one request at a time");
}

#[test]
fn while_the_collector_is_gone_metrics_are_dropped_and_it_is_found_again() {
    let mut receiver = Receiver::not_started();
    let mut rig = measured(&receiver.url(), "2s");
    until("points to be dropped", PATIENCE, || points_dropped(&rig) > 0);
    flood(&rig);
    receiver.restart();
    // What was counted meanwhile stands in what it takes first.
    let all = f64::from(u32::try_from(MANY).unwrap());
    until("all messages to be known", PATIENCE, || {
        let points = receiver.points_of("tidegate.messages.settled", ("outcome", "completed"));
        points.iter().any(|point| point.value >= all)
    });
    assert!(rig.log().contains("telemetry is taken again"), "{}", rig.log());
    let before = points_dropped(&rig);
    drop(receiver);
    until("points to be dropped again", PATIENCE, || points_dropped(&rig) > before);
    publish(&rig, "complete", None);
    until("the message to be done", PATIENCE, || {
        let status = rig.status().unwrap();
        status.subscriptions.iter().map(|one| one.counts.completed).sum::<u64>() > MANY as u64
    });
    drain_in_time(&mut rig);
}

#[test]
fn what_a_collector_refuses_is_dropped_at_once() {
    // A web server that knows nothing of OTLP: another host.
    let mut other = host("type = \"embedded\"", &[SECOND]);
    let metrics = "metrics = { enabled = true, interval = \"1s\" }\n";
    let mut rig = host("type = \"embedded\"", &[SECOND, &to(&other.url(""), "ratio = 1"), metrics]);
    publish(&rig, "complete", None);
    until("the spans to be dropped", PATIENCE, || dropped(&rig, "collector") == 2);
    until("the points to be dropped", PATIENCE, || {
        counted(&rig, "tidegate_telemetry_dropped_total{signal=\"metrics\",reason=\"collector\"}") > 0
    });
    assert!(rig.log().contains("is the `endpoint` of [telemetry] one for OTLP over HTTP"), "{}", rig.log());
    rig.drain();
    other.drain();
}
