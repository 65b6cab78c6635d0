//! The audit log: who changed what, when, from where, and what came of it.
//!
//! Each action has two lines in `audit.jsonl` of the data directory, with the same id: one that is on the disk before
//! anything is done, and one with the result. Any tool that reads JSON lines reads it. The result of a deploy is how it
//! ended, which is after its answer began: the deploy itself writes it down, whether or not somebody reads the answer.
//!
//! Invariants:
//! - What cannot be written down is not done: an action whose first line fails is refused.
//! - Lines are only ever added. No line holds payload or a token.
//! - The log is bounded: a file that is full is put aside, and the oldest of those goes when there are too many.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fail::Fail;
use super::state::HostState;
use super::wire::{AuditEntry, AuditList, AuditResult};
use crate::access::{Caller, Role};
use crate::deploy::report::End;

mod begun;
mod deployments;
mod file;
mod page;
mod tasks;

pub(crate) use begun::Begun;
pub(super) use begun::EndsLater;

/// A page holds at most so many.
const LONGEST_PAGE: usize = 1000;
/// A page of this many fits a screen or two.
const PAGE: usize = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// What the page before gave as `next`: the id to go on before.
    before: Option<String>,
    /// How many at the most: 100 when it is not said, and never more than 1,000.
    limit: Option<usize>,
}

/// `GET /v1/audit`
pub(super) async fn list(
    State(state): State<Arc<HostState>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<AuditList>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let page = state.audit.page(query.before, limit).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Fail::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", format!("{error}: {cause}"))
    })?;
    Ok(Json(AuditList { entries: page.entries, next: page.next }))
}

use page::Page;

/// Who did what the host did by itself, and from where.
const HOST: &str = "host";
/// From where a signal comes.
const SIGNAL: &str = "signal";
/// What stands for its end where an answer's status does: it is done.
const DONE: u16 = 200;
/// The most characters of a target that are kept: ids and names are under 100.
const LONGEST_TARGET: usize = 512;
/// The most characters that are kept of why a deploy failed: the history of its handler has the rest.
const LONGEST_WHY: usize = 512;

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be opened, written or read.
    #[error("the audit log in {directory}")]
    File {
        /// Where the log is kept.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The work was stopped, because the host ends.
    #[error("the host ends")]
    Stopped,
}

/// The audit log of a data directory. Several processes may write to one.
#[derive(Debug)]
pub struct Audit {
    files: Arc<file::Files>,
    /// One page is read at a time: each holds a whole file in memory.
    reading: tokio::sync::Mutex<()>,
}

/// What is about to be done.
#[derive(Debug)]
pub(super) struct Action<'a> {
    pub(super) caller: &'a Caller,
    pub(super) from: std::net::SocketAddr,
    pub(super) action: &'static str,
    pub(super) target: &'a str,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Line {
    /// Before it is done.
    Begun { id: String, at: String, who: String, role: Role, from: String, action: String, target: String },
    /// After it.
    Ended {
        id: String,
        at: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        code: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deploy: Option<End>,
    },
}

impl Line {
    /// A line with an id of its own.
    fn begun((who, role): (&str, Role), from: &str, action: &str, target: &str) -> Self {
        Self::Begun {
            id: ulid::Ulid::generate().to_string(),
            at: now(),
            who: who.to_owned(),
            role,
            from: from.to_owned(),
            action: action.to_owned(),
            target: short(target),
        }
    }

    fn ended(id: String, status: Option<u16>, code: Option<String>, deploy: Option<End>) -> Self {
        let short = |text: String| text.chars().take(LONGEST_WHY).collect();
        let deploy = deploy.map(|end| match end {
            End::Failed { step, why } => End::Failed { step, why: short(why) },
            End::Live { .. } | End::Tried { .. } | End::Unchanged { .. } | End::CutOff { .. } => end,
        });
        Self::Ended { id, at: now(), status, code, deploy }
    }
}

