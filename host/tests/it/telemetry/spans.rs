//! The spans that a handler makes, below the span of its run, in the trace that the publisher began.

use super::{MADE, TRACE, counted, dead, host, publish, to, trace};
use crate::support::receiver::{Receiver, Seen};

/// A handler in steps, whose output a second one handles in steps too.
const STEPS: &str = r#"
[handlers.steps]
module = "behaviours.wasm"
outputs.out = { broker = "queue", subject = "steps.reject" }
[subscriptions.steps]
broker = "queue"
subjects = ["steps.end", "steps.panic", "hostile.spans"]
handler = "steps"
retry = { schedule = ["10ms"], max_attempts = 1 }
[subscriptions.behind]
broker = "queue"
subjects = ["steps.reject"]
handler = "steps"
"#;

fn named<'a>(spans: &'a [Seen], name: &str, parent: &str) -> &'a Seen {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name && span.parent == parent).collect();
    let [one] = found[..] else { panic!("{name} below {parent}: {spans:#?}") };
    one
}

/// The lines that were logged in a span.
fn lines(span: &Seen) -> Vec<&str> {
    span.events.iter().map(|event| event["log.message"].as_str()).collect()
}

/// The five steps below the span of a run; gives back the first.
fn check_steps<'a>(spans: &'a [Seen], run: &Seen, is_error: bool) -> &'a Seen {
    let order = named(spans, "order", &run.id);
    let price = named(spans, "price", &order.id);
    let [parse, rate, store] =
        [("parse", order), ("rate", price), ("store", order)].map(|(name, outer)| named(spans, name, &outer.id));
    for span in [order, parse, price, rate, store] {
        assert_eq!((span.kind.as_str(), &span.trace), ("SPAN_KIND_INTERNAL", &run.trace), "{span:?}");
        assert!(run.start <= span.start && span.start <= span.end && span.end <= run.end, "{span:?} in {run:?}");
        assert_eq!(span.attributes["tidegate.handler"], "steps");
    }
    assert_eq!(
        (lines(run)[0], lines(parse), lines(rate), lines(store)[0]),
        ("before", vec!["parsed"], vec!["no rate"], "storing")
    );
    assert_eq!((parse.events[0]["log.severity"].as_str(), parse.events[0]["handler.cents"].as_str()), ("info", "5"));
    // What it says stands under its own names, and not under the host's; the first of two of a name counts.
    assert_eq!(
        (&order.attributes["order.id"], &order.attributes["handler.messaging.system"]),
        (&"7".to_owned(), &"ours".to_owned())
    );
    assert!(!order.attributes.contains_key("messaging.system"));
    assert_eq!((parse.is_error, price.is_error, rate.is_error), (false, true, false));
    assert_eq!(rate.attributes["tidegate.ended_by"], "outer");
    assert_eq!((order.is_error, store.is_error), (is_error, is_error), "what was open when the run failed");
    assert_eq!(run.attributes["tidegate.spans.stray_ends"], "5");
    order
}

#[test]
fn a_handlers_spans_are_below_its_run_in_the_trace_of_the_publisher_through_its_outputs() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[STEPS, &to(&receiver.url(), "ratio = 0, failures = false")]);
    publish(&rig, "steps.end", Some(&format!("00-{TRACE}-{MADE}-01")));
    // Two runs, five steps in each, an output and two settlements.
    let spans = trace(&receiver, TRACE, 2 + 10 + 1 + 2);
    let first = named(&spans, "process queue", MADE);
    let order = check_steps(&spans, first, false);
    assert_eq!((lines(first), order.attributes.get("error.type")), (vec!["before", "after"], None));
    let sent = spans.iter().find(|span| span.name.starts_with("send")).unwrap();
    assert_eq!(sent.parent, first.id);
    let second = named(&spans, "process steps.reject", &sent.id);
    let order = check_steps(&spans, second, true);
    assert_eq!(
        (&order.attributes["error.type"], &order.attributes["tidegate.ended_by"]),
        (&"handler-rejected".to_owned(), &"run".to_owned())
    );
    assert_eq!(counted(&rig, "tidegate_telemetry_exported_total{signal=\"traces\"}"), 15);
    rig.drain();
}

#[test]
fn of_what_is_not_recorded_a_failure_is_kept_with_the_spans_that_it_was_in() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[STEPS, &to(&receiver.url(), "ratio = 0")]);
    publish(&rig, "steps.panic", None);
    let letter = &dead(&rig, 1)[0];
    let spans = trace(&receiver, letter["trace_id"].as_str().unwrap(), 1 + 5 + 1);
    let run = named(&spans, "process queue", "");
    let order = check_steps(&spans, run, true);
    assert_eq!(order.attributes["error.type"], "trap:unreachable");
    rig.drain();
}

#[test]
fn a_handler_that_floods_its_trace_with_spans_costs_its_trace_alone() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[STEPS, &to(&receiver.url(), "ratio = 0, failures = false")]);
    publish(&rig, "hostile.spans", Some(&format!("00-{TRACE}-{MADE}-01")));
    assert_eq!(dead(&rig, 1)[0]["reason"], "handler-rejected", "it ran to its end");
    let spans = trace(&receiver, TRACE, 1 + 128 + 1);
    let run = named(&spans, "process queue", MADE);
    assert_eq!(run.attributes["tidegate.spans.dropped"], (1_000_000 - 128).to_string());
    assert_eq!(counted(&rig, "tidegate_telemetry_dropped_total{signal=\"traces\",reason=\"queue-full\"}"), 0);
    rig.drain();
}
