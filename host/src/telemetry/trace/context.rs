//! The W3C trace context: the headers `traceparent` and `tracestate`, read, written, and nothing else believed.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use crate::message::{Headers, TRACEPARENT_HEADER, TRACESTATE_HEADER};

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 0x01;
/// The flag of a trace whose id is random, see the second level of the recommendation.
const RANDOM: u8 = 0x02;
/// What has to be passed on of a `tracestate`; a longer one is dropped whole, as cut in the middle it would lie.
const LONGEST_STATE: usize = 512;

/// The id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

/// The id of a span in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// The id of these bits; of none of them set, the least one: no id is zero.
    #[must_use]
    pub const fn of(bits: u128) -> Self {
        match NonZeroU128::new(bits) {
            Some(bits) => Self(bits),
            None => Self(NonZeroU128::MIN),
        }
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0.get()
    }

    /// The first half of its bits, and the last.
    #[must_use]
    pub const fn halves(self) -> (u64, u64) {
        const LAST: u128 = u64::MAX as u128;
        ((self.bits() >> 64) as u64, (self.bits() & LAST) as u64)
    }
}

impl SpanId {
    /// The id of these bits; of none of them set, the least one: no id is zero.
    #[must_use]
    pub const fn of(bits: u64) -> Self {
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span as others are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace that it is in.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// The flags of the trace, of which the ones that nobody has defined are not set.
    flags: u8,
}

impl SpanContext {
    /// A span of a trace that is recorded or is not.
    #[must_use]
    pub const fn new(trace: TraceId, span: SpanId, is_sampled: bool) -> Self {
        Self { trace, span, flags: if is_sampled { SAMPLED } else { 0 } }
    }

    /// Another span of the same trace.
    #[must_use]
    pub const fn with_span(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags, as OTLP has them.
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// Reads a `traceparent`; `None`: it is malformed, and means nothing.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more behind; the first has exactly this.
        let is_known = match version {
            "00" => parts.next().is_none(),
            "ff" => false,
            _ => hex(version, 2).is_some(),
        };
        let trace = NonZeroU128::new(hex(trace, 32)?)?;
        let span = NonZeroU64::new(u64::try_from(hex(span, 16)?).ok()?)?;
        let flags = u8::try_from(hex(flags, 2)?).ok()?;
        is_known.then_some(Self { trace: TraceId(trace), span: SpanId(span), flags: flags & (SAMPLED | RANDOM) })
    }
}

impl fmt::Display for SpanContext {
    /// A `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// A number of so many hex digits in lower case, and of nothing else.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// What the headers of a message say of its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    Nothing,
    /// Something that is no trace context.
    Malformed,
    /// The span in which the message was made, and what its trace carries along.
    Parent(SpanContext, Option<Box<str>>),
}

impl Given {
    /// Looks through the headers.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        let Some(text) = headers.get(TRACEPARENT_HEADER) else { return Self::Nothing };
        // Two of them are as good as none: nobody can say which one is meant.
        let is_alone = headers.all(TRACEPARENT_HEADER).nth(1).is_none();
        match SpanContext::parse(text).filter(|_| is_alone) {
            Some(parent) => Self::Parent(parent, state(headers)),
            None => Self::Malformed,
        }
    }

    /// Puts it into the headers of an output as it is, for a host that takes no part in traces. What a handler put there stays.
    pub fn pass_on(&self, headers: &mut Headers) {
        let Self::Parent(parent, state) = self else { return };
        if headers.get(TRACEPARENT_HEADER).is_some() {
            return;
        }
        headers.set(TRACEPARENT_HEADER, parent.to_string());
        match state {
            Some(state) => headers.set(TRACESTATE_HEADER, state.to_string()),
            None => headers.remove(TRACESTATE_HEADER),
        }
    }
}

