//! `POST /v1/publish`: one message as it is, or a stream of messages as JSON lines.
//!
//! A stream is read in groups; each group is stored before the next is read, so whoever sends faster than the broker
//! stores is slowed down by TCP. The answer comes at the end: a client that writes all before it reads cannot stall.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::dead_letters::named;
use super::fail::Fail;
use super::lines::{LineTooLong, Lines};
use super::state::HostState;
use super::wire::{ErrorBody, LineFailure, PublishLine, PublishSummary, PublishedMessage};
use crate::broker::subject::check_subject;
use crate::broker::{Broker, NamedBroker, PublishError, Published};
use crate::message::{CONTENT_TYPE_HEADER, Headers, Publish, TRACEPARENT_HEADER, TRACESTATE_HEADER};

/// A group is stored at once: as many as the embedded queue commits together, more gains nothing.
const GROUP_MESSAGES: usize = 256;
/// Or as many bytes: what 256 messages of 4 KiB have.
const GROUP_BYTES: usize = 1 << 20;
/// How many failures an answer lists.
const LISTED_FAILURES: usize = 100;
/// A client that sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Headers of a raw message: `Tidegate-Header-Name: value` becomes the header `Name`.
const HEADER_PREFIX: &str = "tidegate-header-";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishQuery {
    /// The broker, by its name in the configuration; not needed where there is one alone, or one embedded queue alone.
    broker: Option<String>,
    /// The subject of one message.
    subject: Option<String>,
    /// The id of one message: with the same id it is stored once.
    id: Option<String>,
}

pub(super) async fn publish(
    State(state): State<Arc<HostState>>,
    query: Result<Query<PublishQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let brokers = state.brokers.all();
    let broker = broker(&brokers, query.broker.as_deref())?;
    // Never closed, so this waits for its turn and does not fail.
    let _turn = state.publishers.acquire().await;
    if is_lines(&headers) {
        let (status, summary) = lines(broker, body.into_data_stream(), state.max_publish_bytes).await;
        return Ok((status, Json(summary)).into_response());
    }
    let publish = raw(&query, &headers, body, state.max_publish_bytes).await?;
    let published = broker.publish(vec![publish]).await.into_iter().next();
    match published {
        Some(Ok(Published { sequence, duplicate })) => {
            Ok(Json(PublishedMessage { sequence, duplicate }).into_response())
        }
        Some(Err(error)) => Err(Fail::from(&error)),
        None => Err(Fail::from(&PublishError::Unavailable("it gave no answer".to_owned()))),
    }
}

/// The broker that is named; or the only one; or the only embedded one.
fn broker<'a>(brokers: &'a BTreeMap<String, NamedBroker>, name: Option<&str>) -> Result<&'a dyn Broker, Fail> {
    if let Some(name) = name {
        return named(brokers, name).map(|(_, entry)| entry.broker.as_ref());
    }
    let all: Vec<_> = brokers.values().collect();
    let embedded: Vec<_> = all.iter().copied().filter(|entry| entry.kind == "embedded").collect();
    match (all.as_slice(), embedded.as_slice()) {
        ([only], _) | (_, [only]) => Ok(only.broker.as_ref()),
        _ => {
            let names: Vec<&str> = brokers.keys().map(String::as_str).collect();
            let message = format!("say which broker with `?broker=`: {}", names.join(", "));
            Err(Fail::bad_request("which-broker", message))
        }
    }
}

fn is_lines(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/x-ndjson" | "application/jsonl" | "application/ndjson")
}

/// One message: its body is the request's, the rest stands in the query or in headers.
async fn raw(query: &PublishQuery, headers: &HeaderMap, body: Body, limit: usize) -> Result<Publish, Fail> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let subject = query.subject.clone().or_else(|| text("tidegate-subject"));
    let subject = subject.ok_or_else(|| {
        Fail::bad_request("no-subject", "say the subject with `?subject=` or the header `Tidegate-Subject`")
    })?;
    check_subject(&subject).map_err(|error| Fail::bad_request("invalid-message", error.to_string()))?;
    let mut message_headers = Headers::default();
    for (name, value) in headers {
        let own = match name.as_str() {
            "content-type" => Some(CONTENT_TYPE_HEADER),
            "traceparent" => Some(TRACEPARENT_HEADER),
            "tracestate" => Some(TRACESTATE_HEADER),
            other => other.strip_prefix(HEADER_PREFIX).filter(|name| !name.is_empty()),
        };
        if let Some(own) = own {
            message_headers.push(own, Bytes::copy_from_slice(value.as_bytes()));
        }
    }
    let body = whole(body.into_data_stream(), limit).await?;
    Ok(Publish { subject, id: query.id.clone().or_else(|| text("tidegate-id")), headers: message_headers, body })
}

