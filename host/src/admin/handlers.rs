//! `/v1/handlers`: what runs, deploying to it, going back, promoting and aborting what is tried.
//!
//! A deploy is read to its end first: what is wrong with the upload is the answer's status. Then each step is a line of
//! the answer, as it happens, and the last line says how it ended.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::audit::{Begun, EndsLater};
use super::fail::Fail;
use super::state::HostState;
use crate::access::Caller;
use crate::config::parse_duration;
use crate::deploy::report::{Aborted, HandlerList, HandlerView, Line, Promoted, RolledBack};
use crate::deploy::{DeployError, Deployments, Provenance, Upload};
use crate::dispatch::Share;
use crate::registry::{Digest, RolloutPlan};
use crate::signature::{self, Signature};

/// A sender that sends nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// A whole upload may take no longer, because nobody else deploys to the handler meanwhile (going back waits for nobody): 64 MiB
/// in five minutes are 220 KB a second.
const UPLOAD_TIME: Duration = Duration::from_secs(300);
/// How long a canary or a shadow may take: what nobody looked after for a month was forgotten.
const ROLLOUT_TIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// How much of where a module came from is kept.
const SOURCE_CHARS: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployQuery {
    /// The sha256 that the module has to have, in hex.
    #[schemars(extend("pattern" = "^(sha256:)?[0-9a-fA-F]{64}$"))]
    digest: Option<String>,
    /// Where the module comes from, for people; 200 characters of it are kept.
    source: Option<String>,
    /// The share of the messages that a canary gets: `5%`, or `0.25%`; more than nothing, and less than all.
    canary: Option<Share>,
    /// How long until the canary is promoted by itself: `10m`; between a second and 30 days.
    promote_after: Option<String>,
    /// The share of the messages that a shadow sees copies of: `100%`; not together with `canary`.
    shadow: Option<Share>,
    /// How long until the shadow ends by itself: `10m`; between a second and 30 days.
    #[serde(rename = "for")]
    ends_after: Option<String>,
}

impl DeployQuery {
    /// How the module is to be tried; `None`: it becomes the active version.
    fn plan(&self) -> Result<Option<RolloutPlan>, Fail> {
        let wrong = |message: &str| Err(Fail::bad_request("invalid-query", message));
        let promote_after = time("promote_after", self.promote_after.as_deref())?;
        let ends_after = time("for", self.ends_after.as_deref())?;
        match (self.canary, promote_after, self.shadow, ends_after) {
            (Some(_), _, Some(_), _) => wrong("a version is tried as a canary or as a shadow, not as both"),
            (None, Some(_), _, _) => wrong("`promote_after` is for a canary: say `canary` too"),
            (_, _, None, Some(_)) => wrong("`for` is for a shadow: say `shadow` too"),
            (Some(share), promote_after, None, None) => Ok(Some(RolloutPlan::Canary { share, promote_after })),
            (None, None, Some(share), ends_after) => Ok(Some(RolloutPlan::Shadow { share, ends_after })),
            (None, None, None, None) => Ok(None),
        }
    }
}

