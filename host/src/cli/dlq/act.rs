//! `tidegate dlq redrive` and `discard`: some by their ids, one after the other; or all that match, as a task of the host.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use super::filter::Filter;
use super::task::{self, Follow};
use super::watch::Watch;
use super::{Place, edit, reach, stats};
use crate::admin::wire::TaskView;
use crate::cli::client::{Client, Wanted};
use crate::cli::direct::Reached;
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::{say, table};
use crate::config::parse_duration;

#[derive(Debug, Args)]
struct Chosen {
    /// The ids, as `dlq ls` shows them; or --all in their place
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that match what is said of them; without that, all there are
    #[arg(long)]
    all: bool,
    /// Say how many match and of what, and do nothing
    #[arg(long, requires = "all")]
    dry_run: bool,
    /// At most so many a second
    #[arg(long, value_name = "NUMBER", requires = "all")]
    rate: Option<f64>,
    #[command(flatten)]
    follow: Follow,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

impl Chosen {
    /// Where none matched, says what of the filter the host knows nothing of.
    fn tell_of_none(&self, client: &Client, matched: Option<u64>) {
        if matched == Some(0) {
            self.filter.tell_what_is_unknown(client);
        }
    }

    /// Refuses when nothing says which.
    fn check(&self) -> Result<(), Failure> {
        if self.all || !self.ids.is_empty() {
            return Ok(());
        }
        let which =
            "say which: by their ids, as `dlq ls` shows them, or --all for all that match, or for all there are";
        Err(Failure::usage(anyhow!(which)))
    }
}

#[derive(Debug, Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    chosen: Chosen,
    /// Those too that came back from earlier redrives again and again
    #[arg(long)]
    force: bool,
    /// Pass over those that failed in a version that their handler still runs
    #[arg(long, conflicts_with_all = ["edit", "body"])]
    only_if_version_changed: bool,
    /// Send to this subject and whoever receives it, and not to where they came from
    #[arg(long, value_name = "SUBJECT", conflicts_with_all = ["canary", "only_if_version_changed"])]
    to: Option<String>,
    /// Tell what becomes of them, until they have come to their end; for a minute at the most
    #[arg(long, conflicts_with = "all")]
    watch: bool,
    /// Edit the body first, in the editor that VISUAL or EDITOR says; the dead letter keeps its own
    #[arg(long, conflicts_with_all = ["all", "body"])]
    edit: bool,
    /// Send it back with the body in this file; the dead letter keeps its own
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    body: Option<PathBuf>,
    /// Send so many back first, and the others when these do well
    #[arg(long, value_name = "NUMBER", requires = "all")]
    canary: Option<usize>,
    /// End it when more than this share of the first ones fails again, in percent [default: 10]
    #[arg(long, value_name = "PERCENT", requires = "canary", value_parser = percent)]
    abort_above: Option<f64>,
    /// How long the first ones may take to end [default: 60s]
    #[arg(long, value_name = "DURATION", requires = "canary", value_parser = parse_duration)]
    canary_wait: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
    /// How many are removed, with --all: what would be typed on a terminal
    #[arg(long, value_name = "NUMBER", requires = "all")]
    count: Option<u64>,
    /// Do not ask before more than one is removed by its id
    #[arg(long, short, conflicts_with = "all")]
    yes: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "expected a share in percent, between 0 and 100".to_owned())
}

