//! `tidegate deploy`: a module onto a host that runs, step by step.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;

use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{client, rollout, say, table};
use crate::config::parse_duration;
use crate::deploy::report::{Change, Done, Failed, GoldenRun, Line};
use crate::dispatch::Share;
use crate::signature;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module
    #[arg(value_name = "FILE")]
    module: PathBuf,
    /// The handler, by its name in the host's configuration
    #[arg(long, value_name = "NAME")]
    handler: String,
    /// The module's signature, as `minisign -S` writes it [default: the file beside the module, FILE.minisig, when it is
    /// there]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Try it on a share of the messages, such as 5%, beside the version that runs
    #[arg(long, value_name = "SHARE")]
    canary: Option<Share>,
    /// Make the canary the active version after so long, such as 10m, when nothing speaks against it [default: when
    /// `tidegate promote` says so]
    #[arg(long, value_name = "DURATION", requires = "canary", value_parser = duration)]
    promote_after: Option<String>,
    #[command(flatten)]
    host: HostArguments,
    /// Print how it ended as JSON
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

impl Arguments {
    /// What is asked of the deploy.
    fn query(&self) -> Vec<(&'static str, String)> {
        let source = self.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut query = vec![("source", source)];
        query.extend(self.canary.map(|share| ("canary", share.to_string())));
        query.extend(self.promote_after.clone().map(|after| ("promote_after", after)));
        query
    }
}

pub(super) fn deploy(arguments: &Arguments) -> Ended {
    let path = arguments.module.display();
    let module = File::open(&arguments.module).with_context(|| format!("opening the module {path}"));
    let module = module.map_err(Failure::usage)?;
    let signature = match &arguments.signature {
        Some(path) => signature::read(path).map(Some),
        None => signature::beside(&arguments.module),
    };
    let signature = signature.map_err(Failure::usage)?;
    let client = client::of(&arguments.host)?;
    let mut last = None;
    client.deploy(&arguments.handler, &module, signature.as_ref(), &arguments.query(), |line| match line {
        Line::Step(step) => {
            let took = table::duration(Duration::from_secs_f64(step.ms.max(0.0) / 1e3));
            say::talk(format!("{:<9} {took:>9}  {}", step.name.name(), step.detail).trim_end());
        }
        end @ (Line::Done(_) | Line::Failed(_)) => last = Some(end),
    })?;
    match last {
        Some(Line::Done(done)) => {
            if arguments.json {
                say::json(&done)?
            } else {
                say::data(&for_people(&done))?
            }
            Ok(Exit::Done)
        }
        Some(Line::Failed(failed)) => {
            if arguments.json {
                say::json(&failed)?;
            } else {
                say::talk(&refused(&failed));
            }
            Ok(Exit::Refused)
        }
        Some(Line::Step(_)) | None => Err(Failure::from(anyhow!("the host did not say how it ended"))),
    }
}

fn for_people(done: &Done) -> String {
    let version = format!("{}@{} sha256:{}", done.handler, done.version, done.digest);
    if done.unchanged {
        return format!("{version} runs already, with these very settings; nothing was changed");
    }
    let took = table::duration(Duration::from_secs_f64(done.ms.max(0.0) / 1e3));
    let mut text = match &done.rollout {
        None => format!("{version} runs, after {took}\n"),
        Some(plan) => format!("{version} {}, after {took}\n", rollout::in_words(plan)),
    };
    for change in &done.changes {
        text += &format!("  {}\n", changed(change));
    }
    text + &golden(&done.golden)
}

pub(super) fn changed(Change { what, before, after }: &Change) -> String {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => format!("{what}: + {after}"),
        (false, true) => format!("{what}: - {before}"),
        (false, false) => format!("{what}: {before} -> {after}"),
    }
}

/// The golden messages, with their fuel beside that of the version before.
pub(super) fn golden(runs: &[GoldenRun]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let mut shown = table::table(&["GOLDEN", "OUTCOME", "BEFORE", "FUEL", "BEFORE", ""]);
    for run in runs {
        shown.add_row(vec![
            run.place.clone(),
            run.outcome.clone(),
            run.outcome_before.clone().unwrap_or_default(),
            table::number(run.fuel),
            run.fuel_before.map(table::number).unwrap_or_default(),
            table::cut(run.unexpected.as_deref().unwrap_or_default(), 120),
        ]);
    }
    table::rendered(&shown)
}

pub(super) fn refused(failed: &Failed) -> String {
    let text =
        format!("error: {} failed: {}\nnothing was changed", failed.step.name(), table::harmless(&failed.message));
    let golden = golden(&failed.golden);
    if golden.is_empty() { text } else { format!("{golden}{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::report::Plan;
    use crate::registry::Digest;

    #[test]
    fn what_changed_is_told_beside_the_digest() {
        let change = |what: &str, before: &str, after: &str| Change {
            what: what.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        let run = GoldenRun {
            place: "a.json:1".to_owned(),
            outcome: "completed".to_owned(),
            fuel: 8123,
            outcome_before: Some("skipped".to_owned()),
            fuel_before: Some(9000),
            unexpected: None,
        };
        let mut done = Done {
            handler: "triage".to_owned(),
            version: 7,
            rollout: None,
            digest: Digest::of(b""),
            unchanged: false,
            changes: vec![change("size", "10", "12"), change("import", "", "x"), change("import", "y", "")],
            golden: vec![run],
            ms: 81.5,
        };
        expect_test::expect![[r#"
            triage@7 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 runs, after 81.50 ms
              size: 10 -> 12
              import: + x
              import: - y
            GOLDEN    OUTCOME    BEFORE   FUEL   BEFORE
            a.json:1  completed  skipped  8,123  9,000
        "#]]
        .assert_eq(&for_people(&done));
        let share = Share::from_hundredths(25).unwrap_or(Share::ALL);
        let plan = Plan { kind: "canary".to_owned(), share, promote_after_seconds: None };
        (done.rollout, done.changes, done.golden) = (Some(plan), Vec::new(), Vec::new());
        let told = for_people(&done);
        assert!(told.ends_with(" gets 0.25% of the messages as a canary, after 81.50 ms\n"), "{told}");
    }
}
