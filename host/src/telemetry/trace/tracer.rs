//! Begins the trace of each delivery, and hands over what is to be recorded of it.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;

use super::context::{Given, SpanContext, SpanId, TraceId};
use super::record::Record;
use super::sampler::Sampler;
use super::sink::Sink;
use crate::broker::SubscriptionSpec;
use crate::message::{Headers, Message, TRACEPARENT_HEADER, TRACESTATE_HEADER};
use crate::settle::verdict::Identity;
use crate::telemetry::Metrics;

/// Makes the tracers of subscriptions.
#[derive(Debug, Clone)]
pub struct Traces {
    sampler: Arc<Sampler>,
    sink: Sink,
}

/// Traces the messages of one subscription.
#[derive(Debug)]
pub struct Tracer {
    sampler: Arc<Sampler>,
    sink: Sink,
    place: Arc<Place>,
    /// Tells the spans of this subscription from those of others in the same trace.
    seed: u64,
    /// The same of traces: its destination's.
    origin: u64,
    malformed: Counter,
}

/// What is the same in all spans of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The kind of messaging system, in the words of the conventions where they have one.
    pub system: &'static str,
    /// The stream, or the broker's name where it has no named ones.
    pub destination: String,
    /// The one subject that is received, with its wildcards; `None`: there are several.
    pub template: Option<String>,
    /// The stream's consumer or the queue's subscription.
    pub subscription: Arc<str>,
    /// The handler.
    pub handler: Arc<str>,
}

/// The trace of one delivery.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The span of this delivery.
    pub own: SpanContext,
    /// The span in which the message was made; `None`: its publisher began no trace.
    pub parent: Option<SpanContext>,
    /// The span of the delivery before.
    pub previous: Option<SpanId>,
    /// What the trace carries along.
    pub state: Option<Box<str>>,
}

impl Traces {
    /// Traces that a sampler decides about and a sink takes.
    #[must_use]
    pub const fn new(sampler: Arc<Sampler>, sink: Sink) -> Self {
        Self { sampler, sink }
    }

    /// The tracer of a subscription. `kind` is the kind of its broker.
    #[must_use]
    pub fn tracer(&self, identity: &Identity, spec: &SubscriptionSpec, kind: &str, metrics: &Metrics) -> Tracer {
        let template = match spec.subjects.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        let place = Place {
            system: system(kind),
            destination: identity.stream.as_deref().unwrap_or(&identity.broker).to_owned(),
            template,
            subscription: Arc::clone(&identity.subscription),
            handler: Arc::clone(&identity.handler),
        };
        Tracer {
            sampler: Arc::clone(&self.sampler),
            sink: self.sink.clone(),
            seed: mixed(FIRST, words(&identity.subscription)),
            origin: mixed(FIRST, words(&place.destination)),
            place: Arc::new(place),
            malformed: metrics.malformed_traces(&identity.subscription),
        }
    }
}

/// The name of a messaging system in spans. The conventions have none for either of ours yet.
pub(crate) fn system(kind: &str) -> &'static str {
    if kind == "jetstream" { "nats" } else { "embedded" }
}

impl Tracer {
    /// The trace of a delivery: its publisher's, or one that begins here. `deliveries` counts this one.
    pub fn begin(&self, message: &Message, deliveries: u32) -> Trace {
        let (parent, state) = match Given::of(&message.headers) {
            Given::Nothing => (None, None),
            Given::Malformed => {
                self.malformed.inc();
                (None, None)
            }
            Given::Parent(parent, state) => (Some(parent), state),
        };
        let root = match parent {
            Some(parent) => parent,
            None => {
                let trace = self.derived(message);
                // The span is put in its place below.
                SpanContext::new(trace, SpanId::of(1), self.sampler.takes(trace))
            }
        };
        let span = |deliveries| self.span(root.trace, message, deliveries);
        let previous = deliveries.checked_sub(1).filter(|before| *before > 0).map(span);
        Trace { own: root.with_span(span(deliveries)), parent, previous, state }
    }

    /// What is the same in all of its spans.
    #[must_use]
    pub const fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Whether failures of traces that are not recorded may be kept.
    #[must_use]
    pub fn keeps_failures(&self) -> bool {
        self.sampler.keeps_failures()
    }

    /// Whether a failure of a trace that is not recorded is to be kept all the same.
    pub fn keeps_failure(&self, now: SystemTime) -> bool {
        self.sampler.keeps_failure(now)
    }

    /// Hands over what is to be recorded.
    pub(crate) fn give(&self, record: Record) {
        self.sink.give(record);
    }

