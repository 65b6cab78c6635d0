//! What of a stream's or a consumer's settings can take messages away, or do work twice, without anything being wrong: pure
//! checks, each with what it means and what to do. What must not be is in [`check`](super::check), and is refused.

use std::time::Duration;

use serde_json::{Map, Value};

use super::check::duration;
use super::wire::{flag, number, text};

/// How long the server remembers the ids of messages when nothing is said.
const DEFAULT_WINDOW: Duration = Duration::from_secs(120);
/// So few pulls may wait at a consumer before more hosts are turned away.
const FEW_WAITING: i64 = 16;

/// What a subscription's stream can lose.
pub(super) fn of_stream(name: &str, config: &Map<String, Value>) -> Vec<String> {
    let mut risks = in_memory(name, config);
    risks.extend(dropped(name, config));
    if text(config, "retention") == "interest" {
        risks.push(format!(
            "stream `{name}` keeps a message only while a consumer wants it (retention interest): what is published before a \
             subscription was made, or after it was removed, is gone; `nats stream edit {name} --retention=limits` keeps it"
        ));
    }
    if flag(config, "sealed") {
        risks.push(format!(
            "stream `{name}` is sealed: nothing new comes, and a dead letter cannot be sent back to it; make another stream for \
             new messages"
        ));
    }
    risks.extend(unconfirmed(name, config));
    risks
}

/// What a stream for outputs can lose, or have twice.
pub(super) fn of_outputs(name: &str, config: &Map<String, Value>) -> Vec<String> {
    let mut risks = in_memory(name, config);
    risks.extend(unconfirmed(name, config));
    let (window, age) = (duration(number(config, "duplicate_window")), duration(number(config, "max_age")));
    // The server takes no window that is longer than messages live.
    let most = if age.is_zero() { DEFAULT_WINDOW } else { DEFAULT_WINDOW.min(age) };
    if window < most && text(config, "mirror").is_empty() {
        risks.push(format!(
            "stream `{name}` remembers the ids of messages for {window:?} only: an output that is sent again later than that, after a \
             crash or a lost lease, stands there twice; mend it with `nats stream edit {name} --dupe-window=2m`"
        ));
    }
    risks
}

/// What the stream of dead letters can lose.
pub(super) fn of_letters(name: &str, config: &Map<String, Value>) -> Vec<String> {
    let mut risks = in_memory(name, config);
    let age = duration(number(config, "max_age"));
    if !age.is_zero() {
        risks.push(format!(
            "stream `{name}` removes dead letters after {}, whether or not somebody looked at them; mend it with `nats stream edit \
             {name} --max-age=0`",
            humantime::format_duration(age)
        ));
    }
    if flag(config, "deny_delete") {
        risks.push(format!(
            "stream `{name}` lets nothing be removed (deny_delete, which cannot be edited): dead letters are kept there, and none can be \
             sent back or discarded; name another stream for them"
        ));
    }
    let size = number(config, "max_msg_size");
    if size > 0 {
        risks.push(format!(
            "stream `{name}` takes no dead letter of more than {size} bytes with its record: a message that is larger can never be \
             given up; mend it with `nats stream edit {name} --max-msg-size=-1`"
        ));
    }
    risks
}

/// What a consumer can forget, and whom it turns away.
pub(super) fn of_consumer(stream: &str, name: &str, config: &Map<String, Value>, replicas: i64) -> Vec<String> {
    let mut risks = Vec::new();
    if flag(config, "mem_storage") {
        risks.push(format!(
            "consumer `{name}` of stream `{stream}` is kept in memory: when its server starts anew, all of the stream is handed out \
             again; mend it with `nats consumer rm {stream} {name}` and start with `create = true`"
        ));
    }
    if text(config, "replay_policy") == "original" {
        risks.push(format!(
            "consumer `{name}` of stream `{stream}` hands out what it is behind with no faster than it was published once \
             (replay_policy original), and that cannot be edited; a consumer of another name with `--replay=instant` begins with all \
             of the stream"
        ));
    }
    let own = number(config, "num_replicas");
    if own > 0 && own < replicas {
        risks.push(format!(
            "consumer `{name}` of stream `{stream}` has {own} replica(s) and the stream {replicas}: when its server is lost, what was \
             acknowledged is handed out again; mend it with `nats consumer edit {stream} {name} --replicas={replicas}`"
        ));
    }
    let waiting = number(config, "max_waiting");
    if waiting > 0 && waiting < FEW_WAITING {
        risks.push(format!(
            "consumer `{name}` of stream `{stream}` lets {waiting} pull(s) wait at once: each host has one or two, and more hosts are \
             turned away; make it anew with `--max-waiting=512`"
        ));
    }
    risks
}