pub(super) fn redrive(arguments: &Redrive) -> Ended {
    let Chosen { ids, place, .. } = &arguments.chosen;
    arguments.chosen.check()?;
    let reached = reach(place)?;
    if arguments.edit || arguments.body.is_some() {
        return edited(arguments, &reached);
    }
    if !arguments.chosen.all {
        let (how, watch) = (arguments.how(), arguments.watch(&reached)?);
        let redrive = |id: &str| one(&reached.client, arguments, &how, id);
        return seen(watch, &act(ids, redrive), "sent back", place.json);
    }
    let wanted = wanted(&reached.client, &arguments.chosen)?;
    if arguments.chosen.dry_run {
        return stats::what_matches(&reached.client, &wanted, true, &arguments.chosen.filter, place.json);
    }
    if let Some(nobody) = reached.nobody_runs() {
        say::talk(&format!("{nobody}: what is sent back waits in its broker until one runs"));
    }
    let wait = arguments.canary_wait.map(|wait| humantime::format_duration(wait).to_string());
    let order = wanted
        .and("action", Some("redrive"))
        .and("rate", arguments.chosen.rate.map(|rate| rate.to_string()))
        .and("force", arguments.force.then_some("true"))
        .and("only_if_version_changed", arguments.only_if_version_changed.then_some("true"))
        .and("to", arguments.to.as_deref())
        .and("canary", arguments.canary.map(|canary| canary.to_string()))
        .and("abort_above", arguments.abort_above.map(|share| share.to_string()))
        .and("canary_wait", wait);
    let begun = reached.client.begin_task(&order)?;
    arguments.chosen.tell_of_none(&reached.client, begun.total);
    if let Some(warning) = same_version(&begun).filter(|_| !arguments.only_if_version_changed) {
        say::talk(&warning);
    }
    task::follow(&reached, begun, &arguments.chosen.follow, place.json)
}

/// Tells what was done, and where it is watched what became of it.
fn seen(watch: Option<Watch>, acted: &Acted, word: &str, json: bool) -> Ended {
    let reported = report(acted, word, json)?;
    let Some(watch) = watch else { return Ok(reported) };
    let watched = watch.follow(&acted.done, json)?;
    Ok(if reported == Exit::Done { watched } else { reported })
}

impl Redrive {
    /// What looks at the messages that are sent back, where that is asked for.
    fn watch(&self, reached: &Reached) -> Result<Option<Watch>, Failure> {
        let Chosen { ids, place, .. } = &self.chosen;
        self.watch.then(|| Watch::begin(reached, ids, place.broker.as_deref())).transpose()
    }

    /// How one is sent back.
    fn how(&self) -> Wanted {
        Wanted::default()
            .and("broker", self.chosen.place.broker.as_deref())
            .and("force", self.force.then_some("true"))
            .and("only_if_version_changed", self.only_if_version_changed.then_some("true"))
            .and("to", self.to.as_deref())
    }
}

/// Sends one back. What failed in a version that still runs is warned of, or passed over.
fn one(client: &Client, arguments: &Redrive, how: &Wanted, id: &str) -> Result<Done, Failure> {
    let letter = client.dead_letter(id, arguments.chosen.place.broker.as_deref())?;
    // Elsewhere another handler takes it.
    let same_version = letter.same_version && arguments.to.is_none();
    match (same_version, arguments.only_if_version_changed) {
        (true, true) => return Ok(Done::PassedOver),
        (true, false) => say::talk(&format!("warning: {id} failed in a version that still runs, and may fail again")),
        (false, _) => {}
    }
    client.redrive(id, how).map(|_| Done::Acted)
}

/// That many of a task's are likely to fail again.
fn same_version(begun: &TaskView) -> Option<String> {
    let count = begun.same_version.filter(|count| *count > 0)?;
    Some(format!(
        "warning: {} of {} failed in a version that still runs, and may fail again; --only-if-version-changed passes such over",
        table::number(count),
        begun.total.map_or_else(|| "them".to_owned(), table::number),
    ))
}

pub(super) fn discard(arguments: &Discard) -> Ended {
    let Chosen { ids, place, .. } = &arguments.chosen;
    arguments.chosen.check()?;
    let reached = reach(place)?;
    if !arguments.chosen.all {
        if ids.len() > 1 && !arguments.yes {
            confirm(ids.len() as u64, "--yes")?;
        }
        let discard = |id: &str| reached.client.discard(id, place.broker.as_deref()).map(|()| Done::Acted);
        return report(&act(ids, discard), "removed", place.json);
    }
    let wanted = wanted(&reached.client, &arguments.chosen)?;
    if arguments.chosen.dry_run {
        return stats::what_matches(&reached.client, &whole(&wanted), false, &arguments.chosen.filter, place.json);
    }
    let (count, wanted) = match arguments.count {
        Some(count) => (count, wanted),
        None => {
            let stats = reached.client.dead_letter_stats(&whole(&wanted))?;
            let matched = stats.matched;
            if matched == 0 {
                arguments.chosen.tell_of_none(&reached.client, Some(0));
                return Err(Failure::not_found(anyhow!("no dead letter matches; nothing was removed")));
            }
            confirm(matched, &format!("--count {matched} --until {}", stats.until))?;
            // Those that were counted: what died while somebody typed is not among them.
            let by_then = if stats.until.is_empty() { wanted } else { wanted.but("until", &stats.until) };
            (matched, by_then)
        }
    };
    let order = wanted
        .and("action", Some("discard"))
        .and("count", Some(count.to_string()))
        .and("rate", arguments.chosen.rate.map(|rate| rate.to_string()));
    let begun = reached.client.begin_task(&order)?;
    task::follow(&reached, begun, &arguments.chosen.follow, place.json)
}

