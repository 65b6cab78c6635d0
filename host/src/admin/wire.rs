//! The JSON of the API: what goes over the wire, used by the listener and by the command line alike.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dispatch::Stall;
use crate::message::{Headers, Publish};
use crate::telemetry::{Recent, SubscriptionCounts};

mod access;
mod dead_letter;
mod dead_letter_line;
mod dead_letter_stats;
mod kept;
mod live;
mod past;
mod pause;
mod replay;
mod series;
mod task;

pub use access::{AuditEntry, AuditList, AuditResult, Whoami};
pub use dead_letter::{DeadLetterList, DeadLetterView, FailureView, Shown};
pub use dead_letter_line::{DeadLetterLine, ExportEnd, ExportLine, ImportSummary};
pub use dead_letter_stats::{DeadLetterGroup, DeadLetterSample, DeadLetterStats, DeathsOverTime};
pub use kept::{Forgotten, KeptList, KeptView};
pub use live::{Bytes, EndedView, LiveLine, LogView, MessageView, SentView};
pub use past::{PastMessage, PastMessageError, PastMessages};
pub use pause::{PauseKind, PauseView, Paused, PausedSubscription, Resumed, ResumedSubscription};
pub use replay::{MeasurementView, OutputView, RecordedRun, ReplayView, ReplayedRun};
pub use series::Series;
pub use task::{CanaryView, TaskFailure, TaskList, TaskView};

/// One message to publish: a line of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishLine {
    /// The subject.
    pub subject: String,
    /// The message id, for de-duplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Headers with text values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A body that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A body that is JSON; it is sent as compact text, its keys and numbers as they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub json: Option<Box<serde_json::value::RawValue>>,
    /// A body of any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl PublishLine {
    /// The message, or what is wrong with the line.
    ///
    /// # Errors
    /// When it has more than one body, or one that is no base64.
    pub fn into_publish(self) -> Result<Publish, String> {
        let mut headers = Headers::default();
        for (name, value) in self.headers {
            headers.push(name, value);
        }
        let body = match (self.body, self.json, self.body_base64) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(json), None) => json.get().as_bytes().to_vec(),
            (None, None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("`body_base64`: {error}"))?,
            (None, None, None) => Vec::new(),
            _ => return Err("a message has one of `body`, `json` and `body_base64`".to_owned()),
        };
        Ok(Publish { subject: self.subject, id: self.id, headers, body: body.into() })
    }

    /// The line of a message: its body as text where it is text, else as base64.
    ///
    /// # Errors
    /// When a header's value is not text, which a line cannot carry.
    pub fn from_publish(publish: &Publish) -> Result<Self, String> {
        let mut headers = BTreeMap::new();
        for header in publish.headers.iter() {
            let value = std::str::from_utf8(&header.value)
                .map_err(|_| format!("the value of header `{}` is not text", header.name))?;
            headers.insert(header.name.clone(), value.to_owned());
        }
        let mut line = Self { subject: publish.subject.clone(), id: publish.id.clone(), headers, ..Self::default() };
        match std::str::from_utf8(&publish.body) {
            Ok(text) => line.body = Some(text.to_owned()),
            Err(_) => line.body_base64 = Some(STANDARD.encode(&publish.body)),
        }
        Ok(line)
    }
}

/// The answer to one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedMessage {
    /// Its position in the stream; that of the earlier message when this one was there already.
    pub sequence: u64,
    /// Whether a message of this id was there already.
    pub duplicate: bool,
}

/// The answer to a stream of messages: what was stored, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishSummary {
    /// Messages that were stored.
    pub published: u64,
    /// Messages that were there already, by their id.
    pub duplicates: u64,
    /// Messages that were not stored. The stream ends with the group of lines in which one was not.
    pub failed: u64,
    /// The first failures, by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<LineFailure>,
    /// Why the stream was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// A line whose message was not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineFailure {
    /// The line, counted from 1.
    pub line: u64,
    /// Why.
    pub error: ErrorBody,
}

/// What went wrong: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// The answer of `/ready`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// Whether messages are taken and given up ones can be stored.
    pub ready: bool,
    /// What is not ready, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
    /// Subscriptions that are paused, or whose circuit is open. That is what somebody wants, or a trouble of what the handler
    /// speaks to: the host is ready all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<String>,
    /// Subscriptions that hold as many messages as they handle at once, none of which comes to its end. The host is ready all
    /// the same: what is published to it is taken, and its other subscriptions go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<String>,
    /// Handlers of which this host cannot take what is to run in its cluster, with since when and why. It is ready all the same:
    /// it goes on with what it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Trouble>,
    /// Why this host does not follow its cluster. It is ready all the same: it goes on with what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// What a [`Trouble`] with the store of dead letters begins with.
pub(crate) const DEAD_LETTERS: &str = "dead letters";

/// Something that is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// Which: `host`, `broker NAME`, `subscription NAME` or `handler NAME`.
    pub what: String,
    /// Why, for a person. Whoever shows no token that may read it is told that it takes one.
    pub why: String,
}

/// The answer of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The host's name.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// Since when it runs.
    pub uptime_seconds: f64,
    /// Whether it has stopped taking messages for good.
    pub draining: bool,
    /// The brokers.
    pub brokers: Vec<BrokerView>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
}

/// A broker now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokerView {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it can be reached.
    pub connected: bool,
    /// Why not, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Dead letters that wait; `None` when that could not be learnt.
    pub dead_letters: Option<u64>,
    /// What a person should know of it, though it works: settings by which messages may be lost or handled twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A stall that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Stall")]
pub struct StallView {
    /// When it was noticed.
    pub since: String,
    /// What is held, and for how long nothing has come to its end, for a person.
    pub why: String,
}

impl StallView {
    /// A stall, as it is shown.
    #[must_use]
    pub fn of(stall: &Stall) -> Self {
        Self { since: dead_letter::time(stall.since), why: stall.to_string() }
    }
}

/// A subscription now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionView {
    /// Its name.
    pub name: String,
    /// Its broker.
    pub broker: String,
    /// Its handler.
    pub handler: String,
    /// The subjects that it receives, with `*` for one word and `>` for all that follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The sha256 of the module that runs, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it takes no messages, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// By whom it is paused, and until when; where nobody paused it, that its circuit is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// That it gets nowhere; nothing when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall: Option<StallView>,
    /// How long the runs of the last ten seconds took; nothing when there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_run_seconds: Option<Recent>,
    /// What was counted.
    pub counts: SubscriptionCounts,
}