/// What a loss of power can take: said once a broker, as no server tells its clients how often it writes to the disk.
pub(super) fn of_power(stream: &str, replicas: i64) -> String {
    let copies = match replicas {
        ..=1 => "has one copy".to_owned(),
        copies => format!("has {copies} copies, which helps when they do not lose power together"),
    };
    format!(
        "stream `{stream}` {copies}, and nats-server writes what it has confirmed to the disk every two minutes unless its own \
         configuration says `sync_interval: always` in `jetstream {{}}` (it does not tell us): a loss of power can take that much, \
         messages, dead letters and what was done alike; killing the server does not. Set it, or have 3 replicas on machines with \
         power of their own"
    )
}

fn in_memory(name: &str, config: &Map<String, Value>) -> Vec<String> {
    let risk = || {
        format!(
            "stream `{name}` is kept in memory: all of it is gone when its servers end; a stream on the disk has to be made anew, \
             with `--storage=file`"
        )
    };
    Vec::from_iter((text(config, "storage") == "memory").then(risk))
}

/// That dead letters have fewer copies than the messages that they come from.
pub(super) fn of_copies(letters: &str, own: i64, stream: &str, copies: i64) -> Option<String> {
    (own < copies).then(|| {
        format!(
            "stream `{letters}` keeps dead letters in {own} replica(s), and stream `{stream}` its messages in {copies}: with the server \
             that has them dead letters are lost; mend it with `nats stream edit {letters} --replicas={copies}`"
        )
    })
}

/// By which limits the server drops the oldest messages, handled or not.
fn dropped(name: &str, config: &Map<String, Value>) -> Option<String> {
    let mut limits = Vec::new();
    let age = duration(number(config, "max_age"));
    if !age.is_zero() {
        limits.push(format!("max_age is {}", humantime::format_duration(age)));
    }
    // With `discard = new` publishes are refused at the other limits, and nothing is dropped.
    if text(config, "discard") != "new" {
        let counts = ["max_msgs", "max_bytes", "max_msgs_per_subject"];
        let set = counts.iter().map(|limit| (limit, number(config, limit))).filter(|(_, most)| *most > 0);
        limits.extend(set.map(|(limit, most)| format!("{limit} is {most}")));
    }
    (!limits.is_empty()).then(|| {
        format!(
            "stream `{name}` drops its oldest messages by itself ({}), those too that were not handled yet, and no dead letter tells \
             of them; watch `tidegate_backlog_oldest_age_seconds`, or set `--discard=new` and no age",
            limits.join(", ")
        )
    })
}

