//! `tidegate handlers`: what runs, and which versions there are. `tidegate rollback`: one of before again.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::exit::Ended;
use super::exit::Exit;
use super::host::Place;
use super::{client, cluster, grants, rollout, say, table};
use crate::deploy::report::{HandlerSummary, HandlerView, VersionView};
use crate::telemetry::VersionCounts;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one handler: its versions, who deployed them, what their runs came to, what happened
    Show(Show),
}

#[derive(Debug, Args)]
struct Show {
    /// The handler
    #[arg(value_name = "NAME")]
    handler: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The handler
    #[arg(value_name = "NAME")]
    handler: String,
    /// The version [default: the one that was active before the one that runs]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    #[command(flatten)]
    wait: cluster::WaitArgument,
    #[command(flatten)]
    place: Place,
}

pub(super) fn handlers(arguments: &Arguments) -> Ended {
    match &arguments.action {
        None => list(&arguments.place),
        Some(Action::Show(show)) => one(show),
    }
}

fn list(place: &Place) -> Ended {
    let found = client::of(&place.host)?.handlers()?;
    if place.json {
        say::json(&found)?;
    } else if found.handlers.is_empty() {
        say::talk("the host's configuration has no handlers");
    } else {
        let hosts = found.cluster.as_ref().map(|view| format!("\n{}", cluster::by_host(view)));
        say::data(&(listed(&found.handlers) + &hosts.unwrap_or_default()))?;
    }
    Ok(Exit::Done)
}

fn one(arguments: &Show) -> Ended {
    let found = client::of(&arguments.place.host)?.handler(&arguments.handler)?;
    if arguments.place.json {
        say::json(&found)?
    } else {
        say::data(&shown(&found))?
    }
    Ok(Exit::Done)
}

pub(super) fn rollback(arguments: &Rollback) -> Ended {
    let client = client::of(&arguments.place.host)?;
    let rolled = client.rollback(&arguments.handler, arguments.to)?;
    if arguments.place.json {
        say::json(&rolled)?;
    } else {
        let from = rolled.from.map(|from| format!(" instead of {from}")).unwrap_or_default();
        let took = table::duration(Duration::from_secs_f64(rolled.ms.max(0.0) / 1e3));
        say::data(&format!("{}@{} sha256:{} runs{from}, after {took}", rolled.handler, rolled.to, rolled.digest))?;
    }
    arguments.wait.all_run(&client, &arguments.handler, rolled.to)
}

fn listed(handlers: &[HandlerSummary]) -> String {
    let mut rows =
        table::table(&["HANDLER", "VERSION", "DIGEST", "SIZE", "DEPLOYED", "BY", "RUNS", "MEAN", "P99", "NOTE"]);
    for handler in handlers {
        let version = handler.active.as_ref();
        let text = |of: &dyn Fn(&VersionView) -> String| version.map_or_else(|| "-".to_owned(), of);
        let deploying = handler.deploying.as_ref().map(|deploying| format!("{} deploys", deploying.by));
        let [runs, mean, p99, _] = figures(version.and_then(|version| version.figures.as_ref()));
        rows.add_row(vec![
            handler.name.clone(),
            text(&|version| version.number.to_string()),
            text(&|version| short(version.digest.as_str())),
            text(&|version| table::size(version.size)),
            text(&|version| version.deployed_at.clone()),
            text(&|version| version.deployed_by.clone()),
            runs,
            mean,
            p99,
            table::cut(&handler.trouble.clone().or(deploying).unwrap_or_default(), 80),
        ]);
        if let Some(tried) = &handler.rollout {
            let [runs, mean, p99, _] = figures(Some(&tried.candidate.figures));
            rows.add_row(vec![
                String::new(),
                tried.version.to_string(),
                short(tried.digest.as_str()),
                String::new(),
                tried.started_at.clone(),
                tried.started_by.clone(),
                runs,
                mean,
                p99,
                table::cut(&format!("{}: {}", rollout::in_short(&tried.plan), tried.note), 80),
            ]);
        }
    }
    table::rendered(&rows)
}

/// The place of the column, behind the size.
const SIGNED_BY: usize = 4;

fn shown(handler: &HandlerView) -> String {
    let mut columns = vec![
        "VERSION", "STATE", "DIGEST", "SIZE", "DEPLOYED", "BY", "SOURCE", "RUNS", "MEAN", "P99", "FUEL", "OUTCOMES",
    ];
    // A column that would be empty is left out.
    let any_signed = handler.versions.iter().any(|version| version.signed_by.is_some());
    if any_signed {
        columns.insert(SIGNED_BY, "SIGNED BY");
    }
    let mut rows = table::table(&columns);
    for version in &handler.versions {
        let [runs, mean, p99, fuel] = figures(version.figures.as_ref());
        let mut row = vec![
            version.number.to_string(),
            version.state.name().to_owned(),
            short(version.digest.as_str()),
            table::size(version.size),
            version.deployed_at.clone(),
            version.deployed_by.clone(),
            table::cut(&version.source, 40),
            runs,
            mean,
            p99,
            fuel,
            outcomes(version.figures.as_ref()),
        ];
        if any_signed {
            row.insert(SIGNED_BY, version.signed_by.as_ref().map(ToString::to_string).unwrap_or_default());
        }
        rows.add_row(row);
    }
    let active = handler.versions.iter().find(|version| Some(version.number) == handler.active);
    let contract = active.map_or_else(|| "no version runs".to_owned(), |version| version.contract.clone());
    let mut text = format!("{}: {contract}\n", handler.name);
    for grant in active.map(|version| grants::lines(&version.settings)).unwrap_or_default() {
        text += &format!("granted {grant}\n");
    }
    if let Some(trouble) = &handler.trouble {
        text += &format!("trouble: {}\n", table::harmless(trouble));
    }
    if let Some(deploying) = &handler.deploying {
        text += &format!("{} deploys since {}\n", deploying.by, deploying.since);
    }
    if let Some(tried) = &handler.rollout {
        let asked = handler.cluster.as_ref().map(|cluster| cluster.host.as_str());
        text += &format!("\n{}", rollout::shown(tried, asked));
    }
    text += &format!("\n{}", table::rendered(&rows));
    if let Some(view) = &handler.cluster {
        text += &format!("\n{}", cluster::of_handler(view, &handler.name));
    }
    let mut history = table::table(&["AT", "WHAT", "VERSION", "BY", "DETAIL"]);
    for one in &handler.history {
        let version = one.version.map(|version| version.to_string()).unwrap_or_default();
        history.add_row(vec![&one.at, &one.event, &version, &one.who, &table::cut(&one.detail, 100)]);
    }
    text + &format!("\n{}", table::rendered(&history))
}

/// Runs, mean, p99 and fuel of a run.
pub(super) fn figures(counts: Option<&VersionCounts>) -> [String; 4] {
    let seconds = |seconds: Option<f64>| {
        seconds.map_or_else(|| "-".to_owned(), |seconds| table::duration(Duration::from_secs_f64(seconds.max(0.0))))
    };
    let Some(counts) = counts else { return std::array::from_fn(|_| "-".to_owned()) };
    let fuel = counts.mean_fuel.map_or_else(|| "-".to_owned(), table::number);
    [table::number(counts.runs), seconds(counts.mean_seconds), seconds(counts.p99_seconds), fuel]
}

fn outcomes(counts: Option<&VersionCounts>) -> String {
    let all = counts.iter().flat_map(|counts| &counts.outcomes);
    all.map(|(code, count)| format!("{code} {}", table::number(*count))).collect::<Vec<_>>().join(", ")
}

fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}