    /// The trace of a message whose publisher began none: the same at each attempt and on each host, and no other
    /// message's, not even of another queue that counts from one as this one does. It need not withstand who wants two
    /// messages in one trace: a publisher has that for a header.
    fn derived(&self, message: &Message) -> TraceId {
        let parts = || [self.origin, message.sequence, nanos(message)].into_iter().chain(words(&message.id));
        TraceId::of((u128::from(mixed(FIRST, parts())) << 64) | u128::from(mixed(SECOND, parts())))
    }

    /// The span of one delivery of a message: known from the delivery's number, so that one can be linked to the one before.
    fn span(&self, trace: TraceId, message: &Message, deliveries: u32) -> SpanId {
        let (first, last) = trace.halves();
        let parts = [self.seed, first, last, message.sequence, nanos(message), u64::from(deliveries)];
        SpanId::of(mixed(FIRST, parts))
    }
}

impl Trace {
    /// The span that an output is sent in, by its place among those of the run.
    #[must_use]
    pub fn output(&self, index: usize) -> SpanId {
        SpanId::of(mixed(FIRST, [self.own.span.bits(), index as u64]))
    }

    /// A span that the handler made, by its place among those of the run.
    #[must_use]
    pub fn step(&self, index: usize) -> SpanId {
        SpanId::of(mixed(SECOND, [self.own.span.bits(), index as u64]))
    }

    /// The span of the settlement.
    #[must_use]
    pub fn settlement(&self) -> SpanId {
        SpanId::of(mixed(FIRST, [self.own.span.bits(), u64::MAX]))
    }

    /// Puts the context of a span into the headers of an output. What its handler copied from the message gives way; a trace
    /// of the handler's own stays.
    pub fn inject(&self, span: SpanId, headers: &mut Headers) {
        if let Given::Parent(other, _) = Given::of(headers)
            && other.trace != self.own.trace
        {
            return;
        }
        headers.set(TRACEPARENT_HEADER, self.own.with_span(span).to_string());
        match &self.state {
            Some(state) => headers.set(TRACESTATE_HEADER, state.to_string()),
            None => headers.remove(TRACESTATE_HEADER),
        }
    }
}