fn unconfirmed(name: &str, config: &Map<String, Value>) -> Option<String> {
    flag(config, "no_ack").then(|| {
        format!(
            "stream `{name}` does not confirm what it stores (no_ack): what is sent there counts as not stored, and is sent again \
             and again; mend it with `nats stream edit {name} --ack`"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    /// A stream as this host makes it.
    fn fine() -> Map<String, Value> {
        config(json!({
            "retention": "limits", "storage": "file", "discard": "old", "max_msgs": -1, "max_bytes": -1, "max_age": 0,
            "max_msgs_per_subject": -1, "max_msg_size": -1, "duplicate_window": 120_000_000_000_u64,
        }))
    }

    fn with(changes: Value) -> Map<String, Value> {
        let mut all = fine();
        all.extend(config(changes));
        all
    }

    #[test]
    fn what_is_made_here_has_no_risk() {
        for risks in [of_stream("S", &fine()), of_outputs("S", &fine()), of_letters("S", &fine())] {
            assert!(risks.is_empty(), "{risks:?}");
        }
        assert!(of_consumer("S", "c", &config(json!({ "max_waiting": 512 })), 3).is_empty());
        assert!(of_consumer("S", "c", &config(json!({ "num_replicas": 3 })), 3).is_empty());
    }

    #[test]
    fn dead_letters_are_to_have_as_many_copies_as_messages() {
        assert_eq!(of_copies("DLQ", 3, "S", 3), None);
        assert_eq!(of_copies("DLQ", 3, "S", 1), None);
        let told = of_copies("DLQ", 1, "S", 3);
        assert!(told.is_some_and(|told| told.contains("`nats stream edit DLQ --replicas=3`")));
    }

    #[test]
    fn each_risk_is_told_with_what_to_do() {
        type Check = fn(&str, &Map<String, Value>) -> Vec<String>;
        let rows: [(Check, Value, &str); 15] = [
            (of_stream, json!({ "max_age": 86_400_000_000_000_u64 }), "max_age is 1day"),
            (of_stream, json!({ "max_msgs": 10, "max_bytes": 20 }), "(max_msgs is 10, max_bytes is 20)"),
            (of_stream, json!({ "max_msgs_per_subject": 1 }), "max_msgs_per_subject is 1"),
            (of_stream, json!({ "discard": "new", "max_msgs": 10, "max_age": 1_000_000_000 }), "(max_age is 1s)"),
            (of_stream, json!({ "storage": "memory" }), "--storage=file"),
            (of_stream, json!({ "retention": "interest" }), "--retention=limits"),
            (of_stream, json!({ "sealed": true }), "is sealed"),
            (of_stream, json!({ "no_ack": true }), "nats stream edit S --ack"),
            (of_outputs, json!({ "no_ack": true }), "nats stream edit S --ack"),
            (of_outputs, json!({ "duplicate_window": 5_000_000_000_u64 }), "5s only"),
            (of_outputs, json!({ "storage": "memory" }), "--storage=file"),
            (of_letters, json!({ "max_age": 3_600_000_000_000_u64 }), "removes dead letters after 1h"),
            (of_letters, json!({ "max_msg_size": 4096 }), "more than 4096 bytes"),
            (of_letters, json!({ "deny_delete": true }), "lets nothing be removed"),
            (of_letters, json!({ "storage": "memory" }), "--storage=file"),
        ];
        for (check, changes, expected) in rows {
            let told = check("S", &with(changes.clone()));
            assert!(told.len() == 1 && told.iter().all(|risk| risk.contains(expected)), "{changes}: {told:?}");
        }
        // Nothing is dropped that the stream refuses to take in.
        assert!(of_stream("S", &with(json!({ "discard": "new", "max_msgs": 10 }))).is_empty());
        let short = json!({ "duplicate_window": 5_000_000_000_u64, "max_age": 5_000_000_000_u64 });
        assert!(of_outputs("S", &with(short)).is_empty(), "its messages live no longer");
        let risky = json!({ "mem_storage": true, "replay_policy": "original", "num_replicas": 1, "max_waiting": 1 });
        let told = of_consumer("S", "c", &config(risky), 3);
        let expected = ["kept in memory", "--replay=instant", "--replicas=3", "--max-waiting=512"];
        assert!(told.len() == 4 && told.iter().zip(expected).all(|(risk, part)| risk.contains(part)), "{told:?}");
    }

    #[test]
    fn a_loss_of_power_is_told_by_the_copies() {
        assert!(of_power("S", 1).starts_with("stream `S` has one copy, and nats-server writes"));
        assert!(of_power("S", 3).contains("has 3 copies") && of_power("S", 3).contains("sync_interval: always"));
    }
}
