//! `tidegate dlq replay`: the message of a dead letter once more, in a sandbox of this command, on the version that gave it
//! up and by its limits. What it would send is shown and sent nowhere; the dead letter stays as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::{Place, body, reach};
use crate::admin::wire::DeadLetterView;
use crate::broker::lease::Lease;
use crate::cli::client::Client;
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::invoke::show::Shown;
use crate::cli::limits::LimitArguments;
use crate::cli::say;
use crate::cli::table::{harmless, number, size};
use crate::deploy::replay::{Marks, which_ran};
use crate::deploy::report::{HandlerView, VersionView};
use crate::deploy::{lacking, without_host};
use crate::dispatch::{Ran, told, told_of_record};
use crate::handler::{Call, Effects, Handler as _, Run};
use crate::message::{Headers, Message, Publish};
use crate::outcome::{Outcome, Output};
use crate::sandbox::granted::Granted;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions, Version};
use crate::settle::outputs::{Grants, Routed, resolve};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The id, as `dlq ls` shows it
    id: String,
    /// Run it on this module too, and show what is different; alone, when the version that ran is kept no more
    #[arg(long, value_name = "MODULE")]
    with: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    limits: LimitArguments,
}

/// What the message is run on.
struct Candidate {
    name: String,
    module: Vec<u8>,
    terms: Terms,
}

/// By which limits, and where it may send.
#[derive(Clone, Default)]
struct Terms {
    limits: Limits,
    /// `None`: what the handler may send to is not known, so anything may be sent.
    grants: Option<Grants>,
    /// What it may reach in mid-run.
    granted: Granted,
    /// What of that is on the host alone.
    lacks: Option<String>,
    /// Which limits are whose, where they are not all those that the message was given up by.
    whose: Option<Whose>,
}

/// Whose limits they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whose {
    /// The fuel that the dead letter tells of; `None`: it tells of none.
    fuel: Option<Option<NonZeroU64>>,
    /// The others.
    others: String,
}

/// A run that has ended.
struct Replayed {
    name: String,
    version: Arc<Version>,
    run: Run,
    ran: Ran,
}

/// All that came of it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    id: &'a str,
    recorded: Recorded<'a>,
    /// On the version that gave the message up.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<Shown>,
    /// On the module that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<Shown>,
    /// What is different between the two; or, when there is only one, between what was recorded and what came now.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<String>,
}

/// How the last run ended that the dead letter tells of.
#[derive(Debug, Serialize)]
struct Recorded<'a> {
    outcome: &'a str,
    error: &'a str,
    fuel: u64,
    memory_peak_bytes: u64,
    run_ms: u64,
}

pub(super) fn replay(arguments: &Arguments) -> Ended {
    let reached = reach(&arguments.place)?;
    let letter = reached.client.dead_letter(&arguments.id, arguments.place.broker.as_deref())?;
    let message = message(&letter)?;
    let handler = reached.client.handler(&letter.handler);
    let terms = terms(&letter, handler.as_ref().ok());
    if let Some(lacks) = &terms.lacks {
        say::talk(lacks);
    }
    let before = match (handler.and_then(|handler| recorded(&reached.client, &letter, &handler)), &arguments.with) {
        (Ok(candidate), _) => Some(candidate),
        (Err(failure), Some(_)) => {
            say::talk(&format!("the version that ran cannot be had: {:#}", failure.error));
            None
        }
        (Err(Failure { exit, error }), None) => {
            let hint = "the version that ran cannot be had; give a module in its place with --with MODULE";
            return Err(Failure { exit, error: error.context(hint) });
        }
    };
    if let Some(whose) = &terms.whose {
        say::talk(&whose.told(&arguments.limits));
    }
    let with = arguments.with.as_deref().map(|path| given(path, &terms)).transpose()?;
    // A queue that this command had opened by itself is not needed any more.
    drop(reached);
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let (before, with) = runtime.block_on(run_both(before, with, &letter, &message, &arguments.limits))?;
    let last = with.as_ref().or(before.as_ref()).map(|replayed| replayed.run.outcome.clone());
    let report = Report::new(&letter, &message, before.as_ref(), with.as_ref());
    if arguments.place.json {
        say::json(&report)?
    } else {
        say::data(&report.for_people())?
    }
    Ok(match last {
        Some(Outcome::Completed(_) | Outcome::Skipped(_)) => Exit::Done,
        Some(Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Rejected(_) | Outcome::Fault(_)) | None => {
            Exit::NotCompleted
        }
    })
}

