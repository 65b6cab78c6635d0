//! `tidegate pause` and `tidegate resume`: whether a subscription takes messages, on one host or on all of a cluster.

mod everywhere;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use super::client::{self, Client, Which};
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{say, table};
use crate::admin::wire::{PauseView, PausedSubscription, ResumedSubscription, Status};
use crate::cluster::report::{HostView, Presence};
use crate::config::parse_duration;
use crate::pause::Reach;

/// Between two looks at what is in flight.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Which subscriptions.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgument {
    /// The subscription
    #[arg(value_name = "SUBSCRIPTION")]
    subscription: Option<String>,
    /// All subscriptions that this handler has now on the host that is asked
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
}

impl WhichArgument {
    fn which(&self) -> Which<'_> {
        match (&self.subscription, &self.handler) {
            (_, Some(handler)) => Which::OfHandler(handler),
            // Clap sees to it that one of the two is there; a host knows no subscription without a name.
            (subscription, None) => Which::One(subscription.as_deref().unwrap_or_default()),
        }
    }
}

#[derive(Debug, Args)]
struct ReachArgument {
    /// Of all hosts of the cluster, those that are away too once they are back [default: of the host that is asked]
    #[arg(long)]
    all_hosts: bool,
}

impl ReachArgument {
    const fn reach(&self) -> Reach {
        if self.all_hosts { Reach::All } else { Reach::This }
    }
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: WhichArgument,
    #[command(flatten)]
    reach: ReachArgument,
    /// Why, for those who find it paused
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// End it by itself after this time, such as 10m [default: it stays until it is resumed]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,
    /// Wait until nothing of it is in flight
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    which: WhichArgument,
    #[command(flatten)]
    reach: ReachArgument,
    #[command(flatten)]
    host: HostArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn pause(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let reach = arguments.reach.reach();
    let paused = client.pause(arguments.which.which(), reach, arguments.why.as_deref(), arguments.time)?;
    let names: BTreeSet<&str> = paused.subscriptions.iter().map(|one| one.name.as_str()).collect();
    if arguments.json {
        say::json(&paused)?;
    } else {
        paused.subscriptions.iter().try_for_each(|one| say::data(&told(one)))?;
    }
    match reach {
        Reach::All => everywhere::held(&client, &paused.subscriptions, arguments.drain),
        Reach::This => {
            if !arguments.json {
                tell_of_others(&client, &paused.subscriptions);
            }
            if arguments.drain { drained(&client, &names) } else { Ok(Exit::Done) }
        }
    }
}

pub(super) fn resume(arguments: &Resume) -> Ended {
    let reach = arguments.reach.reach();
    let resumed = client::of(&arguments.host)?.resume(arguments.which.which(), reach)?;
    if arguments.json {
        say::json(&resumed)?;
    } else {
        resumed.subscriptions.iter().try_for_each(|one| say::data(&told_of_resumed(one, reach)))?;
    }
    let are_held = resumed.subscriptions.iter().any(|one| one.still.is_some());
    Ok(if are_held { Exit::Partly } else { Exit::Done })
}

fn told(one: &PausedSubscription) -> String {
    let until = one.pause.until.as_ref().map(|until| format!(" until {until}"));
    let until = until.unwrap_or_else(|| format!(": `{}` resumes it", resuming(&one.name, one.pause.hosts)));
    let mut text = format!("{} is paused on {}{until}", one.name, on(one.pause.hosts));
    if let Some(before) = &one.replaced {
        let until =
            before.until.as_ref().map_or_else(|| "until it was resumed".to_owned(), |until| format!("until {until}"));
        text += &format!("\n  in the place of the pause {until} by {}", whose(before, ""));
    }
    text
}

const fn on(hosts: Reach) -> &'static str {
    match hosts {
        Reach::This => "this host",
        Reach::All => "all hosts",
    }
}

/// The command that ends a pause.
fn resuming(name: &str, hosts: Reach) -> String {
    match hosts {
        Reach::This => format!("tidegate resume {name}"),
        Reach::All => format!("tidegate resume {name} --all-hosts"),
    }
}

/// Tells of the hosts of the cluster that go on with what this one does not take.
fn tell_of_others(client: &Client, paused: &[PausedSubscription]) {
    // The pause holds, whether they can be asked for or not.
    let Some(cluster) = client.handlers().ok().and_then(|handlers| handlers.cluster) else { return };
    let has_it = |host: &HostView| paused.iter().any(|one| host.handlers.contains_key(&one.handler));
    let others = cluster.hosts.iter().filter(|host| host.name != cluster.host && host.presence == Presence::Here);
    let others: Vec<String> =
        others.filter(|host| has_it(host)).map(|host| format!("{} ({})", host.name, host.address)).collect();
    if !others.is_empty() {
        say::talk(&format!(
            "other hosts of the cluster go on with its messages: {}; --all-hosts stops them too",
            others.join(", ")
        ));
    }
}

fn told_of_resumed(one: &ResumedSubscription, hosts: Reach) -> String {
    let name = &one.name;
    match (&one.still, one.was_paused) {
        (None, true) if hosts == Reach::All => {
            format!("{name} is not paused on all hosts any more: messages come, few at first")
        }
        (None, true) => format!("{name} takes messages again, few at first"),
        (None, false) if hosts == Reach::All => format!("{name} was not paused on all hosts"),
        (None, false) => format!("{name} was not paused"),
        (Some(still), _) => format!(
            "{name} is still paused on {}, by {}; `{}` resumes it",
            on(still.hosts),
            whose(still, ""),
            resuming(name, still.hosts)
        ),
    }
}

/// Waits until nothing of some subscriptions is in flight, and tells how it goes. A run is bounded by its limits, and so is
/// this.
fn drained(client: &Client, names: &BTreeSet<&str>) -> Result<Exit, Failure> {
    let mut said = None;
    loop {
        let status = client.status()?;
        let held = in_flight(&status, names);
        if held == 0 {
            say::talk("drained: nothing is in flight");
            return Ok(Exit::Done);
        }
        if let Some(name) = resumed_meanwhile(&status, names) {
            say::talk(&format!("{name} was resumed meanwhile, and messages are in flight"));
            return Ok(Exit::Failed);
        }
        if said != Some(held) {
            say::talk(&format!("draining: {} in flight", table::number(held)));
            said = Some(held);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn in_flight(status: &Status, names: &BTreeSet<&str>) -> u64 {
    let of = status.subscriptions.iter().filter(|one| names.contains(one.name.as_str()));
    of.map(|one| one.counts.in_flight).sum()
}

/// One that takes messages again: to wait for its end would be to wait for ever.
fn resumed_meanwhile<'a>(status: &'a Status, names: &BTreeSet<&str>) -> Option<&'a str> {
    let mut of = status.subscriptions.iter().filter(|one| names.contains(one.name.as_str()));
    of.find(|one| one.pause.is_none()).map(|one| one.name.as_str())
}

/// A pause in a cell of a table: by whom and why, and that it is of all hosts.
pub(super) fn by_whom(pause: &PauseView) -> String {
    whose(pause, if pause.hosts == Reach::All { " (all hosts)" } else { "" })
}

/// By whom and why it is paused, in a few words.
fn whose(pause: &PauseView, reach: &str) -> String {
    let why = pause.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    table::cut(&format!("{}{reach}{why}", pause.by), 80)
}
