//! What is to be done to bring a host from one configuration to another. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{How, Step};
use crate::config::{Config, Difference, SubscriptionConfig};

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Keys that a host takes at its start only, and that differ.
    pub needs_restart: Vec<String>,
    /// Brokers that are opened.
    pub opened: Vec<String>,
    /// Brokers that are closed, once nothing sends to them any more.
    pub closed: Vec<String>,
    /// Subscriptions, each with what is done to it. One that is not here is not touched.
    pub subscriptions: BTreeMap<String, Work>,
}

/// What is done to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It comes.
    Start,
    /// It goes.
    Stop,
    /// It is bound otherwise: it is stopped, and started as it is to be.
    Restart,
    /// It goes on, with other numbers.
    Tune,
}

impl Plan {
    /// The plan in words, the brokers first.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let brokers = |names: &[String], how: How| -> Vec<Step> {
            names.iter().map(|name| Step { what: format!("broker {name}"), how }).collect()
        };
        let mut steps = brokers(&self.opened, How::Started);
        steps.extend(brokers(&self.closed, How::Stopped));
        steps.extend(self.subscriptions.iter().map(|(name, work)| Step {
            what: format!("subscription {name}"),
            how: match work {
                Work::Start => How::Started,
                Work::Stop => How::Stopped,
                Work::Restart => How::Restarted,
                Work::Tune => How::Tuned,
            },
        }));
        steps
    }

    /// The subscriptions to which one of these is done.
    pub fn with<'a>(&'a self, works: &'a [Work]) -> impl Iterator<Item = &'a str> {
        self.subscriptions.iter().filter(|(_, work)| works.contains(work)).map(|(name, _)| name.as_str())
    }
}

/// How many bytes a subscription may hold: its own limit, and its even part of the host's, so that together they hold
/// whatever the neighbours do.
#[must_use]
pub fn share(config: &Config, subscription: &SubscriptionConfig) -> usize {
    let part = config.host.max_in_flight_bytes / config.subscriptions.len().max(1);
    subscription.max_in_flight_bytes.min(part).max(1)
}

/// Makes the plan. `differences` are those from `before` to `after`.
#[must_use]
pub fn plan(before: &Config, after: &Config, differences: &[Difference]) -> Plan {
    let names = |config: &Config| config.brokers.keys().cloned().collect::<BTreeSet<_>>();
    let (old, new) = (names(before), names(after));
    let needs_restart = differences.iter().filter(|one| !is_live(&one.path, &old, &new));
    let closed: Vec<String> = old.difference(&new).cloned().collect();
    let mut subscriptions = BTreeMap::new();
    for name in before.subscriptions.keys().chain(after.subscriptions.keys()) {
        let work = match (before.subscriptions.get(name), after.subscriptions.get(name)) {
            (None, Some(_)) => Some(Work::Start),
            (Some(_), None) => Some(Work::Stop),
            (Some(old), Some(_)) if uses(before, &old.handler, &closed) => Some(Work::Restart),
            (Some(old), Some(new)) => work(old, new, share(before, old) != share(after, new)),
            (None, None) => None,
        };
        if let Some(work) = work {
            subscriptions.insert(name.clone(), work);
        }
    }
    Plan {
        needs_restart: needs_restart.map(|one| one.path.join(".")).collect(),
        opened: new.difference(&old).cloned().collect(),
        closed,
        subscriptions,
    }
}

/// Whether a handler could send to one of some brokers, or has a bucket there. Its runs are then seen to their end before the
/// broker is closed.
fn uses(config: &Config, handler: &str, brokers: &[String]) -> bool {
    config.handlers.get(handler).is_some_and(|handler| {
        let outputs = handler.outputs.values().map(|output| &output.broker);
        outputs.chain(handler.buckets.values().map(|bucket| &bucket.broker)).any(|broker| brokers.contains(broker))
    })
}

/// What is done to a subscription that stays. By name, so that what is added to it later is not forgotten here.
fn work(before: &SubscriptionConfig, after: &SubscriptionConfig, other_share: bool) -> Option<Work> {
    let SubscriptionConfig {
        broker,
        handler,
        spec,
        concurrency,
        max_in_flight_bytes: _,
        stalled_after,
        retry,
        circuit,
    } = before;
    if *broker != after.broker || *handler != after.handler || *spec != after.spec {
        return Some(Work::Restart);
    }
    let other_numbers = *concurrency != after.concurrency
        || *retry != after.retry
        || *circuit != after.circuit
        || *stalled_after != after.stalled_after;
    (other_numbers || other_share).then_some(Work::Tune)
}

