//! `/v1/dead-letters/tasks`: many dead letters sent back or removed, by the host, in its own time.
//!
//! What is ordered stands in the query, and so in the audit log.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Chosen, Given, check_destination, given};
use crate::access::{Caller, Scope};
use crate::admin::fail::Fail;
use crate::admin::state::HostState;
use crate::admin::wire::{TaskList, TaskView};
use crate::config::parse_duration;
use crate::tasks::{Act, Canary, Order, Record, Redrive, TaskError, Tasks};

/// A canary that is not told otherwise: the task ends when more of it fail again, in percent; and its time.
const ABORT_ABOVE: f64 = 10.0;
const CANARY_WAIT: Duration = Duration::from_secs(60);
/// A canary is some messages that a person could look through.
const LARGEST_CANARY: usize = 200;
/// Between one in a thousand seconds, and more than any broker takes.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct TaskQuery {
    #[serde(flatten)]
    chosen: Chosen,
    /// What is done with each.
    action: Action,
    /// A discard removes exactly so many: when others match by then, nothing is removed.
    count: Option<u64>,
    /// At most so many a second; as fast as the broker takes them when it is not said.
    rate: Option<f64>,
    /// A redrive sends back what came back too often, too.
    #[serde(default)]
    force: bool,
    /// A redrive passes over what failed in a version that its handler still runs here; those are counted apart.
    #[serde(default)]
    only_if_version_changed: bool,
    /// A redrive sends them to this subject and whoever receives it, and not to where they came from.
    to: Option<String>,
    /// A redrive sends so many back first, at most 200, and goes on when they do well.
    canary: Option<usize>,
    /// A canary of which more than this share fails again, in percent, ends the task: 10 when it is not said.
    abort_above: Option<f64>,
    /// How long the messages of a canary may take to end: `60s` when it is not said.
    canary_wait: Option<String>,
}

/// What is done with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Redrive,
    Discard,
}

impl TaskQuery {
    fn order(&self, caller: &Caller, brokers: Vec<String>) -> Result<Order, Fail> {
        let wrong = |message: &str| Err(Fail::bad_request("invalid-query", message));
        if self.rate.is_some_and(|rate| !RATES.contains(&rate)) {
            return wrong("`rate` is between 0.001 and 1,000,000 a second");
        }
        let act = match self.action {
            Action::Discard if self.is_of_a_redrive() => {
                return wrong("`force`, `canary`, `to` and `only_if_version_changed` are for a redrive");
            }
            Action::Discard => Act::Discard,
            Action::Redrive if self.count.is_some() => return wrong("`count` is for a discard"),
            Action::Redrive if self.to.is_some() && (self.canary.is_some() || self.only_if_version_changed) => {
                return wrong(
                    "`canary` and `only_if_version_changed` go by the handler that failed, and with `to` another one takes them",
                );
            }
            Action::Redrive => Act::Redrive(Redrive {
                force: self.force,
                canary: self.canary()?,
                only_if_version_changed: self.only_if_version_changed,
                to: self.to.clone(),
            }),
        };
        check_destination(caller, self.to.as_deref())?;
        let filter = self.chosen.filter(caller)?;
        Ok(Order { act, filter, brokers, rate: self.rate, by: caller.name.to_string() })
    }

    fn is_of_a_redrive(&self) -> bool {
        self.force || self.canary.is_some() || self.only_if_version_changed || self.to.is_some()
    }

    fn canary(&self) -> Result<Option<Canary>, Fail> {
        let wrong = |message: String| Fail::bad_request("invalid-query", message);
        let Some(letters) = self.canary else {
            return match (self.abort_above, &self.canary_wait) {
                (None, None) => Ok(None),
                _ => Err(wrong("`abort_above` and `canary_wait` are for a canary: say `canary` too".to_owned())),
            };
        };
        if !(1..=LARGEST_CANARY).contains(&letters) {
            return Err(wrong(format!("`canary` is between 1 and {LARGEST_CANARY}")));
        }
        let abort_above = self.abort_above.unwrap_or(ABORT_ABOVE);
        if !(0.0..=100.0).contains(&abort_above) {
            return Err(wrong("`abort_above` is a share in percent".to_owned()));
        }
        let patience = self.canary_wait.as_deref().map(parse_duration).transpose();
        let patience = patience.map_err(|why| wrong(format!("`canary_wait`: {why}")))?.unwrap_or(CANARY_WAIT);
        Ok(Some(Canary { letters, abort_above, patience }))
    }
}

