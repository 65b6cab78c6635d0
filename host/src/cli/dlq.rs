//! `tidegate dlq`: dead letters listed, shown, sent back, removed.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, Wanted};
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{direct, say, table};

mod show;

/// A page of the listener's answers.
const PAGE: usize = 500;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List dead letters, the newest first
    Ls(List),
    /// Show one dead letter: why, what ran, the headers and the body
    Show(Show),
    /// Send dead letters back to the subjects that they came from
    Redrive(Redrive),
    /// Remove dead letters for good
    Discard(Discard),
}

/// Where to look.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    host: HostArguments,
    /// The broker, by its name in the configuration [default: all]
    #[arg(long, short, value_name = "NAME")]
    broker: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which of them.
#[derive(Debug, Args)]
struct Filter {
    /// Only those that this subscription gave up
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
    /// Only those with this reason code
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
    /// Those that were sent back too
    #[arg(long)]
    redriven: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
struct Show {
    /// The id, as `dlq ls` shows it
    id: String,
    /// Print the body alone, as it is
    #[arg(long, conflicts_with = "json")]
    body: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Chosen {
    /// The ids, as `dlq ls` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that match --subscription and --reason
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Redrive {
    #[command(flatten)]
    chosen: Chosen,
    /// Those too that came back from earlier redrives again and again
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Discard {
    #[command(flatten)]
    chosen: Chosen,
    /// Do not ask before more than one is removed
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn dlq(arguments: Arguments) -> Ended {
    match arguments.action {
        Action::Ls(list) => ls(&list),
        Action::Show(show) => one(&show),
        Action::Redrive(redrive) => redrive_all(&redrive),
        Action::Discard(discard) => discard_all(&discard),
    }
}

fn reach(place: &Place) -> Result<direct::Reached, Failure> {
    direct::reach(&place.host, place.broker.as_deref())
}

fn wanted(place: &Place, filter: &Filter, include_redriven: bool) -> Wanted {
    Wanted {
        broker: place.broker.clone(),
        subscription: filter.subscription.clone(),
        reason: filter.reason.clone(),
        include_redriven,
    }
}

fn ls(arguments: &List) -> Ended {
    let reached = reach(&arguments.place)?;
    let wanted = wanted(&arguments.place, &arguments.filter, arguments.redriven);
    let mut letters = Vec::new();
    let mut after = None;
    let more = loop {
        let room = arguments.limit.saturating_sub(letters.len());
        if room == 0 {
            break after.is_some();
        }
        let page = reached.client.dead_letters(&wanted, after.as_deref(), room.min(PAGE))?;
        letters.extend(page.letters);
        after = page.next;
        if after.is_none() {
            break false;
        }
    };
    if arguments.place.json {
        say::json(&letters)?;
    } else if letters.is_empty() {
        say::talk("no dead letters");
    } else {
        say::data(&show::list(&letters))?;
    }
    if more {
        say::talk(&format!("there are more than {}; --limit shows more", arguments.limit));
    }
    Ok(Exit::Done)
}

fn one(arguments: &Show) -> Ended {
    let reached = reach(&arguments.place)?;
    let letter = reached.client.dead_letter(&arguments.id, arguments.place.broker.as_deref())?;
    if arguments.body {
        show::body(&letter)?;
    } else if arguments.place.json {
        say::json(&letter)?;
    } else {
        say::data(&show::one(&letter))?;
    }
    Ok(Exit::Done)
}

/// What became of the dead letters that were chosen.
#[derive(Debug, Default, Serialize)]
struct Acted {
    done: Vec<String>,
    failed: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    id: String,
    message: String,
    #[serde(skip)]
    missing: bool,
}

/// The ids that were named, or all that match now: taken down first, so that what dies anew meanwhile is not among them.
fn chosen(client: &Client, chosen: &Chosen) -> Result<Vec<(String, Option<String>)>, Failure> {
    if !chosen.all {
        return Ok(chosen.ids.iter().map(|id| (id.clone(), chosen.place.broker.clone())).collect());
    }
    let wanted = wanted(&chosen.place, &chosen.filter, false);
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = client.dead_letters(&wanted, after.as_deref(), PAGE)?;
        ids.extend(page.letters.into_iter().map(|letter| (letter.id, Some(letter.broker))));
        after = page.next;
        if after.is_none() {
            return Ok(ids);
        }
    }
}

fn act(ids: Vec<(String, Option<String>)>, mut action: impl FnMut(&str, Option<&str>) -> Result<(), Failure>) -> Acted {
    let mut acted = Acted::default();
    for (id, broker) in ids {
        match action(&id, broker.as_deref()) {
            Ok(()) => acted.done.push(id),
            Err(failure) => {
                let missing = failure.exit == Exit::NotFound;
                acted.failed.push(Refused { id, message: format!("{:#}", failure.error), missing });
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
        say::data(&format!("{} {word}", table::number(acted.done.len() as u64)))?;
    }
    Ok(match (acted.done.is_empty(), acted.failed.is_empty()) {
        (_, true) => Exit::Done,
        (false, false) => Exit::Partly,
        (true, false) if acted.failed.iter().all(|refused| refused.missing) => Exit::NotFound,
        (true, false) => Exit::Failed,
    })
}

fn redrive_all(arguments: &Redrive) -> Ended {
    let reached = reach(&arguments.chosen.place)?;
    let ids = chosen(&reached.client, &arguments.chosen)?;
    let redrive = |id: &str, broker: Option<&str>| reached.client.redrive(id, broker, arguments.force).map(drop);
    report(&act(ids, redrive), "sent back", arguments.chosen.place.json)
}

fn discard_all(arguments: &Discard) -> Ended {
    let reached = reach(&arguments.chosen.place)?;
    let ids = chosen(&reached.client, &arguments.chosen)?;
    if ids.len() > 1 && !arguments.yes {
        let count = ids.len().to_string();
        match say::confirmed(&format!("{count} dead letters are removed for good."), &count) {
            Some(true) => {}
            Some(false) => return Err(Failure::from(anyhow!("nothing was removed"))),
            None => {
                let error = anyhow!("{count} dead letters would be removed for good; confirm with --yes");
                return Err(Failure::usage(error));
            }
        }
    }
    report(&act(ids, |id, broker| reached.client.discard(id, broker)), "removed", arguments.chosen.place.json)
}
