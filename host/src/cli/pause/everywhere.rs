//! A pause of all hosts: waits until each of them says that it holds it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::LOOK_EVERY;
use crate::admin::wire::PausedSubscription;
use crate::cli::client::Client;
use crate::cli::exit::{Ended, Exit};
use crate::cli::{say, table};
use crate::cluster::report::{HostView, Presence};

/// How long the hosts are waited for: they are told within milliseconds, and one that is gone is known as gone within 16
/// seconds.
const WAIT: Duration = Duration::from_secs(20);

/// How the hosts of a cluster hold what is paused on all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    /// Those that hold it, with how many messages they still have in flight.
    by: Vec<(String, u64)>,
    /// Those that are there and have not said so.
    not_yet: Vec<String>,
    /// Those that say nothing any more; they hold it when they are back, and may still run what they have.
    away: Vec<String>,
}

impl Held {
    /// By what the hosts said; `paused` has the subscriptions, each with since when.
    fn of(hosts: &[HostView], paused: &BTreeMap<&str, &str>) -> Self {
        let mut held = Self::default();
        for host in hosts {
            // Of an earlier pause of the same subscription it may have said the same.
            let in_flight = paused.iter().map(|(name, since)| {
                host.paused.get(*name).filter(|there| there.since == *since).map(|there| there.in_flight)
            });
            let in_flight: Option<Vec<u64>> = in_flight.collect();
            match (host.presence, in_flight) {
                (Presence::Here, Some(in_flight)) => held.by.push((host.name.clone(), in_flight.iter().sum())),
                (Presence::Here, None) => held.not_yet.push(host.name.clone()),
                (Presence::Gone, _) => held.away.push(host.name.clone()),
                // It takes nothing new, and hears of it at its start.
                (Presence::Stopped, _) => {}
            }
        }
        held
    }

    fn in_flight(&self) -> u64 {
        self.by.iter().map(|(_, in_flight)| in_flight).sum()
    }

    /// The hosts, with what they have in flight.
    fn told(&self) -> String {
        let one = |(name, in_flight): &(String, u64)| match in_flight {
            0 => name.clone(),
            some => format!("{name} ({} in flight)", table::number(*some)),
        };
        self.by.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Waits until every host that is there holds what was paused on all, and until nothing of it is in flight when it is to be
/// drained; tells of each. What nobody can say is never told as done.
pub(super) fn held(client: &Client, paused: &[PausedSubscription], drain: bool) -> Ended {
    let paused: BTreeMap<&str, &str> = paused.iter().map(|one| (one.name.as_str(), one.pause.since.as_str())).collect();
    let (mut until, mut said) = (Instant::now() + WAIT, None);
    loop {
        let Some(cluster) = client.handlers()?.cluster else { return Ok(Exit::Done) };
        let held = Held::of(&cluster.hosts, &paused);
        let here = held.by.iter().any(|(name, _)| *name == cluster.host);
        let is_seen = cluster.trouble.is_none() && here;
        if said.is_some() && held.not_yet.contains(&cluster.host) {
            say::talk("it was resumed meanwhile, or paused anew, or its time is over");
            return Ok(Exit::Failed);
        }
        if !is_seen || !held.not_yet.is_empty() {
            if Instant::now() < until {
                std::thread::park_timeout(LOOK_EVERY);
                continue;
            }
            let why = match cluster.trouble {
                Some(trouble) => format!("the host does not see the others just now: {trouble}"),
                None if held.not_yet.is_empty() => "the host does not see itself in the cluster just now".to_owned(),
                None => format!("have not said that they hold it: {}", held.not_yet.join(", ")),
            };
            say::talk(&why);
            return Ok(Exit::Partly);
        }
        // One that starts meanwhile has its time too.
        until = Instant::now() + WAIT;
        let now = held.told();
        if said.as_ref() != Some(&now) {
            say::talk(&format!("held by {now}"));
            said = Some(now);
        }
        if drain && held.in_flight() > 0 {
            std::thread::park_timeout(LOOK_EVERY);
            continue;
        }
        if !held.away.is_empty() {
            let names = held.away.join(", ");
            say::talk(&format!(
                "not seen just now, to hold it when they are back: {names}; what they still run is not known"
            ));
        }
        if drain {
            let names: Vec<&str> = held.by.iter().map(|(name, _)| name.as_str()).collect();
            say::talk(&format!("drained: nothing is in flight on {}", names.join(", ")));
        }
        return Ok(if held.away.is_empty() { Exit::Done } else { Exit::Partly });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::report::HeldThere;

    fn host(name: &str, presence: Presence, paused: &[(&str, &str, u64)]) -> HostView {
        let there = |(name, since, in_flight): &(&str, &str, u64)| {
            ((*name).to_owned(), HeldThere { since: (*since).to_owned(), in_flight: *in_flight })
        };
        HostView {
            name: name.to_owned(),
            address: "127.0.0.1:7171".to_owned(),
            presence,
            last_word: "2026-11-30T06:00:00.000Z".to_owned(),
            handlers: BTreeMap::new(),
            paused: paused.iter().map(there).collect(),
        }
    }

    #[test]
    fn a_host_holds_it_when_it_says_so_of_each_subscription_and_of_this_pause() {
        let hosts = [
            host("a", Presence::Here, &[("orders", "two", 3), ("refunds", "two", 1_200), ("others", "two", 9)]),
            host("b", Presence::Here, &[("orders", "two", 0), ("refunds", "two", 0)]),
            host("c", Presence::Here, &[("orders", "two", 0)]),
            host("earlier", Presence::Here, &[("orders", "one", 0), ("refunds", "two", 0)]),
            host("killed", Presence::Gone, &[("orders", "two", 5), ("refunds", "two", 0)]),
            host("stopped", Presence::Stopped, &[]),
        ];
        let held = Held::of(&hosts, &BTreeMap::from([("orders", "two"), ("refunds", "two")]));
        assert_eq!((held.told().as_str(), held.in_flight()), ("a (1,203 in flight), b", 1_203));
        assert_eq!((held.not_yet.join(" "), held.away.join(" ")), ("c earlier".to_owned(), "killed".to_owned()));
    }
}