pub(in crate::admin) async fn begin(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Given<TaskQuery>,
) -> Result<Json<TaskView>, Fail> {
    let query = given(query)?;
    let brokers = state.brokers.all();
    let names = query.chosen.brokers(&brokers)?.into_iter().map(str::to_owned).collect();
    let order = query.order(&caller, names)?;
    let begun = tasks(&state)?.begin(order, query.count).await.map_err(|error| fail(&error))?;
    Ok(Json(TaskView::new(begun)))
}

pub(in crate::admin) async fn list(
    State(state): State<Arc<HostState>>,
    caller: Caller,
) -> Result<Json<TaskList>, Fail> {
    let theirs = tasks(&state)?.list().into_iter().filter(|record| is_theirs(&caller, record));
    Ok(Json(TaskList { tasks: theirs.map(TaskView::new).collect() }))
}

pub(in crate::admin) async fn show(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Fail> {
    let record = theirs(tasks(&state)?, &caller, &id)?;
    Ok(Json(TaskView::new(record)))
}

pub(in crate::admin) async fn cancel(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Fail> {
    let record = at_theirs(&state, &caller, &id)?.cancel(&id).await.map_err(|error| fail(&error))?;
    Ok(Json(TaskView::new(record)))
}

pub(in crate::admin) async fn pause(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Fail> {
    let record =
        at_theirs(&state, &caller, &id)?.pause(&id, caller.name.as_ref()).await.map_err(|error| fail(&error))?;
    Ok(Json(TaskView::new(record)))
}

pub(in crate::admin) async fn resume(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, Fail> {
    let record = at_theirs(&state, &caller, &id)?.resume(&id).await.map_err(|error| fail(&error))?;
    Ok(Json(TaskView::new(record)))
}

/// Whoever is limited to some handlers meets the tasks that are limited to the same.
fn is_theirs(caller: &Caller, record: &Record) -> bool {
    caller.handlers == Scope::All || caller.handlers == record.order.filter.scope
}

fn theirs(tasks: &Tasks, caller: &Caller, id: &str) -> Result<Record, Fail> {
    let record = tasks.get(id).map_err(|error| fail(&error))?;
    match is_theirs(caller, &record) {
        true => Ok(record),
        false => Err(fail(&TaskError::NotFound(id.to_owned()))),
    }
}

/// The tasks, for whoever may do something with this one.
fn at_theirs<'s>(state: &'s HostState, caller: &Caller, id: &str) -> Result<&'s Arc<Tasks>, Fail> {
    let tasks = tasks(state)?;
    theirs(tasks, caller, id)?;
    Ok(tasks)
}

fn tasks(state: &HostState) -> Result<&Arc<Tasks>, Fail> {
    let message = "this listener does no tasks";
    state.tasks.as_ref().ok_or_else(|| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "no-tasks-here", message))
}

fn fail(error: &TaskError) -> Fail {
    let (status, code) = match error {
        TaskError::NotFound(_) => (StatusCode::NOT_FOUND, "no-such-task"),
        TaskError::NoBroker(_) => (StatusCode::BAD_REQUEST, "no-such-broker"),
        TaskError::HasEnded(_) => (StatusCode::CONFLICT, "task-ended"),
        TaskError::TooMany => (StatusCode::CONFLICT, "too-many-tasks"),
        TaskError::OtherCount { .. } => (StatusCode::CONFLICT, "other-count"),
        TaskError::NobodyRuns | TaskError::NoVersions => (StatusCode::CONFLICT, "no-handlers-here"),
        TaskError::Versions(_) => (StatusCode::SERVICE_UNAVAILABLE, "versions-unreadable"),
        TaskError::DeadLetters(error) => return Fail::from(error),
        TaskError::Disk(_) => (StatusCode::SERVICE_UNAVAILABLE, "task-unwritable"),
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Fail::new(status, code, format!("{error}{cause}"))
}