/// When the broker took a message in.
fn nanos(message: &Message) -> u64 {
    let since = message.published_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A text as numbers: its length, and its bytes by eights.
fn words(text: &str) -> impl Iterator<Item = u64> {
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    std::iter::once(text.len() as u64).chain(text.as_bytes().chunks(8).map(word))
}

/// Where mixing begins: two that have nothing to do with each other, the digits of the golden ratio and of pi.
const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0x243f_6a88_85a3_08d3;

/// Numbers made one, in which every bit of each counts. The steps are the last ones of MurmurHash3.
fn mixed(start: u64, parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(start, |sum: u64, part| {
        let mut bits = sum.rotate_left(5) ^ part;
        for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
            bits = (bits ^ (bits >> 33)).wrapping_mul(factor);
        }
        bits ^ (bits >> 33)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::record::{self, Ran};
    use super::super::{sink, spans};
    use super::*;
    use crate::handler::{LogLevel, LogLine, SpanEnd, Spans};
    use crate::outcome::{Outcome, Usage};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn tracer(subscription: &str, ratio: f64) -> Tracer {
        let name = |text: &str| Arc::from(text);
        let identity = Identity {
            subscription: name(subscription),
            broker: name("local"),
            stream: None,
            handler: name("h"),
            host: name("host"),
        };
        let spec = SubscriptionSpec {
            name: subscription.to_owned(),
            stream: None,
            subjects: vec!["a.>".to_owned()],
            ack_wait: Duration::from_secs(30),
            max_in_flight: 1,
            create: true,
        };
        let traces = Traces::new(Arc::new(Sampler::new(ratio, true)), sink(Counter::default()).0);
        traces.tracer(&identity, &spec, "embedded", &Metrics::new())
    }

    fn message(sequence: u64, headers: &[(&str, &str)]) -> Message {
        let headers = headers.iter().map(|(name, value)| crate::message::Header::new(*name, value.to_string()));
        Message {
            id: sequence.to_string(),
            subject: "a.b".to_owned(),
            headers: Headers(headers.collect()),
            body: bytes::Bytes::new(),
            sequence,
            published_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn all_attempts_of_a_message_are_in_one_trace_and_each_is_linked_to_the_one_before() {
        for headers in [&[][..], &[("traceparent", PARENT)]] {
            let (here, there) = (tracer("s", 0.5), tracer("s", 0.5));
            let first = here.begin(&message(1, headers), 1);
            let second = there.begin(&message(1, headers), 2);
            assert_eq!(first.own.trace, second.own.trace, "on whichever host");
            assert_eq!((first.previous, second.previous), (None, Some(first.own.span)));
            assert_eq!(first.own.is_sampled(), second.own.is_sampled());
            assert_ne!(first.own.span, second.own.span);
        }
    }

    #[test]
    fn what_a_handler_did_stands_behind_the_time_that_its_message_waited_for_its_turn() {
        let (tracer, message) = (tracer("s", 1.0), message(1, &[]));
        let ms = Duration::from_millis;
        let step = crate::handler::Span {
            name: "parse".to_owned(),
            attributes: Vec::new(),
            attributes_dropped: 0,
            parent: None,
            at: ms(2),
            took: ms(8),
            end: SpanEnd::Ended,
        };
        let (level, text) = (LogLevel::Info, "parsed".to_owned());
        let line = LogLine { level, text, fields: Vec::new(), at: ms(4), span: Some(0) };
        let usage = Usage { duration: ms(10), ..Usage::default() };
        let steps = Spans { kept: vec![step], ..Spans::default() };
        let times = (SystemTime::UNIX_EPOCH, ms(100));
        let ran = Ran::new(times, &Outcome::Completed(Vec::new()), usage, &[line], steps);
        let record = Record {
            place: Arc::clone(&tracer.place),
            trace: tracer.begin(&message, 1),
            message: record::Message::of(&message, 1, 1),
            ran: Some(Box::new(ran)),
            settled: None,
        };
        let shown = spans(&record);
        let [run, step] = &shown[..] else { panic!("{shown:?}") };
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((since(run.start), since(run.end)), (ms(0), ms(100)));
        assert_eq!((since(step.start), since(step.end), since(step.events[0].at)), (ms(92), ms(100), ms(94)));
    }

    #[test]
    fn spans_and_traces_that_begin_here_are_each_their_own() {
        let (one, other) = (tracer("one", 1.0), tracer("other", 1.0));
        let mut spans = BTreeSet::new();
        let mut traces = BTreeSet::new();
        for sequence in 1..=1000 {
            for deliveries in 1..=3 {
                for tracer in [&one, &other] {
                    let trace = tracer.begin(&message(sequence, &[]), deliveries);
                    traces.insert(trace.own.trace.bits());
                    let outputs = (0..3).map(|index| trace.output(index));
                    spans.extend(outputs.chain([trace.own.span, trace.settlement()]).map(SpanId::bits));
                }
            }
        }
        assert_eq!((traces.len(), spans.len()), (1000, 1000 * 3 * 2 * 5));
        let again = Message { published_at: SystemTime::UNIX_EPOCH, ..message(1, &[]) };
        assert!(!traces.contains(&one.begin(&again, 1).own.trace.bits()), "a queue that was made anew counts from one");
    }

    #[test]
    fn the_publisher_decides_where_there_is_one_and_what_is_malformed_begins_a_trace() {
        let never = tracer("s", 0.0);
        let parent = SpanContext::parse(PARENT.as_bytes()).unwrap();
        let given = never.begin(&message(1, &[("traceparent", PARENT), ("tracestate", "a=b")]), 1);
        assert_eq!((given.own.trace, given.parent, given.own.is_sampled()), (parent.trace, Some(parent), true));
        assert_eq!(given.state.as_deref(), Some("a=b"));
        let not = tracer("s", 1.0).begin(&message(1, &[("traceparent", &PARENT.replace("-01", "-00"))]), 1);
        assert!(!not.own.is_sampled());
        assert_eq!(never.malformed.get(), 0);
        let malformed = never.begin(&message(1, &[("traceparent", "00-zz"), ("tracestate", "a=b")]), 1);
        assert_eq!((malformed.parent, malformed.state, never.malformed.get()), (None, None, 1));
        assert!(!malformed.own.is_sampled());
        assert_eq!(malformed.own.trace, never.begin(&message(1, &[]), 1).own.trace);
    }

    #[test]
    fn an_output_carries_the_trace_unless_its_handler_began_another() {
        let trace = tracer("s", 1.0).begin(&message(1, &[("traceparent", PARENT), ("tracestate", "a=b")]), 1);
        let ours = trace.own.with_span(trace.output(0)).to_string();
        let others = PARENT.replace("4bf9", "5bf9");
        let injected = |headers: &[(&str, &str)]| {
            let mut headers = message(1, headers).headers;
            trace.inject(trace.output(0), &mut headers);
            assert_eq!(headers.0.len(), 2);
            let text = |name| headers.text(name).map(str::to_owned);
            (text("traceparent").unwrap(), text("tracestate").unwrap())
        };
        let in_ours = (ours, "a=b".to_owned());
        assert_eq!(injected(&[]), in_ours);
        assert_eq!(injected(&[("Traceparent", PARENT), ("Tracestate", "of=before")]), in_ours);
        assert_eq!(injected(&[("traceparent", "nonsense")]), in_ours);
        let of_another = injected(&[("traceparent", &others), ("tracestate", "c=d")]);
        assert_eq!(of_another, (others, "c=d".to_owned()));
    }
}
