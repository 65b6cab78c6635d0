//! How a dead letter lies in its stream: its subject, its headers, and the way back from them.
//!
//! Invariants:
//! - The body is the original one, untouched; headers are the original ones, but that those which the server or the
//!   dead-letter queue gives a meaning to (`Nats-*`, `Dlq-*`) are renamed `Dlq-Orig-<name>`.
//! - The subject is the same for the same death of the same message: storing it twice is refused by the stream.
//! - What does not fit into one message lies in others under [`BODIES`], and the dead letter says where: the body by
//!   itself, untouched; the whole record and the headers [packed](super::rest), and a short record in their place.

use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::broker::jetstream::headers::{self, append, has_prefix, is_reserved};
use crate::broker::{PublishError, Traits};
use crate::message::{Header, Headers};
use crate::settle::dead_letter::{DeadLetter, DeadLetterRecord};

/// Where dead letters lie until they are sent back or discarded.
pub(super) const LETTERS: &str = "dlq";
/// Where those lie that were sent back.
pub(super) const REDRIVEN: &str = "dlq-redriven";
/// Where bodies and headers lie that do not fit into one message together with the record.
pub(super) const BODIES: &str = "dlq-body";

/// How much of a text other clients see in a header of its own, and of the message's id when there is no room.
const SHORT: usize = 1024;

/// The whole record, as compact JSON.
const RECORD: &str = "Dlq-Record";
/// The id alone, for other clients and for looking it up.
pub(super) const ID: &str = "Dlq-Id";
/// Where a message is, as the server says in front of one that is asked for.
pub(super) const SEQUENCE: &str = "Nats-Sequence";
/// What dead letters are looked for and counted by.
const REASON: &str = "Dlq-Reason";
const FINGERPRINT: &str = "Dlq-Error-Fingerprint";
const SUBSCRIPTION: &str = "Dlq-Source-Consumer";
const DEAD_AT: &str = "Dlq-Dead-At";
const HANDLER: &str = "Dlq-Handler";
const DIGEST: &str = "Dlq-Module-Digest";
/// When it was sent back.
pub(super) const REDRIVEN_AT: &str = "Dlq-Redriven-At";
/// The subject of the message that holds the body.
pub(super) const PAYLOAD_REF: &str = "Dlq-Payload-Ref";
/// The sha256 of a body that lies elsewhere, in hex.
const PAYLOAD_SHA256: &str = "Dlq-Payload-Sha256";
/// The size of a body that lies elsewhere, in bytes.
const PAYLOAD_SIZE: &str = "Dlq-Payload-Size";
/// In front of the subjects of the messages that hold the whole record and the headers, when they lie elsewhere.
const REST_REF: &str = "Dlq-Rest-Ref";
/// How many these are.
const REST_PARTS: &str = "Dlq-Rest-Parts";
/// The sha256 of what they hold together, in hex.
const REST_SHA256: &str = "Dlq-Rest-Sha256";
/// An original header that cannot be written as it is (a line break, bytes that are not UTF-8): its name and its value,
/// each in Base64.
const RAW: &str = "Dlq-Raw-Header";
/// In front of the name of an original header that is reserved.
const ORIGINAL: &str = "Dlq-Orig-";
const DLQ: &str = "Dlq-";

/// What follows the first token of a subject: who gave it up, why, and where it came from.
pub(super) fn tail(record: &DeadLetterRecord) -> String {
    format!(
        "{}.{}.{}.{}-{}",
        token(&record.subscription),
        token(&record.reason),
        token(record.stream.as_deref().unwrap_or("-")),
        record.sequence,
        record.redrives
    )
}

/// As [`tail`], for when that is taken by another message: a stream that was deleted and made anew counts from one
/// again. The time of publishing tells them apart.
pub(super) fn other_tail(record: &DeadLetterRecord) -> String {
    let since = record.published_at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", tail(record), since.as_nanos())
}

/// A text as one token of a subject.
pub(super) fn token(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_:".contains(c) { c } else { '_' }).collect()
}

/// Whether a record that was found is of this death of this message. One of the two may be [shortened].
pub(super) fn is_same_death(there: &DeadLetterRecord, record: &DeadLetterRecord) -> bool {
    short(&there.message_id) == short(&record.message_id)
        && there.published_at == record.published_at
        && there.redrives == record.redrives
}