pub(super) async fn whole(mut stream: BodyDataStream, limit: usize) -> Result<Bytes, Fail> {
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = chunk(&mut stream).await? {
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_large(limit: usize) -> Fail {
    let message = format!("the message is larger than `max_publish_bytes` of [http], {limit} bytes");
    Fail::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
}

pub(super) async fn chunk(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Fail> {
    match tokio::time::timeout(PATIENCE, stream.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => Err(Fail::bad_request("broken-body", error.to_string())),
        Err(_) => Err(Fail::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "nothing was sent for 30 seconds")),
    }
}

/// Reads a stream of lines and stores it group by group. Ends at the first line that is wrong, and behind the first
/// group of which something was not stored.
async fn lines(broker: &dyn Broker, mut stream: BodyDataStream, limit: usize) -> (StatusCode, PublishSummary) {
    // A body of base64 takes a third more; the rest of a line is subject, id and headers.
    let mut lines = Lines::new(limit / 3 * 4 + (64 << 10));
    let mut run = Run { broker, limit, group: Vec::new(), bytes: 0, summary: PublishSummary::default() };
    let end = run.read(&mut stream, &mut lines).await;
    let (status, error) = match end {
        Ok(()) => return (StatusCode::OK, run.summary),
        Err(fail) => (fail.status, fail.body),
    };
    run.summary.error = Some(error);
    (status, run.summary)
}

struct Run<'a> {
    broker: &'a dyn Broker,
    limit: usize,
    group: Vec<(u64, Publish)>,
    bytes: usize,
    summary: PublishSummary,
}

impl Run<'_> {
    async fn read(&mut self, stream: &mut BodyDataStream, lines: &mut Lines) -> Result<(), Fail> {
        loop {
            let Some(chunk) = chunk(stream).await? else { break };
            lines.push(&chunk);
            loop {
                let line = lines.next_line();
                let Some((number, line)) = self.or_flush(line.map_err(long_line)).await? else { break };
                self.take(number, &line).await?;
            }
        }
        let last = lines.last_line();
        if let Some((number, line)) = self.or_flush(last.map_err(long_line)).await? {
            self.take(number, &line).await?;
        }
        self.flush().await
    }

    async fn take(&mut self, number: u64, line: &[u8]) -> Result<(), Fail> {
        let parsed = self.parse(line).map_err(|fail| at_line(number, fail));
        let publish = self.or_flush(parsed).await?;
        self.bytes += publish.size();
        self.group.push((number, publish));
        if self.group.len() >= GROUP_MESSAGES || self.bytes >= GROUP_BYTES { self.flush().await } else { Ok(()) }
    }

    fn parse(&self, line: &[u8]) -> Result<Publish, Fail> {
        let invalid = |message: String| Fail::bad_request("invalid-line", message);
        let line: PublishLine = serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))?;
        let publish = line.into_publish().map_err(invalid)?;
        check_subject(&publish.subject).map_err(|error| invalid(error.to_string()))?;
        if publish.body.len() > self.limit { Err(too_large(self.limit)) } else { Ok(publish) }
    }

    /// On a failure, what stands before it in the stream is stored first: the line number says how far it went.
    async fn or_flush<T>(&mut self, result: Result<T, Fail>) -> Result<T, Fail> {
        if result.is_err() {
            self.flush().await?;
        }
        result
    }

    async fn flush(&mut self) -> Result<(), Fail> {
        let (numbers, messages): (Vec<u64>, Vec<Publish>) = self.group.drain(..).unzip();
        self.bytes = 0;
        if messages.is_empty() {
            return Ok(());
        }
        let mut first = None;
        for (line, result) in numbers.into_iter().zip(self.broker.publish(messages).await) {
            match result {
                Ok(Published { duplicate: true, .. }) => self.summary.duplicates += 1,
                Ok(Published { duplicate: false, .. }) => self.summary.published += 1,
                Err(error) => {
                    let fail = Fail::from(&error);
                    self.summary.failed += 1;
                    if self.summary.failures.len() < LISTED_FAILURES {
                        self.summary.failures.push(LineFailure { line, error: fail.body.clone() });
                    }
                    first.get_or_insert_with(|| at_line(line, fail));
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}

pub(super) fn long_line(error: LineTooLong) -> Fail {
    let fail = Fail::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "the line is longer than a message may be (`max_publish_bytes` of `[http]`)",
    );
    at_line(error.line, fail)
}

pub(super) fn at_line(number: u64, fail: Fail) -> Fail {
    let message = format!("line {number}: {}", fail.body.message);
    Fail { status: fail.status, body: ErrorBody { code: fail.body.code, message } }
}
