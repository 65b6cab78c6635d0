//! `tidegate invoke`: a module on one message from a file, without any broker. Nothing is sent anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::time::Instant;

use super::exit::{Ended, Exit, Failure};
use super::limits::LimitArguments;
use super::messages::{MessageArguments, inputs};
use super::{ConfigArgument, say};
use crate::broker::lease::Lease;
use crate::config::{Config, HandlerConfig};
use crate::deploy::beside_host;
use crate::handler::{Call, Effects, Handler, Run};
use crate::message::{Message, Publish};
use crate::outcome::Outcome;
use crate::sandbox::granted::Granted;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions, Version};
use crate::settle::outputs::{Grants, route};

pub(super) mod show;
mod spans;

/// The subject of a message of which none was said.
const SUBJECT: &str = "invoke";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module; or the message, with --handler
    #[arg(value_name = "MODULE", required_unless_present = "handler")]
    module: Option<PathBuf>,
    /// The file with the message; `-`, or none at all, is standard input
    #[arg(value_name = "MESSAGE")]
    message: Option<PathBuf>,
    /// Take module, limits and grants of this handler of the configuration
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    #[command(flatten)]
    config: ConfigArgument,
    /// Which message of the file, counted from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    nth: usize,
    /// The attempt that the handler is told it is
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    attempt: u32,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    messages: MessageArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// What is run, by which limits, and what it may send to.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) module: PathBuf,
    pub(super) limits: Limits,
    /// `None`: no configuration grants anything, so anything may be sent.
    pub(super) grants: Option<Grants>,
    /// What it may reach in mid-run.
    pub(super) granted: Granted,
    pub(super) cache_dir: Option<PathBuf>,
}

pub(super) fn invoke(arguments: &Arguments) -> Ended {
    let (subject, message_file) = subject(arguments)?;
    let publish = message(&arguments.messages, &message_file, arguments.nth)?;
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let (version, message, mut run) = runtime.block_on(run(&subject, publish, arguments.attempt))?;
    if let (Outcome::Completed(outputs), Some(grants)) = (&run.outcome, &subject.grants)
        && let Err(fault) = route(outputs.clone(), grants, &subject.name, &message.id)
    {
        run.outcome = Outcome::Fault(fault);
    }
    let shown = show::Shown::new(&subject.module.display().to_string(), &version, &message, &run);
    if arguments.json {
        say::json(&shown)?
    } else {
        say::data(&shown.for_people())?
    }
    Ok(match run.outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) => Exit::Done,
        Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Rejected(_) | Outcome::Fault(_) => Exit::NotCompleted,
    })
}

/// What to run, and the file with the message: with `--handler` the first path is the message's.
fn subject(arguments: &Arguments) -> Result<(Subject, PathBuf), Failure> {
    let first = |path: &Option<PathBuf>| inputs(path.as_slice()).into_iter().next().unwrap_or_default();
    let Some(name) = &arguments.handler else {
        let subject = Subject::of_module(arguments.module.clone().unwrap_or_default(), &arguments.limits);
        return Ok((subject, first(&arguments.message)));
    };
    if arguments.message.is_some() {
        return Err(Failure::usage(anyhow!(
            "with --handler the configuration names the module; give the message alone"
        )));
    }
    let subject = Subject::of_handler(name, &arguments.config, &arguments.limits)?;
    Ok((subject, first(&arguments.module)))
}

impl Subject {
    /// A module alone, within the default limits.
    pub(super) fn of_module(module: PathBuf, limits: &LimitArguments) -> Self {
        let name = module.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Self {
            name,
            module,
            limits: limits.over(Limits::default()),
            grants: None,
            granted: Granted::anything(),
            cache_dir: None,
        }
    }

    /// A handler of the configuration.
    pub(super) fn of_handler(name: &str, config: &ConfigArgument, limits: &LimitArguments) -> Result<Self, Failure> {
        let config = config.load()?;
        let handler = config.handlers.get(name).ok_or_else(|| {
            let known: Vec<&str> = config.handlers.keys().map(String::as_str).collect();
            let file = config.path().display();
            Failure::not_found(anyhow!("{file} has no handler `{name}`; there is: {}", known.join(", ")))
        })?;
        let module = handler.module.clone().ok_or_else(|| {
            Failure::usage(anyhow!("handler `{name}` names no module; give the path of one, without --handler"))
        })?;
        Ok(Self::configured(name, handler, module, limits, &config))
    }

    /// A module by the settings of a handler.
    pub(super) fn configured(
        name: &str,
        handler: &HandlerConfig,
        module: PathBuf,
        limits: &LimitArguments,
        config: &Config,
    ) -> Self {
        Self {
            name: name.to_owned(),
            module,
            limits: limits.over(handler.limits.clone()),
            grants: Some(handler.grants()),
            granted: beside_host(handler),
            cache_dir: Some(config.host.cache_dir.clone()),
        }
    }
}

/// The message to run on.
pub(super) fn message(arguments: &MessageArguments, file: &Path, nth: usize) -> Result<Publish, Failure> {
    let mut arguments = arguments.clone();
    let lines_of_ours = file.extension().is_some_and(|end| end == "jsonl" || end == "ndjson") || arguments.lines;
    if arguments.subject.is_none() && arguments.subject_field.is_none() && !lines_of_ours {
        arguments.subject = Some(SUBJECT.to_owned());
    }
    let found = arguments.read(file)?.nth(nth.saturating_sub(1));
    let found = found.ok_or_else(|| Failure::not_found(anyhow!("{} has fewer than {nth} messages", file.display())))?;
    Ok(found?.publish)
}

/// A message as its handler is given it, published then.
pub(super) fn handed_over(publish: Publish, published_at: SystemTime) -> Message {
    Message {
        id: publish.id.unwrap_or_else(|| "invoke-1".to_owned()),
        subject: publish.subject,
        headers: publish.headers,
        body: publish.body,
        sequence: 1,
        published_at,
    }
}

async fn run(subject: &Subject, publish: Publish, attempt: u32) -> anyhow::Result<(Arc<Version>, Message, Run)> {
    let module = &subject.module;
    let bytes = tokio::fs::read(module).await.with_context(|| format!("reading the module {}", module.display()))?;
    let options = SandboxOptions { cache_dir: subject.cache_dir.clone(), ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options)?;
    let granted = subject.granted.clone();
    let version = sandbox.load_granted(bytes, &subject.name, &subject.limits, granted).await;
    let version = version.with_context(|| format!("loading {}", module.display()))?;
    let message = handed_over(publish, SystemTime::now());
    // No broker waits: the lease lasts as long as any run may.
    let lease = Lease::until(Instant::now() + subject.limits.max_run + Duration::from_secs(60));
    let call = Call {
        message: &message,
        subscription: "invoke",
        attempt,
        max_attempts: None,
        previous_failure: None,
        lease: &lease,
        effects: Effects::Suppressed,
        keeps_spans: true,
    };
    let run = version.handle(call).await;
    Ok((version, message, run))
}
