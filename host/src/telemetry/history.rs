//! What the host did in the last hour, a point every ten seconds: whoever comes to a host that is in trouble sees what led
//! to it, and not only what holds now.
//!
//! It is kept in memory and begins anew with the host; a metrics system keeps more of it for longer.
//!
//! Invariant: it is bounded: [`POINTS`] points of fixed size a subscription, and none of a subscription that is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ending::Ending;
use super::histogram::{SECONDS, quantile};
use super::metrics::Metrics;
use super::subscription::SubscriptionMetrics;

/// Points that are kept: an hour of ten seconds each.
const POINTS: usize = 360;
/// Between two points.
const STEP: Duration = Duration::from_secs(10);

/// What one step of time brought, and how it stood at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it ended.
    pub at: SystemTime,
    /// How long it was, in seconds.
    pub seconds: f32,
    /// Settlements, by [`Ending`].
    pub ended: [u32; Ending::ALL.len()],
    /// Runs of handlers.
    pub runs: u32,
    /// Fuel of these runs.
    pub fuel: u64,
    /// Half of these runs took no longer, in seconds; nothing when there were none.
    pub p50: Option<f32>,
    /// 99 of 100 of these runs took no longer, in seconds.
    pub p99: Option<f32>,
    /// Messages that were held.
    pub in_flight: u32,
    /// How many could have been handled at once.
    pub concurrency: u32,
    /// Messages that waited and had never been handed out.
    pub ready: u64,
    /// The age of the oldest message that was not settled, in seconds.
    pub oldest_age: f32,
}

/// How long the runs of the last step took, in seconds, interpolated within the buckets of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RecentLatency")]
pub struct Recent {
    /// Half took no longer.
    pub p50: f32,
    /// 99 of 100 took no longer.
    pub p99: f32,
}

/// All that is counted from the start on, at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment {
    pub(super) ended: [u64; Ending::ALL.len()],
    /// Runs by how long they took, one a bound of [`SECONDS`] and one above.
    pub(super) runs: Vec<u64>,
    pub(super) fuel: u64,
    pub(super) in_flight: u64,
    pub(super) concurrency: u64,
    pub(super) ready: u64,
    pub(super) oldest_age: f64,
}

impl Moment {
    /// This and another together: what is counted adds up, and the oldest message is the older one.
    fn and(mut self, other: &Self) -> Self {
        self.ended.iter_mut().zip(other.ended).for_each(|(sum, more)| *sum += more);
        self.runs.resize(self.runs.len().max(other.runs.len()), 0);
        self.runs.iter_mut().zip(&other.runs).for_each(|(sum, more)| *sum += more);
        self.fuel += other.fuel;
        self.in_flight += other.in_flight;
        self.concurrency += other.concurrency;
        self.ready += other.ready;
        self.oldest_age = self.oldest_age.max(other.oldest_age);
        self
    }
}

impl Point {
    /// This and another of the same step together. How long the runs of both took is not known any more, where both had some.
    fn and(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.ended.iter_mut().zip(other.ended).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        sum.runs = self.runs.saturating_add(other.runs);
        sum.fuel = self.fuel.saturating_add(other.fuel);
        (sum.p50, sum.p99) = match (self.runs, other.runs) {
            (_, 0) => (self.p50, self.p99),
            (0, _) => (other.p50, other.p99),
            (_, _) => (None, None),
        };
        sum.in_flight = self.in_flight.saturating_add(other.in_flight);
        sum.concurrency = self.concurrency.saturating_add(other.concurrency);
        sum.ready = self.ready.saturating_add(other.ready);
        sum.oldest_age = self.oldest_age.max(other.oldest_age);
        sum
    }

