//! Two looks at a host, and the figures between them. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::admin::wire::{PauseKind, Readiness, Status, SubscriptionView};
use crate::telemetry::SubscriptionCounts;

/// What a host said at one moment.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) ready: Readiness,
    pub(super) status: Status,
}

/// What has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum By {
    /// Each subscription
    #[default]
    Subscription,
    /// Each handler, with all of its subscriptions together
    Handler,
}

impl By {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Subscription => Self::Handler,
            Self::Handler => Self::Subscription,
        }
    }
}

/// What a subscription does, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Stalled,
    Waits,
    CircuitOpen,
    Probes,
    Paused,
    Runs,
}

impl State {
    const fn of(one: &SubscriptionView) -> Self {
        match (&one.pause, &one.trouble, &one.stall) {
            (_, _, Some(_)) => Self::Stalled,
            (Some(pause), _, None) => match pause.kind {
                PauseKind::Operator => Self::Paused,
                PauseKind::Circuit if pause.until.is_none() => Self::Probes,
                PauseKind::Circuit => Self::CircuitOpen,
            },
            (None, Some(_), None) => Self::Waits,
            (None, None, None) => Self::Runs,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Waits => "waits",
            Self::CircuitOpen => "circuit open",
            Self::Probes => "probes",
            Self::Paused => "paused",
            Self::Runs => "runs",
        }
    }
}

/// The figures of a line. What is a second is not known before the second look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// The subscription, or the handler.
    pub(super) name: String,
    /// The handler of a subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handler: Option<String>,
    pub(super) state: State,
    pub(super) done_a_second: Option<f64>,
    pub(super) retried_a_second: Option<f64>,
    pub(super) dead_lettered_a_second: Option<f64>,
    pub(super) fuel_a_second: Option<f64>,
    /// Fuel of a run between the looks.
    pub(super) fuel_a_run: Option<f64>,
    pub(super) ready: u64,
    pub(super) oldest_age_seconds: f64,
    pub(super) in_flight: u64,
    pub(super) concurrency: u64,
    /// Of the runs of the last ten seconds; of several subscriptions the longest.
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
}

/// All lines: what is in trouble first, then what does most, then by name; and all of them together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) rows: Vec<Row>,
    pub(super) total: Row,
}

/// Some subscriptions, at both looks.
#[derive(Debug, Default)]
struct Part<'a> {
    now: Vec<&'a SubscriptionView>,
    before: Vec<&'a SubscriptionCounts>,
}

impl Figures {
    /// The figures of a look; with rates, where there is one before it.
    pub(super) fn between(before: Option<&Look>, now: &Look, by: By) -> Self {
        let earlier: BTreeMap<&str, &SubscriptionCounts> = before
            .iter()
            .flat_map(|look| &look.status.subscriptions)
            .map(|it| (it.name.as_str(), &it.counts))
            .collect();
        let apart = before.map(|before| now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001));
        let (mut parts, mut all) = (BTreeMap::<&str, Part<'_>>::new(), Part::default());
        for one in &now.status.subscriptions {
            let key = match by {
                By::Subscription => &one.name,
                By::Handler => &one.handler,
            };
            for part in [parts.entry(key).or_default(), &mut all] {
                part.now.push(one);
                part.before.extend(earlier.get(one.name.as_str()));
            }
        }
        let mut rows: Vec<Row> = parts.iter().map(|(name, part)| part.row(name, by, apart)).collect();
        let first = |row: &Row| (row.state, std::cmp::Reverse(OrderedRate(row.done_a_second.unwrap_or(0.0))));
        rows.sort_by(|one, other| first(one).cmp(&first(other)).then_with(|| one.name.cmp(&other.name)));
        Self { rows, total: all.row("total", By::Handler, apart) }
    }
}

/// A rate, which is never `NaN`.
#[derive(Debug, PartialEq)]
struct OrderedRate(f64);

impl Eq for OrderedRate {}

impl PartialOrd for OrderedRate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedRate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Part<'_> {
    fn row(&self, name: &str, by: By, apart: Option<f64>) -> Row {
        let sum = |figure: fn(&SubscriptionCounts) -> u64| self.now.iter().map(|one| figure(&one.counts)).sum::<u64>();
        // One that came between the looks counts from nothing; one that counts less was started anew.
        let more = |figure: fn(&SubscriptionCounts) -> u64| {
            let before: u64 = self.before.iter().map(|counts| figure(counts)).sum();
            sum(figure).saturating_sub(before)
        };
        let a_second = |figure: fn(&SubscriptionCounts) -> u64| apart.map(|apart| more(figure) as f64 / apart);
        let longest = |of: fn(&crate::telemetry::Recent) -> f32| {
            let all = self.now.iter().filter_map(|one| one.recent_run_seconds.as_ref()).map(of);
            all.reduce(f32::max).map(f64::from)
        };
        let runs = more(|counts| counts.runs);
        Row {
            name: name.to_owned(),
            handler: match by {
                By::Subscription => self.now.first().map(|one| one.handler.clone()),
                By::Handler => None,
            },
            state: self.now.iter().map(|one| State::of(one)).min().unwrap_or(State::Runs),
            done_a_second: a_second(|counts| counts.completed + counts.skipped + counts.dead_lettered),
            retried_a_second: a_second(|counts| counts.retried),
            dead_lettered_a_second: a_second(|counts| counts.dead_lettered),
            fuel_a_second: a_second(|counts| counts.fuel),
            fuel_a_run: apart.filter(|_| runs > 0).map(|_| more(|counts| counts.fuel) as f64 / runs as f64),
            ready: sum(|counts| counts.ready),
            oldest_age_seconds: self.now.iter().map(|one| one.counts.oldest_age_seconds).fold(0.0, f64::max),
            in_flight: sum(|counts| counts.in_flight),
            concurrency: sum(|counts| counts.concurrency),
            p50_seconds: longest(|recent| recent.p50),
            p99_seconds: longest(|recent| recent.p99),
        }
    }
}
