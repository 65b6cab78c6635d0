//! The port for dead letters: which of them, a page of them, one of them, and what is done with one.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{DeadLetterError, Published, Tally, Traits};
use crate::access::Scope;
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, StoredDeadLetter};

/// How often a message may die again after a redrive before a further redrive needs force: a message that failed three
/// times in a mended handler is not helped by a fourth, and a script that redrives all would loop.
pub const MAX_REDRIVES: u32 = 3;

/// So many hex digits of a module's digest tell it from all others of a host, and are what people are shown.
pub(super) const SHORT_DIGEST: usize = 12;

/// The short form of a digest.
pub(super) fn short_digest(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST).unwrap_or(digest)
}

/// How a dead letter is sent back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendBack {
    /// Also one that came back [`MAX_REDRIVES`] times.
    pub force: bool,
    /// With this body: the dead letter keeps the one that it has, and the message says in a header of which dead letter it is.
    pub body: Option<Bytes>,
    /// To this subject, and whoever receives it: not to the one that it came from, and the subscription that gave it up. The message
    /// says in a header of which dead letter it is.
    pub to: Option<String>,
}

/// The dead letters of one broker. Looking never changes what is looked at.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Dead letters that match, newest first, with the position to go on from.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError>;

    /// Counts those that match. Those that were sent back are never counted. Where looking at each of them takes long,
    /// only the newest are counted, and the tally says so.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn tally(&self, filter: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError>;

    /// One dead letter, whole.
    ///
    /// # Errors
    /// When there is none of this id, or the store cannot be read.
    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError>;

    /// Sends one back, with its identity kept and its attempts at zero: to the subject it came from and the subscription that gave it
    /// up, unless it is told another subject. The publish is confirmed before the dead letter is marked as redriven.
    ///
    /// # Errors
    /// When there is none of this id, it was redriven already or too often, nobody would receive it, or the publish is refused; the dead
    /// letter then stays.
    async fn send_back(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError>;

    /// Sends one back as it was. `force` sends back what came back [`MAX_REDRIVES`] times too.
    ///
    /// # Errors
    /// As [`DeadLetters::send_back`].
    async fn redrive(&self, id: &DeadLetterId, force: bool) -> Result<Published, DeadLetterError> {
        self.send_back(id, &SendBack { force, ..SendBack::default() }).await
    }

    /// Removes one for good.
    ///
    /// # Errors
    /// When there is none of this id, or the store cannot be written.
    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError>;

    /// Stores one that was taken out of this or another store, as it was. Gives back whether it was not there: what is there
    /// is never changed.
    ///
    /// # Errors
    /// When it cannot be stored.
    async fn restore(&self, letter: DeadLetter) -> Result<bool, DeadLetterError>;

    /// How many there are, redriven ones not counted.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn depth(&self) -> Result<u64, DeadLetterError>;

    /// Removes those that were sent back before a time, at most so many. Gives back how many it removed.
    ///
    /// # Errors
    /// When the store cannot be read or written; some may be removed by then.
    async fn forget_redriven(&self, before: SystemTime, at_most: usize) -> Result<usize, DeadLetterError>;

    /// When the oldest of those that were not redriven died; `None`: there are none.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn oldest(&self) -> Result<Option<SystemTime>, DeadLetterError>;

    /// Whether a dead letter could be stored now, as far as can be learnt without storing one.
    ///
    /// # Errors
    /// When it could not; the text says why.
    async fn is_writable(&self) -> Result<(), DeadLetterError>;
}

/// Which dead letters are meant: those for which all holds that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterFilter {
    /// Of this subscription.
    pub subscription: Option<String>,
    /// With this reason code.
    pub reason: Option<String>,
    /// Of this handler.
    pub handler: Option<String>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Whose last run was of this module: its digest in hex, of which the first 12 digits count.
    pub digest: Option<String>,
    /// That died at this time or later.
    pub since: Option<SystemTime>,
    /// That died before this time.
    pub until: Option<SystemTime>,
    /// In whose error this text stands, without regard to ASCII case.
    pub text: Option<String>,
    /// Those that were redriven too.
    pub include_redriven: bool,
    /// Of handlers that somebody may look into.
    pub scope: Scope,
}

/// A page of dead letters that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Which of them.
    pub filter: DeadLetterFilter,
    /// Go on behind this one.
    pub after: Option<DeadLetterId>,
    /// At most so many; 0 means 100.
    pub limit: usize,
    /// The oldest first; else the newest.
    pub oldest_first: bool,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterPage {
    /// The dead letters. Bodies are left out (empty); `get` has them.
    pub letters: Vec<StoredDeadLetter>,
    /// Where to go on, when there may be more. A page that has fewer than were asked for, and says where to go on, has
    /// looked at as many as one page may look at.
    pub next: Option<DeadLetterId>,
}