    fn between(before: &Moment, now: &Moment, at: SystemTime, took: Duration) -> Self {
        let earlier = before.runs.iter().copied().chain(std::iter::repeat(0));
        let runs: Vec<u64> = now.runs.iter().zip(earlier).map(|(now, before)| now.saturating_sub(before)).collect();
        let at_share = |share| quantile(SECONDS, &runs, share).map(short);
        let mut ended = [0; Ending::ALL.len()];
        for ((count, now), before) in ended.iter_mut().zip(now.ended).zip(before.ended) {
            *count = narrow(now.saturating_sub(before));
        }
        Self {
            at,
            seconds: took.as_secs_f32(),
            ended,
            runs: narrow(runs.iter().sum()),
            fuel: now.fuel.saturating_sub(before.fuel),
            p50: at_share(0.5),
            p99: at_share(0.99),
            in_flight: narrow(now.in_flight),
            concurrency: narrow(now.concurrency),
            ready: now.ready,
            oldest_age: short(now.oldest_age),
        }
    }
}

/// What is counted of each subscription, by its name.
type Subscriptions = BTreeMap<String, Arc<SubscriptionMetrics>>;

#[derive(Debug, Default)]
struct Track {
    before: Moment,
    points: VecDeque<Point>,
}

impl Track {
    fn add(&mut self, now: Moment, at: SystemTime, took: Duration) {
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point::between(&self.before, &now, at, took));
        self.before = now;
    }
}

/// The last hour of a host, of each subscription and of all together.
#[derive(Debug)]
pub struct History {
    all: Track,
    subscriptions: BTreeMap<String, Track>,
    /// When the last point ended; at first, since when there is something that counts.
    last: tokio::time::Instant,
}

impl Default for History {
    /// Begins now, where nothing is counted yet: the first point has all that came until it.
    fn default() -> Self {
        Self { all: Track::default(), subscriptions: BTreeMap::new(), last: tokio::time::Instant::now() }
    }
}

impl History {
    /// Adds a point of each subscription, when ten seconds have gone since the last one.
    fn look(&mut self, subscriptions: impl FnOnce() -> Subscriptions, at: SystemTime) {
        let now = tokio::time::Instant::now();
        let took = now.duration_since(self.last);
        if took < STEP {
            return;
        }
        self.last = now;
        let subscriptions = subscriptions();
        self.subscriptions.retain(|name, _| subscriptions.contains_key(name));
        let mut all = Moment::default();
        for (name, metrics) in &subscriptions {
            let moment = metrics.moment();
            all = all.and(&moment);
            self.subscriptions.entry(name.clone()).or_default().add(moment, at, took);
        }
        self.all.add(all, at, took);
    }

    /// How long the runs of the last ten seconds took, of each subscription that had some.
    #[must_use]
    pub fn recent(&self) -> BTreeMap<String, Recent> {
        let last = |track: &Track| {
            let point = track.points.back()?;
            Some(Recent { p50: point.p50?, p99: point.p99? })
        };
        let tracks = self.subscriptions.iter();
        tracks.filter_map(|(name, track)| Some((name.clone(), last(track)?))).collect()
    }

    /// The points of a subscription, or of all together, the oldest first; `None` for one that is not known.
    #[must_use]
    pub fn points(&self, subscription: Option<&str>) -> Option<Vec<Point>> {
        let track = match subscription {
            None => &self.all,
            Some(name) => self.subscriptions.get(name)?,
        };
        Some(track.points.iter().copied().collect())
    }

    /// The points of some subscriptions together, the oldest first.
    #[must_use]
    pub fn together(&self, are_meant: impl Fn(&str) -> bool) -> Vec<Point> {
        // Each look gives all of them a point, so the last ones belong together; those that came later have fewer.
        let mut sums: Vec<Point> = Vec::new();
        for (_, track) in self.subscriptions.iter().filter(|(name, _)| are_meant(name)) {
            for (index, point) in track.points.iter().rev().enumerate() {
                match sums.get_mut(index) {
                    Some(sum) => *sum = sum.and(point),
                    None => sums.push(*point),
                }
            }
        }
        sums.reverse();
        sums
    }
}

impl Metrics {
    /// Adds to the history what came since the last point, when it is time for one.
    pub fn remember(&self, now: SystemTime) {
        self.history().look(|| self.subscriptions(), now);
    }
}