/// The message, as its handler was given it.
fn message(letter: &DeadLetterView) -> anyhow::Result<Message> {
    let time = |text: &str| humantime::parse_rfc3339(text).context("reading the host's answer");
    let mut headers = Headers::default();
    for (name, value) in &letter.headers {
        headers.push(name, value.clone());
    }
    if !letter.raw_headers.is_empty() {
        headers = Headers::default();
        for (name, value) in &letter.raw_headers {
            headers.push(name, STANDARD.decode(value).context("reading the host's answer")?);
        }
    }
    Ok(Message {
        id: letter.message_id.clone(),
        subject: letter.subject.clone(),
        headers,
        body: body::bytes(letter)?.into(),
        sequence: letter.sequence,
        published_at: time(&letter.published_at)?,
    })
}

/// The version that ran.
fn version<'a>(letter: &DeadLetterView, handler: &'a HandlerView) -> Option<&'a VersionView> {
    let kept =
        |version: &'a VersionView| Marks::kept(version.number, version.digest.as_str(), &version.settings.limits);
    let kept: Vec<Marks<'_>> = handler.versions.iter().map(kept).collect();
    let ran = Marks { number: letter.version, digest: &letter.digest, fuel: letter.fuel_limit };
    let number = which_ran(&ran, &kept)?;
    handler.versions.iter().find(|version| version.number == number)
}

/// The version that ran, with its module out of the host's registry.
fn recorded(client: &Client, letter: &DeadLetterView, handler: &HandlerView) -> Result<Candidate, Failure> {
    let digest = letter.digest.get(..12).unwrap_or(&letter.digest);
    if letter.digest.is_empty() {
        let (id, reason) = (&letter.id, &letter.reason);
        return Err(Failure::not_found(anyhow!("no module ran on the message of {id}, which ended in {reason}")));
    }
    let version = version(letter, handler).ok_or_else(|| {
        let number = letter.version.map(|number| format!("@{number}")).unwrap_or_default();
        Failure::not_found(anyhow!(
            "{}{number} ({digest}) was forgotten, and its module with it: the host keeps the newest versions, as many as \
             `registry.keep_versions` says",
            letter.handler
        ))
    })?;
    Ok(Candidate {
        name: format!("{}@{}", letter.handler, version.number),
        module: client.module(&letter.handler, version.digest.as_str())?,
        terms: Terms::of(version).within(fuel(letter), || format!("those of {}@{}", letter.handler, version.number)),
    })
}

/// The fuel that the message was given up by, as far as its dead letter tells; `Some(None)`: without a limit.
fn fuel(letter: &DeadLetterView) -> Option<Option<NonZeroU64>> {
    // Of a message that no module ran on no limit is known.
    (!letter.digest.is_empty()).then(|| NonZeroU64::new(letter.fuel_limit))
}

/// The terms of the version that ran. When that was forgotten: the fuel that the dead letter tells of, or a message that ran out
/// of it would look mended; and the rest of a version with the same module, of the one that is active, or by default.
fn terms(letter: &DeadLetterView, handler: Option<&HandlerView>) -> Terms {
    let name = |number: u64| format!("{}@{number}", letter.handler);
    if let Some(ran) = handler.and_then(|handler| version(letter, handler)) {
        return Terms::of(ran).within(fuel(letter), || format!("those of {}", name(ran.number)));
    }
    let active =
        handler.and_then(|handler| handler.versions.iter().find(|version| Some(version.number) == handler.active));
    let (terms, others) = match active {
        Some(active) => (Terms::of(active), format!("those of {}, which is active", name(active.number))),
        None => {
            let terms = Terms { granted: Granted::anything(), ..Terms::default() };
            (terms, "the defaults, as no version of the handler is known".to_owned())
        }
    };
    let whose = Some(Whose { fuel: None, others: others.clone() });
    Terms { whose, ..terms }.within(fuel(letter), || others)
}

