//! The settings of handlers: module, limits, and where they may send to.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::granted::{self, BucketConfig, SecretGrant};
use super::problem::Problem;
use super::raw_handler::{RawHandler, RawInstances, RawLimits, RawOutput};
use super::raw_values::RawFuel;
use crate::broker::subject;
use crate::sandbox::granted::HostPattern;
use crate::sandbox::limits::Limits;
use crate::settle::outputs::{Grant, Grants};

/// Shorter than this the clock of the host (a tick of 1 ms) decides, not the handler.
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
/// Less than two pages of WebAssembly (64 KiB each) starts no guest at all.
const LEAST_MEMORY: usize = 128 << 10;

/// The settings of one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerConfig {
    /// The WebAssembly component; `None`: it comes by a deploy.
    pub module: Option<PathBuf>,
    /// A folder of golden messages, which each version is tried on before it runs.
    pub golden: Option<PathBuf>,
    /// Where it may send messages, by the name that it uses.
    pub outputs: BTreeMap<String, OutputConfig>,
    /// Values that it reads, by name.
    pub config: BTreeMap<String, String>,
    /// Secrets that it reads as values, by name.
    pub secrets: BTreeMap<String, SecretGrant>,
    /// Key-value buckets that it may open, by the name that it uses.
    pub buckets: BTreeMap<String, BucketConfig>,
    /// Hosts that it may send requests to.
    pub hosts: BTreeSet<HostPattern>,
    /// What one run may use.
    pub limits: Limits,
}

/// Somewhere that a handler may send messages to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The subject; or, when it ends in `.>`, the prefix below which the handler may name any.
    pub subject: String,
}

impl HandlerConfig {
    /// The outputs, as routing asks for them.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let grant = |to: &OutputConfig| Grant { broker: to.broker.as_str().into(), subject: to.subject.clone() };
        self.outputs.iter().map(|(name, to)| (name.clone(), grant(to))).collect()
    }

    pub(super) fn validate(name: &str, raw: RawHandler, brokers: &[&str], checker: &mut Checker) -> Self {
        checker.name("handler", "handlers", name);
        let mut path = |key: &str, given: Option<PathBuf>| {
            let given = given?;
            if given.as_os_str().is_empty() {
                let problem = Problem::at(&["handlers", name, key], format!("`{key}` is empty"));
                checker.problem(problem.help("a path relative to this file; or leave the key out"));
            }
            Some(checker.resolve(&given))
        };
        let (module, golden) = (path("module", raw.module), path("golden", raw.golden));
        granted::check_values(name, &raw.config, &raw.secrets, checker);
        Self {
            module,
            golden,
            outputs: raw
                .outputs
                .into_iter()
                .map(|(key, raw)| (key.clone(), output(name, &key, raw, brokers, checker)))
                .collect(),
            config: raw.config,
            secrets: raw.secrets.iter().map(|(key, raw)| (key.clone(), SecretGrant::of(raw, checker))).collect(),
            buckets: raw
                .buckets
                .into_iter()
                .map(|(key, raw)| (key.clone(), BucketConfig::validate(name, &key, raw, brokers, checker)))
                .collect(),
            hosts: granted::hosts(name, &raw.hosts, checker),
            limits: limits(&["handlers", name], raw.limits, &raw.instances, checker),
        }
    }
}

fn output(handler: &str, name: &str, raw: RawOutput, brokers: &[&str], checker: &mut Checker) -> OutputConfig {
    let path = ["handlers", handler, "outputs", name];
    let broker = granted::broker("output", &path, raw.broker, brokers, checker);
    let subject = raw.subject.unwrap_or_default();
    if subject.is_empty() {
        checker.problem(Problem::at(&path, format!("output `{name}` has no `subject`")));
    } else if let Err(error) = subject::check_subject(subject.strip_suffix(".>").unwrap_or(&subject)) {
        let problem = Problem::at(&["handlers", handler, "outputs", name, "subject"], error.to_string());
        checker.problem(problem.help("one subject; or \"prefix.>\", to let the handler name the rest"));
    }
    OutputConfig { broker, subject }
}

/// The limits of a run, by their defaults where the file is silent.
fn limits(handler: &[&str; 2], raw: RawLimits, instances: &RawInstances, checker: &mut Checker) -> Limits {
    let [section, name] = *handler;
    let at = |key| [section, name, "limits", key];
    let default = Limits::default();
    let fuel = match raw.fuel {
        None => default.fuel,
        Some(RawFuel::Unmetered) => None,
        Some(RawFuel::Units(units)) => {
            if units == 0 {
                let problem = Problem::at(&at("fuel"), "`fuel` must not be zero");
                checker.problem(problem.help("to run without counting, say so: fuel = \"unmetered\""));
            }
            NonZeroU64::new(units).or(default.fuel)
        }
    };
    let timeout = checker.duration(&at("timeout"), raw.timeout, default.timeout, LEAST_TIMEOUT);
    // A timeout past the default `max_run` is meant: only a `max_run` that was spelled out can contradict it.
    let max_run = raw.max_run.map_or(default.max_run.max(timeout), |text| text.0);
    if max_run < timeout {
        let problem = Problem::at(&at("max_run"), "`max_run` is shorter than `timeout`");
        checker.problem(problem.help("`max_run` is what a run may extend itself to, so it is at least `timeout`"));
    }
    let memory = checker.memory_size(&at("memory"), raw.memory, default.memory);
    if (1..LEAST_MEMORY).contains(&memory) {
        checker.problem(Problem::at(&at("memory"), "`memory` must be at least 128KiB: less starts no guest"));
    }
    Limits {
        fuel,
        timeout,
        max_run,
        memory,
        outputs: checker.count(&at("outputs"), raw.outputs, default.outputs),
        output_bytes: checker.memory_size(&at("output_bytes"), raw.output_bytes, default.output_bytes),
        // Zero of these is a decision: a handler that may not log, measure or call at all.
        log_lines: raw.log_lines.unwrap_or(default.log_lines),
        log_bytes: checker.memory_size(&at("log_bytes"), raw.log_bytes, default.log_bytes),
        metric_series: raw.metric_series.unwrap_or(default.metric_series),
        host_calls: raw.host_calls.unwrap_or(default.host_calls),
        payload: checker.memory_size(&at("payload"), raw.payload, default.payload),
        module_size: checker.memory_size(&at("module_size"), raw.module_size, default.module_size),
        reuse: checker.count(&[section, name, "instances", "reuse"], instances.reuse, default.reuse),
    }
}
