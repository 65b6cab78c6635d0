//! What the host does to handlers by itself, for whoever writes it down. What a person asks for is written down where they
//! ask, before it is done.

use async_trait::async_trait;

use super::Deployments;

/// What the host did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// A version runs that the configuration asks for.
    Deployed,
    /// A version that was tried became the active one.
    Promoted,
    /// A version that was tried is not tried any more.
    Aborted,
    /// A shadow had its time.
    Ended,
}

impl Own {
    /// The word for it in the metrics and in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Ended => "ended",
        }
    }
}

/// Something that the host did to a version of a handler, with nobody asking for this very thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAct {
    /// What.
    pub what: Own,
    /// The handler.
    pub handler: String,
    /// The version.
    pub version: u64,
    /// Why, in a line; no payload.
    pub why: String,
}

/// Who writes down what the host does by itself.
#[async_trait]
pub trait OnRecord: Send + Sync {
    /// These were done just now, at once.
    async fn did(&self, acts: &[OwnAct]);
}

impl Deployments {
    /// Has it written down, where there is somebody who does that.
    pub(super) async fn put_on_record(&self, acts: &[OwnAct]) {
        if let Some(on_record) = self.on_record.as_ref().filter(|_| !acts.is_empty()) {
            on_record.did(acts).await;
        }
    }
}
