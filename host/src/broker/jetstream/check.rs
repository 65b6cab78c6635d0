//! What a stream and a consumer must be like for no message to be lost, as pure checks: each setting that is wrong is
//! named with what it is, what it must be and how to change it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::wire::{flag, number, text, texts};
use crate::broker::SubscriptionSpec;

/// The metadata key that marks what this host made, and may therefore change.
pub(super) const STAMP: &str = "tidegate";
/// What the server itself allows to be handed out and not settled when nothing is said.
const DEFAULT_MAX_ACK_PENDING: usize = 1000;

/// A setting that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Its name in the server's words.
    pub(super) setting: &'static str,
    /// What it is.
    pub(super) is: String,
    /// What it must be.
    pub(super) must_be: String,
    /// What goes wrong otherwise.
    pub(super) why: &'static str,
    /// The command that changes it.
    pub(super) mend: String,
    /// Whether an update can change it; else it takes a new consumer.
    pub(super) can_update: bool,
}

impl Problem {
    /// Whether messages are lost, or handed out as they are not, from the moment on at which somebody changes it, so that a
    /// host that runs has to stop receiving. The others differ for a while whenever the hosts of one subscription get a new
    /// configuration one after the other (its filters, its lease), and are looked at when a host sets itself up.
    pub(super) fn endangers(&self) -> bool {
        ["max_deliver", "backoff", "inactive_threshold", "headers_only"].contains(&self.setting)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {} and must be {} ({}); mend it with `{}`",
            self.setting, self.is, self.must_be, self.why, self.mend
        )
    }
}

/// How many messages may be handed out and not settled: a thousand as the server has it, or four times what a host
/// holds: so three further hosts, or as many messages that wait for a retry in place.
pub(super) fn max_ack_pending(max_in_flight: usize) -> usize {
    max_in_flight.saturating_mul(4).max(DEFAULT_MAX_ACK_PENDING)
}

/// The settings of a consumer that is made for a subscription.
pub(super) fn consumer_config(spec: &SubscriptionSpec) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("durable_name".into(), json!(spec.name));
    config.insert("name".into(), json!(spec.name));
    config.insert("description".into(), json!("A Tidegate subscription; shared by all hosts that run it"));
    config.insert("deliver_policy".into(), json!("all"));
    config.insert("ack_policy".into(), json!("explicit"));
    config.insert("ack_wait".into(), json!(nanos(spec.ack_wait)));
    config.insert("max_deliver".into(), json!(-1));
    config.insert("replay_policy".into(), json!("instant"));
    config.insert("max_ack_pending".into(), json!(max_ack_pending(spec.max_in_flight)));
    config.insert("metadata".into(), json!({ STAMP: env!("CARGO_PKG_VERSION") }));
    set_filters(&mut config, &spec.subjects);
    config
}

/// The present settings of a consumer with those put right that can be.
pub(super) fn mended(config: &Map<String, Value>, spec: &SubscriptionSpec) -> Map<String, Value> {
    let mut config = config.clone();
    config.insert("ack_wait".into(), json!(nanos(spec.ack_wait)));
    config.insert("max_deliver".into(), json!(-1));
    if too_small(number(&config, "max_ack_pending"), spec) {
        config.insert("max_ack_pending".into(), json!(max_ack_pending(spec.max_in_flight)));
    }
    for gone in ["backoff", "inactive_threshold", "headers_only"] {
        config.remove(gone);
    }
    set_filters(&mut config, &spec.subjects);
    config
}

fn set_filters(config: &mut Map<String, Value>, subjects: &[String]) {
    config.remove("filter_subject");
    config.remove("filter_subjects");
    match subjects {
        [one] => config.insert("filter_subject".into(), json!(one)),
        several => config.insert("filter_subjects".into(), json!(several)),
    };
}

/// Whether this host made it.
pub(super) fn is_ours(config: &Map<String, Value>) -> bool {
    config.get("metadata").and_then(Value::as_object).is_some_and(|metadata| metadata.contains_key(STAMP))
}

/// What is wrong with a consumer.
pub(super) fn consumer_problems(
    stream: &str,
    config: &Map<String, Value>,
    paused: bool,
    spec: &SubscriptionSpec,
) -> Vec<Problem> {
    let mut found = Found { stream, consumer: &spec.name, problems: Vec::new() };
    check_delivery(&mut found, config, paused, spec);
    check_lease(&mut found, config, spec);
    check_bounds(&mut found, config, spec);
    found.problems
}

/// Problems of one consumer, as they are found.
struct Found<'a> {
    stream: &'a str,
    consumer: &'a str,
    problems: Vec<Problem>,
}

impl Found<'_> {
    /// A setting that an update can change, with the flags that do it.
    fn editable(&mut self, setting: &'static str, is: String, must_be: String, why: &'static str, flags: &str) {
        let mend = format!("nats consumer edit {} {} {flags}", self.stream, self.consumer);
        self.problems.push(Problem { setting, is, must_be, why, mend, can_update: true });
    }

    /// A setting that takes a new consumer.
    fn fixed(&mut self, setting: &'static str, is: &str, must_be: &str, why: &'static str) {
        let mend = format!("nats consumer rm {} {}` and start with `create = true", self.stream, self.consumer);
        let (is, must_be) = (is.to_owned(), must_be.to_owned());
        self.problems.push(Problem { setting, is, must_be, why, mend, can_update: false });
    }
}