/// Counts of one step: four thousand million in ten seconds are none that a host comes to.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are more than a chart shows")]
fn short(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;
    use crate::outcome::{ReasonCode, Usage};

    fn run(metrics: &SubscriptionMetrics, millis: u64, fuel: u64) {
        let usage = Usage { fuel, duration: Duration::from_millis(millis), ..Usage::default() };
        metrics.ran(ReasonCode("completed"), &usage);
        metrics.settled(Ending::Completed, ReasonCode("completed"), 1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_is_what_came_since_the_one_before() {
        let metrics = Metrics::new();
        let (orders, mails) = (metrics.subscription("orders", "embedded"), metrics.subscription("mails", "embedded"));
        // A host has messages before it looks for the first time, and what failed then is what people look for.
        run(&orders, 20, 5);
        metrics.remember(SystemTime::UNIX_EPOCH);
        assert_eq!(metrics.history().points(None).unwrap(), [], "it is not time yet");
        run(&mails, 200, 7);
        tokio::time::advance(Duration::from_secs(9)).await;
        metrics.remember(SystemTime::UNIX_EPOCH);
        assert_eq!(metrics.history().points(None).unwrap(), [], "it is not time yet");
        tokio::time::advance(Duration::from_secs(3)).await;
        metrics.remember(SystemTime::UNIX_EPOCH);
        run(&mails, 200, 7);
        tokio::time::advance(STEP).await;
        metrics.remember(SystemTime::UNIX_EPOCH);

        let of = |name| metrics.history().points(name).unwrap();
        let completed = |name| of(name).iter().map(|point| point.ended[Ending::Completed as usize]).collect::<Vec<_>>();
        assert_eq!(completed(None), [2, 1]);
        assert_eq!(completed(Some("orders")), [1, 0]);
        assert_eq!(completed(Some("mails")), [1, 1]);
        assert_eq!(of(None).iter().map(|point| point.fuel).collect::<Vec<_>>(), [12, 7]);
        assert_eq!(of(None).iter().map(|point| point.runs).collect::<Vec<_>>(), [2, 1]);
        assert!((of(None)[0].seconds - 12.0).abs() < 1e-3);
        assert_eq!(metrics.history().recent().into_keys().collect::<Vec<_>>(), ["mails"], "of the last step");
        let p99 = |name| of(name).iter().map(|point| point.p99).collect::<Vec<_>>();
        assert!(p99(Some("orders"))[0].is_some_and(|p99| (0.01..=0.025).contains(&p99)), "{:?}", p99(Some("orders")));
        assert_eq!(p99(Some("orders"))[1], None, "nothing ran");
        assert!(p99(None)[0].is_some_and(|p99| p99 > 0.1), "{:?}", p99(None));
        assert_eq!(metrics.history().points(Some("nobody")), None);

        let some = |meant: fn(&str) -> bool| metrics.history().together(meant);
        assert_eq!(some(|name| name == "orders"), of(Some("orders")));
        let both = some(|_| true);
        let figures =
            |points: &[Point]| points.iter().map(|point| (point.ended, point.runs, point.fuel)).collect::<Vec<_>>();
        assert_eq!(figures(&both), figures(&of(None)));
        assert_eq!(both[0].p99, None, "how long the runs of both took together is not known");
        assert_eq!(both[1].p99, p99(Some("mails"))[1], "one alone ran");
        assert_eq!(some(|_| false), []);
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_no_more() {
        let metrics = Metrics::new();
        let orders = metrics.subscription("orders", "embedded");
        for second in 0..(POINTS as u64 + 5) {
            run(&orders, 1, second);
            tokio::time::advance(STEP).await;
            metrics.remember(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        }
        let points = metrics.history().points(Some("orders")).unwrap();
        assert_eq!(points.len(), POINTS);
        assert_eq!(points[0].fuel, 5, "the oldest went");
    }
}
