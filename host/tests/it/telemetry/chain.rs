//! Publisher, handler, output, second handler, its retries and the dead letter: one trace.

use serde_json::Value;
use tokio::runtime::Runtime;

use super::{FIRST, MADE, PATIENCE, SECOND, TRACE, agent, counted, dead, host, publish, to, trace};
use crate::chaos::Rig;
use crate::support::nats::NatsServer;
use crate::support::receiver::{Receiver, Seen};
use crate::support::until;

fn named<'a>(spans: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// What stands in the trace of a message that `first` handles, and whose output `second` cannot.
fn check_chain(spans: &[Seen], system: &str, parent: &str) {
    let [first] = named(spans, "process echo")[..] else { panic!("{spans:#?}") };
    assert_eq!((first.parent.as_str(), first.kind.as_str(), first.is_error), (parent, "SPAN_KIND_CONSUMER", false));
    let [sent] = named(spans, "send retry")[..] else { panic!("{spans:#?}") };
    assert_eq!((&sent.parent, sent.kind.as_str()), (&first.id, "SPAN_KIND_PRODUCER"));
    let [done] = named(spans, "ack echo")[..] else { panic!("{spans:#?}") };
    assert_eq!((&done.parent, done.kind.as_str()), (&first.id, "SPAN_KIND_CLIENT"));

    let attempts = named(spans, "process retry");
    assert_eq!(attempts.len(), 3, "{spans:#?}");
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!((&attempt.parent, attempt.is_error), (&sent.id, true), "each is a child of where it was sent");
        let number = (index + 1).to_string();
        assert_eq!(
            (&attempt.attributes["tidegate.attempt"], &attempt.attributes["error.type"]),
            (&number, &"handler-retry".to_owned())
        );
        let mut links = vec![sent.id.clone()];
        links.extend(index.checked_sub(1).map(|before| attempts[before].id.clone()));
        assert_eq!(attempt.links, links, "and linked to that and to the attempt before");
    }
    assert_eq!(
        named(spans, "nak retry").iter().map(|span| &span.parent).collect::<Vec<_>>(),
        [&attempts[0].id, &attempts[1].id]
    );
    let [given_up] = named(spans, "dead-letter retry")[..] else { panic!("{spans:#?}") };
    assert_eq!(
        (&given_up.parent, &given_up.attributes["tidegate.reason"]),
        (&attempts[2].id, &"attempts-exhausted".to_owned())
    );
    for span in spans {
        assert_eq!(span.attributes["messaging.system"], system);
        assert!(span.start <= span.end && span.start > 1_700_000_000_000_000_000, "{span:?}");
    }
}

/// The spans of that trace: three of the first handler's, two of each of three attempts.
const CHAIN: usize = 9;

#[test]
fn the_chain_is_one_trace_on_the_embedded_queue() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[FIRST, SECOND, &to(&receiver.url(), "ratio = 0, failures = false")]);
    publish(&rig, "echo", Some(&format!("00-{TRACE}-{MADE}-01")));
    let letters = dead(&rig, 1);
    let spans = trace(&receiver, TRACE, CHAIN);
    check_chain(&spans, "embedded", MADE);
    let given_up = named(&spans, "dead-letter retry")[0];
    assert_eq!(given_up.attributes["tidegate.dead_letter.id"], letters[0]["id"].as_str().unwrap());
    assert_eq!(letters[0]["trace_id"], TRACE, "{letters:?}");
    let resource = &given_up.resource;
    assert_eq!((resource["service.name"].as_str(), resource["service.instance.id"].as_str()), ("tidegate", "chaos"));
    let headers: Vec<_> = letters[0]["headers"].as_array().unwrap().iter().map(Value::to_string).collect();
    let sent = named(&spans, "send retry")[0];
    assert!(headers.contains(&format!("[\"traceparent\",\"00-{TRACE}-{}-01\"]", sent.id)), "{headers:?}");
    assert!(headers.contains(&"[\"tracestate\",\"vendor=value\"]".to_owned()), "{headers:?}");
    // Lines of the log about these messages say which trace they are of.
    let log = rig.log();
    let of_trace = log.lines().filter(|line| line.contains(&format!("\"trace_id\":\"{TRACE}\"")));
    assert!(of_trace.clone().any(|line| line.contains("the message goes to the dead-letter queue")), "{log}");
    assert!(of_trace.count() >= 8, "{log}");

    // Sent back it goes on in the same trace, from where it was sent.
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(agent().post(rig.url(&format!("/v1/dead-letters/{id}/redrive"))).send_empty().unwrap().status(), 200);
    until("it to be dead again", PATIENCE, || dead(&rig, 1)[0]["redrives"] == 1);
    let spans = trace(&receiver, TRACE, CHAIN + 6);
    let again = &named(&spans, "process retry")[3..];
    assert!(again.iter().all(|attempt| attempt.parent == sent.id), "{again:#?}");
    let exported = counted(&rig, "tidegate_telemetry_exported_total{signal=\"traces\"}");
    assert_eq!(exported, (CHAIN + 6) as u64);
    rig.drain();
}

