//! The settings of subscriptions: which messages go to which handler, how many at once, and how they are retried.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::broker::BrokerConfig;
use super::check::{Checker, in_memory};
use super::circuit;
use super::handler::HandlerConfig;
use super::problem::Problem;
use super::raw::{RawRetry, RawSubscription, RetryPreset};
use crate::broker::{SubscriptionSpec, subject};
use crate::dispatch::CircuitPolicy;
use crate::sandbox::MAX_INSTANCES;
use crate::settle::policy::{Backoff, RetryPolicy};

/// Sixteen handlers at their 64 MiB of memory hold 1 GiB at the very most.
const CONCURRENCY: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);
/// A message that runs has an instance of the pool, and the pool has so many: more would wait for one with their messages
/// held, their leases kept up and a worker each, and be no faster.
const MOST_CONCURRENCY: NonZeroU32 = MAX_INSTANCES;
/// Sixteen that run, as many that are next, and two groups of a hundred whose settlement is being confirmed.
const MAX_IN_FLIGHT: u32 = 256;
/// 256 messages of 256 KiB.
const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;
/// The default of JetStream: three times the default timeout of a run.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// A lease is extended at half of it, and a reply may take some hundred milliseconds.
const LEAST_ACK_WAIT: Duration = Duration::from_secs(1);
/// Six runs of the default timeout, one after the other.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// It is looked at every second.
const LEAST_STALL: Duration = Duration::from_secs(1);
/// More would be a table of its own; the delays repeat at the end anyway.
const LONGEST_SCHEDULE: usize = 100;

/// The settings of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionConfig {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The handler's name in the configuration.
    pub handler: String,
    /// What is asked of the broker.
    pub spec: SubscriptionSpec,
    /// How many messages are handled at once on this host.
    pub concurrency: NonZeroUsize,
    /// How many bytes of messages are held at once.
    pub max_in_flight_bytes: usize,
    /// After how long without an end of any message it counts as stalled.
    pub stalled_after: Duration,
    /// How failed messages are tried again.
    pub retry: RetryPolicy,
    /// When most messages fail: when it takes none for a while; `None`: it never does.
    pub circuit: Option<CircuitPolicy>,
}

/// What a subscription may refer to.
pub(super) struct References<'a> {
    /// The brokers that could be read.
    pub(super) brokers: &'a BTreeMap<String, BrokerConfig>,
    /// All brokers that the file names.
    pub(super) broker_names: &'a [&'a str],
    /// The handlers that could be read.
    pub(super) handlers: &'a BTreeMap<String, HandlerConfig>,
    /// All handlers that the file names.
    pub(super) handler_names: &'a [&'a str],
}

impl SubscriptionConfig {
    pub(super) fn validate(name: &str, raw: RawSubscription, known: &References<'_>, checker: &mut Checker) -> Self {
        checker.name("subscription", "subscriptions", name);
        let at = |key| ["subscriptions", name, key];
        let broker = required(name, "broker", raw.broker, checker);
        let handler = required(name, "handler", raw.handler, checker);
        if !broker.is_empty() && !known.broker_names.contains(&broker.as_str()) {
            let problem = Problem::at(&at("broker"), format!("there is no broker `{broker}`"));
            checker.problem(problem.nearest(&broker, known.broker_names.iter().copied()));
        }
        if !handler.is_empty() && !known.handler_names.contains(&handler.as_str()) {
            let problem = Problem::at(&at("handler"), format!("there is no handler `{handler}`"));
            checker.problem(problem.nearest(&handler, known.handler_names.iter().copied()));
        }
        let subjects = raw.subjects.unwrap_or_default();
        check_subjects(name, &subjects, checker);
        let stream = stream(name, raw.stream, &subjects, known.brokers.get(&broker), checker);
        let concurrency = checker.count(&at("concurrency"), raw.concurrency, CONCURRENCY);
        if concurrency > MOST_CONCURRENCY {
            let problem = Problem::at(&at("concurrency"), format!("`concurrency` must be at most {MOST_CONCURRENCY}"));
            checker.problem(problem.help("a host runs so many messages at once; the others would wait for them"));
        }
        let least_in_flight = concurrency.get();
        let default = MAX_IN_FLIGHT.max(least_in_flight.saturating_mul(2));
        let max_in_flight = raw.max_in_flight.unwrap_or(default);
        if max_in_flight < least_in_flight && raw.concurrency != Some(0) {
            let problem = Problem::at(&at("max_in_flight"), "`max_in_flight` is less than `concurrency`");
            checker.problem(problem.help(format!(
                "the {least_in_flight} messages that run are in flight too: at least {least_in_flight}"
            )));
        }
        // A run that takes all of its time is none, and neither is the next one.
        let timeout = known.handlers.get(&handler).map_or(Duration::ZERO, |handler| handler.limits.timeout);
        let stalled_after = STALLED_AFTER.max(timeout.saturating_mul(2));
        Self {
            spec: SubscriptionSpec {
                name: name.to_owned(),
                stream,
                subjects,
                ack_wait: checker.duration(&at("ack_wait"), raw.ack_wait, ACK_WAIT, LEAST_ACK_WAIT),
                max_in_flight: usize::try_from(max_in_flight).unwrap_or(usize::MAX),
                create: raw.create.unwrap_or_default(),
            },
            broker,
            handler,
            concurrency: in_memory(concurrency),
            max_in_flight_bytes: checker.memory_size(
                &at("max_in_flight_bytes"),
                raw.max_in_flight_bytes,
                MAX_IN_FLIGHT_BYTES,
            ),
            stalled_after: checker.duration(&at("stalled_after"), raw.stalled_after, stalled_after, LEAST_STALL),
            retry: retry(name, raw.retry, checker),
            circuit: circuit::validate(name, raw.circuit, checker),
        }
    }
}