/// Whether a key can change on a host that runs. What is not known here cannot.
fn is_live(path: &[String], before: &BTreeSet<String>, after: &BTreeSet<String>) -> bool {
    let at = |index: usize| path.get(index).map(String::as_str).unwrap_or_default();
    match at(0) {
        "handlers" | "subscriptions" | "dead_letters" => true,
        // One that comes or goes; the settings of one that stays belong to its connection or its file.
        "brokers" => before.contains(at(1)) != after.contains(at(1)),
        "host" => matches!(at(1), "max_in_flight_bytes" | "drain_timeout"),
        "registry" => at(1) == "keep_versions",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::Path;

    use super::*;

    const BEFORE: &str = r#"
[http]
listen = "127.0.0.1:7171"
[brokers.a]
type = "embedded"
[brokers.b]
type = "embedded"
max_age = "1d"
[handlers.h]
outputs.b = { broker = "b", subject = "x" }
[brokers.d]
type = "embedded"
[handlers.i]
buckets.seen = { broker = "d" }
[subscriptions.one]
broker = "a"
subjects = ["one.>"]
handler = "h"
[subscriptions.two]
broker = "a"
subjects = ["two.>"]
handler = "i"
"#;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("/c/tidegate.toml"), text.to_owned(), &[]).unwrap()
    }

    fn planned(after: &str) -> Plan {
        let (before, after) = (config(BEFORE), config(after));
        plan(&before, &after, &before.differences(&after))
    }

    #[test]
    fn what_is_not_changed_is_not_touched() {
        assert_eq!(planned(BEFORE), Plan::default());
        // Comments and order are no change.
        assert_eq!(planned(&format!("# a comment\n{BEFORE}")), Plan::default());
    }

    #[test]
    fn each_change_has_its_work() {
        let change = |from: &str, to: &str| {
            assert!(BEFORE.contains(from), "{from}");
            let plan = planned(&BEFORE.replace(from, to));
            let works: Vec<_> = plan.subscriptions.into_iter().collect();
            (plan.needs_restart.join(" "), plan.opened.join(" "), plan.closed.join(" "), works)
        };
        let works = |works: &[(&str, Work)]| works.iter().map(|(name, work)| ((*name).to_owned(), *work)).collect();
        // What is replaced by what; keys that need a restart, brokers that come and go, and what is done.
        type Row =
            (&'static str, &'static str, &'static str, &'static str, &'static str, &'static [(&'static str, Work)]);
        let rows: [Row; 15] = [
            ("handler = \"i\"", "handler = \"i\"\nconcurrency = 3", "", "", "", &[("two", Work::Tune)]),
            ("handler = \"i\"", "handler = \"i\"\nretry.preset = \"quick\"", "", "", "", &[("two", Work::Tune)]),
            ("handler = \"i\"", "handler = \"i\"\nmax_in_flight_bytes = \"1MiB\"", "", "", "", &[("two", Work::Tune)]),
            ("handler = \"i\"", "handler = \"i\"\ncircuit.enabled = false", "", "", "", &[("two", Work::Tune)]),
            ("handler = \"i\"", "handler = \"i\"\nstalled_after = \"5m\"", "", "", "", &[("two", Work::Tune)]),
            ("handler = \"i\"", "handler = \"i\"\nack_wait = \"5s\"", "", "", "", &[("two", Work::Restart)]),
            ("\"two.>\"", "\"three.>\"", "", "", "", &[("two", Work::Restart)]),
            ("handler = \"i\"", "handler = \"h\"", "", "", "", &[("two", Work::Restart)]),
            ("[subscriptions.two]", "[subscriptions.new]", "", "", "", &[("new", Work::Start), ("two", Work::Stop)]),
            ("7171", "7172", "http.listen", "", "", &[]),
            ("\"1d\"", "\"2d\"", "brokers.b.max_age", "", "", &[]),
            ("[brokers.d]", "[brokers.c]\ntype = \"embedded\"\n[brokers.d]", "", "c", "", &[]),
            // Runs of `one` may still send to the broker that goes.
            (
                "[brokers.b]\ntype = \"embedded\"\nmax_age = \"1d\"\n[handlers.h]\noutputs.b = { broker = \"b\", subject = \"x\" }",
                "[handlers.h]",
                "",
                "",
                "b",
                &[("one", Work::Restart)],
            ),
            // Runs of `two` may still use a bucket of the broker that goes.
            (
                "[brokers.d]\ntype = \"embedded\"\n[handlers.i]\nbuckets.seen = { broker = \"d\" }",
                "[handlers.i]",
                "",
                "",
                "d",
                &[("two", Work::Restart)],
            ),
            (
                "[http]",
                "[host]\nmax_in_flight_bytes = \"64MiB\"\n[http]",
                "",
                "",
                "",
                &[("one", Work::Tune), ("two", Work::Tune)],
            ),
        ];
        for (from, to, restart, opened, closed, expected) in rows {
            let expected = (restart.to_owned(), opened.to_owned(), closed.to_owned(), works(expected));
            assert_eq!(change(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn runs_that_may_write_to_a_bucket_end_before_its_broker_is_closed() {
        let bucket = "buckets.seen = { broker = \"b\" }\n";
        let before = BEFORE.replace("outputs.b = { broker = \"b\", subject = \"x\" }\n", bucket);
        let after = before.replace(bucket, "").replace("[brokers.b]\ntype = \"embedded\"\nmax_age = \"1d\"\n", "");
        let (before, after) = (config(&before), config(&after));
        let plan = plan(&before, &after, &before.differences(&after));
        assert_eq!(plan.closed, ["b"]);
        assert_eq!(plan.with(&[Work::Restart]).collect::<Vec<_>>(), ["one"]);
    }

    #[test]
    fn one_more_subscription_leaves_less_room_to_the_others() {
        let crowd: String = (0..8)
            .map(|number| {
                format!("[subscriptions.s{number}]\nbroker = \"a\"\nsubjects = [\"s{number}\"]\nhandler = \"i\"\n")
            })
            .collect();
        let plan = planned(&format!("{BEFORE}{crowd}"));
        assert_eq!(plan.with(&[Work::Tune]).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(plan.with(&[Work::Start]).count(), 8);
        assert_eq!(plan.steps().len(), 10);
    }
}