#[test]
fn the_chain_is_one_trace_over_two_hosts_on_jetstream() {
    let receiver = Receiver::start();
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let broker = format!(
        "type = \"jetstream\"\nservers = [\"{}\"]\nstreams.QUEUE = {{ subjects = [\"echo\", \"retry\", \"probe.*\", \"complete\"] }}",
        server.url()
    );
    let create = |text: &str| {
        text.replace("broker = \"queue\"\nsubjects", "broker = \"queue\"\nstream = \"QUEUE\"\ncreate = true\nsubjects")
    };
    let telemetry = to(&receiver.url(), "ratio = 1");
    let mut one = host(&broker, &[&create(FIRST), &telemetry]);
    let mut other = host(&broker, &[&create(SECOND), &telemetry]);
    publish(&one, "echo", Some(&format!("00-{TRACE}-{MADE}-01")));
    let letters = dead(&other, 1);
    let spans = trace(&receiver, TRACE, CHAIN);
    check_chain(&spans, "nats", MADE);
    assert_eq!(letters[0]["trace_id"], TRACE);
    assert!(
        spans
            .iter()
            .filter(|span| !span.name.starts_with("send"))
            .all(|span| span.attributes["messaging.destination.name"] == "QUEUE")
    );

    // A message whose publisher began no trace is in one all the same, and stays in it when it is sent back.
    publish(&one, "echo", None);
    let letter = &dead(&other, 2)[0];
    let (id, began) = (letter["id"].as_str().unwrap(), letter["trace_id"].as_str().unwrap());
    let spans = trace(&receiver, began, CHAIN);
    check_chain(&spans, "nats", "");
    assert_eq!(agent().post(other.url(&format!("/v1/dead-letters/{id}/redrive"))).send_empty().unwrap().status(), 200);
    until("it to be dead again", PATIENCE, || dead(&other, 2)[0]["redrives"] == 1);
    trace(&receiver, began, CHAIN + 6);
    one.drain();
    other.drain();
}

#[test]
fn of_what_is_not_recorded_failures_are_kept_with_what_the_handler_logged() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[SECOND, &to(&receiver.url(), "ratio = 0")]);
    publish(&rig, "complete", None);
    publish(&rig, "probe.log", None);
    publish(&rig, "retry", None);
    let letters = dead(&rig, 2);
    rig.drain();
    let of =
        |reason: &str| letters.iter().find(|letter| letter["reason"] == reason).unwrap()["trace_id"].as_str().unwrap();
    // One that logs and rejects.
    let spans = receiver.of_trace(of("handler-rejected"));
    let [run, given_up] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((run.name.as_str(), run.parent.as_str(), &given_up.parent), ("process queue", "", &run.id));
    assert_eq!(
        (&run.attributes["messaging.destination.name"], &run.attributes["tidegate.subject"]),
        (&"queue".to_owned(), &"probe.log".to_owned())
    );
    let said: Vec<_> = run.events.iter().map(|event| event["log.message"].as_str()).collect();
    assert_eq!(said, ["structured", "to stdout", "to stderr", "without an end"]);
    assert_eq!((run.events[0]["log.severity"].as_str(), run.events[0]["handler.key"].as_str()), ("warn", "value"));
    // One that was tried three times: the last one, which gave it up.
    let spans = receiver.of_trace(of("attempts-exhausted"));
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["process retry", "dead-letter retry"]);
    assert_eq!(spans[0].attributes["tidegate.attempt"], "3");
    assert_eq!(receiver.spans().len(), 4, "nothing else was recorded");
}

#[test]
fn a_malformed_context_begins_a_trace_and_is_counted() {
    let receiver = Receiver::start();
    let mut rig = host("type = \"embedded\"", &[SECOND, &to(&receiver.url(), "ratio = 1")]);
    let malformed =
        [format!("00-{TRACE}-{MADE}"), format!("ff-{TRACE}-{MADE}-01"), "nonsense".to_owned(), "0".repeat(5000)];
    for traceparent in &malformed {
        publish(&rig, "complete", Some(traceparent));
    }
    until("the messages to be done", PATIENCE, || completed(&rig) == malformed.len() as u64);
    assert_eq!(counted(&rig, "tidegate_trace_context_malformed_total{subscription=\"logs\"}"), malformed.len() as u64);
    rig.drain();
    let spans = receiver.spans();
    assert_eq!(spans.len(), 2 * malformed.len(), "{spans:#?}");
    let runs = spans.iter().filter(|span| span.name.starts_with("process"));
    let traces: std::collections::BTreeSet<_> = runs
        .map(|span| {
            assert_eq!((span.parent.as_str(), span.links.len()), ("", 0));
            &span.trace
        })
        .collect();
    assert_eq!((traces.len(), traces.contains(&TRACE.to_owned())), (malformed.len(), false));
}

#[test]
fn with_traces_off_an_output_carries_the_publishers_context_on() {
    // Its handler copies no header.
    const LEDGER: &str = r#"
[handlers.ledger]
module = "ledger.wasm"
outputs.done = { broker = "queue", subject = "retry" }
[subscriptions.ledger]
broker = "queue"
subjects = ["in"]
handler = "ledger"
"#;
    let mut rig = host("type = \"embedded\"", &[LEDGER, SECOND]);
    let headers = |letter: &Value| -> Vec<String> {
        letter["headers"].as_array().unwrap().iter().map(Value::to_string).collect()
    };
    publish(&rig, "in&id=a-1", Some(&format!("00-{TRACE}-{MADE}-01")));
    let of_output = headers(&dead(&rig, 1)[0]);
    assert!(of_output.contains(&format!("[\"traceparent\",\"00-{TRACE}-{MADE}-01\"]")), "{of_output:?}");
    assert!(of_output.contains(&"[\"tracestate\",\"vendor=value\"]".to_owned()), "{of_output:?}");
    publish(&rig, "in&id=a-2", None);
    let of_output = headers(&dead(&rig, 2)[0]);
    assert!(!of_output.iter().any(|header| header.contains("trace")), "{of_output:?}");
    rig.drain();
}

fn completed(rig: &Rig) -> u64 {
    rig.status().unwrap().subscriptions.iter().map(|subscription| subscription.counts.completed).sum()
}
