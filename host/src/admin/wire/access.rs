//! Who asks, and who changed what, as it goes over the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::deploy::report::End;

/// The answer of `/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Whoami {
    /// The name of the token or of the client certificate; `local` where none is asked for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The handlers that it is limited to; nothing when it is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handlers: Option<Vec<String>>,
}

/// A page of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// The newest first.
    pub entries: Vec<AuditEntry>,
    /// What to give as `before` for the next page; nothing when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An action that changed something, or was to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its id.
    pub id: String,
    /// When it was asked for.
    pub at: String,
    /// By whom: the name of a token or of a client certificate, or `local`; `host` for what the host did by itself.
    pub who: String,
    /// With which role.
    pub role: Role,
    /// From which address and port; `host` for what the host did by itself.
    pub from: String,
    /// What: `dead-letter.discard` and the like.
    pub action: String,
    /// To what: the path and the query of the request; in words for what the host did by itself.
    pub target: String,
    /// What came of it; nothing while it is being done, and when the host or the caller went before its end: it is unfinished
    /// then, and what came of it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AuditResult>,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditResult {
    /// When it was done.
    pub at: String,
    /// The HTTP status of the answer; nothing when the caller went before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The word of the error, where it was one: of the answer, or of the step at which a deploy failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How a deploy ended, which it does behind the beginning of its answer; nothing when it did not begin, and for all else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<End>,
}