/// The `tracestate`, its headers put together; `None`: there is none, or none that can be passed on.
fn state(headers: &Headers) -> Option<Box<str>> {
    let mut state = String::new();
    for value in headers.all(TRACESTATE_HEADER) {
        let text = std::str::from_utf8(value).ok().map(str::trim).filter(|text| !text.is_empty())?;
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(text);
    }
    let is_plain = state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (!state.is_empty() && state.len() <= LONGEST_STATE && is_plain).then(|| state.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_comes_back_as_it_was() {
        let parsed = SpanContext::parse(GOOD.as_bytes()).unwrap();
        assert!(parsed.is_sampled());
        assert_eq!(parsed.to_string(), GOOD);
        let other = parsed.with_span(SpanId::of(0xab));
        assert_eq!(other.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
        assert_eq!(SpanContext::new(TraceId::of(0), SpanId::of(0), false).to_string().len(), GOOD.len());
    }

    #[test]
    fn what_is_malformed_means_nothing() {
        let rows = [
            (GOOD.to_owned(), true),
            // Nothing that is not defined is passed on as set, and a later version is read as far as it is known.
            (GOOD.replace("-01", "-ff"), true),
            (GOOD.replace("00-4", "cc-4") + "-what-comes-later", true),
            (GOOD.replace("00-4", "cc-4"), true),
            (GOOD.to_owned() + "-more", false),
            (GOOD.to_owned() + "-", false),
            (GOOD.replace("00-4", "ff-4"), false),
            (GOOD.replace("00-4", "0-4"), false),
            (GOOD.to_uppercase(), false),
            (GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (GOOD.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"), false),
            (GOOD.replace("4bf9", "4bf"), false),
            (GOOD.replace("-01", "-1"), false),
            (GOOD.replace("-01", ""), false),
            (format!(" {GOOD}"), false),
            (String::new(), false),
            ("ü".repeat(40), false),
        ];
        for (text, is_good) in rows {
            let parsed = SpanContext::parse(text.as_bytes());
            assert_eq!(parsed.is_some(), is_good, "{text}");
            assert!(parsed.is_none_or(|context| context.flags() <= 3), "{text}");
        }
        assert_eq!(SpanContext::parse(b"\xff\xfe"), None);
    }

    #[test]
    fn headers_are_read_without_regard_to_case_and_state_is_passed_on_whole_or_not_at_all() {
        let with = |rows: &[(&str, &str)]| {
            let mut headers = Headers::default();
            for (name, value) in rows {
                headers.push(*name, (*value).to_owned());
            }
            Given::of(&headers)
        };
        let parent = SpanContext::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(with(&[("tracestate", "a=b")]), Given::Nothing);
        assert_eq!(with(&[("traceparent", "nonsense"), ("tracestate", "a=b")]), Given::Malformed);
        assert_eq!(with(&[("traceparent", GOOD), ("Traceparent", GOOD)]), Given::Malformed);
        let state = |text: &str| Given::Parent(parent, Some(text.into()));
        assert_eq!(with(&[("TraceParent", GOOD), ("TraceState", "a=b"), ("tracestate", " c=d ")]), state("a=b,c=d"));
        let longest = "k=".to_owned() + &"v".repeat(LONGEST_STATE - 2);
        assert_eq!(with(&[("traceparent", GOOD), ("tracestate", &longest)]), state(&longest));
        for unfit in [String::new(), longest + "v", "a=\nb".to_owned(), "a=ü".to_owned()] {
            assert_eq!(with(&[("traceparent", GOOD), ("tracestate", &unfit)]), Given::Parent(parent, None), "{unfit}");
        }
    }

    #[test]
    fn a_context_is_passed_on_to_what_has_none() {
        type Rows<'a> = &'a [(&'a str, &'a str)];
        let others = GOOD.replace("4bf9", "5bf9");
        let parent = || SpanContext::parse(GOOD.as_bytes()).unwrap();
        let given = Given::Parent(parent(), Some("a=b".into()));
        let rows: [(&Given, Rows<'_>, Rows<'_>); 5] = [
            (&given, &[("kept", "x")], &[("kept", "x"), ("traceparent", GOOD), ("tracestate", "a=b")]),
            (&given, &[("Traceparent", &others)], &[("Traceparent", &others)]),
            (&Given::Parent(parent(), None), &[("tracestate", "c=d")], &[("traceparent", GOOD)]),
            (&Given::Nothing, &[("kept", "x")], &[("kept", "x")]),
            (&Given::Malformed, &[], &[]),
        ];
        let headers = |rows: Rows<'_>| {
            Headers(rows.iter().map(|(name, value)| crate::message::Header::new(*name, (*value).to_owned())).collect())
        };
        for (given, before, after) in rows {
            let mut output = headers(before);
            given.pass_on(&mut output);
            assert_eq!(output, headers(after), "{given:?}");
        }
    }
}