/// Sends one back with another body.
fn edited(arguments: &Redrive, reached: &Reached) -> Ended {
    let Chosen { ids, place, .. } = &arguments.chosen;
    let client = &reached.client;
    let broker = place.broker.as_deref();
    let [id] = ids.as_slice() else {
        return Err(Failure::usage(anyhow!("another body is for one dead letter: give one id")));
    };
    let body = match &arguments.body {
        Some(path) => std::fs::read(path).with_context(|| format!("reading {}", path.display()))?,
        None => match edit::edited(&client.dead_letter(id, broker)?)? {
            Some(body) => body,
            None => return Err(Failure::from(anyhow!("the body was left as it was; nothing was sent back"))),
        },
    };
    let (how, watch) = (arguments.how(), arguments.watch(reached)?);
    let redrive = |id: &str| client.redrive_with(id, &how, &body).map(|_| Done::Acted);
    seen(watch, &act(ids, redrive), "sent back with another body", place.json)
}

/// All of them are counted, as exactly so many are removed.
fn whole(wanted: &Wanted) -> Wanted {
    wanted.clone().and("whole", Some("true"))
}

fn wanted(client: &Client, chosen: &Chosen) -> Result<Wanted, Failure> {
    chosen.filter.wanted(client, chosen.place.broker.as_deref())
}

/// Asks for the number that is removed, typed.
fn confirm(count: u64, without_terminal: &str) -> Result<(), Failure> {
    match say::confirmed(&format!("{count} dead letters are removed for good."), &count.to_string()) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::from(anyhow!("nothing was removed"))),
        None => {
            let error = anyhow!("{count} dead letters would be removed for good; confirm with {without_terminal}");
            Err(Failure::usage(error))
        }
    }
}

/// What became of the dead letters that were named.
#[derive(Debug, Default, Serialize)]
struct Acted {
    done: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed_over: Vec<String>,
    failed: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    id: String,
    message: String,
    #[serde(skip)]
    missing: bool,
}

/// What became of one that nothing was wrong with.
enum Done {
    Acted,
    PassedOver,
}

fn act(ids: &[String], mut action: impl FnMut(&str) -> Result<Done, Failure>) -> Acted {
    let mut acted = Acted::default();
    for id in ids {
        match action(id) {
            Ok(Done::Acted) => acted.done.push(id.clone()),
            Ok(Done::PassedOver) => acted.passed_over.push(id.clone()),
            Err(failure) => {
                let missing = failure.exit == Exit::NotFound;
                let message = format!("{:#}", failure.error);
                acted.failed.push(Refused { id: id.clone(), message, missing });
            }
        }
    }
    acted
}

fn report(acted: &Acted, word: &str, json: bool) -> Ended {
    if json {
        say::json(acted)?;
    } else {
        for refused in &acted.failed {
            say::talk(&format!("{}: {}", refused.id, refused.message));
        }
        let passed = match acted.passed_over.len() as u64 {
            0 => String::new(),
            passed => format!(", {} {}", table::number(passed), task::PASSED_OVER),
        };
        say::data(&format!("{} {word}{passed}", table::number(acted.done.len() as u64)))?;
    }
    Ok(match (acted.done.is_empty() && acted.passed_over.is_empty(), acted.failed.is_empty()) {
        (_, true) => Exit::Done,
        (false, false) => Exit::Partly,
        (true, false) if acted.failed.iter().all(|refused| refused.missing) => Exit::NotFound,
        (true, false) => Exit::Failed,
    })
}