/// What is handed out, and in which form.
fn check_delivery(found: &mut Found<'_>, config: &Map<String, Value>, paused: bool, spec: &SubscriptionSpec) {
    let push = text(config, "deliver_subject");
    if !push.is_empty() {
        found.fixed("deliver_subject", push, "empty", "it is a push consumer, and messages are pulled");
    }
    let filters = filters(config);
    if sorted(&filters) != sorted(&spec.subjects) {
        let is = if filters.is_empty() { "empty".to_owned() } else { filters.join(", ") };
        let flags: Vec<String> = spec.subjects.iter().map(|subject| format!("--filter={subject}")).collect();
        let why = "other messages than those of the subscription would be run, or some of them not";
        found.editable("filter_subjects", is, spec.subjects.join(", "), why, &flags.join(" "));
    }
    let deliver = or(text(config, "deliver_policy"), "all");
    if deliver != "all" {
        found.fixed("deliver_policy", deliver, "all", "messages from before the consumer was made would be left out");
    }
    if flag(config, "headers_only") {
        let why = "messages would come without their bodies";
        found.editable("headers_only", "true".into(), "false".into(), why, "--no-headers-only");
    }
    let groups = texts(config, "priority_groups");
    if !groups.is_empty() {
        found.fixed("priority_groups", &groups.join(", "), "empty", "pulls that name no group are refused");
    }
    if paused {
        found.problems.push(Problem {
            setting: "pause_until",
            is: "in the future".to_owned(),
            must_be: "not set".to_owned(),
            why: "nothing would be received",
            mend: format!("nats consumer resume {} {}", found.stream, found.consumer),
            can_update: false,
        });
    }
}

/// What counts as done, and for how long a delivery is ours.
fn check_lease(found: &mut Found<'_>, config: &Map<String, Value>, spec: &SubscriptionSpec) {
    let ack = or(text(config, "ack_policy"), "none");
    if ack != "explicit" {
        found.fixed("ack_policy", ack, "explicit", "otherwise messages count as done that are not");
    }
    let backoff = config.get("backoff").and_then(Value::as_array).map_or(0, Vec::len);
    if backoff > 0 {
        let why = "it replaces the lease and skews the delays of retries";
        found.editable("backoff", format!("{backoff} steps"), "empty".into(), why, "--backoff=none");
    }
    let ack_wait = duration(number(config, "ack_wait"));
    // With a backoff the server shows its first step here; that is named above.
    if ack_wait != spec.ack_wait && backoff == 0 {
        let (is, must_be) = (format!("{ack_wait:?}"), format!("{:?}", spec.ack_wait));
        let flags = format!("--wait={}ms", spec.ack_wait.as_millis());
        found.editable("ack_wait", is, must_be, "the host's clock on the lease must be the server's", &flags);
    }
}

/// What the server would do by itself, behind our back.
fn check_bounds(found: &mut Found<'_>, config: &Map<String, Value>, spec: &SubscriptionSpec) {
    let max_deliver = number(config, "max_deliver");
    // The server shows unlimited as -1, and 0 means the same.
    if max_deliver > 0 {
        let why = "the server silently stops handing a message out after so many times";
        found.editable("max_deliver", max_deliver.to_string(), "-1".into(), why, "--max-deliver=-1");
    }
    let threshold = number(config, "inactive_threshold");
    if threshold > 0 {
        let is = format!("{:?}", duration(threshold));
        let why = "the server deletes the consumer, with all it knows, when no host runs for so long";
        found.editable("inactive_threshold", is, "0".into(), why, "--inactive-threshold=0s");
    }
    let pending = number(config, "max_ack_pending");
    if too_small(pending, spec) {
        let why = "messages that wait for a retry count too, and new ones stop when it is reached";
        let must_be = format!("at least {}", least_pending(spec));
        let flags = format!("--max-pending={}", max_ack_pending(spec.max_in_flight));
        found.editable("max_ack_pending", pending.to_string(), must_be, why, &flags);
    }
}

/// The least that may be handed out and not settled: what this host holds, and a quarter more for retries in place.
fn least_pending(spec: &SubscriptionSpec) -> usize {
    spec.max_in_flight + spec.max_in_flight.div_ceil(4)
}

fn too_small(pending: i64, spec: &SubscriptionSpec) -> bool {
    // -1 is unlimited; 0 is left out by the server and means its default, which it then shows.
    pending >= 0 && usize::try_from(pending).unwrap_or(usize::MAX) < least_pending(spec)
}

/// The subjects of a consumer; empty for all of the stream.
pub(super) fn filters(config: &Map<String, Value>) -> Vec<String> {
    let one = text(config, "filter_subject");
    if one.is_empty() { texts(config, "filter_subjects") } else { vec![one.to_owned()] }
}

/// The subjects of a subscription that a stream does not take in.
pub(super) fn not_covered(stream: &Map<String, Value>, wanted: &[String]) -> Vec<String> {
    // What it holds stands in other streams' settings.
    if has_origins(stream) {
        return Vec::new();
    }
    let subjects = texts(stream, "subjects");
    let covered = |filter: &String| subjects.iter().any(|subject| covers(subject, filter));
    wanted.iter().filter(|filter| !covered(filter)).cloned().collect()
}

/// Whether a stream has messages from other streams: it mirrors one, or collects from some.
fn has_origins(stream: &Map<String, Value>) -> bool {
    let has = |name: &str| stream.get(name).is_some_and(|value| !value.is_null());
    has("mirror") || has("sources")
}

/// Whether all that `inner` takes in is taken in by `outer`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    let mut outer = outer.split('.');
    let mut inner = inner.split('.');
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

fn sorted(list: &[String]) -> Vec<&String> {
    let mut list: Vec<&String> = list.iter().collect();
    list.sort_unstable();
    list.dedup();
    list
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// A time as the server tells it.
pub(super) fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