impl Whose {
    /// The same for people. What the command line says goes before either.
    fn told(&self, limits: &LimitArguments) -> String {
        let Self { fuel, others } = self;
        match fuel {
            Some(fuel) if !limits.is_fuel_given() => {
                let fuel = fuel.map_or_else(|| "no limit".to_owned(), |fuel| number(fuel.get()));
                format!("limits: fuel as the dead letter tells ({fuel}); the others are {others}")
            }
            Some(_) | None => format!("limits: what is not said here is {others}"),
        }
    }
}

impl Terms {
    /// The same within the fuel that is recorded; `others` says whose the other limits are.
    fn within(mut self, recorded: Option<Option<NonZeroU64>>, others: impl FnOnce() -> String) -> Self {
        if let Some(fuel) = recorded.filter(|fuel| self.whose.is_some() || *fuel != self.limits.fuel) {
            self.limits.fuel = fuel;
            self.whose = Some(Whose { fuel: recorded, others: others() });
        }
        self
    }

    fn of(version: &VersionView) -> Self {
        let settings = &version.settings;
        // Its secrets stay where they are.
        let granted = without_host(settings, &BTreeMap::new());
        let (limits, grants) = (settings.limits.clone(), Some(settings.grants()));
        Self { limits, grants, granted, lacks: lacking(settings), whose: None }
    }
}

fn given(path: &Path, terms: &Terms) -> anyhow::Result<Candidate> {
    let module = std::fs::read(path).with_context(|| format!("reading the module {}", path.display()))?;
    Ok(Candidate { name: path.display().to_string(), module, terms: terms.clone() })
}

async fn run_both(
    before: Option<Candidate>,
    with: Option<Candidate>,
    letter: &DeadLetterView,
    message: &Message,
    limits: &LimitArguments,
) -> anyhow::Result<(Option<Replayed>, Option<Replayed>)> {
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let mut ended = [None, None];
    for (place, candidate) in ended.iter_mut().zip([before, with]) {
        if let Some(candidate) = candidate {
            *place = Some(run(&sandbox, candidate, letter, message, limits).await?);
        }
    }
    let [before, with] = ended;
    Ok((before, with))
}

async fn run(
    sandbox: &Sandbox,
    candidate: Candidate,
    letter: &DeadLetterView,
    message: &Message,
    limits: &LimitArguments,
) -> anyhow::Result<Replayed> {
    let Candidate { name, module, terms } = candidate;
    let limits = limits.over(terms.limits);
    let version = sandbox.load_granted(module, &letter.handler, &limits, terms.granted).await;
    let version = version.with_context(|| format!("loading {name}"))?;
    // No broker waits: the lease lasts as long as any run may.
    let lease = Lease::until(Instant::now() + limits.max_run + Duration::from_secs(60));
    // The last failure is that of the run that is repeated here.
    let previous = letter.history.iter().rev().nth(1).map(|failure| format!("{}: {}", failure.reason, failure.error));
    let call = Call {
        message,
        subscription: &letter.subscription,
        attempt: letter.attempts.max(1),
        max_attempts: letter.max_attempts,
        previous_failure: previous.as_deref(),
        lease: &lease,
        effects: Effects::Suppressed,
        keeps_spans: true,
    };
    let mut run = version.handle(call).await;
    let ran = routed(&run, terms.grants.as_ref(), letter, message);
    if let Outcome::Fault(_) = &ran.outcome {
        run.outcome = ran.outcome.clone();
    }
    Ok(Replayed { name, version, run, ran })
}

/// Where its outputs would have gone, which can be a fault of the handler's.
fn routed(run: &Run, grants: Option<&Grants>, letter: &DeadLetterView, message: &Message) -> Ran {
    let (outcome, outputs) = match (&run.outcome, grants) {
        (outcome, Some(grants)) => resolve(outcome.clone(), grants, &letter.subscription, &message.id),
        (Outcome::Completed(outputs), None) => (Outcome::Completed(Vec::new()), outputs.iter().map(as_named).collect()),
        (outcome, None) => (outcome.clone(), Vec::new()),
    };
    Ran { outcome, outputs, usage: run.usage, effects: Some(run.effects.clone()) }
}

/// An output of which only the handler's own words are known.
fn as_named(output: &Output) -> Routed {
    let publish = Publish {
        subject: output.subject.clone().unwrap_or_default(),
        id: output.id.clone(),
        headers: output.headers.clone(),
        body: output.body.clone(),
    };
    Routed { broker: output.to.as_deref().unwrap_or_default().into(), publish }
}

