//! `tidegate test`: cases run on a handler's module in a sandbox of this command, and held against what is expected.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Ended, Exit, Failure};
use super::limits::LimitArguments;
use super::{ConfigArgument, say};
use crate::cases::{self, Bench, Checked, DEFAULT_TIME, Found, Injected};
use crate::sandbox::{Sandbox, SandboxOptions};

mod plan;
mod show;

use plan::Subject;
use show::{Report, Shown};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files and folders of cases [default: the folder that `golden` of each handler names, or `cases` beside the configuration]
    #[arg(value_name = "CASES")]
    cases: Vec<PathBuf>,
    /// Run them on this module, without a configuration; it may send anywhere
    #[arg(long, value_name = "MODULE", conflicts_with_all = ["handler", "config", "build"])]
    module: Option<PathBuf>,
    /// Run them on this handler of the configuration
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    #[command(flatten)]
    config: ConfigArgument,
    /// Build the project in the configuration's folder first, and run them on what was built
    #[arg(long)]
    build: bool,
    /// Only those in whose file, number or name this stands, without regard to case
    #[arg(long, short, value_name = "TEXT")]
    filter: Option<String>,
    /// Run each once more under a fault, and expect the same: duplicate, redelivery or slow; or with less than it took, and
    /// expect that it is stopped: limits
    #[arg(long = "fault", value_name = "FAULT", value_parser = fault)]
    faults: Vec<Injected>,
    /// Expect what came, where it is something else or nothing was expected: write it into the files
    #[arg(long)]
    update: bool,
    /// Show only what is not as expected
    #[arg(long, short)]
    quiet: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitArguments,
}

fn fault(text: &str) -> Result<Injected, String> {
    let found = Injected::ALL.into_iter().find(|fault| fault.name() == text);
    found.ok_or_else(|| format!("there is: {}", Injected::ALL.map(Injected::name).join(", ")))
}

/// A handler with its cases, read and chosen.
struct Work {
    subject: Subject,
    found: Vec<Found>,
}

pub(super) fn test(arguments: &Arguments) -> Ended {
    let begun = Instant::now();
    let mut all = Vec::new();
    for subject in plan::subjects(arguments)? {
        let mut found = Vec::new();
        for path in &subject.cases {
            let read = cases::read(path, plan::MOST);
            found.extend(
                read.map_err(|error| {
                    Failure::usage(anyhow!("the cases in {} cannot be used: {error}", path.display()))
                })?,
            );
        }
        found.retain(|one| is_wanted(arguments.filter.as_deref(), &one.case.title()));
        all.push(Work { subject, found });
    }
    let count = all.iter().map(|work| work.found.len()).sum();
    if count == 0 {
        return Err(Failure::not_found(match &arguments.filter {
            Some(filter) => anyhow!("there is no case in whose file or name `{filter}` stands"),
            None => anyhow!(
                "there are no cases in {}",
                plan::listed(all.iter().flat_map(|work| work.subject.cases.iter().map(|path| path.display())))
            ),
        }));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let mut report = runtime.block_on(run_all(arguments, &all, count))?;
    report.seconds = begun.elapsed().as_secs_f64();
    if arguments.json {
        say::json(&report)?;
    } else {
        say::data(&report.summary())?;
    }
    Ok(if report.failed == 0 { Exit::Done } else { Exit::NotCompleted })
}

fn is_wanted(filter: Option<&str>, title: &str) -> bool {
    filter.is_none_or(|filter| title.to_lowercase().contains(&filter.to_lowercase()))
}

/// Runs them one after the other, in their order, and shows each when it has ended.
async fn run_all(arguments: &Arguments, all: &[Work], count: usize) -> anyhow::Result<Report> {
    let cache_dir = all.iter().find_map(|work| work.subject.what.cache_dir.clone());
    // The same each time, on every machine.
    let sandbox = Sandbox::new(SandboxOptions { cache_dir, repeatable: true, ..SandboxOptions::default() })?;
    let faults: BTreeSet<Injected> = arguments.faults.iter().copied().collect();
    let bar = bar(count, arguments);
    let mut report = Report::default();
    for Work { subject: Subject { what, subscription, .. }, found } in all.iter().filter(|work| !work.found.is_empty())
    {
        let shown = what.module.display();
        let bytes = tokio::fs::read(&what.module).await;
        let bytes = bytes.with_context(|| format!("reading the module {shown} (`tidegate build` makes it)"))?;
        let granted = what.granted.clone();
        let version = sandbox.load_granted(bytes, &what.name, &what.limits, granted).await;
        let version = version.with_context(|| format!("loading {shown}"))?;
        let bench = Bench {
            version: &version,
            grants: what.grants.as_ref(),
            subscription,
            now: SystemTime::UNIX_EPOCH + DEFAULT_TIME,
        };
        if all.len() > 1 && !arguments.json && !arguments.quiet {
            bar.suspend(|| say::data(&format!("handler {} ({shown})", what.name)))?;
        }
        let mut changed = Vec::new();
        for found in found {
            bar.set_message(found.case.title());
            let checked = found.case.check(&bench, &faults).await;
            let update = arguments.update && is_outdated(found, &checked);
            let one = Shown::new(&what.name, &found.case, &checked, update);
            if !arguments.json && (one.is_failure() || !arguments.quiet) {
                bar.suspend(|| say::data(&one.for_people()))?;
            }
            report.add(one);
            if update {
                changed.push((found, checked.run));
            }
            bar.inc(1);
        }
        let written = cases::rewrite(changed.iter().map(|(found, run)| (*found, run)));
        report.written.extend(written.map_err(|(file, error)| anyhow!("writing {}: {error}", file.display()))?);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Whether what came can be expected in the place of what is.
fn is_outdated(found: &Found, checked: &Checked) -> bool {
    checked.ran && (found.case.expect.is_none() || !checked.differences.is_empty())
}

/// It shows itself on a terminal only, and where cases are not shown one by one.
fn bar(count: usize, arguments: &Arguments) -> ProgressBar {
    if !arguments.quiet && !arguments.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len}  {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_found_by_their_file_and_their_name() {
        let title = "orders.jsonl:2 A free order";
        for filter in [None, Some("free"), Some("ORDERS"), Some(":2")] {
            assert!(is_wanted(filter, title), "{filter:?}");
        }
        assert!(!is_wanted(Some("dear"), title));
        assert_eq!(fault("slow"), Ok(Injected::Slow));
        assert_eq!(fault("fast"), Err("there is: duplicate, redelivery, slow, limits".to_owned()));
    }
}