/// A time that a rollout may take.
fn time(key: &str, text: Option<&str>) -> Result<Option<Duration>, Fail> {
    let wrong = |message: String| Fail::bad_request("invalid-query", format!("`{key}`: {message}"));
    let time = text.map(parse_duration).transpose().map_err(wrong)?;
    match time.filter(|time| !ROLLOUT_TIME.contains(time)) {
        Some(time) => Err(wrong(format!("{time:?} is not between a second and 30 days"))),
        None => Ok(time),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackQuery {
    /// The number of the version; the one that was active before when it is not said.
    to: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrialQuery {
    /// The number of the version that was looked at: nothing is done when another one is tried. The one that is tried, whichever
    /// that is, when it is not said.
    version: Option<u64>,
}

pub(super) async fn list(State(state): State<Arc<HostState>>, caller: Caller) -> Result<Json<HandlerList>, Fail> {
    let deployments = deployments(&state)?;
    let mut handlers = deployments.list().await.map_err(|error| fail(&error))?;
    handlers.retain(|handler| caller.covers(&handler.name));
    let mut cluster = deployments.cluster_view();
    if let Some(cluster) = &mut cluster {
        cluster.retain(|handler| caller.covers(handler));
    }
    Ok(Json(HandlerList { handlers, cluster }))
}

pub(super) async fn show(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
) -> Result<Json<HandlerView>, Fail> {
    let mut view = deployments(&state)?.show(&handler).await.map_err(|error| fail(&error))?;
    // What a shadow would have sent is payload, as what the messages are.
    if !caller.sees_payload() {
        view.withhold_payload();
    }
    Ok(Json(view))
}

pub(super) async fn module(
    State(state): State<Arc<HostState>>,
    Path((handler, digest)): Path<(String, String)>,
) -> Result<Response, Fail> {
    let deployments = deployments(&state)?;
    let Ok(digest) = digest.parse::<Digest>() else {
        // The handler is looked for first: what is not there has no module of any name.
        deployments.show(&handler).await.map_err(|error| fail(&error))?;
        return Err(Fail::bad_request("invalid-digest", "the path has no sha256 of a module"));
    };
    let bytes = deployments.module(&handler, &digest).await.map_err(|error| fail(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/wasm")], bytes).into_response())
}

pub(super) async fn rollback(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: Result<Query<RollbackQuery>, QueryRejection>,
) -> Result<Json<RolledBack>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let by = caller.name.to_string();
    whole(&state, move |deployments| async move { deployments.rollback(&handler, query.to, &by).await }).await
}

pub(super) async fn promote(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: Result<Query<TrialQuery>, QueryRejection>,
) -> Result<Json<Promoted>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let by = caller.name.to_string();
    whole(&state, move |deployments| async move { deployments.promote(&handler, query.version, &by).await }).await
}

pub(super) async fn abort(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    query: Result<Query<TrialQuery>, QueryRejection>,
) -> Result<Json<Aborted>, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let by = caller.name.to_string();
    whole(&state, move |deployments| async move { deployments.abort(&handler, query.version, &by).await }).await
}

/// Does what switches versions in a task of its own: a caller who goes away in the middle leaves no switch half done.
async fn whole<T: Send + 'static, F: Future<Output = Result<T, DeployError>> + Send + 'static>(
    state: &HostState,
    work: impl FnOnce(Arc<Deployments>) -> F,
) -> Result<Json<T>, Fail> {
    let done = tokio::spawn(work(Arc::clone(deployments(state)?))).await;
    let broken =
        |_| Fail::new(StatusCode::INTERNAL_SERVER_ERROR, "switch-broken", "the switch stopped; a bug of the host");
    Ok(Json(done.map_err(broken)?.map_err(|error| fail(&error))?))
}

pub(super) async fn deploy(
    State(state): State<Arc<HostState>>,
    Path(handler): Path<String>,
    caller: Caller,
    begun: Begun,
    query: Result<Query<DeployQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fail> {
    let Query(query) = query.map_err(|rejection| Fail::bad_request("invalid-query", rejection.body_text()))?;
    let unanswered = begun.clone().until_answered();
    let begins = begin(&state, &handler, &caller, begun, &query, &headers, body).await;
    unanswered.answered();
    let lines = begins?;
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((Extension(EndsLater), kind, Body::from_stream(stream(lines))).into_response())
}

/// Takes the upload and lets the deploy go; it writes down its end itself from there on.
async fn begin(
    state: &HostState,
    handler: &str,
    caller: &Caller,
    begun: Begun,
    query: &DeployQuery,
    headers: &HeaderMap,
    body: Body,
) -> Result<mpsc::Receiver<Line>, Fail> {
    let expected = query.digest.as_deref().map(str::parse::<Digest>).transpose();
    let expected = expected.map_err(|error| Fail::bad_request("invalid-digest", error.to_string()))?;
    let plan = query.plan()?;
    let signature = signature_of(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let upload = deployments(state)?.upload(handler, &caller.name, announced).await;
    let upload = upload.and_then(|upload| match plan {
        Some(plan) => upload.tried(plan),
        None => Ok(upload),
    });
    let upload = upload.map(|upload| match signature {
        Some(signature) => upload.signed(signature),
        None => upload,
    });
    let upload = receive(upload.map_err(|error| fail(&error))?, body, announced).await?;
    let source = query.source.as_deref().unwrap_or_default();
    let source = source.chars().filter(|c| !c.is_control()).take(SOURCE_CHARS).collect();
    let provenance = Provenance { by: caller.name.to_string(), source };
    let witnessed = upload.witnessed(Box::new(begun));
    witnessed.deploy(provenance, expected.as_ref()).await.map_err(|error| fail(&error))
}

/// The signature of the module, when one came.
fn signature_of(headers: &HeaderMap) -> Result<Option<Signature>, Fail> {
    let Some(value) = headers.get(signature::HEADER) else { return Ok(None) };
    let wrong = |message: String| Fail::bad_request("invalid-signature", message);
    let text = STANDARD.decode(value.as_bytes());
    let text = text.map_err(|error| wrong(format!("the header `{}` is not base64: {error}", signature::HEADER)))?;
    let place = format!("what the header `{}` has", signature::HEADER);
    Signature::read(&text, &place).map(Some).map_err(|error| wrong(error.to_string()))
}

/// Reads the whole body into the registry. Dropped in the middle, it leaves nothing there.
async fn receive(mut upload: Upload, body: Body, announced: Option<u64>) -> Result<Upload, Fail> {
    let mut chunks = body.into_data_stream();
    let ends_at = Instant::now() + UPLOAD_TIME;
    let mut received = 0u64;
    loop {
        let until = ends_at.min(Instant::now() + PATIENCE);
        match tokio::time::timeout_at(until, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                received += chunk.len() as u64;
                upload.write(&chunk).await.map_err(|error| fail(&error))?;
            }
            Ok(Some(Err(error))) => return Err(Fail::bad_request("broken-body", error.to_string())),
            Ok(None) if announced.is_some_and(|announced| announced != received) => {
                return Err(Fail::bad_request("broken-body", "the upload was cut off"));
            }
            Ok(None) => return Ok(upload),
            Err(_elapsed) => {
                let message = "nothing was sent for 30 seconds, or the upload took longer than 5 minutes";
                return Err(Fail::new(StatusCode::REQUEST_TIMEOUT, "too-slow", message));
            }
        }
    }
}

fn stream(lines: mpsc::Receiver<Line>) -> impl futures_util::Stream<Item = Result<Bytes, serde_json::Error>> {
    futures_util::stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        let text = serde_json::to_vec(&line).map(|mut text| {
            text.push(b'\n');
            Bytes::from(text)
        });
        Some((text, lines))
    })
}

pub(super) fn deployments(state: &HostState) -> Result<&Arc<Deployments>, Fail> {
    let message = "no handlers run here: this listener serves queues alone";
    state.deployments.as_ref().ok_or_else(|| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "no-handlers-here", message))
}

