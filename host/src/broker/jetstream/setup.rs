//! Makes the stream and the durable consumer of a subscription, or checks those that are there.
//!
//! Invariants:
//! - What somebody else made is never changed: it is refused with what is wrong and how to mend it.
//! - What this host made (it carries the stamp in its metadata) is changed only when the subscription says `create`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::check::{self, STAMP};
use super::options::Options;
use super::permits;
use super::pull::PullLimits;
use super::risks;
use super::session::Session;
use super::wire::{ApiError, ConsumerInfo, StreamInfo, StreamNames, code, number, texts};
use crate::broker::{SubscribeError, SubscriptionSpec};

/// What a subscription is bound to.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) stream: String,
    pub(super) stream_created: String,
    pub(super) consumer_created: String,
    pub(super) limits: PullLimits,
    /// What may be lost, or done twice, by what stands there: for a person.
    pub(super) risks: Vec<String>,
    /// Copies of the stream.
    pub(super) replicas: i64,
}

/// Sets a subscription up.
pub(super) async fn bind(
    session: &Session,
    options: &Options,
    spec: &SubscriptionSpec,
) -> Result<Bound, SubscribeError> {
    let name = match &spec.stream {
        Some(name) => name.clone(),
        None => stream_of_subjects(session, spec).await?,
    };
    check_name(&name, "stream").map_err(|detail| refused(spec, detail))?;
    check_name(&spec.name, "consumer").map_err(|detail| refused(spec, detail))?;
    let stream = ready_stream(session, options, spec, &name).await?;
    if spec.create {
        make_named_streams(session, options, spec).await?;
    }
    let consumer = ready_consumer(session, spec, &name).await?;
    let replicas = number(&stream.config, "num_replicas");
    let mut risks = risks::of_stream(&name, &stream.config);
    risks.extend(risks::of_consumer(&name, &spec.name, &consumer.config, replicas));
    risks.extend(permits::risks(session, &name, &spec.name).await);
    Ok(Bound {
        risks,
        replicas,
        stream: name,
        stream_created: stream.created,
        limits: limits(&consumer.config),
        consumer_created: consumer.created,
    })
}

/// Finds out whether a subscription could be set up, and makes or changes nothing.
pub(super) async fn check(session: &Session, spec: &SubscriptionSpec) -> Result<(), SubscribeError> {
    let name = match &spec.stream {
        Some(name) => name.clone(),
        None => stream_of_subjects(session, spec).await?,
    };
    check_name(&name, "stream").map_err(|detail| refused(spec, detail))?;
    check_name(&spec.name, "consumer").map_err(|detail| refused(spec, detail))?;
    let stream = stream_info(session, &name).await.map_err(|error| failed(spec, &error))?;
    let is_there = stream.is_some();
    stream_step(spec, &name, stream)?;
    let consumer = if is_there { consumer_info(session, &name, &spec.name).await } else { Ok(None) };
    consumer_step(spec, &name, consumer.map_err(|error| failed(spec, &error))?)?;
    Ok(())
}

