//! `tidegate profile`: where the fuel of a run on one message goes: in words, and as a flame graph. Nothing is sent anywhere.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::exit::{Ended, Exit, Failure};
use super::invoke::{self, Subject};
use super::limits::LimitArguments;
use super::messages::{MessageArguments, inputs};
use super::{ConfigArgument, say};
use crate::broker::lease::Lease;
use crate::cases::DEFAULT_TIME;
use crate::handler::{Call, Effects, Handler as _};
use crate::message::Message;
use crate::outcome::Outcome;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Profile, Sandbox, SandboxOptions, Version};

mod graph;
mod svg;
mod words;

use graph::Functions;

/// Deeper stacks are cut off at their outer end. Recursion of 512 KiB of stack is some thousands deep, and nobody reads that.
const FRAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(511);
/// The fuel of a handler that counts none: more than any run takes, within what the engine counts to.
const PLENTY: NonZeroU64 = NonZeroU64::MIN.saturating_add(1 << 60);
/// To look takes its time, which is not the handler's: so much longer a run may take.
const LONGER: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module
    #[arg(value_name = "MODULE", required_unless_present = "handler", conflicts_with = "handler")]
    module: Option<PathBuf>,
    /// The file with the message; `-`, or none at all, is standard input
    #[arg(long, short, value_name = "FILE")]
    message: Option<PathBuf>,
    /// Take module and limits of this handler of the configuration
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    #[command(flatten)]
    config: ConfigArgument,
    /// Write the flame graph to this file, as SVG; where it does not end in .svg, as lines of stacks for other tools
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which message of the file, counted from 1
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    nth: usize,
    /// The attempt that the handler is told it is
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    attempt: u32,
    /// Look so often at the most; a run that takes little fuel is looked at wherever it can be
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    looks: u64,
    /// So many functions are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    top: usize,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    messages: MessageArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// All that came of it.
#[derive(Debug, Serialize)]
struct Report {
    module: String,
    digest: String,
    message: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    fuel: u64,
    /// How often the stack was looked at, and how much fuel lies between two looks at the least.
    looks: u64,
    interval: u64,
    /// Fuel of functions without a name.
    nameless: u64,
    /// By their own fuel, the most first.
    functions: Functions,
}

pub(super) fn profile(arguments: &Arguments) -> Ended {
    let subject = match (&arguments.handler, &arguments.module) {
        (Some(name), _) => Subject::of_handler(name, &arguments.config, &arguments.limits)?,
        (None, module) => Subject::of_module(module.clone().unwrap_or_default(), &arguments.limits),
    };
    let file = inputs(arguments.message.as_slice()).into_iter().next().unwrap_or_default();
    let publish = invoke::message(&arguments.messages, &file, arguments.nth)?;
    let message = invoke::handed_over(publish, SystemTime::UNIX_EPOCH + DEFAULT_TIME);
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let (version, profile, interval) = runtime.block_on(run(arguments, &subject, &message))?;
    if let Some(path) = &arguments.out {
        write(path, &profile, &subject.name)?;
    }
    let report = Report {
        module: subject.module.display().to_string(),
        digest: version.digest().to_owned(),
        message: format!("{} on {}", message.id, message.subject),
        outcome: profile.run.outcome.code().0,
        detail: profile.run.outcome.detail(),
        fuel: profile.run.usage.fuel,
        looks: profile.looks,
        interval: interval.get(),
        nameless: profile.nameless,
        functions: Functions::of(&profile.stacks),
    };
    if arguments.json {
        say::json(&report)?;
    } else {
        say::data(&words::of(&report, arguments.top))?;
    }
    if let Some(path) = &arguments.out {
        say::talk(&format!("wrote {}", path.display()));
    }
    Ok(match profile.run.outcome {
        Outcome::Completed(_) | Outcome::Skipped(_) => Exit::Done,
        Outcome::Retry { .. } | Outcome::Defer { .. } | Outcome::Rejected(_) | Outcome::Fault(_) => Exit::NotCompleted,
    })
}

/// Runs the message once for its fuel, and once more to look.
async fn run(
    arguments: &Arguments,
    subject: &Subject,
    message: &Message,
) -> Result<(Arc<Version>, Profile, NonZeroU64), Failure> {
    let module = &subject.module;
    let bytes = tokio::fs::read(module).await.with_context(|| format!("reading the module {}", module.display()))?;
    let cache_dir = subject.cache_dir.clone();
    let options = SandboxOptions { cache_dir, repeatable: true, frames: FRAMES, ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options).map_err(anyhow::Error::from)?;
    let limits = patient(&subject.limits);
    let version = sandbox.load_granted(bytes, &subject.name, &limits, subject.granted.clone()).await;
    let version = version.with_context(|| format!("loading {}", module.display()))?;
    // No broker waits: the lease lasts as long as any run may.
    let lease = || Lease::until(Instant::now() + limits.max_run + Duration::from_secs(60));
    let (first, second) = (lease(), lease());
    let call = Call {
        message,
        subscription: "profile",
        attempt: arguments.attempt,
        max_attempts: None,
        previous_failure: None,
        lease: &first,
        effects: Effects::Suppressed,
        keeps_spans: false,
    };
    let fuel = version.handle(call).await.usage.fuel;
    let interval = NonZeroU64::new(fuel / arguments.looks).unwrap_or(NonZeroU64::MIN);
    let profile = version.profile(Call { lease: &second, ..call }, interval).await;
    let profile = profile.ok_or_else(|| anyhow!("the module's code counts no fuel"))?;
    Ok((version, profile, interval))
}

/// The limits with fuel to count, and with the time that it takes to look.
fn patient(limits: &Limits) -> Limits {
    let timeout = limits.timeout.saturating_mul(LONGER);
    let max_run = limits.max_run.max(timeout);
    // An instance for each run: what the first one left in it would take other fuel.
    let reuse = std::num::NonZeroU32::MIN;
    Limits { fuel: limits.fuel.or(Some(PLENTY)), timeout, max_run, reuse, ..limits.clone() }
}

fn write(path: &Path, profile: &Profile, name: &str) -> anyhow::Result<()> {
    let text = match path.extension() {
        Some(end) if end == "svg" => svg::of(&graph::Tree::of(&profile.stacks), name),
        Some(_) | None => graph::folded(&profile.stacks),
    };
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