impl Audit {
    /// The log of a data directory; it is made with the first action.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { files: Arc::new(file::Files::new(directory)), reading: tokio::sync::Mutex::default() }
    }

    /// Writes down what is about to be done.
    ///
    /// # Errors
    /// When it is not on the disk. Then nothing may be done.
    pub(super) async fn begin(self: &Arc<Self>, action: &Action<'_>) -> Result<Begun, AuditError> {
        let (caller, from) = (action.caller, action.from.to_string());
        let line = Line::begun((&caller.name, caller.role), &from, action.action, action.target);
        self.begin_with(line, action.action).await
    }

    /// The same for what a signal asks of the host: whoever sends one may do anything to it.
    ///
    /// # Errors
    /// When it is not on the disk. Then nothing may be done.
    pub(crate) async fn begin_on_signal(
        self: &Arc<Self>,
        signal: &'static str,
        action: &'static str,
        target: &str,
    ) -> Result<Begun, AuditError> {
        self.begin_with(Line::begun((signal, Role::Deploy), SIGNAL, action, target), action).await
    }

    async fn begin_with(self: &Arc<Self>, line: Line, action: &'static str) -> Result<Begun, AuditError> {
        let id = line.id().to_owned();
        self.write(&[line]).await?;
        Ok(Begun { audit: Arc::clone(self), id, action })
    }

    /// Writes down what the host did by itself. It is done already, so that it cannot be written down is told and no more.
    pub(crate) async fn by_host(&self, action: &'static str, target: &str) {
        self.all_by_host(&[(action, target.to_owned())]).await;
    }

    /// The same for several: what they are, and of what. They are on the disk at once.
    async fn all_by_host(&self, actions: &[(&'static str, String)]) {
        let lines = actions.iter().flat_map(|(action, target)| {
            let begun = Line::begun((HOST, Role::Operate), HOST, action, target);
            let ended = Line::ended(begun.id().to_owned(), Some(DONE), None, None);
            [begun, ended]
        });
        let written = self.write(&lines.collect::<Vec<_>>()).await;
        begun::told(actions.first().map_or(HOST, |(action, _)| action), written);
    }

    /// A page of actions, the newest first: those before an id, or all.
    async fn page(&self, before: Option<String>, limit: usize) -> Result<Page, AuditError> {
        let _turn = self.reading.lock().await;
        self.blocking(move |files| page::read(files, before.as_deref(), limit)).await
    }

    async fn write(&self, lines: &[Line]) -> Result<(), AuditError> {
        let texts: Result<Vec<String>, _> = lines.iter().map(serde_json::to_string).collect();
        self.blocking(move |files| files.append(texts?.join("\n").as_bytes())).await
    }

    /// The same where nothing can be awaited: it waits for the disk.
    fn append(&self, line: &Line) -> Result<(), AuditError> {
        let written = serde_json::to_vec(line).map_err(std::io::Error::from).and_then(|text| self.files.append(&text));
        written.map_err(|source| AuditError::File { directory: self.files.directory().to_owned(), source })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&file::Files) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(&files)).await.map_err(|_| AuditError::Stopped)?;
        done.map_err(|source| AuditError::File { directory: self.files.directory().to_owned(), source })
    }
}

/// A target of no more than so many characters. Of one that is longer each part of its query keeps the same number at the most: none
/// hides behind another.
fn short(target: &str) -> String {
    // Each with what parts it from the one before; those that say nothing would take the room of the others.
    let starts = target.match_indices(['?', '&']).map(|(at, _)| at);
    let bounds: Vec<usize> = std::iter::once(0).chain(starts).chain([target.len()]).collect();
    let parts = bounds.windows(2).filter_map(|bound| target.get(*bound.first()?..*bound.last()?));
    let parts: Vec<(&str, usize)> =
        parts.filter(|part| *part != "&").map(|part| (part, part.chars().count())).collect();
    let length = |most: usize| parts.iter().map(|(_, length)| (*length).min(most)).sum::<usize>();
    if target.chars().count() <= LONGEST_TARGET {
        return target.to_owned();
    }
    let most = (0..=LONGEST_TARGET).rev().find(|most| length(*most) <= LONGEST_TARGET).unwrap_or(0);
    parts.iter().flat_map(|(part, _)| part.chars().take(most)).collect()
}

impl Line {
    fn id(&self) -> &str {
        match self {
            Self::Begun { id, .. } | Self::Ended { id, .. } => id,
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests;