/// A consumer, if it is there.
pub(super) async fn consumer_info(
    session: &Session,
    stream: &str,
    consumer: &str,
) -> Result<Option<ConsumerInfo>, ApiError> {
    match session.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is(code::CONSUMER_NOT_FOUND) || error.is(code::STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A stream, if it is there.
pub(super) async fn stream_info(session: &Session, stream: &str) -> Result<Option<StreamInfo>, ApiError> {
    match session.api(&format!("STREAM.INFO.{stream}"), &json!({})).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is(code::STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The limits that a consumer sets on pulls.
fn limits(config: &Map<String, Value>) -> PullLimits {
    let unsigned = |name: &str| u64::try_from(number(config, name)).unwrap_or(0);
    PullLimits {
        max_batch: usize::try_from(unsigned("max_batch")).unwrap_or(usize::MAX),
        max_bytes: usize::try_from(unsigned("max_bytes")).unwrap_or(usize::MAX),
        max_expires: Duration::from_nanos(unsigned("max_expires")),
    }
}

async fn stream_of_subjects(session: &Session, spec: &SubscriptionSpec) -> Result<String, SubscribeError> {
    let mut found: Option<String> = None;
    for subject in &spec.subjects {
        let names: StreamNames =
            session.api("STREAM.NAMES", &json!({ "subject": subject })).await.map_err(|error| failed(spec, &error))?;
        let names = names.streams.unwrap_or_default();
        match names.as_slice() {
            [] => {}
            [name] if found.as_ref().is_none_or(|before| before == name) => found = Some(name.clone()),
            _ => {
                let text = format!("its subjects are in more than one stream ({}); name one", names.join(", "));
                return Err(refused(spec, text));
            }
        }
    }
    match found {
        Some(name) => Ok(name),
        // Named for the subscription, so that two that are made so do not meet.
        None if spec.create => Ok(spec.name.clone()),
        None => Err(refused(spec, "no stream takes in its subjects; make one, or set `create = true`".to_owned())),
    }
}

async fn ready_stream(
    session: &Session,
    options: &Options,
    spec: &SubscriptionSpec,
    name: &str,
) -> Result<StreamInfo, SubscribeError> {
    let found = stream_info(session, name).await.map_err(|error| failed(spec, &error))?;
    match stream_step(spec, name, found)? {
        Step::Use(info) => Ok(*info),
        Step::Create => create_stream(session, options, spec, name).await,
        Step::Update(config) => {
            tracing::info!(stream = name, subjects = texts(&config, "subjects").join(", "), "the stream takes in more");
            session.api(&format!("STREAM.UPDATE.{name}"), &config).await.map_err(|error| failed(spec, &error))
        }
    }
}

/// What is to be done about a stream or consumer.
enum Step<T> {
    /// It is there as it is to be.
    Use(Box<T>),
    /// It is made.
    Create,
    /// It is changed to this.
    Update(Map<String, Value>),
}

fn stream_step(
    spec: &SubscriptionSpec,
    name: &str,
    found: Option<StreamInfo>,
) -> Result<Step<StreamInfo>, SubscribeError> {
    let Some(info) = found else {
        if !spec.create {
            let text = format!(
                "stream `{name}` does not exist; make it with `nats stream add {name} --subjects={}`, or set \
                 `create = true`",
                spec.subjects.join(",")
            );
            return Err(refused(spec, text));
        }
        return Ok(Step::Create);
    };
    let missing = check::not_covered(&info.config, &spec.subjects);
    if missing.is_empty() {
        return Ok(Step::Use(Box::new(info)));
    }
    let mut subjects = texts(&info.config, "subjects");
    subjects.extend(missing.iter().cloned());
    if spec.create && check::is_ours(&info.config) {
        let mut config = info.config;
        config.insert("subjects".into(), json!(subjects));
        return Ok(Step::Update(config));
    }
    let text = format!(
        "stream `{name}` does not take in {}; mend it with `nats stream edit {name} --subjects={}`",
        missing.join(", "),
        subjects.join(",")
    );
    Err(refused(spec, text))
}

/// Makes the streams that the configuration names and that are missing: outputs may go to one that no subscription
/// receives from. What stands there already is left as it is.
async fn make_named_streams(
    session: &Session,
    options: &Options,
    spec: &SubscriptionSpec,
) -> Result<(), SubscribeError> {
    let named = options.streams.by_name.iter().filter(|(_, settings)| !settings.subjects.is_empty());
    for name in named.map(|(name, _)| name) {
        if stream_info(session, name).await.map_err(|error| failed(spec, &error))?.is_none() {
            create_stream(session, options, spec, name).await?;
        }
    }
    Ok(())
}

/// Sees to it that a stream takes in what a subscription's handler sends: with `create` one is made, named for the
/// subscription, of what no other stream takes in. Gives back what may be lost or stored twice there.
pub(super) async fn take_outputs(
    session: &Session,
    options: &Options,
    subscription: &str,
    subjects: &[String],
    create: bool,
) -> Result<Vec<String>, SubscribeError> {
    let stream = format!("{subscription}-outputs");
    let mut spec = SubscriptionSpec {
        name: subscription.to_owned(),
        stream: Some(stream.clone()),
        subjects: Vec::new(),
        ack_wait: Duration::ZERO,
        max_in_flight: 0,
        create,
    };
    let mut there = BTreeSet::new();
    for subject in subjects {
        let names: Result<StreamNames, _> = session.api("STREAM.NAMES", &json!({ "subject": subject })).await;
        let names = names.map_err(|error| failed(&spec, &error))?;
        let names = names.streams.unwrap_or_default();
        if names.is_empty() {
            spec.subjects.push(subject.clone());
        }
        there.extend(names);
    }
    if spec.subjects.is_empty() {
        return Ok(risks_of(session, &there).await);
    }
    if !create {
        let text = format!(
            "no stream takes in {}, where its handler sends outputs, and messages with outputs do not end without; make one \
             with `nats stream add {stream} --subjects={}`, or set `create = true`",
            spec.subjects.join(", "),
            spec.subjects.join(",")
        );
        return Err(refused(&spec, text));
    }
    ready_stream(session, options, &spec, &stream).await?;
    Ok(risks_of(session, &there).await)
}

/// What streams for outputs can lose, as far as the login may look: it need not, to send there.
async fn risks_of(session: &Session, streams: &BTreeSet<String>) -> Vec<String> {
    let looked = streams.iter().map(|name| async move {
        let info = stream_info(session, name).await.ok().flatten()?;
        Some(risks::of_outputs(name, &info.config))
    });
    futures_util::future::join_all(looked).await.into_iter().flatten().flatten().collect()
}

async fn create_stream(
    session: &Session,
    options: &Options,
    spec: &SubscriptionSpec,
    name: &str,
) -> Result<StreamInfo, SubscribeError> {
    let defaults = &options.streams;
    let settings = defaults.by_name.get(name);
    let subjects = settings.map_or(&spec.subjects, |settings| &settings.subjects);
    let max_age = settings.and_then(|settings| settings.max_age).unwrap_or_default();
    // -1 is the server's word for no limit.
    let max_bytes = settings.and_then(|settings| settings.max_bytes).and_then(|bytes| i64::try_from(bytes).ok());
    // The server refuses a window that is longer than messages live.
    let window = if max_age.is_zero() { defaults.duplicate_window } else { defaults.duplicate_window.min(max_age) };
    let config = json!({
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": defaults.replicas,
        "max_age": nanos(max_age),
        "max_bytes": max_bytes.unwrap_or(-1),
        "duplicate_window": nanos(window),
        "allow_direct": true,
        "metadata": { STAMP: env!("CARGO_PKG_VERSION") },
    });
    tracing::info!(stream = name, subjects = subjects.join(", "), "the stream is created");
    session.api(&format!("STREAM.CREATE.{name}"), &config).await.map_err(|error| failed(spec, &error))
}

async fn ready_consumer(
    session: &Session,
    spec: &SubscriptionSpec,
    stream: &str,
) -> Result<ConsumerInfo, SubscribeError> {
    let found = consumer_info(session, stream, &spec.name).await.map_err(|error| failed(spec, &error))?;
    match consumer_step(spec, stream, found)? {
        Step::Use(info) => Ok(*info),
        Step::Create => {
            tracing::info!(stream, consumer = spec.name, "the consumer is created");
            put_consumer(session, spec, stream, &check::consumer_config(spec)).await
        }
        Step::Update(config) => {
            tracing::info!(stream, consumer = spec.name, "the consumer is put right");
            put_consumer(session, spec, stream, &config).await
        }
    }
}

fn consumer_step(
    spec: &SubscriptionSpec,
    stream: &str,
    found: Option<ConsumerInfo>,
) -> Result<Step<ConsumerInfo>, SubscribeError> {
    let Some(info) = found else {
        if !spec.create {
            let text = format!(
                "stream `{stream}` has no consumer `{}`; make one with explicit acknowledgement, or set `create = true`",
                spec.name
            );
            return Err(refused(spec, text));
        }
        return Ok(Step::Create);
    };
    let problems = check::consumer_problems(stream, &info.config, info.paused, spec);
    if problems.is_empty() {
        return Ok(Step::Use(Box::new(info)));
    }
    let ours = spec.create && check::is_ours(&info.config);
    if ours && problems.iter().all(|problem| problem.can_update) {
        for problem in &problems {
            tracing::debug!(stream, consumer = spec.name, setting = problem.setting, was = problem.is, "is put right");
        }
        return Ok(Step::Update(check::mended(&info.config, spec)));
    }
    let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(refused(spec, format!("consumer `{}` of stream `{stream}`: {}", info.name, list.join("; "))))
}

async fn put_consumer(
    session: &Session,
    spec: &SubscriptionSpec,
    stream: &str,
    config: &Map<String, Value>,
) -> Result<ConsumerInfo, SubscribeError> {
    let question = json!({ "stream_name": stream, "config": config });
    let verb = format!("CONSUMER.CREATE.{stream}.{}", spec.name);
    session.api(&verb, &question).await.map_err(|error| failed(spec, &error))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A name that can stand in a subject.
fn check_name(name: &str, what: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c)) {
        return Err(format!(
            "`{}` cannot be the name of a {what}: no dots, stars, slashes or spaces",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// What an answer of the API means to who subscribes.
pub(super) fn failed(spec: &SubscriptionSpec, error: &ApiError) -> SubscribeError {
    match error {
        // 503: no leader, not up yet. 429: too many at once.
        ApiError::Refused(refusal) if refusal.code != 503 && refusal.code != 429 => refused(spec, error.to_string()),
        ApiError::Refused(_) | ApiError::Away(_) | ApiError::Unreadable(_) => {
            SubscribeError::Away { subscription: spec.name.clone(), detail: error.to_string() }
        }
    }
}

pub(super) fn refused(spec: &SubscriptionSpec, detail: String) -> SubscribeError {
    SubscribeError::Refused { subscription: spec.name.clone(), detail }
}
