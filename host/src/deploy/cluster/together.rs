//! What a rollout came to on all hosts together: said by each, added up by each.

use std::collections::BTreeMap;

use crate::cluster::report::DifferenceLine;
use crate::cluster::{Counts, DIFFERENCES, DIFFERENCES_OF_ALL, Part};
use crate::deploy::entry::{Entry, Loaded};
use crate::deploy::report::{HostSides, OnAllHosts, RolloutView, Tally};
use crate::deploy::rollout::{OnTrial, Sums};
use crate::deploy::{Deployments, spelled};
use crate::dispatch::Difference;

/// A name or a sentence in a line of a difference is cut to so many characters.
const WORDS: usize = 200;

impl Deployments {
    /// What this host says of its handlers of which a version is tried here, by their names.
    pub(super) fn counts(&self) -> BTreeMap<String, Counts> {
        let mut room = DIFFERENCES_OF_ALL;
        let handlers = self.handlers.load();
        let counts = handlers.iter().filter_map(|(name, entry)| {
            let (on, active) = entry.on_trial().zip(entry.active())?;
            let mut counts = said(&on, &active, on.sums());
            counts.differences.truncate(room);
            room -= counts.differences.len();
            Some((name.clone(), counts))
        });
        counts.collect()
    }

    /// What both versions came to on all hosts.
    pub(in crate::deploy) fn sums(&self, entry: &Entry, on: &OnTrial, active: &Loaded) -> Sums {
        let others = self.elsewhere(entry, on, active);
        on.sums().with(others.iter().map(|(_, counts)| counts))
    }

    /// Who takes part in a rollout; `None`: this host is in no cluster.
    pub(in crate::deploy) fn part(&self, entry: &Entry, on: &OnTrial) -> Option<Part> {
        let cluster = self.cluster.as_ref()?;
        Some(cluster.hosts().part(cluster.me(), &entry.name, on.record.number))
    }

    /// Adds to what is shown of a rollout what it came to on all hosts.
    pub(in crate::deploy) fn shown_on_all_hosts(&self, entry: &Entry, view: &mut RolloutView) {
        let (Some(cluster), Some(on), Some(active)) = (&self.cluster, entry.on_trial(), entry.active()) else { return };
        let mut all = self.elsewhere(entry, &on, &active);
        let ours = on.sums();
        let sums = ours.clone().with(all.iter().map(|(_, counts)| counts));
        all.push((cluster.me().host.clone(), said(&on, &active, ours)));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let part = cluster.hosts().part(cluster.me(), &entry.name, on.record.number);
        view.note = on.note(&sums, Some(&part), cluster.now());
        let Part { trying, not_yet, is_seen: _ } = part;
        view.cluster = Some(OnAllHosts {
            stable: Tally::of(&sums.stable),
            candidate: Tally::of(&sums.candidate),
            shadow: sums.shadow,
            trying,
            not_yet: not_yet.into_iter().map(|one| one.host).collect(),
            hosts: all.into_iter().map(|(host, counts)| sides(host, counts)).collect(),
        });
    }

    /// What both versions came to on the other hosts, as far as they said it; by the hosts' names.
    fn elsewhere(&self, entry: &Entry, on: &OnTrial, active: &Loaded) -> Vec<(String, Counts)> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let (version, beside) = (on.record.number, active.deployed.number);
        cluster.hosts().counts(cluster.me(), &entry.name, version, beside).into_iter().collect()
    }
}

/// What this host says of a version that it tries.
fn said(on: &OnTrial, active: &Loaded, ours: Sums) -> Counts {
    let Sums { stable, candidate, shadow, hosts: _ } = ours;
    let (version, beside) = (on.record.number, active.deployed.number);
    let differences = on.last_differences().iter().take(DIFFERENCES).map(|one| in_short(one)).collect();
    Counts { version, beside, stable, candidate, shadow, differences }
}

/// What a host said, as it is shown. It may have said anything.
fn sides(host: String, counts: Counts) -> HostSides {
    let Counts { stable, candidate, shadow, mut differences, version: _, beside: _ } = counts;
    differences.truncate(DIFFERENCES);
    HostSides { host, stable: Tally::of(&stable), candidate: Tally::of(&candidate), shadow, differences }
}

fn in_short(one: &Difference) -> DifferenceLine {
    let cut = |text: &str| text.chars().take(WORDS).collect();
    DifferenceLine {
        at: spelled(one.at),
        subscription: cut(&one.subscription),
        message_id: cut(&one.message_id),
        subject: cut(&one.subject),
        by: one.by.name().to_owned(),
        told: cut(&one.told),
    }
}