/// A record with what may be long taken out, for when the whole one lies elsewhere.
pub(super) fn shortened(record: &DeadLetterRecord) -> DeadLetterRecord {
    DeadLetterRecord {
        message_id: short(&record.message_id).to_owned(),
        backtrace: Vec::new(),
        logs: Vec::new(),
        history: Vec::new(),
        ..record.clone()
    }
}

/// The headers that tell the record: as it is, and its parts for other clients.
pub(super) fn encode_record(map: &mut HeaderMap, record: &DeadLetterRecord) -> Result<(), PublishError> {
    let json = serde_json::to_string(record).map_err(|error| PublishError::Invalid(error.to_string()))?;
    append(map, RECORD, json.as_bytes())?;
    let time = |time| humantime::format_rfc3339_nanos(time).to_string();
    let rows = [
        ("Dlq-Version", "1".to_owned()),
        (ID, record.id.to_string()),
        (REASON, record.reason.clone()),
        ("Dlq-Error", one_line(&record.error)),
        (FINGERPRINT, record.fingerprint.clone()),
        ("Dlq-Source-Broker", record.broker.clone()),
        ("Dlq-Source-Stream", record.stream.clone().unwrap_or_default()),
        ("Dlq-Source-Subject", record.subject.clone()),
        (SUBSCRIPTION, record.subscription.clone()),
        ("Dlq-Source-Seq", record.sequence.to_string()),
        ("Dlq-Source-Timestamp", time(record.published_at)),
        ("Dlq-Message-Id", record.message_id.clone()),
        ("Dlq-Attempts", record.attempts.to_string()),
        ("Dlq-Deliveries", record.deliveries.to_string()),
        ("Dlq-Defers", record.defers.to_string()),
        ("Dlq-Timeouts", record.timeouts.to_string()),
        ("Dlq-First-Seen", time(record.first_seen)),
        (DEAD_AT, time(record.dead_at)),
        (HANDLER, record.handler.clone()),
        (DIGEST, record.digest.clone()),
        ("Dlq-Host", record.host.clone()),
        ("Dlq-Fuel-Used", record.fuel_used.to_string()),
        ("Dlq-Fuel-Limit", record.fuel_limit.to_string()),
        ("Dlq-Memory-Peak", record.memory_peak.to_string()),
        ("Dlq-Run-Ms", record.run_ms.to_string()),
        ("Dlq-Redrive-Count", record.redrives.to_string()),
    ];
    for (name, value) in rows {
        append(map, name, one_line(short(&value)).as_bytes())?;
    }
    Ok(())
}

/// The original headers, by the names under which they lie in a dead letter.
pub(super) fn encode_headers(map: &mut HeaderMap, headers: &Headers) -> Result<(), PublishError> {
    for header in headers.iter() {
        let is_renamed = is_reserved(&header.name) || has_prefix(&header.name, DLQ);
        let name = if is_renamed { format!("{ORIGINAL}{}", header.name) } else { header.name.clone() };
        // The library reads more than it writes, and a dead letter must not be refused over what came.
        if append(map, &name, &header.value).is_err() {
            append(map, RAW, raw(header).as_bytes())?;
        }
    }
    Ok(())
}

/// A header in Base64: its name and its value.
pub(super) fn raw(header: &Header) -> String {
    format!("{} {}", STANDARD.encode(&header.name), STANDARD.encode(&header.value))
}

/// The way back from [`raw`].
pub(super) fn from_raw(text: &[u8]) -> Option<Header> {
    let (name, value) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let name = String::from_utf8(STANDARD.decode(name).ok()?).ok()?;
    Some(Header::new(name, STANDARD.decode(value).ok()?))
}

/// The headers that say where the body lies.
pub(super) fn refer(map: &mut HeaderMap, subject: &str, body: &[u8]) -> Result<(), PublishError> {
    append(map, PAYLOAD_REF, subject.as_bytes())?;
    append(map, PAYLOAD_SHA256, digest(body).as_bytes())?;
    append(map, PAYLOAD_SIZE, body.len().to_string().as_bytes())
}

/// Whether a body is the one that a message refers to.
pub(super) fn is_referred(message: &Message, body: &[u8]) -> bool {
    header(message, PAYLOAD_SHA256).is_some_and(|wanted| wanted == digest(body))
}

