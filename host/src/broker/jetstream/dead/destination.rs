//! Where a message goes that is sent back from the dead letters, and whether anybody would run it there.
//!
//! Invariants:
//! - What nobody would run goes nowhere: the dead letter is all there is of its message.
//! - Nothing goes where the server, buckets or the host keep what is theirs: whoever may send dead letters back could set there
//!   what is to run.

use serde_json::{Map, Value, json};

use crate::broker::jetstream::check::filters;
use crate::broker::jetstream::notes;
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::setup::{consumer_info, stream_info};
use crate::broker::jetstream::wire::{ApiError, Consumers, StreamNames, text, texts};
use crate::broker::subject::matches;
use crate::broker::{DeadLetterError, PublishError};
use crate::settle::dead_letter::DeadLetterRecord;

/// The stream that takes in the subject of a message, if the subscription that gave it up receives it from there: directly, or
/// from a stream that collects from it.
pub(super) async fn destination(
    session: &Session,
    record: &DeadLetterRecord,
) -> Result<Result<String, PublishError>, DeadLetterError> {
    let (name, subject) = (&record.subscription, &record.subject);
    // A message of a bucket, or one that somebody brought in with such a subject.
    if let Some(why) = closed(subject) {
        return refused(format!("its subject is `{subject}`, and {why}; it can be sent to another subject (`to`)"));
    }
    let Some(stream) = stream_of(session, record).await? else {
        return refused(format!("there is no subscription `{name}` any more that would receive it"));
    };
    let Some(consumer) = consumer_info(session, &stream, name).await? else {
        return refused(format!("there is no subscription `{name}` any more that would receive it"));
    };
    let wanted = filters(&consumer.config);
    if !wanted.is_empty() && !wanted.iter().any(|filter| matches(filter, subject)) {
        let wanted = wanted.join(", ");
        return refused(format!(
            "subscription `{name}` does not receive its subject `{subject}` any more (it receives {wanted})"
        ));
    }
    let Some(info) = stream_info(session, &stream).await? else {
        return refused(format!("there is no stream `{stream}` any more"));
    };
    // A subject is in one stream of an account at the most.
    if texts(&info.config, "subjects").iter().any(|filter| matches(filter, subject)) {
        return Ok(Ok(stream));
    }
    match taking(session, subject).await? {
        Some(taking) if collects(&info.config, &taking, subject) => Ok(Ok(taking)),
        Some(_) | None => refused(format!(
            "stream `{stream}`, from which subscription `{name}` receives, does not take in its subject `{subject}` any more"
        )),
    }
}

fn refused(text: String) -> Result<Result<String, PublishError>, DeadLetterError> {
    Ok(Err(PublishError::Invalid(text)))
}

/// The stream that takes in another subject than a message came from, if anybody receives it from there, or from a stream that
/// collects from it. `letters`: the stream of the dead letters. The inner error says why it cannot go there.
pub(super) async fn elsewhere(
    session: &Session,
    to: &str,
    letters: &str,
) -> Result<Result<String, String>, DeadLetterError> {
    if let Some(why) = closed(to) {
        return Ok(Err(why.to_owned()));
    }
    let Some(taking) = taking(session, to).await? else {
        return Ok(Err("no stream takes that subject in".to_owned()));
    };
    if is_own(&taking, letters) {
        return Ok(Err(format!("stream `{taking}`, which takes it in, is one of the host's own")));
    }
    if is_received(session, &taking, to).await? || is_collected(session, &taking, to).await? {
        return Ok(Ok(taking));
    }
    Ok(Err(format!(
        "no durable consumer of stream `{taking}`, which takes it in, receives it: look for a typing error, or begin the \
         subscription first that is to receive it"
    )))
}

/// Why nothing goes to a subject, whoever takes it in.
fn closed(subject: &str) -> Option<&'static str> {
    if subject.starts_with('$') {
        return Some("subjects that begin with `$` are the server's, and those of buckets");
    }
    (subject.split('.').next() == Some("_INBOX")).then_some("subjects that begin with `_INBOX` are those of answers")
}

/// Whether a stream is one that the host makes for itself.
fn is_own(stream: &str, letters: &str) -> bool {
    stream == letters || stream == notes::STREAM
}

