//! `tidegate dlq`: dead letters listed, counted, shown, run once more, sent back, removed.

use clap::{Args, Subcommand};

use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{direct, say, table};
use crate::admin::wire::{DEAD_LETTERS, Trouble};

mod act;
mod body;
mod carry;
mod edit;
mod filter;
mod fixture;
mod replay;
mod show;
mod spark;
mod stats;
mod task;
mod watch;

use filter::Filter;
pub(super) use filter::{When, parse_when};

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
    /// Count dead letters by their error, or by what else they have in common
    Stats(stats::Arguments),
    /// Show one dead letter: why, what ran, what it logged, the headers and the body
    Show(Show),
    /// Run the message of a dead letter once more, on the version that ran, without any effect
    Replay(replay::Arguments),
    /// Send dead letters back to the subjects that they came from
    Redrive(act::Redrive),
    /// Remove dead letters for good
    Discard(act::Discard),
    /// Write dead letters, whole, as lines of JSON
    Export(carry::Export),
    /// Bring dead letters in that were exported; what is there is left as it is
    Import(carry::Import),
    /// Show what the host does with many dead letters, and how far it is
    Tasks(task::List),
    /// Hold what the host does with many dead letters, until `dlq resume`
    Pause(task::One),
    /// Let go on what `dlq pause` holds
    Resume(task::One),
    /// End what the host does with many dead letters
    Cancel(task::One),
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
    /// Show the body as hex digits, whatever it is
    #[arg(long, conflicts_with_all = ["json", "body"])]
    hex: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn dlq(arguments: Arguments) -> Ended {
    match arguments.action {
        Action::Ls(list) => ls(&list),
        Action::Stats(arguments) => stats::stats(&arguments),
        Action::Show(show) => one(&show),
        Action::Replay(arguments) => replay::replay(&arguments),
        Action::Redrive(redrive) => act::redrive(&redrive),
        Action::Discard(discard) => act::discard(&discard),
        Action::Export(arguments) => carry::export(&arguments),
        Action::Import(arguments) => carry::import(&arguments),
        Action::Tasks(arguments) => task::list(&arguments),
        Action::Pause(arguments) => task::pause(&arguments),
        Action::Resume(arguments) => task::resume(&arguments),
        Action::Cancel(arguments) => task::cancel(&arguments),
    }
}

fn reach(place: &Place) -> Result<direct::Reached, Failure> {
    direct::reach(&place.host, place.broker.as_deref())
}

fn ls(arguments: &List) -> Ended {
    let reached = reach(&arguments.place)?;
    let wanted = arguments.filter.wanted(&reached.client, arguments.place.broker.as_deref())?;
    let wanted = wanted.and("include_redriven", arguments.redriven.then_some("true"));
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
    if letters.is_empty() {
        arguments.filter.tell_what_is_unknown(&reached.client);
        // Where their store is gone, or is not reached, there are none to see either.
        reached.client.readiness()?.troubles.iter().filter_map(trouble).for_each(|trouble| say::talk(&trouble));
    }
    if more {
        say::talk(&format!("there are more than {}; --limit shows more", arguments.limit));
    }
    Ok(Exit::Done)
}

/// What keeps dead letters from being seen, of what the host says is wrong with it.
fn trouble(trouble: &Trouble) -> Option<String> {
    let of_letters = trouble.what.starts_with(DEAD_LETTERS) || trouble.what.starts_with("broker ");
    of_letters.then(|| table::harmless(&format!("{}: {}", trouble.what, trouble.why)))
}

fn one(arguments: &Show) -> Ended {
    let reached = reach(&arguments.place)?;
    let letter = reached.client.dead_letter(&arguments.id, arguments.place.broker.as_deref())?;
    if arguments.body {
        body::print(&letter)?;
    } else if arguments.place.json {
        say::json(&letter)?;
    } else {
        say::data(&show::one(&letter, arguments.hex))?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that is gone looked like one that is empty.
    #[test]
    fn what_hides_dead_letters_is_told() {
        let told = |what: &str| trouble(&Trouble { what: what.to_owned(), why: "so it is".to_owned() });
        assert_eq!(told("dead letters of broker main").as_deref(), Some("dead letters of broker main: so it is"));
        assert_eq!(told("broker main").as_deref(), Some("broker main: so it is"));
        assert_eq!(told("subscription orders"), None);
    }
}
