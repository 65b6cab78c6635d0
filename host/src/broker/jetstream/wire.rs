//! What JetStream's API answers, as far as it is needed here.
//!
//! Read from JSON by hand rather than through the client library's types: what is unknown is left alone and sent back
//! unchanged on an update, whatever the server's version.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::session::RequestError;

/// An answer of the API.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ApiAnswer<T> {
    /// It says no.
    Refused {
        /// Why.
        error: Refusal,
    },
    /// It says yes.
    Given(T),
}

/// Why the API says no.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    /// As of HTTP.
    #[serde(default)]
    pub(super) code: u16,
    /// The server's own number.
    #[serde(default)]
    pub(super) err_code: u32,
    /// For a person.
    #[serde(default)]
    pub(super) description: String,
}

/// The server's numbers that are told apart.
pub(super) mod code {
    /// A stream of this name is there, with other settings.
    pub(crate) const STREAM_NAME_IN_USE: u32 = 10058;
    /// Something else was stored under the subject since: with the sequence that it has now, and without.
    pub(crate) const WRONG_LAST_SEQUENCE: [u32; 2] = [10071, 10164];
    pub(crate) const CONSUMER_NOT_FOUND: u32 = 10014;
    pub(crate) const STREAM_NOT_FOUND: u32 = 10059;
    pub(crate) const MESSAGE_NOT_FOUND: u32 = 10037;
    /// A message was not removed: it is not there, or for a reason that the description tells; which of the two numbers a message that is
    /// not there has hangs on where it lay.
    pub(crate) const NOT_REMOVED: [u32; 2] = [10043, 10057];
    /// A stream with copies is about to store a message of the same id: whether it will is not known yet.
    pub(crate) const DUPLICATE_IN_PROCESS: u32 = 10158;
    /// A message was not stored; the description says why (a limit of the stream, mostly).
    pub(crate) const STORE_FAILED: u32 = 10077;
    pub(crate) const MESSAGE_TOO_LARGE: u32 = 10054;
    pub(crate) const INSUFFICIENT_RESOURCES: u32 = 10023;
    pub(crate) const MEMORY_EXCEEDED: u32 = 10028;
    pub(crate) const STORAGE_EXCEEDED: u32 = 10047;
    pub(crate) const ACCOUNT_RESOURCES_EXCEEDED: u32 = 10002;
}

/// Why a question to JetStream has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// No answer.
    #[error(transparent)]
    Away(#[from] RequestError),
    /// The answer is no.
    #[error("the server refuses: {} (error {})", .0.description, .0.err_code)]
    Refused(Refusal),
    /// The answer cannot be read.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(String),
}

impl ApiError {
    /// Whether the answer is no, with this number.
    pub(super) fn is(&self, number: u32) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.err_code == number)
    }
}

/// A stream, as it stands.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamInfo {
    /// Its settings, all of them.
    pub(super) config: Map<String, Value>,
    /// When it was created.
    pub(super) created: String,
    /// What is in it.
    pub(super) state: StreamState,
    /// The servers that have it, where there is more than one server.
    #[serde(default)]
    pub(super) cluster: Option<RaftGroup>,
}

/// The servers that have a stream or a consumer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RaftGroup {
    /// Who leads; nobody, when it is empty: then whoever answers tells of its own copy.
    #[serde(default)]
    pub(super) leader: String,
    /// The name of the group; empty: there is one copy, and no group.
    #[serde(default)]
    pub(super) raft_group: String,
}

/// What is in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct StreamState {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    #[serde(default)]
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) bytes: u64,
    /// When the first message was stored.
    #[serde(default)]
    pub(super) first_ts: Option<String>,
    /// When the last sequence was given, whether its message is still there or not.
    #[serde(default)]
    pub(super) last_ts: Option<String>,
}

/// The answer to a question for one message.
#[derive(Debug, Deserialize)]
pub(super) struct StoredMessage {
    /// The message.
    pub(super) message: Stored,
}

/// A message, as it is stored.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) seq: u64,
    /// In Base64, as they were sent.
    #[serde(default)]
    pub(super) hdrs: String,
    /// The body in Base64.
    #[serde(default)]
    pub(super) data: String,
    /// When it was stored.
    pub(super) time: String,
}

/// A consumer, as it stands.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ConsumerInfo {
    /// Its name.
    pub(super) name: String,
    /// Its settings, all of them.
    pub(super) config: Map<String, Value>,
    /// When it was created.
    pub(super) created: String,
    /// The servers that have it, where there is more than one server.
    #[serde(default)]
    pub(super) cluster: Option<RaftGroup>,
    /// How far it was handed out.
    #[serde(default)]
    pub(super) delivered: SequencePair,
    /// How far it was acknowledged.
    #[serde(default)]
    pub(super) ack_floor: SequencePair,
    /// Handed out and not settled.
    #[serde(default)]
    pub(super) num_ack_pending: u64,
    /// Not handed out yet.
    #[serde(default)]
    pub(super) num_pending: u64,
    /// Whether an operator paused it.
    #[serde(default)]
    pub(super) paused: bool,
}

/// A position of a consumer.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct SequencePair {
    /// Deliveries so far, by the consumer's own count.
    #[serde(default)]
    pub(super) consumer_seq: u64,
    /// In the stream.
    #[serde(default)]
    pub(super) stream_seq: u64,
}

/// The answer to a publish.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PubAck {
    /// The stream that took it.
    pub(super) stream: String,
    /// Its position there.
    pub(super) seq: u64,
    /// Whether it was there already.
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// Names, as lists of streams give them.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct StreamNames {
    /// The names.
    #[serde(default)]
    pub(super) streams: Option<Vec<String>>,
}

/// A page of the consumers of a stream.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Consumers {
    /// All that there are.
    #[serde(default)]
    pub(super) total: usize,
    /// Those of the page.
    #[serde(default)]
    pub(super) consumers: Option<Vec<ConsumerInfo>>,
}

/// The number under a name in settings; 0 when it is not there, as the server leaves zeros out.
pub(super) fn number(config: &Map<String, Value>, name: &str) -> i64 {
    config.get(name).and_then(Value::as_i64).unwrap_or(0)
}

/// The text under a name in settings; empty when it is not there.
pub(super) fn text<'a>(config: &'a Map<String, Value>, name: &str) -> &'a str {
    config.get(name).and_then(Value::as_str).unwrap_or("")
}

/// The flag under a name in settings; false when it is not there.
pub(super) fn flag(config: &Map<String, Value>, name: &str) -> bool {
    config.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// The texts under a name in settings.
pub(super) fn texts(config: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = config.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
