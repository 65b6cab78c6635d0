#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use expect_test::expect;

use super::*;
use crate::broker::{Backlog, Level, Retries};
use crate::handler::{MeasuredValue, Measurement};
use crate::outcome::{ReasonCode, Usage};
use crate::telemetry::{Ending, HeldUp, Operation, Timings};

fn usage(micros: u64) -> Usage {
    let (duration, start) = (Duration::from_micros(micros), Some(Duration::from_micros(10)));
    Usage { fuel: 100, fuel_limit: 1000, memory_peak: 1 << 20, duration, start }
}

/// A subscription to which everything that is measured happened once or twice.
fn busy() -> Metrics {
    let metrics = Metrics::new();
    let webhooks = metrics.subscription("webhooks", "embedded");
    webhooks.set_concurrency(16);
    webhooks.received(3);
    webhooks.hold(3, 3000);
    webhooks.release(1, 1000);
    webhooks.waited(Duration::from_millis(2));
    webhooks.ran(ReasonCode("completed"), &usage(40));
    webhooks.ran(ReasonCode("trap:unreachable"), &usage(90));
    webhooks.settled(Ending::Completed, ReasonCode("completed"), 1, Duration::from_millis(3));
    webhooks.settled(Ending::Retried, ReasonCode("trap:unreachable"), 1, Duration::from_millis(3));
    webhooks.settled(Ending::DeadLettered, ReasonCode("trap:unreachable"), 2, Duration::from_secs(2));
    webhooks.dead_letter_refused();
    webhooks.heartbeat(true);
    webhooks.heartbeat(false);
    webhooks.lease_lost();
    webhooks.settled(Ending::AlreadyDone, ReasonCode::ALREADY_DONE, 1, Duration::ZERO);
    webhooks.outputs(2, 1);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let oldest = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(40));
    let retries = Some(Retries { next_due: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(130)) });
    webhooks.set_backlog(&Backlog { ready: 7, pending: 5, oldest, limit: Some(1000), retries }, now);
    webhooks.operation(Operation::Settle, Duration::from_millis(2));
    webhooks.lease_left(Duration::from_secs(20));
    webhooks.set_circuit_state(2);
    webhooks.set_held_up(Some(HeldUp::DeadLetters));
    let broker = metrics.broker("local", "embedded");
    broker.set_connected(true);
    broker.set_reconnects(2);
    broker.set_dead_letters(5);
    broker.set_oldest_dead_letter(oldest, now);
    broker.set_tallies(&[(names::COMMITS, 4)]);
    broker.set_levels(&[Level::new(names::QUEUE_BYTES, 77), Level::of(names::DEDUPE_RECORDS, "ids", 6)]);
    broker.set_advisories(&[("pause", 1)]);
    let commits = Timings::default();
    commits.record(Duration::from_millis(1));
    broker.show_commits(&commits);
    metrics.dead_letters_acted("local", "redrive", "done", 3);
    metrics.dead_letters_acted("local", "redrive", "failed", 0);
    metrics.set_dead_letter_tasks(1);
    metrics
}

/// The series of a family come in no order of their own.
fn in_order(lines: &mut [&str]) {
    lines.chunk_by_mut(|a, b| a.starts_with('#') == b.starts_with('#')).for_each(|chunk| {
        if !chunk.iter().any(|line| line.starts_with('#')) {
            chunk.sort_unstable();
        }
    });
}