fn required(name: &str, key: &str, given: Option<String>, checker: &mut Checker) -> String {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        let message = format!("subscription `{name}` has no `{key}`");
        checker.problem(Problem::at(&["subscriptions", name, key], message));
    }
    given
}

fn check_subjects(name: &str, subjects: &[String], checker: &mut Checker) {
    if subjects.is_empty() {
        let message = format!("subscription `{name}` has no `subjects`");
        checker.problem(Problem::at(&["subscriptions", name, "subjects"], message).help("subjects = [\"orders.>\"]"));
    }
    for (index, filter) in subjects.iter().enumerate() {
        let position = index.to_string();
        let path = ["subscriptions", name, "subjects", position.as_str()];
        if let Err(error) = subject::check_filter(filter) {
            checker.problem(Problem::at(&path, error.to_string()));
            continue;
        }
        let others = subjects.iter().enumerate().filter(|(other, _)| *other != index);
        let mut wider =
            others.filter(|(other, wide)| covers(wide, filter) && (*other < index || !covers(filter, wide)));
        if let Some((_, wide)) = wider.next() {
            checker.problem(Problem::at(&path, format!("`{filter}` is taken in by `{wide}` already")));
        }
    }
}

/// Whether every subject that `inner` takes in is taken in by `outer`.
fn covers(outer: &str, inner: &str) -> bool {
    let ends_open = |filter: &str| filter.rsplit('.').next() == Some(">");
    subject::matches(outer, inner) && (ends_open(outer) || !ends_open(inner))
}

/// The stream that a subscription reads: its own word, or the broker's stream that takes in all of its subjects.
fn stream(
    name: &str,
    given: Option<String>,
    subjects: &[String],
    broker: Option<&BrokerConfig>,
    checker: &mut Checker,
) -> Option<String> {
    match broker {
        Some(BrokerConfig::Embedded(_)) => {
            if given.is_some() {
                let problem = Problem::at(&["subscriptions", name, "stream"], "the embedded queue has one stream only");
                checker.problem(problem.help("remove `stream`; `subjects` alone choose the messages"));
            }
            None
        }
        Some(BrokerConfig::JetStream(broker)) => given.or_else(|| {
            let takes = |wanted: &String, subjects: &[String]| subjects.iter().any(|filter| covers(filter, wanted));
            let all =
                broker.streams.iter().find(|(_, stream)| subjects.iter().all(|wanted| takes(wanted, &stream.subjects)));
            all.map(|(stream, _)| stream.clone())
        }),
        None => given,
    }
}

fn retry(name: &str, raw: RawRetry, checker: &mut Checker) -> RetryPolicy {
    let at = |key| ["subscriptions", name, "retry", key];
    let mut policy = match raw.preset.unwrap_or_default() {
        RetryPreset::Quick => RetryPolicy::quick(),
        RetryPreset::Standard => RetryPolicy::standard(),
        RetryPreset::Patient => RetryPolicy::patient(),
    };
    if let Some(schedule) = raw.schedule {
        if raw.preset.is_some() {
            checker.problem(Problem::at(&at("schedule"), "`schedule` and `preset` are two ways to say when; keep one"));
        }
        if schedule.is_empty() || schedule.len() > LONGEST_SCHEDULE {
            let message = format!("`schedule` must have from 1 to {LONGEST_SCHEDULE} delays");
            checker.problem(Problem::at(&at("schedule"), message));
        }
        let delays: Vec<Duration> = schedule.iter().map(|text| text.0).collect();
        let attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX);
        policy.max_attempts = NonZeroU32::MIN.saturating_add(attempts);
        policy.backoff = Backoff::Schedule(delays);
    }
    policy.max_attempts = checker.count(&at("max_attempts"), raw.max_attempts, policy.max_attempts);
    // Ten returns that were nobody's fault for each attempt: a drain a day over the patient preset's 6.5 days is 7.
    let deliveries = policy.max_attempts.saturating_mul(NonZeroU32::MIN.saturating_add(9));
    policy.max_deliveries = checker.count(&at("max_deliveries"), raw.max_deliveries, deliveries);
    if policy.max_deliveries < policy.max_attempts {
        let problem = Problem::at(&at("max_deliveries"), "`max_deliveries` is less than `max_attempts`");
        checker.problem(problem.help("every attempt is a delivery, so the attempts could never be used up"));
    }
    policy.max_age = checker.duration(&at("max_age"), raw.max_age, policy.max_age, LEAST_ACK_WAIT);
    policy.retry_after_max =
        checker.duration(&at("retry_after_max"), raw.retry_after_max, policy.retry_after_max, Duration::from_millis(1));
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_it_takes_in_whole() {
        let rows = [
            ("a.>", "a.b", true),
            ("a.>", "a.>", true),
            ("a.>", "a.b.>", true),
            ("a.*", "a.>", false),
            ("a.*", "a.b", true),
            ("a.b", "a.*", false),
            (">", "a.>", true),
            ("a.b.>", "a.>", false),
        ];
        for (outer, inner, expected) in rows {
            assert_eq!(covers(outer, inner), expected, "{outer} over {inner}");
        }
    }
}
