//! Whether the stream of dead letters can hold them: its settings, and its limits.

use super::{BODIES, LETTERS, REDRIVEN};
use crate::broker::jetstream::wire::{StreamInfo, flag, number, text, texts};

/// What is wrong with a stream that is to hold dead letters.
pub(super) fn problems(name: &str, info: &StreamInfo) -> Result<(), String> {
    let config = &info.config;
    let mut wrong = Vec::new();
    for space in [LETTERS, REDRIVEN, BODIES] {
        let subject = format!("{space}.>");
        if !texts(config, "subjects").iter().any(|has| crate::broker::jetstream::check::covers(has, &subject)) {
            wrong.push(format!("it does not take in `{subject}`"));
        }
    }
    let retention = text(config, "retention");
    if retention != "limits" {
        wrong.push(format!("retention is {retention} and must be limits: otherwise reading takes dead letters away"));
    }
    if text(config, "discard") != "new" || !flag(config, "discard_new_per_subject") {
        wrong.push("it must discard new messages, per subject: otherwise one dead letter replaces another".to_owned());
    }
    if number(config, "max_msgs_per_subject") != 1 {
        wrong.push("max_msgs_per_subject must be 1: otherwise a dead letter may be stored twice".to_owned());
    }
    if !flag(config, "allow_direct") {
        wrong.push("allow_direct must be on: dead letters are read by it".to_owned());
    }
    if flag(config, "no_ack") {
        wrong.push("it must confirm what it stores (no_ack is on): otherwise no message can be given up".to_owned());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "stream `{name}` cannot hold dead letters: {}; mend it with `nats stream edit {name}`, or name another stream",
        wrong.join("; ")
    ))
}

/// Whether a stream has room for another message, by its own limits.
pub(super) fn left(name: &str, info: &StreamInfo) -> Result<(), String> {
    let limits = [("max_bytes", info.state.bytes, "bytes"), ("max_msgs", info.state.messages, "messages")];
    for (setting, used, unit) in limits {
        // Zero and less: no limit.
        let limit = u64::try_from(number(&info.config, setting)).unwrap_or(0);
        if limit > 0 && used >= limit {
            return Err(format!(
                "stream `{name}` is full: it has {used} {unit} of at most {limit}; discard dead letters, or raise \
                 `{setting}`"
            ));
        }
    }
    if flag(&info.config, "sealed") {
        return Err(format!("stream `{name}` is sealed and takes nothing in any more"));
    }
    Ok(())
}
