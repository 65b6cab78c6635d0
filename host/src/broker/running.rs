//! Which dead letters failed in a version that still runs: sent back, they meet again what they failed in.
//!
//! A version is told by its module. Where an earlier version had the same module with other limits or grants, what died before
//! the later one came did not fail in it.

use std::collections::HashMap;
use std::time::SystemTime;

use super::Traits;
use super::dead_letters::short_digest;
use crate::outcome::{FaultKind, ReasonCode};

/// The versions that messages run on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running(HashMap<String, Vec<Version>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    /// So much of its module's digest as tells it from others.
    digest: String,
    /// Since when there is such a version; `None`: no earlier one had its module.
    since: Option<SystemTime>,
}

impl Running {
    /// Messages of this handler run on this module. `since`: an earlier version had it too, and this is when the later one came.
    pub fn add(&mut self, handler: &str, digest: &str, since: Option<SystemTime>) {
        let version = Version { digest: short_digest(digest).to_owned(), since };
        self.0.entry(handler.to_owned()).or_default().push(version);
    }

    /// Whether one failed in a version that still runs.
    #[must_use]
    pub fn failed_in(&self, letter: &Traits<'_>) -> bool {
        let Some(versions) = self.0.get(letter.handler) else { return false };
        let digest = short_digest(letter.digest);
        let mut same = versions.iter().filter(|version| version.digest == digest);
        !digest.is_empty()
            && same.any(|version| version.since.is_none_or(|since| letter.died >= since))
            && is_of_its_version(letter.reason)
    }
}

/// Whether a message that was given up for this reason is likely to be so again on the same version. What was too old, was handed over
/// too often, or failed by the host, a broker or the message itself did not fail by what ran.
fn is_of_its_version(reason: &str) -> bool {
    let others = [
        ReasonCode::EXPIRED,
        ReasonCode::DELIVERIES,
        ReasonCode::HOST_CRASH_SUSPECT,
        ReasonCode::OUTPUT_REFUSED,
        ReasonCode::OUTPUT_UNAVAILABLE,
        ReasonCode::DLQ_UNAVAILABLE,
        ReasonCode::INTERRUPTED,
        ReasonCode::NO_HANDLER,
        FaultKind::InvalidMessage.code(),
    ];
    !others.iter().any(|other| other.0 == reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn letter(handler: &'static str, digest: &'static str, reason: &'static str, died: u64) -> Traits<'static> {
        let died = SystemTime::UNIX_EPOCH + Duration::from_secs(died);
        Traits { id: "1", died, fingerprint: "f", handler, digest, reason, subscription: "orders" }
    }

    #[test]
    fn only_what_failed_by_a_version_that_runs_fails_again() {
        let mut running = Running::default();
        running.add("invoice", "aaaaaaaaaaaa0000", None);
        // The same module, with more fuel since then.
        running.add("triage", "bbbbbbbbbbbb", Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)));
        let rows = [
            (letter("invoice", "aaaaaaaaaaaa1111", "handler-rejected", 1), true),
            (letter("invoice", "aaaaaaaaaaaa", "attempts-exhausted", 1), true),
            (letter("invoice", "aaaaaaaaaaaa", "trap:unreachable", 1), true),
            (letter("invoice", "bbbbbbbbbbbb", "handler-rejected", 1), false),
            (letter("triage", "aaaaaaaaaaaa", "handler-rejected", 1), false),
            (letter("gone", "aaaaaaaaaaaa", "handler-rejected", 1), false),
            (letter("triage", "bbbbbbbbbbbb", "out-of-fuel", 99), false),
            (letter("triage", "bbbbbbbbbbbb", "out-of-fuel", 100), true),
            (letter("invoice", "aaaaaaaaaaaa", "expired", 1), false),
            (letter("invoice", "aaaaaaaaaaaa", "output-refused", 1), false),
            (letter("invoice", "aaaaaaaaaaaa", "invalid-message", 1), false),
            (letter("invoice", "", "handler-rejected", 1), false),
        ];
        for (letter, expected) in rows {
            assert_eq!(running.failed_in(&letter), expected, "{letter:?}");
        }
    }
}
