//! Which cases are run on which module, within which limits.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::Arguments;
use crate::cases::Most;
use crate::cli::build::Project;
use crate::cli::exit::Failure;
use crate::cli::invoke;
use crate::config::{Config, HandlerConfig};

/// A hundred thousand cases of a few KiB: what a person exports in one go. Their bodies are held in memory.
pub(super) const MOST: Most = Most { cases: 100_000, bytes: 1 << 30 };
/// Where cases lie, beside the configuration, when no handler names a folder.
const FOLDER: &str = "cases";
/// What the handler is told of its subscription, where it has none.
const SUBSCRIPTION: &str = "test";

/// A module and its cases.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) what: invoke::Subject,
    pub(super) subscription: String,
    /// Files and folders.
    pub(super) cases: Vec<PathBuf>,
}

/// All that is to be run, in the order of the handlers' names.
pub(super) fn subjects(arguments: &Arguments) -> Result<Vec<Subject>, Failure> {
    let Arguments { cases, module, handler, limits, .. } = arguments;
    if let Some(module) = module {
        if cases.is_empty() {
            return Err(Failure::usage(anyhow!("say which cases are to be run on it: files, or folders of them")));
        }
        return Ok(vec![Subject {
            what: invoke::Subject::of_module(module.clone(), limits),
            subscription: SUBSCRIPTION.to_owned(),
            cases: cases.clone(),
        }]);
    }
    let config = arguments.config.load()?;
    let beside = folder_of(&config).join(FOLDER);
    let is_named = |(name, handler): (&String, &HandlerConfig)| {
        handler.golden.is_some() && arguments.handler.as_ref().is_none_or(|named| named == name)
    };
    let cases = match cases.as_slice() {
        [] if !config.handlers.iter().any(is_named) && beside.is_dir() => &vec![beside],
        _ => cases,
    };
    let names = chosen(&config, handler.as_deref(), !cases.is_empty())?;
    let built = if arguments.build { Some(built(&config, &names)?) } else { None };
    let subject = |(name, handler): (&String, &HandlerConfig)| {
        let module = built.clone().or_else(|| handler.module.clone()).ok_or_else(|| {
            Failure::usage(anyhow!("handler `{name}` names no module; give the path of one with --module"))
        })?;
        let own = handler.golden.clone().into_iter().collect();
        Ok(Subject {
            what: invoke::Subject::configured(name, handler, module, limits, &config),
            subscription: subscription(&config, name),
            cases: if cases.is_empty() { own } else { cases.clone() },
        })
    };
    config.handlers.iter().filter(|(name, _)| names.contains(name)).map(subject).collect()
}

/// The handlers whose cases are run.
fn chosen<'a>(config: &'a Config, named: Option<&str>, with_cases: bool) -> Result<Vec<&'a String>, Failure> {
    let file = config.path().display();
    let all = || listed(config.handlers.keys());
    let handlers: Vec<(&String, &HandlerConfig)> =
        config.handlers.iter().filter(|(name, _)| named.is_none_or(|named| named == name.as_str())).collect();
    match (handlers.as_slice(), named) {
        ([], Some(named)) => {
            return Err(Failure::not_found(anyhow!("{file} has no handler `{named}`; there is: {}", all())));
        }
        ([], None) => return Err(Failure::usage(anyhow!("{file} has no handler"))),
        ([_, _, ..], _) if with_cases => {
            return Err(Failure::usage(anyhow!("say with --handler on which they are to be run: {}", all())));
        }
        _ => {}
    }
    let ready: Vec<&String> =
        handlers.iter().filter(|(_, handler)| with_cases || handler.golden.is_some()).map(|(name, _)| *name).collect();
    if let (true, Some((name, _))) = (ready.is_empty(), handlers.first()) {
        return Err(Failure::usage(anyhow!(
            "say which cases are to be run; or put them into `{FOLDER}` beside {file}, or name their folder in it:\n\n\
             [handlers.{name}]\ngolden = \"golden\""
        )));
    }
    Ok(ready)
}

/// The module of the project in the configuration's folder.
fn built(config: &Config, names: &[&String]) -> Result<PathBuf, Failure> {
    if names.len() > 1 {
        let names = listed(names.iter());
        return Err(Failure::usage(anyhow!("say with --handler which one is built: {names}")));
    }
    let project = Project::find(folder_of(config), None).map_err(Failure::usage)?;
    Ok(project.build()?)
}

fn folder_of(config: &Config) -> &Path {
    config.path().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn subscription(config: &Config, handler: &str) -> String {
    let ours = config.subscriptions.iter().find(|(_, subscription)| subscription.handler == handler);
    ours.map_or_else(|| SUBSCRIPTION.to_owned(), |(name, _)| name.clone())
}

pub(super) fn listed(names: impl Iterator<Item = impl Display>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