impl DeadLetterFilter {
    /// The same without those that die from now on. In whole microseconds, which every store tells apart: what is counted by it and
    /// what is listed by it are the same.
    #[must_use]
    pub fn by(self, now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now =
            SystemTime::UNIX_EPOCH + since - std::time::Duration::from_nanos(u64::from(since.subsec_nanos() % 1000));
        Self { until: Some(self.until.map_or(now, |until| until.min(now))), ..self }
    }

    /// Whether a dead letter is meant.
    #[must_use]
    pub fn matches(&self, record: &DeadLetterRecord, is_redriven: bool) -> bool {
        (self.include_redriven || !is_redriven) && self.takes(&Traits::of(record), &record.error)
    }

    /// The same of one that was not sent back, by its traits. The error is looked at only when [`text`](Self::text) is
    /// asked for.
    #[must_use]
    pub fn takes(&self, traits: &Traits<'_>, error: &str) -> bool {
        let is = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        is(&self.subscription, traits.subscription)
            && is(&self.reason, traits.reason)
            && is(&self.handler, traits.handler)
            && is(&self.fingerprint, traits.fingerprint)
            && self.digest.as_deref().is_none_or(|wanted| short_digest(wanted) == short_digest(traits.digest))
            && self.since.is_none_or(|since| traits.died >= since)
            && self.until.is_none_or(|until| traits.died < until)
            && self.text.as_deref().is_none_or(|text| contains(error, text))
            && self.scope.covers(traits.handler)
    }
}

fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;
    use crate::access::HandlerPattern;

    fn record() -> DeadLetterRecord {
        DeadLetterRecord {
            fingerprint: "00ff".to_owned(),
            subscription: "orders".to_owned(),
            handler: "invoice".to_owned(),
            digest: "ab".repeat(32),
            dead_at: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            ..DeadLetterRecord::bare(DeadLetterId("1".to_owned()), "timeout", "No such Order")
        }
    }

    #[test]
    fn a_filter_ends_by_now_and_between_two_microseconds() {
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(DeadLetterFilter::default().by(at(5_000_001_999)).until, Some(at(5_000_001_000)));
        let earlier = DeadLetterFilter { until: Some(at(7)), ..DeadLetterFilter::default() };
        assert_eq!(earlier.by(at(5_000)).until, Some(at(7)));
    }

    #[test]
    fn a_filter_takes_what_has_all_of_it() {
        let at = |secs| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        let text = |text: &str| Some(text.to_owned());
        let scope = |text: &str| Scope::Only([HandlerPattern::new(text).unwrap_or_else(|why| panic!("{why}"))].into());
        let none = DeadLetterFilter::default();
        let rows = [
            (none.clone(), true),
            (DeadLetterFilter { subscription: text("orders"), reason: text("timeout"), ..none.clone() }, true),
            (DeadLetterFilter { subscription: text("orders"), reason: text("denied"), ..none.clone() }, false),
            (DeadLetterFilter { handler: text("invoice"), fingerprint: text("00ff"), ..none.clone() }, true),
            (DeadLetterFilter { handler: text("invoic"), ..none.clone() }, false),
            (DeadLetterFilter { fingerprint: text("00fe"), ..none.clone() }, false),
            (DeadLetterFilter { digest: text("abababababab"), ..none.clone() }, true),
            (DeadLetterFilter { digest: text(&"ab".repeat(32)), ..none.clone() }, true),
            (DeadLetterFilter { digest: text("abababababac"), ..none.clone() }, false),
            (DeadLetterFilter { since: at(100), until: at(101), ..none.clone() }, true),
            (DeadLetterFilter { until: at(100), ..none.clone() }, false),
            (DeadLetterFilter { since: at(101), ..none.clone() }, false),
            (DeadLetterFilter { text: text("such order"), ..none.clone() }, true),
            (DeadLetterFilter { text: text("orders"), ..none.clone() }, false),
            (DeadLetterFilter { scope: scope("inv*"), ..none.clone() }, true),
            (DeadLetterFilter { scope: scope("order"), ..none.clone() }, false),
        ];
        for (filter, expected) in rows {
            assert_eq!(filter.matches(&record(), false), expected, "{filter:?}");
            assert!(!filter.matches(&record(), true), "{filter:?}");
            let all = DeadLetterFilter { include_redriven: true, ..filter };
            assert_eq!(all.matches(&record(), true), expected, "{all:?}");
        }
    }
}
