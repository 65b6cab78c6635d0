//! `tidegate subscriptions`: what brokers keep messages for, and forgetting what is gone for good.

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::exit::{Ended, Exit, Failure};
use super::host::Place;
use super::{client, say, table};
use crate::admin::wire::KeptView;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Forget one that is gone for good, so that it holds no messages
    Forget(Forget),
}

#[derive(Debug, Args)]
struct Forget {
    /// The subscription
    #[arg(value_name = "SUBSCRIPTION")]
    name: String,
    /// The broker that keeps its messages [default: the one that does]
    #[arg(long, value_name = "NAME")]
    broker: Option<String>,
    /// Remove the messages that nobody else wants [default: they are kept until their age]
    #[arg(long)]
    remove_messages: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn subscriptions(arguments: &Arguments) -> Ended {
    if let Some(Action::Forget(forget)) = &arguments.action {
        return forgotten(forget);
    }
    let kept = client::of(&arguments.place.host)?.kept()?;
    if arguments.place.json {
        say::json(&kept)?;
    } else if kept.subscriptions.is_empty() {
        say::talk("no broker of this host keeps messages for a subscription; the embedded queue does");
    } else {
        say::data(&listed(&kept.subscriptions))?;
    }
    Ok(Exit::Done)
}

fn forgotten(forget: &Forget) -> Ended {
    let client = client::of(&forget.place.host)?;
    if !forget.yes {
        let kept = client.kept()?.subscriptions;
        let held: u64 = kept.iter().filter(|one| one.name == forget.name).map(|one| one.ready + one.pending).sum();
        confirm(&forget.name, held, forget.remove_messages)?;
    }
    let done = client.forget(&forget.name, forget.broker.as_deref(), forget.remove_messages)?;
    if forget.place.json {
        say::json(&done)?;
        return Ok(Exit::Done);
    }
    let left = if forget.remove_messages { "are removed" } else { "are kept until their age" };
    say::data(&format!(
        "{} is forgotten; of the {} messages that it held, those that nobody else wants {left}",
        done.name,
        table::number(done.held)
    ))?;
    Ok(Exit::Done)
}

fn confirm(name: &str, held: u64, removes: bool) -> Result<(), Failure> {
    let left = if removes { "what nobody else wants of it is removed for good" } else { "nobody receives them for it" };
    let question = format!("{name} holds {} messages, and {left}. Forget it?", table::number(held));
    match say::confirmed(&question, "yes") {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::usage(anyhow!("nothing was done"))),
        None => Err(Failure::usage(anyhow!("there is no terminal to ask on; confirm with --yes"))),
    }
}

fn listed(kept: &[KeptView]) -> String {
    let mut rows = table::table(&["SUBSCRIPTION", "BROKER", "SUBJECTS", "READY", "PENDING", "LAST SEEN", "IN USE"]);
    for one in kept {
        rows.add_row(vec![
            one.name.clone(),
            one.broker.clone(),
            table::cut(&one.subjects.join(", "), 60),
            table::number(one.ready),
            table::number(one.pending),
            one.last_seen.clone(),
            if one.in_use { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table::rendered(&rows)
}

/// A line for each that holds messages and that nobody settles.
pub(super) fn held_for_nobody(kept: &[KeptView]) -> String {
    let held = kept.iter().filter(|one| !one.in_use && one.ready + one.pending > 0);
    let line = |one: &KeptView| {
        let (name, count) = (&one.name, table::number(one.ready + one.pending));
        format!(
            "{count} messages are held for the subscription {name}, which the configuration does not have: `tidegate \
             subscriptions forget {name}` when it is gone for good\n"
        )
    };
    held.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_settles_is_told() {
        let one = |name: &str, ready, in_use| KeptView {
            broker: "main".to_owned(),
            name: name.to_owned(),
            subjects: vec!["a.>".to_owned(), "b".to_owned()],
            ready,
            pending: 1,
            last_seen: "2026-11-29T06:00:00.000Z".to_owned(),
            in_use,
        };
        let kept = [one("orders", 5, true), one("old", 1199, false)];
        let told = held_for_nobody(&kept);
        assert!(told.starts_with("1,200 messages are held for the subscription old, which"), "{told}");
        assert_eq!(told.lines().count(), 1);
        let listed = listed(&kept);
        assert!(listed.contains("a.>, b") && listed.lines().count() == 3, "{listed}");
    }
}
