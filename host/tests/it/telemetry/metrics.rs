//! Metrics as a real receiver understands them: each that `/metrics` shows, under its name in OpenTelemetry.

use std::collections::BTreeSet;
use std::path::Path;

use super::{PATIENCE, SECOND, counted, host, publish, to};
use crate::chaos::Rig;
use crate::support::measured::Point;
use crate::support::receiver::Receiver;
use crate::support::until;

/// A host that exports metrics at an interval, and no traces.
fn measured(receiver: &Receiver, interval: &str) -> Rig {
    let metrics = format!("metrics = {{ enabled = true, interval = \"{interval}\" }}\n");
    host("type = \"embedded\"", &[SECOND, &to(&receiver.url(), "enabled = false"), &metrics])
}

/// What is documented: the name in OpenTelemetry, the one in Prometheus, the unit, and what it says.
fn documented() -> Vec<[String; 4]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').skip(1).take(4).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    cells
        .map(|cells| {
            let [dotted, prometheus, unit, says] = cells.try_into().unwrap();
            [dotted.trim_matches('`').to_owned(), prometheus.trim_matches('`').to_owned(), unit, says]
        })
        .collect()
}

/// The messages that subscription `logs` completed, as each request told it.
fn completed(receiver: &Receiver) -> Vec<Point> {
    let points = receiver.points_of("tidegate.messages.settled", ("outcome", "completed"));
    points.into_iter().filter(|point| point.attributes["subscription"] == "logs").collect()
}

#[test]
fn what_is_shown_is_exported_under_its_own_name_and_rises() {
    let receiver = Receiver::start();
    let mut rig = measured(&receiver, "1s");
    for _ in 0..3 {
        publish(&rig, "complete", None);
    }
    publish(&rig, "probe.metrics", None);
    let exported = |count: f64| {
        until("the receiver to know of them", PATIENCE, || {
            let newest = completed(&receiver).last().is_some_and(|point| point.value == count);
            newest && !receiver.points_of("handler_took", ("handler", "second")).is_empty()
        });
    };
    exported(3.0);
    for _ in 0..2 {
        publish(&rig, "complete", None);
    }
    exported(5.0);
    let shown = rig.metrics();
    assert!(counted(&rig, "tidegate_telemetry_exported_total{signal=\"metrics\"}") > 0, "{shown}");
    rig.drain();

    let points = receiver.points();
    let (mut all, mut found) = (BTreeSet::new(), 0);
    for [dotted, prometheus, unit, says] in documented() {
        all.insert(dotted.clone());
        let is_sample = |line: &str| {
            let rest = line.split(['{', ' ']).next().and_then(|name| name.strip_prefix(&prometheus));
            rest.is_some_and(|rest| ["", "_total", "_bucket"].contains(&rest))
        };
        if !shown.lines().any(is_sample) {
            continue;
        }
        let point = points.iter().find(|point| point.metric == dotted);
        let point = point.unwrap_or_else(|| panic!("{dotted} is shown and not exported"));
        assert_eq!((&point.unit, &point.description), (&unit, &says), "{dotted}");
        found += 1;
    }
    assert!(found > 20, "{shown}");
    let others: BTreeSet<&str> =
        points.iter().map(|point| point.metric.as_str()).filter(|name| !all.contains(*name)).collect();
    assert_eq!(others, ["handler_seen", "handler_took"].into(), "what else is exported is the handler's own");

    // Counters rise, and say since when.
    let completed = completed(&receiver);
    assert!(completed.iter().all(|point| point.is_monotonic && point.start == completed[0].start), "{completed:#?}");
    assert!(completed.iter().all(|point| point.temporality == "AGGREGATION_TEMPORALITY_CUMULATIVE"));
    assert!(completed.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].value <= pair[1].value));
    assert!(completed[0].start <= completed[0].at && completed[0].start > 1_700_000_000_000_000_000);
    assert_eq!(completed[0].attributes["messaging.system"], "embedded");
    let resource = &completed[0].resource;
    assert_eq!((resource["service.name"].as_str(), resource["service.instance.id"].as_str()), ("tidegate", "chaos"));

    // A histogram has its buckets: as many runs as were completed, each in one of them.
    let runs = receiver.points_of("messaging.process.duration", ("subscription", "logs"));
    let runs = runs.iter().rfind(|point| !point.attributes.contains_key("error.type")).unwrap();
    assert_eq!((runs.kind.as_str(), runs.count, runs.buckets.iter().sum()), ("Histogram", 5, 5), "{runs:?}");
    assert_eq!((runs.bounds.first(), runs.bounds.last()), (Some(&0.000_05), Some(&300.0)), "{runs:?}");
    assert_eq!(runs.buckets.len(), runs.bounds.len() + 1);
    assert!(runs.sum > 0.0 && runs.bounds.is_sorted(), "{runs:?}");

    // What the handler measured itself.
    let seen = receiver.points_of("handler_seen", ("kind", "a"));
    assert!(seen.iter().all(|point| (point.kind.as_str(), point.value) == ("Sum", 2.0)), "{seen:?}");
    assert_eq!(seen[0].attributes["handler"], "second");
    let took = receiver.points_of("handler_took", ("handler", "second"));
    assert!(took.iter().all(|point| (point.count, point.sum) == (1, 1.5)), "{took:?}");
}

#[test]
fn a_host_that_ends_exports_what_it_counted_to_the_last() {
    let receiver = Receiver::start();
    let mut rig = measured(&receiver, "10m");
    publish(&rig, "complete", None);
    until("the message to be done", PATIENCE, || {
        rig.status().unwrap().subscriptions.iter().any(|subscription| subscription.counts.completed == 1)
    });
    rig.drain();
    let counts: Vec<f64> = completed(&receiver).iter().map(|point| point.value).collect();
    assert_eq!(counts, [1.0], "once, and with the last message");
    assert!(receiver.spans().is_empty(), "traces are off");
}