#[test]
fn the_exposition_is_what_prometheus_reads() {
    let text = busy().render();
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with a mark");
    // Buckets are many; each histogram is shown by its count and sum.
    let mut shown: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket{")).collect();
    in_order(&mut shown);
    expect![[r##"
        # HELP messaging_client_consumed_messages Messages that the broker handed over, every delivery counted.
        # TYPE messaging_client_consumed_messages counter
        messaging_client_consumed_messages_total{subscription="webhooks",messaging_system="embedded"} 3
        # HELP messaging_client_sent_messages Messages that handlers sent and a broker confirmed.
        # TYPE messaging_client_sent_messages counter
        messaging_client_sent_messages_total{subscription="webhooks",messaging_system="embedded"} 2
        # HELP messaging_process_duration_seconds How long handlers ran, whichever way the run ended; `error_type` is the reason code of a run that failed.
        # TYPE messaging_process_duration_seconds histogram
        messaging_process_duration_seconds_count{subscription="webhooks",messaging_system="embedded",error_type="trap:unreachable"} 1
        messaging_process_duration_seconds_count{subscription="webhooks",messaging_system="embedded"} 1
        messaging_process_duration_seconds_sum{subscription="webhooks",messaging_system="embedded",error_type="trap:unreachable"} 0.00009
        messaging_process_duration_seconds_sum{subscription="webhooks",messaging_system="embedded"} 0.00004
        # HELP messaging_client_operation_duration_seconds How long a broker took to do what it was asked, a group of messages at a time, by `messaging_operation_name`: `settle`, `extend` (leases), `send` (outputs to another broker than the message's own).
        # TYPE messaging_client_operation_duration_seconds histogram
        messaging_client_operation_duration_seconds_count{subscription="webhooks",messaging_system="embedded",messaging_operation_name="extend"} 0
        messaging_client_operation_duration_seconds_count{subscription="webhooks",messaging_system="embedded",messaging_operation_name="send"} 0
        messaging_client_operation_duration_seconds_count{subscription="webhooks",messaging_system="embedded",messaging_operation_name="settle"} 1
        messaging_client_operation_duration_seconds_sum{subscription="webhooks",messaging_system="embedded",messaging_operation_name="extend"} 0.0
        messaging_client_operation_duration_seconds_sum{subscription="webhooks",messaging_system="embedded",messaging_operation_name="send"} 0.0
        messaging_client_operation_duration_seconds_sum{subscription="webhooks",messaging_system="embedded",messaging_operation_name="settle"} 0.002
        # HELP tidegate_messages_settled Messages whose fate was confirmed by the broker, by what became of them and why.
        # TYPE tidegate_messages_settled counter
        tidegate_messages_settled_total{subscription="webhooks",messaging_system="embedded",outcome="already-done",reason="already-done"} 1
        tidegate_messages_settled_total{subscription="webhooks",messaging_system="embedded",outcome="completed",reason="completed"} 1
        tidegate_messages_settled_total{subscription="webhooks",messaging_system="embedded",outcome="dead-lettered",reason="trap:unreachable"} 1
        tidegate_messages_settled_total{subscription="webhooks",messaging_system="embedded",outcome="retried",reason="trap:unreachable"} 1
        # HELP tidegate_message_attempts Attempts that a message had taken when it was done with.
        # TYPE tidegate_message_attempts histogram
        tidegate_message_attempts_count{subscription="webhooks",messaging_system="embedded"} 2
        tidegate_message_attempts_sum{subscription="webhooks",messaging_system="embedded"} 3.0
        # HELP tidegate_message_time_in_queue_seconds From publishing to the first hand-over.
        # TYPE tidegate_message_time_in_queue_seconds histogram
        tidegate_message_time_in_queue_seconds_count{subscription="webhooks",messaging_system="embedded"} 1
        tidegate_message_time_in_queue_seconds_sum{subscription="webhooks",messaging_system="embedded"} 0.002
        # HELP tidegate_message_end_to_end_seconds From publishing to being done with.
        # TYPE tidegate_message_end_to_end_seconds histogram
        tidegate_message_end_to_end_seconds_count{subscription="webhooks",messaging_system="embedded"} 2
        tidegate_message_end_to_end_seconds_sum{subscription="webhooks",messaging_system="embedded"} 2.003
        # HELP tidegate_inflight Messages that the host holds: waiting, running and being settled.
        # TYPE tidegate_inflight gauge
        tidegate_inflight{subscription="webhooks",messaging_system="embedded"} 2
        # HELP tidegate_inflight_bytes Bytes of the messages that the host holds.
        # TYPE tidegate_inflight_bytes gauge
        tidegate_inflight_bytes{subscription="webhooks",messaging_system="embedded"} 2000
        # HELP tidegate_concurrency_limit How many messages may be handled at once.
        # TYPE tidegate_concurrency_limit gauge
        tidegate_concurrency_limit{subscription="webhooks",messaging_system="embedded"} 16
        # HELP tidegate_paused Whether a subscription is paused, by `kind`: 1 or 0; `operator`: somebody paused it; `circuit`: too many messages failed; `no-handler`: no version of its handler can run; `source-lost`: what it receives from is gone or was changed so that messages would be lost; `dlq-unavailable`, `output-unavailable`: what has to be stored is not.
        # TYPE tidegate_paused gauge
        tidegate_paused{subscription="webhooks",kind="circuit"} 0
        tidegate_paused{subscription="webhooks",kind="dlq-unavailable"} 1
        tidegate_paused{subscription="webhooks",kind="no-handler"} 0
        tidegate_paused{subscription="webhooks",kind="output-unavailable"} 0
        tidegate_paused{subscription="webhooks",kind="source-lost"} 0
        # HELP tidegate_stalled Whether a subscription is stalled: as many messages are held as may be handled at once, and for its `stalled_after` none has come to its end: 1 or 0.
        # TYPE tidegate_stalled gauge
        tidegate_stalled{subscription="webhooks",messaging_system="embedded"} 0
        # HELP tidegate_circuit_opened How often the circuit opened, because too many messages failed.
        # TYPE tidegate_circuit_opened counter
        tidegate_circuit_opened_total{subscription="webhooks",messaging_system="embedded"} 0
        # HELP tidegate_circuit_probes Messages that were let in to see whether a circuit may be closed, by `result`: `well` or `failed`.
        # TYPE tidegate_circuit_probes counter
        tidegate_circuit_probes_total{subscription="webhooks",messaging_system="embedded",result="failed"} 0
        tidegate_circuit_probes_total{subscription="webhooks",messaging_system="embedded",result="well"} 0
        # HELP tidegate_circuit_state The circuit: 0: closed; 1: open, no message is taken; 2: one at a time is let in to see how it goes.
        # TYPE tidegate_circuit_state gauge
        tidegate_circuit_state{subscription="webhooks",messaging_system="embedded"} 2
        # HELP tidegate_backlog_messages Messages that wait with the broker, by state: `ready` were never handed out, `pending` are not settled yet.
        # TYPE tidegate_backlog_messages gauge
        tidegate_backlog_messages{subscription="webhooks",messaging_system="embedded",state="pending"} 5
        tidegate_backlog_messages{subscription="webhooks",messaging_system="embedded",state="ready"} 7
        # HELP tidegate_backlog_oldest_age_seconds The age of the oldest message that is not settled.
        # TYPE tidegate_backlog_oldest_age_seconds gauge
        tidegate_backlog_oldest_age_seconds{subscription="webhooks",messaging_system="embedded"} 60.0
        # HELP tidegate_ack_pending_limit How many messages the broker hands out at the most without hearing what became of them, over all hosts (JetStream's `max_ack_pending`); when as many are `pending`, it hands out no new ones.
        # TYPE tidegate_ack_pending_limit gauge
        tidegate_ack_pending_limit{subscription="webhooks",messaging_system="embedded"} 1000
        # HELP tidegate_retry_in_place Messages of the embedded queue that wait for their next attempt.
        # TYPE tidegate_retry_in_place gauge
        tidegate_retry_in_place{subscription="webhooks",messaging_system="embedded"} 3
        # HELP tidegate_retry_next_due_seconds How long it is until the next of them is due; 0 when none waits.
        # TYPE tidegate_retry_next_due_seconds gauge
        tidegate_retry_next_due_seconds{subscription="webhooks",messaging_system="embedded"} 30.0
        # HELP tidegate_dlq_published Messages that were given up, by the reason.
        # TYPE tidegate_dlq_published counter
        tidegate_dlq_published_total{subscription="webhooks",messaging_system="embedded",reason="trap:unreachable"} 1
        # HELP tidegate_dlq_publish_failures Dead letters that the dead-letter queue did not take; the message stays with its broker.
        # TYPE tidegate_dlq_publish_failures counter
        tidegate_dlq_publish_failures_total{subscription="webhooks",messaging_system="embedded"} 1
        # HELP tidegate_dlq_depth Dead letters that wait for a person.
        # TYPE tidegate_dlq_depth gauge
        tidegate_dlq_depth{broker="local",messaging_system="embedded"} 5
        # HELP tidegate_dlq_oldest_age_seconds The age of the oldest dead letter that waits for a person.
        # TYPE tidegate_dlq_oldest_age_seconds gauge
        tidegate_dlq_oldest_age_seconds{broker="local",messaging_system="embedded"} 60.0
        # HELP tidegate_dlq_actions Dead letters that were asked to be sent back or removed, by `action` and `result`.
        # TYPE tidegate_dlq_actions counter
        tidegate_dlq_actions_total{broker="local",action="redrive",result="done"} 3
        # HELP tidegate_dlq_tasks Tasks over dead letters that go on.
        # TYPE tidegate_dlq_tasks gauge
        tidegate_dlq_tasks{} 1
        # HELP tidegate_lease_heartbeats Attempts to extend a lease, by result.
        # TYPE tidegate_lease_heartbeats counter
        tidegate_lease_heartbeats_total{subscription="webhooks",messaging_system="embedded",result="extended"} 1
        tidegate_lease_heartbeats_total{subscription="webhooks",messaging_system="embedded",result="unconfirmed"} 1
        # HELP tidegate_lease_lost Leases that ended while the message was still being handled; the broker hands it over again.
        # TYPE tidegate_lease_lost counter
        tidegate_lease_lost_total{subscription="webhooks",messaging_system="embedded"} 1
        # HELP tidegate_lease_remaining_at_settle_seconds What was left of a lease when the broker confirmed what became of its message.
        # TYPE tidegate_lease_remaining_at_settle_seconds histogram
        tidegate_lease_remaining_at_settle_seconds_count{subscription="webhooks",messaging_system="embedded"} 1
        tidegate_lease_remaining_at_settle_seconds_sum{subscription="webhooks",messaging_system="embedded"} 20.0
        # HELP tidegate_dedupe_hits Deliveries of messages that were done already, and acknowledged without a run.
        # TYPE tidegate_dedupe_hits counter
        tidegate_dedupe_hits_total{subscription="webhooks",messaging_system="embedded"} 1
        # HELP tidegate_outputs_deduplicated Outputs that their broker had already: of an earlier run of the same message, or of the same run, sent again.
        # TYPE tidegate_outputs_deduplicated counter
        tidegate_outputs_deduplicated_total{subscription="webhooks",messaging_system="embedded"} 1
        # HELP tidegate_wasm_fuel_consumed Fuel that handlers used, failed runs included.
        # TYPE tidegate_wasm_fuel_consumed counter
        tidegate_wasm_fuel_consumed_total{subscription="webhooks",messaging_system="embedded"} 200
        # HELP tidegate_wasm_memory_peak_bytes The most memory that one run has held since the host started.
        # TYPE tidegate_wasm_memory_peak_bytes gauge
        tidegate_wasm_memory_peak_bytes{subscription="webhooks",messaging_system="embedded"} 1048576
        # HELP tidegate_wasm_instantiate_duration_seconds How long instances of a module took to start; those that are reused start once.
        # TYPE tidegate_wasm_instantiate_duration_seconds histogram
        tidegate_wasm_instantiate_duration_seconds_count{subscription="webhooks",messaging_system="embedded"} 2
        tidegate_wasm_instantiate_duration_seconds_sum{subscription="webhooks",messaging_system="embedded"} 0.00002
        # HELP tidegate_wasm_traps Runs that trapped, by the trap's code.
        # TYPE tidegate_wasm_traps counter
        tidegate_wasm_traps_total{subscription="webhooks",messaging_system="embedded",code="unreachable"} 1
        # HELP tidegate_broker_connected Whether the broker can be reached: 1 or 0.
        # TYPE tidegate_broker_connected gauge
        tidegate_broker_connected{broker="local",messaging_system="embedded"} 1
        # HELP tidegate_broker_reconnects How often the connection to the broker was made anew.
        # TYPE tidegate_broker_reconnects counter
        tidegate_broker_reconnects_total{broker="local",messaging_system="embedded"} 2
        # HELP tidegate_broker_advisories What the server told of the consumers of this host, by `type`: as `max_deliveries` that it hands a message out no more, as `pause`, `deleted`, `leader_elected` or `quorum_lost` what became of a consumer.
        # TYPE tidegate_broker_advisories counter
        tidegate_broker_advisories_total{broker="local",messaging_system="embedded",type="pause"} 1
        # HELP tidegate_queue_bytes Bytes of the messages that the embedded queue keeps: subject, id, headers and body.
        # TYPE tidegate_queue_bytes gauge
        tidegate_queue_bytes{broker="local",messaging_system="embedded"} 77
        # HELP tidegate_dedupe_records What is remembered so that nothing is done twice, by `kind`: `ids` of messages that were published (embedded queue); `blocks` of 128 messages of which some are done, and `notes` on messages that come again (JetStream).
        # TYPE tidegate_dedupe_records gauge
        tidegate_dedupe_records{broker="local",messaging_system="embedded",kind="ids"} 6
        # HELP tidegate_queue_commits Transactions that were committed, each with one fsync.
        # TYPE tidegate_queue_commits counter
        tidegate_queue_commits_total{broker="local",messaging_system="embedded"} 4
        # HELP tidegate_queue_commit_duration_seconds How long commits to the embedded queue took, fsync and all; those alone that wait for the disk.
        # TYPE tidegate_queue_commit_duration_seconds histogram
        tidegate_queue_commit_duration_seconds_count{broker="local",messaging_system="embedded"} 1
        tidegate_queue_commit_duration_seconds_sum{broker="local",messaging_system="embedded"} 0.001
        # EOF"##]].assert_eq(&shown.join("\n"));
}

#[test]
fn every_line_is_well_formed_and_every_histogram_adds_up() {
    let text = busy().render();
    let mut buckets: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        if let Some((start, bound)) = series.split_once("le=\"") {
            let count: u64 = value.parse().unwrap();
            let rest = bound.split_once('"').unwrap().1;
            let (before, last) = buckets.entry(format!("{start}{rest}")).or_default();
            assert!(count >= *before, "buckets are cumulative: {line}");
            (*before, *last) = (count, bound.split('"').next().unwrap().to_owned());
        }
    }
    assert!(!buckets.is_empty());
    for (series, (_, last)) in buckets {
        assert_eq!(last, "+Inf", "the last bucket of {series}");
    }
}

#[test]
fn an_unknown_reason_makes_one_series_at_most() {
    let metrics = Metrics::new();
    let handle = metrics.subscription("s", "embedded");
    for code in ["made-up-1", "made-up-2", "made-up-3"] {
        handle.settled(Ending::Returned, ReasonCode(code), 1, Duration::ZERO);
    }
    let text = metrics.render();
    assert!(!text.contains("made-up"), "{text}");
    let series = "tidegate_messages_settled_total{subscription=\"s\",messaging_system=\"embedded\",\
                  outcome=\"returned\",reason=\"other\"} 3";
    assert!(text.contains(series), "{text}");
}

#[test]
fn counts_say_what_happened() {
    let metrics = busy();
    let counts = metrics.subscriptions()["webhooks"].counts();
    assert_eq!((counts.completed, counts.retried, counts.dead_lettered, counts.skipped), (1, 1, 1, 0));
    assert_eq!((counts.runs, counts.fuel, counts.memory_peak_bytes), (2, 200, 1 << 20));
    assert_eq!((counts.in_flight, counts.in_flight_bytes, counts.ready, counts.pending), (2, 2000, 7, 5));
    assert_eq!(counts.reasons["trap:unreachable"], 2);
    let latency = counts.run_seconds.unwrap();
    assert!(latency.p50 <= 0.000_05 && latency.p99 > 0.000_05 && latency.p99 <= 0.000_1, "{latency:?}");
}

#[test]
fn the_same_name_gives_the_same_handle() {
    let metrics = Metrics::new();
    metrics.subscription("s", "embedded").received(1);
    metrics.subscription("s", "embedded").received(1);
    assert_eq!(metrics.subscriptions()["s"].counts().consumed, 2);
}

#[test]
fn a_limit_that_somebody_took_away_is_shown_no_more() {
    let metrics = busy();
    let series = "tidegate_ack_pending_limit{";
    assert!(metrics.render().contains(series));
    metrics.subscription("webhooks", "embedded").set_backlog(&Backlog::default(), SystemTime::UNIX_EPOCH);
    assert!(!metrics.render().contains(series));
}

fn count(name: &str, label: &str) -> Measurement {
    let labels = vec![("kind".to_owned(), label.to_owned())];
    Measurement { name: name.to_owned(), labels, value: MeasuredValue::Count(1) }
}

#[test]
fn what_handlers_measure_is_bounded_and_cannot_stand_for_ours() {
    let metrics = Metrics::new();
    let handler = metrics.handler("bill", 3);
    handler.record(&[count("orders", "a"), count("orders", "a"), count("Orders-Total\n", "b")]);
    let value = MeasuredValue::Value(2.0);
    handler.record(&[Measurement { name: "amount".into(), labels: vec![("le".into(), "x".into())], value }]);
    // A fourth series, a second kind under one name, no number, no name, a label twice.
    handler.record(&[
        count("orders", "c"),
        Measurement { name: "orders".into(), labels: vec![], value },
        Measurement { name: "amount".into(), labels: vec![], value: MeasuredValue::Value(f64::NAN) },
        count("", "a"),
        Measurement {
            name: "orders".into(),
            labels: vec![("a".into(), "1".into()), ("A".into(), "2".into())],
            value: MeasuredValue::Count(1),
        },
    ]);
    // Another handler has room of its own under the same name.
    metrics.handler("ship", 1).record(&[count("orders", "a")]);
    let text = metrics.render();
    let mut ours: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("handler_") && !line.contains("_bucket{") && !line.starts_with("# HELP"))
        .collect();
    in_order(&mut ours);
    expect![[r##"
        # TYPE tidegate_handler_measurements_dropped counter
        tidegate_handler_measurements_dropped_total{handler="bill"} 5
        tidegate_handler_measurements_dropped_total{handler="ship"} 0
        # TYPE handler_amount histogram
        handler_amount_count{handler="bill",label_le="x"} 1
        handler_amount_sum{handler="bill",label_le="x"} 2.0
        # TYPE handler_orders counter
        handler_orders_total{handler="bill",kind="a"} 2
        handler_orders_total{handler="ship",kind="a"} 1
        # TYPE handler_orders_total_ counter
        handler_orders_total__total{handler="bill",kind="b"} 1"##]]
    .assert_eq(&ours.join("\n"));
}