impl<'a> Report<'a> {
    fn new(letter: &'a DeadLetterView, message: &Message, before: Option<&Replayed>, with: Option<&Replayed>) -> Self {
        // What the message was given up for may be how often it was tried; the last failure says how that ended.
        let outcome = letter.history.last().map_or(letter.reason.as_str(), |last| last.reason.as_str());
        let recorded = Recorded {
            outcome,
            error: &letter.error,
            fuel: letter.fuel_used,
            memory_peak_bytes: letter.memory_peak_bytes,
            run_ms: letter.run_ms,
        };
        let shown = |replayed: &Replayed| Shown::new(&replayed.name, &replayed.version, message, &replayed.run);
        let difference = match (before, with) {
            (Some(before), Some(with)) => Some(told(&before.ran, &with.ran)),
            (Some(one), None) | (None, Some(one)) => Some(told_of_record(outcome, &one.ran.outcome)),
            (None, None) => None,
        };
        Self { id: &letter.id, recorded, replayed: before.map(shown), with: with.map(shown), difference }
    }

    fn for_people(&self) -> String {
        let Recorded { outcome, error, fuel, memory_peak_bytes, run_ms } = &self.recorded;
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(text, "recorded  {} {}", harmless(outcome), harmless(error).replace('\n', "\n          "));
        let figures = format!("fuel {}, memory {}, {run_ms} ms", number(*fuel), size(*memory_peak_bytes));
        let _ = writeln!(text, "          {figures}");
        for shown in self.replayed.iter().chain(&self.with) {
            let _ = write!(text, "\n{}", shown.for_people());
        }
        let beside = if self.replayed.is_some() && self.with.is_some() { "both did the same" } else { "as recorded" };
        if let Some(difference) = &self.difference {
            let said = if difference.is_empty() { beside } else { difference };
            let _ = write!(text, "\ncompared  {}\n", harmless(said));
        }
        text += "\nnothing was sent, and the dead letter is as it was\n";
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn letter(digest: &str, fuel_limit: u64) -> DeadLetterView {
        serde_json::from_value(serde_json::json!({
            "id": "1", "broker": "b", "subscription": "s", "reason": "r", "error": "e", "fingerprint": "f",
            "subject": "a", "message_id": "m", "sequence": 1, "published_at": "2026-11-23T21:00:00.000Z",
            "first_seen": "2026-11-23T21:00:00.000Z", "dead_at": "2026-11-23T21:00:00.000Z", "attempts": 1,
            "deliveries": 1, "defers": 0, "timeouts": 0, "redrives": 0, "handler": "h", "digest": digest, "host": "x",
            "fuel_used": 0, "fuel_limit": fuel_limit, "memory_peak_bytes": 0, "run_ms": 0,
            "headers": [["A", "?"]], "raw_headers": [["A", "/w=="]], "body_size": 2, "body_base64": "/wA=",
        }))
        .unwrap()
    }

    #[test]
    fn headers_come_back_byte_by_byte() {
        let message = message(&letter("", 0)).unwrap();
        assert_eq!(message.headers.get("a").unwrap().as_ref(), [0xff]);
        assert_eq!(message.body.as_ref(), [0xff, 0]);
    }

    #[test]
    fn a_forgotten_version_leaves_its_fuel_and_the_rest_is_told() {
        let limits = LimitArguments::default();
        let given = LimitArguments::with_fuel(NonZeroU64::new(9));
        let told = |letter: &DeadLetterView, limits: &LimitArguments| {
            let terms = terms(letter, None);
            (terms.limits.fuel.map(NonZeroU64::get), terms.whose.unwrap().told(limits))
        };
        let default = Limits::default().fuel.map(NonZeroU64::get);
        let others = "the defaults, as no version of the handler is known";
        let recorded = format!("limits: fuel as the dead letter tells (1,000); the others are {others}");
        assert_eq!(told(&letter("ab", 1000), &limits), (Some(1000), recorded));
        let unlimited = format!("limits: fuel as the dead letter tells (no limit); the others are {others}");
        assert_eq!(told(&letter("ab", 0), &limits), (None, unlimited));
        let rest = format!("limits: what is not said here is {others}");
        assert_eq!(told(&letter("", 0), &limits), (default, rest.clone()), "no module ran");
        assert_eq!(told(&letter("ab", 1000), &given).1, rest, "what is said here goes before");
    }
}