pub(super) fn fail(error: &DeployError) -> Fail {
    let code = error.code();
    let status = match error {
        DeployError::NoHandler { .. }
        | DeployError::NoVersion { .. }
        | DeployError::NotKept { .. }
        | DeployError::NoRollout { .. } => StatusCode::NOT_FOUND,
        DeployError::WholeCanary => StatusCode::BAD_REQUEST,
        DeployError::Busy { .. }
        | DeployError::Overtaken { .. }
        | DeployError::AlreadyActive { .. }
        | DeployError::RolloutOn { .. }
        | DeployError::OtherTried { .. }
        | DeployError::NothingBeside { .. }
        | DeployError::NotGranted { .. } => StatusCode::CONFLICT,
        DeployError::Signature(_)
        | DeployError::Refused(_)
        | DeployError::Configured { .. }
        | DeployError::Init { .. }
        | DeployError::Golden(_)
        | DeployError::Unexpected { .. }
        | DeployError::Ungrantable { .. }
        | DeployError::Unloadable { .. }
        | DeployError::Unreadable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        DeployError::Cluster(_) => match code {
            "conflict" | "not-current" => StatusCode::CONFLICT,
            "module-damaged" => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
        DeployError::Registry(_) => match code {
            "disk-full" => StatusCode::INSUFFICIENT_STORAGE,
            "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
            "wrong-digest" => StatusCode::UNPROCESSABLE_ENTITY,
            "no-such-version" => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
    };
    Fail::new(status, code, error.chain())
}
