//! `tidegate check`: what is wrong with a configuration and the modules that it names.

use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit};
use super::{ConfigArgument, say, table};
use crate::config::{Config, ConfigError, ProblemListed};
use crate::deploy::beside_host;
use crate::handler::Handler;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::signature::{self, Signer};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Do not load the modules, only the configuration
    #[arg(long)]
    no_modules: bool,
    /// Print the whole configuration as it holds: every default, and where each value comes from
    #[arg(long, conflicts_with = "json")]
    dump: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Found {
    ok: bool,
    problems: Vec<ProblemListed>,
    #[serde(skip)]
    shown: Vec<String>,
    handlers: Vec<CheckedHandler>,
}

#[derive(Debug, Serialize)]
struct CheckedHandler {
    name: String,
    module: String,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<Signer>,
    imports: Vec<String>,
}

impl Found {
    /// What is wrong with the configuration.
    fn configuration(&mut self, error: ConfigError) {
        if let ConfigError::Invalid(problems) = &error {
            self.problems.extend(problems.listed().cloned());
            self.shown.push(error.to_string());
            return;
        }
        self.shown.push(super::shown(&error.into()));
        let message = self.shown.last().cloned().unwrap_or_default();
        self.problems.push(ProblemListed { message, ..ProblemListed::default() });
    }

    /// What is wrong elsewhere.
    fn other(&mut self, message: String) {
        self.shown.push(format!("error: {message}"));
        self.problems.push(ProblemListed { message, ..ProblemListed::default() });
    }
}

pub(super) fn check(arguments: &Arguments) -> Ended {
    let path = arguments.config.path();
    let mut found = Found::default();
    match Config::load(&path) {
        Err(error) => found.configuration(error),
        Ok(config) => {
            if let Err(error) = config.check_files() {
                found.configuration(error);
            }
            if !arguments.no_modules {
                let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
                runtime.block_on(modules(&config, &mut found))?;
            }
            if arguments.dump {
                say::data(&config.dump())?;
            } else if found.problems.is_empty() && !arguments.json {
                say::data(&summary(&config, &found))?;
            }
        }
    }
    found.ok = found.problems.is_empty();
    if arguments.json {
        say::json(&found)?;
    } else {
        found.shown.iter().for_each(|problem| say::talk(problem));
    }
    Ok(if found.ok { Exit::Done } else { Exit::Usage })
}

/// Loads every module that is there; what is not there was found before.
async fn modules(config: &Config, found: &mut Found) -> anyhow::Result<()> {
    let options = SandboxOptions { cache_dir: Some(config.host.cache_dir.clone()), ..SandboxOptions::default() };
    let sandbox = Sandbox::new(options)?;
    for (name, handler) in &config.handlers {
        let Some(path) = &handler.module else { continue };
        let Ok(bytes) = tokio::fs::read(path).await else { continue };
        let size = bytes.len();
        let signature = if config.signatures.is_off() { Ok(None) } else { signature::beside(path) };
        let signed = signature.and_then(|signature| config.signatures.check(&bytes, signature.as_ref()));
        let cannot = |error: anyhow::Error| format!("handler `{name}` cannot run {}: {error:#}", path.display());
        let signed_by = signed.unwrap_or_else(|error| {
            found.other(cannot(error.into()));
            None
        });
        let granted = beside_host(handler);
        match sandbox.load_granted(bytes, name, &handler.limits, granted).await {
            Ok(version) => found.handlers.push(CheckedHandler {
                name: name.clone(),
                module: path.display().to_string(),
                digest: version.digest().to_owned(),
                size,
                signed_by,
                imports: version.imports().map(str::to_owned).collect(),
            }),
            Err(error) => found.other(cannot(error.into())),
        }
    }
    Ok(())
}

fn summary(config: &Config, found: &Found) -> String {
    let mut text = String::new();
    if !found.handlers.is_empty() {
        let mut handlers = table::table(&["HANDLER", "DIGEST", "SIZE", "MODULE"]);
        for handler in &found.handlers {
            let digest = handler.digest.get(..12).unwrap_or(&handler.digest);
            handlers.add_row(vec![&handler.name, digest, &table::size(handler.size as u64), &handler.module]);
        }
        text += &table::rendered(&handlers);
        text.push('\n');
    }
    if !config.subscriptions.is_empty() {
        let mut subscriptions = table::table(&["SUBSCRIPTION", "BROKER", "SUBJECTS", "HANDLER", "CONCURRENCY"]);
        for (name, subscription) in &config.subscriptions {
            subscriptions.add_row(vec![
                name.as_str(),
                &subscription.broker,
                &subscription.spec.subjects.join(" "),
                &subscription.handler,
                &subscription.concurrency.to_string(),
            ]);
        }
        text += &table::rendered(&subscriptions);
        text.push('\n');
    }
    text + &format!("{} is fine\n", config.path().display())
}
