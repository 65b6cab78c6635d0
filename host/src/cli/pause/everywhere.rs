//! A pause of all hosts: waits until each of them says that it holds it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::LOOK_EVERY;
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
    /// Those that are not there.
    away: Vec<String>,
}

impl Held {
    fn of(hosts: &[HostView], names: &BTreeSet<&str>) -> Self {
        let mut held = Self::default();
        for host in hosts {
            let in_flight: Option<Vec<u64>> = names.iter().map(|name| host.paused.get(*name).copied()).collect();
            match (host.presence, in_flight) {
                (Presence::Here, Some(in_flight)) => held.by.push((host.name.clone(), in_flight.iter().sum())),
                (Presence::Here, None) => held.not_yet.push(host.name.clone()),
                (Presence::Gone, _) => held.away.push(host.name.clone()),
                // It takes nothing, and hears of it at its start.
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
/// drained; tells of each.
pub(super) fn held(client: &Client, names: &BTreeSet<&str>, drain: bool) -> Ended {
    let until = Instant::now() + WAIT;
    let (mut said, mut has_told) = (None, false);
    loop {
        let Some(cluster) = client.handlers()?.cluster else { return Ok(Exit::Done) };
        let held = Held::of(&cluster.hosts, names);
        if !held.not_yet.is_empty() && Instant::now() < until && !has_told {
            std::thread::park_timeout(LOOK_EVERY);
            continue;
        }
        if !has_told {
            has_told = true;
            say::talk(&format!("held by {}", held.told()));
            if !held.away.is_empty() {
                say::talk(&format!("not there, and to hold it when they are back: {}", held.away.join(", ")));
            }
        }
        if !held.not_yet.is_empty() {
            say::talk(&format!(
                "have not said that they hold it: {}; look with `tidegate handlers`",
                held.not_yet.join(", ")
            ));
            return Ok(Exit::Partly);
        }
        if !drain || held.in_flight() == 0 {
            if drain {
                say::talk("drained: nothing is in flight on any host");
            }
            return Ok(Exit::Done);
        }
        if said != Some(held.in_flight()) {
            said = Some(held.in_flight());
            say::talk(&format!("draining: {}", held.told()));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, presence: Presence, paused: &[(&str, u64)]) -> HostView {
        HostView {
            name: name.to_owned(),
            address: "127.0.0.1:7171".to_owned(),
            presence,
            last_word: "2026-11-30T06:00:00.000Z".to_owned(),
            handlers: Default::default(),
            paused: paused.iter().map(|(name, in_flight)| ((*name).to_owned(), *in_flight)).collect(),
        }
    }

    #[test]
    fn a_host_holds_it_when_it_says_so_of_each_subscription() {
        let hosts = [
            host("a", Presence::Here, &[("orders", 3), ("refunds", 1_200), ("others", 9)]),
            host("b", Presence::Here, &[("orders", 0), ("refunds", 0)]),
            host("c", Presence::Here, &[("orders", 0)]),
            host("killed", Presence::Gone, &[("orders", 5), ("refunds", 0)]),
            host("stopped", Presence::Stopped, &[]),
        ];
        let held = Held::of(&hosts, &BTreeSet::from(["orders", "refunds"]));
        assert_eq!((held.told().as_str(), held.in_flight()), ("a (1,203 in flight), b", 1_203));
        assert_eq!((held.not_yet, held.away), (vec!["c".to_owned()], vec!["killed".to_owned()]));
    }
}
