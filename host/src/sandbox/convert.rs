//! Between our plain types and the contract's: a message on its way in, a result on its way out.
//!
//! Invariants:
//! - A body is borrowed on its way in and moved on its way out, never copied.
//! - What is kept of a result is within the limits on outputs, whatever the guest gave back.

use std::time::{Duration, UNIX_EPOCH};

use super::bindings::tidegate::events::types::{self as wit, Failure, HeaderParam, Outgoing};
use super::entry::Answer;
use super::fault::{Stop, truncate};
use super::limits::Limits;
use crate::handler::Call;
use crate::message::{CONTENT_TYPE_HEADER, Header, Headers, KEY_HEADER, TRACEPARENT_HEADER, is_of_its_message_alone};
use crate::outcome::{Outcome, Outcome::Completed, Output, Reason};

/// The most bytes of a reason's code: it is a label.
const CODE_BYTES: usize = 128;
/// The most bytes of a reason's detail: what a dead-letter record holds of it.
const DETAIL_BYTES: usize = 4 << 10;

/// The headers of a message, sorted into fields of their own and the others.
pub(super) struct Fields<'a> {
    key: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    traceparent: Option<&'a str>,
    others: Vec<HeaderParam<'a>>,
}

impl<'a> Fields<'a> {
    /// Looks through the headers once. Key, media type and trace context have fields of their own and are not among
    /// the headers that the handler sees, nor is what is of this message alone; a media type or trace context that is not text
    /// stays a header.
    pub(super) fn of(headers: &'a Headers) -> Self {
        let mut fields = Self { key: None, content_type: None, traceparent: None, others: Vec::new() };
        for Header { name, value } in headers.iter() {
            let text = || std::str::from_utf8(value).ok();
            if fields.key.is_none() && name.eq_ignore_ascii_case(KEY_HEADER) {
                fields.key = Some(value);
            } else if fields.content_type.is_none()
                && name.eq_ignore_ascii_case(CONTENT_TYPE_HEADER)
                && text().is_some()
            {
                fields.content_type = text();
            } else if fields.traceparent.is_none() && name.eq_ignore_ascii_case(TRACEPARENT_HEADER) && text().is_some()
            {
                fields.traceparent = text();
            } else if !is_of_its_message_alone(name) {
                fields.others.push(HeaderParam { name, value });
            }
        }
        fields
    }

    /// The message as the contract has it.
    pub(super) fn message(&'a self, call: &Call<'a>) -> wit::Message<'a> {
        let message = call.message;
        let age = message.published_at.duration_since(UNIX_EPOCH).ok();
        wit::Message {
            id: &message.id,
            source: call.subscription,
            subject: &message.subject,
            key: self.key,
            content_type: self.content_type,
            headers: &self.others,
            body: &message.body,
            attempt: call.attempt,
            max_attempts: call.max_attempts,
            sequence: Some(message.sequence),
            published_at_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
            redriven: message.redrives() > 0,
            traceparent: self.traceparent,
        }
    }
}

/// The outcome of a run that gave a value back.
pub(super) fn outcome(answer: Answer, limits: &Limits) -> Result<Outcome, Stop> {
    let after = |ms: u32| Duration::from_millis(ms.into());
    match answer {
        Answer::Returned(Ok(outputs)) => outputs_within(outputs, limits).map(Completed),
        // What was sent was within the limits when it was.
        Answer::Adapted(Ok(outputs)) => Ok(Completed(outputs)),
        Answer::Adapted(Err(reason)) => Ok(Outcome::Retry { after: None, reason: cut(reason) }),
        Answer::Returned(Err(Failure::Retry(retry))) => {
            Ok(Outcome::Retry { after: retry.after_ms.map(after), reason: reason(retry.reason) })
        }
        Answer::Returned(Err(Failure::Defer(defer))) => {
            Ok(Outcome::Defer { after: after(defer.after_ms), reason: reason(defer.reason) })
        }
        Answer::Returned(Err(Failure::Reject(why))) => Ok(Outcome::Rejected(reason(why))),
        Answer::Returned(Err(Failure::Skip(why))) => Ok(Outcome::Skipped(reason(why))),
    }
}

fn outputs_within(outputs: Vec<Outgoing>, limits: &Limits) -> Result<Vec<Output>, Stop> {
    let count = u64::from(limits.outputs.get());
    if outputs.len() as u64 > count {
        return Err(Stop::TooMany { what: "outputs", limit: count });
    }
    let bytes: usize = outputs.iter().map(size).sum();
    if bytes > limits.output_bytes {
        return Err(Stop::TooMany { what: "bytes of outputs", limit: limits.output_bytes as u64 });
    }
    Ok(outputs.into_iter().map(output).collect())
}

/// What an output takes of the byte limit: everything that the guest chose.
fn size(output: &Outgoing) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    output.to.len()
        + text(&output.subject)
        + text(&output.content_type)
        + text(&output.id)
        + output.key.as_ref().map_or(0, Vec::len)
        + output.headers.iter().map(|header| header.name.len() + header.value.len()).sum::<usize>()
        + output.body.len()
}

fn output(outgoing: Outgoing) -> Output {
    let plain = outgoing.headers.into_iter().map(|header| Header::new(header.name, header.value));
    let mut headers = Headers(plain.collect());
    if let Some(content_type) = outgoing.content_type {
        headers.set(CONTENT_TYPE_HEADER, content_type);
    }
    if let Some(key) = outgoing.key {
        headers.set(KEY_HEADER, key);
    }
    Output { to: Some(outgoing.to), subject: outgoing.subject, id: outgoing.id, headers, body: outgoing.body.into() }
}

fn reason(reason: wit::Reason) -> Reason {
    cut(Reason { code: reason.code, detail: reason.detail })
}

fn cut(mut reason: Reason) -> Reason {
    truncate(&mut reason.code, CODE_BYTES);
    if let Some(detail) = &mut reason.detail {
        truncate(detail, DETAIL_BYTES);
    }
    reason
}