/// The headers that say where the whole record and the original headers lie.
pub(super) fn refer_rest(map: &mut HeaderMap, rest: &Rest) -> Result<(), PublishError> {
    append(map, REST_REF, rest.subject.as_bytes())?;
    append(map, REST_PARTS, rest.parts.to_string().as_bytes())?;
    append(map, REST_SHA256, rest.sha256.as_bytes())
}

/// The sha256 of bytes, in hex.
pub(super) fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// Where the whole record and the original headers lie, when not in the dead letter itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    /// The subject of each part, but for its number at the end.
    pub(super) subject: String,
    /// How many parts there are.
    pub(super) parts: usize,
    /// The sha256 of all of them together, in hex.
    pub(super) sha256: String,
}

impl Rest {
    /// The subjects of the parts, in their order.
    pub(super) fn subjects(&self) -> impl Iterator<Item = String> {
        (0..self.parts).map(|part| part_subject(&self.subject, part))
    }
}

/// The subject of one part.
pub(super) fn part_subject(subject: &str, part: usize) -> String {
    format!("{subject}.{part}")
}

/// What a message of the dead-letter stream says.
#[derive(Debug, Clone)]
pub(super) struct Decoded {
    /// The dead letter, with the body that lay in the message.
    pub(super) letter: DeadLetter,
    /// When it was sent back.
    pub(super) redriven_at: Option<std::time::SystemTime>,
    /// Where the body lies, when not here, and its size.
    pub(super) elsewhere: Option<(String, u64)>,
    /// Where the whole record and the headers lie, when not here.
    pub(super) rest: Option<Rest>,
}

/// Reads a message of the dead-letter stream.
pub(super) fn decode(message: &Message) -> Result<Decoded, String> {
    let json = header(message, RECORD).ok_or("it has no record")?;
    let record: DeadLetterRecord = serde_json::from_str(json).map_err(|error| format!("its record: {error}"))?;
    let mut original = Headers::default();
    for Header { name, value } in headers::from_nats(message).0 {
        if name.eq_ignore_ascii_case(RAW) {
            original.0.push(from_raw(&value).ok_or("a header of it")?);
        } else if has_prefix(&name, ORIGINAL) {
            original.push(name.get(ORIGINAL.len()..).unwrap_or_default(), value);
        } else if !has_prefix(&name, DLQ) && !is_reserved(&name) {
            original.push(name, value);
        }
    }
    original.0.sort_by(|one, other| one.name.cmp(&other.name));
    let redriven_at = header(message, REDRIVEN_AT).and_then(|text| humantime::parse_rfc3339(text).ok());
    let elsewhere = header(message, PAYLOAD_REF).map(|subject| {
        let size = header(message, PAYLOAD_SIZE).and_then(|text| text.parse().ok()).unwrap_or(0);
        (subject.to_owned(), size)
    });
    let letter = DeadLetter { record, headers: original, body: message.payload.clone() };
    let rest = header(message, REST_REF).and_then(|subject| {
        let parts = header(message, REST_PARTS)?.parse().ok()?;
        Some(Rest { subject: subject.to_owned(), parts, sha256: header(message, REST_SHA256)?.to_owned() })
    });
    Ok(Decoded { letter, redriven_at, elsewhere, rest })
}

/// What a dead letter is told from others by, of its headers alone; `None`: it is none of ours.
pub(super) fn traits(message: &Message) -> Option<Traits<'_>> {
    let text = |name| header(message, name);
    Some(Traits {
        id: text(ID)?,
        died: humantime::parse_rfc3339(text(DEAD_AT)?).ok()?,
        fingerprint: text(FINGERPRINT)?,
        handler: text(HANDLER)?,
        digest: text(DIGEST)?,
        reason: text(REASON)?,
        subscription: text(SUBSCRIPTION)?,
    })
}

/// The value of a header of a message.
pub(super) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref().and_then(|map| map.get(name)).map(|value| value.as_str())
}

/// The headers and body of a message that is stored again elsewhere, without what the server added.
pub(super) fn copy(message: &Message) -> (HeaderMap, Bytes) {
    let mut map = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        if !is_reserved(name.as_ref()) {
            for value in values {
                map.append(name.clone(), value.clone());
            }
        }
    }
    (map, message.payload.clone())
}

/// The beginning of a text.
fn short(text: &str) -> &str {
    text.char_indices().nth(SHORT).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c == '\r' || c == '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
