//! What can be seen of a cluster: the JSON of the API, read by the command line too.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::registry::Digest;

/// A cluster, as one of its hosts sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// The host that answers.
    pub host: String,
    /// Why that host does not see the others, and since when what it shows is old; nothing when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// All hosts of which something is known, by name.
    pub hosts: Vec<HostView>,
}

/// A host of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// Its name in the cluster.
    pub name: String,
    /// Where it answers over HTTP.
    pub address: String,
    /// Whether it is there.
    pub presence: Presence,
    /// When it last said something, by the server's clock.
    pub last_word: String,
    /// What it said of the handlers, by their names.
    pub handlers: BTreeMap<String, OnHost>,
    /// The subscriptions that are paused on all hosts, as it holds them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paused: BTreeMap<String, HeldThere>,
}

/// A subscription that is paused on all hosts, on one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldThere {
    /// Since when it is paused: tells the pause from an earlier one.
    pub since: String,
    /// Messages of it that are still in flight there.
    pub in_flight: u64,
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It has just said something.
    Here,
    /// It was stopped in order.
    Stopped,
    /// It says nothing any more: it was killed, or NATS is away from it.
    Gone,
}

/// A handler on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnHost {
    /// The version that runs there; nothing: none does.
    pub version: Option<u64>,
    /// Its module.
    pub digest: Option<Digest>,
    /// The version that is tried there on a share of the messages; nothing: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u64>,
    /// How that stands to what is to run.
    pub standing: Standing,
    /// The version that is to run or to be tried, and does not or is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants: Option<u64>,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when that is so, by the server's clock: when it could not be taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When that host tries it again; nothing: when another version is to run, or at its next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_again: Option<String>,
    /// What else is wrong there with the handler, though what is to run runs: as that what the host's configuration names cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How a host stands to what is to run of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// What is to run runs.
    Current,
    /// It is being taken.
    Taking,
    /// It could not be taken: what ran before goes on.
    Refused,
    /// There is no version, or it is not known yet which one is to run.
    Waiting,
}

/// What is to run of a handler in a cluster, and the last change of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToRun {
    /// The version that is to run on every host.
    pub version: u64,
    /// The version that is to be tried beside it; nothing: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<u64>,
    /// The last change: `deployed`, `rolled back`, `brought`, `begun`, `promoted`, `aborted` or `ended`.
    pub change: String,
    /// By whom.
    pub by: String,
    /// On which host.
    pub host: String,
    /// When.
    pub at: String,
}

/// A message on which a shadow and the active version differ, in short: without what the message and the outputs are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceLine {
    /// When it was seen, by that host's clock.
    pub at: String,
    /// The subscription that received the message.
    pub subscription: String,
    /// The message's id; cut to 200 characters.
    pub message_id: String,
    /// Its subject; cut to 200 characters.
    pub subject: String,
    /// By what they differ: `fault`, `outcome` or `outputs`.
    pub by: String,
    /// How, on one line; cut to 200 characters.
    pub told: String,
}

impl OnHost {
    /// Which version could not be taken there, since when and why, for a person; `None`: what is to run runs, or is being taken.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let (Standing::Refused, Some(wants), Some(why)) = (self.standing, self.wants, &self.why) else { return None };
        let since = self.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        let again = self.tries_again.as_ref().map(|at| format!("; it is tried again at {at}")).unwrap_or_default();
        Some(format!("version {wants} cannot be taken{since}: {why}{again}"))
    }
}

impl Standing {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Taking => "taking",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
        }
    }
}

impl Presence {
    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }
}

impl ClusterView {
    /// The same with one handler, or with those that somebody may see.
    pub fn retain(&mut self, shows: impl Fn(&str) -> bool) {
        for host in &mut self.hosts {
            host.handlers.retain(|name, _| shows(name));
        }
    }
}