/// Whether a consumer of a stream receives a subject.
async fn is_received(session: &Session, stream: &str, subject: &str) -> Result<bool, ApiError> {
    let mut seen = 0;
    loop {
        let page: Consumers = session.api(&format!("CONSUMER.LIST.{stream}"), &json!({ "offset": seen })).await?;
        let consumers = page.consumers.unwrap_or_default();
        if consumers.iter().any(|consumer| receives(&consumer.config, subject)) {
            return Ok(true);
        }
        seen += consumers.len();
        if consumers.is_empty() || seen >= page.total {
            return Ok(false);
        }
    }
}

/// The same of the streams that have from that one what it takes in.
async fn is_collected(session: &Session, taking: &str, subject: &str) -> Result<bool, DeadLetterError> {
    let all: StreamNames = session.api("STREAM.NAMES", &json!({})).await?;
    for stream in all.streams.unwrap_or_default() {
        if let Some(info) = stream_info(session, &stream).await?
            && collects(&info.config, taking, subject)
            && is_received(session, &stream, subject).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a consumer receives a subject, and stays: one that is not durable goes with whoever reads by it.
fn receives(config: &Map<String, Value>, subject: &str) -> bool {
    let wanted = filters(config);
    !text(config, "durable_name").is_empty()
        && (wanted.is_empty() || wanted.iter().any(|filter| matches(filter, subject)))
}

/// The stream from which the subscription receives. Where a message died on a broker without streams and was brought in here, it
/// is looked for: the one that takes in the subject, or one that collects from that.
async fn stream_of(session: &Session, record: &DeadLetterRecord) -> Result<Option<String>, DeadLetterError> {
    if let Some(stream) = &record.stream {
        return Ok(Some(stream.clone()));
    }
    let (name, subject) = (&record.subscription, &record.subject);
    let Some(taking) = taking(session, subject).await? else { return Ok(None) };
    if consumer_info(session, &taking, name).await?.is_some() {
        return Ok(Some(taking));
    }
    let all: StreamNames = session.api("STREAM.NAMES", &json!({})).await?;
    for stream in all.streams.unwrap_or_default() {
        if consumer_info(session, &stream, name).await?.is_some()
            && let Some(info) = stream_info(session, &stream).await?
            && collects(&info.config, &taking, subject)
        {
            return Ok(Some(stream));
        }
    }
    Ok(None)
}

/// The stream that takes in what is published to a subject.
async fn taking(session: &Session, subject: &str) -> Result<Option<String>, DeadLetterError> {
    let names: StreamNames = session.api("STREAM.NAMES", &json!({ "subject": subject })).await?;
    Ok(names.streams.unwrap_or_default().into_iter().next())
}

/// Whether a stream has from another one of this account what that takes in of a subject, under the same subject.
fn collects(config: &Map<String, Value>, from: &str, subject: &str) -> bool {
    let sources = config.get("sources").and_then(Value::as_array).into_iter().flatten();
    let origins = config.get("mirror").into_iter().chain(sources).filter_map(Value::as_object);
    let mut of_it = origins.filter(|origin| text(origin, "name") == from && !is_set(origin, "external"));
    of_it.any(|origin| {
        let filter = text(origin, "filter_subject");
        !is_set(origin, "subject_transforms") && (filter.is_empty() || matches(filter, subject))
    })
}

fn is_set(origin: &Map<String, Value>, name: &str) -> bool {
    origin.get(name).is_some_and(|value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_of_another_what_it_collects_unchanged() {
        let rows = [
            (json!({ "mirror": { "name": "ORDERS" } }), true),
            (json!({ "sources": [{ "name": "OTHER" }, { "name": "ORDERS" }] }), true),
            (json!({ "sources": [{ "name": "ORDERS", "filter_subject": "orders.eu.>" }] }), true),
            (json!({ "sources": [{ "name": "ORDERS", "filter_subject": "orders.us.>" }] }), false),
            (json!({ "sources": [{ "name": "ORDERS", "external": { "api": "$JS.hub.API" } }] }), false),
            (
                json!({ "sources": [{ "name": "ORDERS", "subject_transforms": [{ "src": ">", "dest": "x.>" }] }] }),
                false,
            ),
            (json!({ "sources": [{ "name": "ORDERS", "subject_transforms": [] }] }), true),
            (json!({ "mirror": null, "subjects": ["orders.>"] }), false),
        ];
        for (config, expected) in rows {
            let found = config.as_object().is_some_and(|config| collects(config, "ORDERS", "orders.eu.1"));
            assert_eq!(found, expected, "{config}");
        }
    }
}
