//! `tidegate dlq redrive` and `discard`: what is done with dead letters, one after the other.

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::filter::Filter;
use super::{PAGE, Place, reach};
use crate::cli::client::Client;
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::{say, table};

#[derive(Debug, Args)]
struct Chosen {
    /// The ids, as `dlq ls` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that match what is said of them; without that, all there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    chosen: Chosen,
    /// Those too that came back from earlier redrives again and again
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
    /// Do not ask before more than one is removed
    #[arg(long, short)]
    yes: bool,
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
    let wanted = chosen.filter.wanted(client, chosen.place.broker.as_deref())?;
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

pub(super) fn redrive(arguments: &Redrive) -> Ended {
    let reached = reach(&arguments.chosen.place)?;
    let ids = chosen(&reached.client, &arguments.chosen)?;
    let redrive = |id: &str, broker: Option<&str>| reached.client.redrive(id, broker, arguments.force).map(drop);
    report(&act(ids, redrive), "sent back", arguments.chosen.place.json)
}

pub(super) fn discard(arguments: &Discard) -> Ended {
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
