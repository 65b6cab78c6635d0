//! `/v1/dead-letters/stats`: how many there are of each kind, over all brokers.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::running::running;
use super::{Brokers, Chosen, Given, given, named};
use crate::access::Caller;
use crate::admin::fail::Fail;
use crate::admin::state::HostState;
use crate::admin::wire::{DeadLetterGroup, DeadLetterSample, DeadLetterStats, DeathsOverTime};
use crate::broker::{By, DeadLetterError, DeadLetterFilter, Group, Tally};

/// Groups of an answer when it is not said, and at the most: each is a look at its newest dead letter.
const TOP: usize = 20;
const LARGEST_TOP: usize = 200;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct StatsQuery {
    #[serde(flatten)]
    chosen: Chosen,
    /// What they are counted by: `fingerprint` when it is not said.
    #[serde(default)]
    by: CountedBy,
    /// How many groups at the most: 20 when it is not said, and never more than 200.
    top: Option<usize>,
    /// Counts all of them, whatever that takes. On JetStream each has to be read once, some 20,000 a second: until the host has done so
    /// the newest 200,000 are counted otherwise.
    #[serde(default)]
    whole: bool,
}

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CountedBy {
    #[default]
    Fingerprint,
    Handler,
    Version,
    Reason,
    Subscription,
    Age,
}

impl From<CountedBy> for By {
    fn from(by: CountedBy) -> Self {
        match by {
            CountedBy::Fingerprint => Self::Fingerprint,
            CountedBy::Handler => Self::Handler,
            CountedBy::Version => Self::Version,
            CountedBy::Reason => Self::Reason,
            CountedBy::Subscription => Self::Subscription,
            CountedBy::Age => Self::Age,
        }
    }
}

pub(in crate::admin) async fn stats(
    State(state): State<Arc<HostState>>,
    caller: Caller,
    query: Given<StatsQuery>,
) -> Result<Json<DeadLetterStats>, Fail> {
    let query = given(query)?;
    let now = SystemTime::now();
    let asked = query.chosen.filter(&caller)?;
    let filter = asked.clone().by(now);
    let brokers = state.brokers.all();
    let tally = Tally::new(query.by.into(), now);
    let tally = tally.on(running(&state).await);
    let tally = if query.whole { tally.whole() } else { tally };
    let tally = over_brokers(&query.chosen, &brokers, &filter, tally).await?;
    let ahead = match asked.until {
        Some(until) if until <= now => 0,
        Some(_) | None => ahead(&query.chosen, &brokers, asked).await?,
    };
    let counted = tally.finish(query.top.unwrap_or(TOP).min(LARGEST_TOP));
    let mut groups = Vec::new();
    for group in counted.groups {
        let newest = sample(&brokers, &group).await?;
        groups.push(DeadLetterGroup::new(group, newest));
    }
    Ok(Json(DeadLetterStats {
        groups,
        others: counted.others,
        other_groups: counted.other_groups,
        other_groups_at_least: counted.is_at_least,
        matched: counted.matched,
        examined: counted.examined,
        more: counted.is_cut,
        left_out: counted.left_out,
        same_version: counted.same_version,
        until: filter.until.map(moment).unwrap_or_default(),
        ahead,
        deaths: counted.deaths.map(DeathsOverTime::new),
    }))
}

/// How many died at a time that is yet to come: a count is of those that died before a moment, which what is done with them is
/// told, and these would be passed over in silence.
async fn ahead(chosen: &Chosen, brokers: &Brokers, asked: DeadLetterFilter) -> Result<u64, Fail> {
    let now = SystemTime::now();
    let filter = DeadLetterFilter { since: Some(asked.since.map_or(now, |since| since.max(now))), ..asked };
    let tally = over_brokers(chosen, brokers, &filter, Tally::new(By::Reason, now)).await?;
    Ok(tally.finish(0).matched)
}

/// Counts on all brokers that are meant.
async fn over_brokers(
    chosen: &Chosen,
    brokers: &Brokers,
    filter: &DeadLetterFilter,
    mut tally: Tally,
) -> Result<Tally, Fail> {
    for name in chosen.brokers(brokers)? {
        let (_, entry) = named(brokers, name)?;
        let counted = entry.broker.dead_letters().tally(filter, tally.at(name)).await;
        tally = counted.map_err(|error| Fail::from(&error))?;
    }
    Ok(tally)
}

/// A time as exact as the count goes by it.
fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// What the newest of a group says; nothing when it went meanwhile.
async fn sample(brokers: &Brokers, group: &Group) -> Result<Option<DeadLetterSample>, Fail> {
    let (_, entry) = named(brokers, &group.broker)?;
    match entry.broker.dead_letters().get(&group.newest).await {
        Ok(stored) => Ok(Some(DeadLetterSample::new(stored.letter.record, &group.broker))),
        Err(DeadLetterError::NotFound(_)) => Ok(None),
        Err(error) => Err(Fail::from(&error)),
    }
}
