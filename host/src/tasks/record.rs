//! What is known of a task: what was ordered, how far it is, how it ended. Plain data, kept in a file each.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::first::{First, Way};
use crate::broker::DeadLetterFilter;
use crate::settle::dead_letter::DeadLetterId;

/// Dead letters that could not be sent back or removed are named up to this number; the others are counted.
pub(super) const NAMED_FAILURES: usize = 20;

/// What is to be done with dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub act: Act,
    /// With which of them. Only those that died before the task began are meant.
    pub filter: DeadLetterFilter,
    /// Those of these brokers, one after the other.
    pub brokers: Vec<String>,
    /// At most so many a second; `None`: as fast as the broker takes them.
    pub rate: Option<f64>,
    /// Who ordered it.
    pub by: String,
}

impl Order {
    /// How they are sent back; `None`: they are removed.
    #[must_use]
    pub const fn redrive(&self) -> Option<&Redrive> {
        match &self.act {
            Act::Redrive(redrive) => Some(redrive),
            Act::Discard => None,
        }
    }
}

/// What a task does with each dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Act {
    /// Sends it back.
    Redrive(Redrive),
    /// Removes it.
    Discard,
}

impl Act {
    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Redrive(_) => "redrive",
            Self::Discard => "discard",
        }
    }
}

/// The same as it is written down. What a host does not know of a redrive it must not read at all: it would send all of them
/// back where only some were meant, or to another subject.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    /// No more than hosts before know of one. These pass over what they do not know.
    Redrive(Redrive),
    /// More than that: a host of before cannot read the record, leaves it where it is, and says so.
    RedriveSo(Redrive),
    Discard,
}

impl From<Act> for Written {
    fn from(act: Act) -> Self {
        match act {
            Act::Redrive(redrive) => {
                let Redrive { force: _, canary: _, only_if_version_changed, to } = &redrive;
                match *only_if_version_changed || to.is_some() {
                    true => Self::RedriveSo(redrive),
                    false => Self::Redrive(redrive),
                }
            }
            Act::Discard => Self::Discard,
        }
    }
}

impl From<Written> for Act {
    fn from(written: Written) -> Self {
        match written {
            Written::Redrive(redrive) | Written::RedriveSo(redrive) => Self::Redrive(redrive),
            Written::Discard => Self::Discard,
        }
    }
}

/// How dead letters are sent back. What a later host writes of it beside this is not passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redrive {
    /// Also what came back too often.
    pub force: bool,
    /// First only some, to see whether they do better now.
    pub canary: Option<Canary>,
    /// What failed in a version that still runs is passed over.
    #[serde(default)]
    pub only_if_version_changed: bool,
    /// To this subject, and not to where they came from.
    #[serde(default)]
    pub to: Option<String>,
}

/// Some dead letters that go first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// How many.
    pub letters: usize,
    /// The task is aborted when more than this share of them, in percent, fail again.
    pub abort_above: f64,
    /// How long they may take to end; the task is aborted when they have not.
    pub patience: Duration,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It goes on, now or at the next start of the host.
    Running,
    /// Somebody holds it, over starts of the host too, until it is told to go on.
    Paused {
        /// Who.
        by: String,
    },
    /// All were gone through.
    Done,
    /// Somebody ended it.
    Cancelled,
    /// It ended itself; why, for people.
    Aborted(String),
}

/// One dead letter that the task could do nothing with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its id.
    pub id: String,
    /// Why, for people.
    pub why: String,
}

/// How the canary did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryCounts {
    /// Sent back.
    pub sent: u64,
    /// Of those, the ones that are done now.
    pub well: u64,
    /// Of those, the ones that failed again.
    pub badly: u64,
}

/// How far a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many there were when it began; `None`: more than are counted.
    pub total: Option<u64>,
    /// Sent back, or removed.
    pub done: u64,
    /// Gone before it was their turn: somebody else sent them back or removed them.
    pub gone: u64,
    /// Gone when the host came back after it was killed: this task sent them back or removed them and could not write it down
    /// any more, or others did meanwhile.
    #[serde(default)]
    pub unknown: u64,
    /// Held back, as they came back too often.
    pub held_back: u64,
    /// Passed over, as they failed in a version that still runs.
    #[serde(default)]
    pub passed_over: u64,
    /// How many of the total failed in a version that still ran here when the task began; `None`: nobody could tell.
    #[serde(default)]
    pub same_version: Option<u64>,
    /// Those that it could do nothing with.
    pub failed: u64,
    /// Some of these, and of those that were sent back and could not be taken out.
    pub failures: Vec<Failed>,
    /// How the canary did, once it was sent.
    pub canary: Option<CanaryCounts>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id: a ULID, so that ids sort by the time of the beginning.
    pub id: String,
    /// What was ordered.
    pub order: Order,
    /// Since when.
    pub begun_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// Where it stands.
    pub standing: Standing,
    /// How far it is.
    pub counts: Counts,
    /// What it waits for, for people, while it cannot go on.
    pub waits_for: Option<String>,
    /// The brokers that are not done, the present one first.
    pub(super) left: Vec<String>,
    /// Behind which dead letter it goes on.
    pub(super) after: Option<DeadLetterId>,
    /// Whether the canary was sent and did well.
    pub(super) is_past_canary: bool,
    /// The host ended in peace, and all that was done is counted.
    #[serde(default)]
    pub(super) rests: bool,
    /// Those that go first, until they are judged.
    #[serde(default)]
    pub(super) first: Vec<First>,
    /// Behind which dead letter it goes on when all of these are dealt with.
    #[serde(default)]
    pub(super) behind_first: Option<DeadLetterId>,
    /// Those that were sent and could not be taken out, of the page that it is at: it is listed again when it was cut short.
    #[serde(default)]
    pub(super) still_there: Vec<DeadLetterId>,
}

impl Record {
    pub(crate) fn new(id: String, order: Order, begun_at: SystemTime, total: Option<u64>) -> Self {
        let left = order.brokers.clone();
        let canary = order.redrive().and_then(|redrive| redrive.canary);
        Self {
            id,
            order,
            begun_at,
            ended_at: None,
            standing: Standing::Running,
            counts: Counts { total, ..Counts::default() },
            waits_for: None,
            left,
            after: None,
            is_past_canary: canary.is_none(),
            rests: false,
            first: Vec::new(),
            behind_first: None,
            still_there: Vec::new(),
        }
    }

    /// Whether it goes on: it has not ended, and nobody holds it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.standing == Standing::Running
    }

    /// Whether it is over.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        match self.standing {
            Standing::Running | Standing::Paused { .. } => false,
            Standing::Done | Standing::Cancelled | Standing::Aborted(_) => true,
        }
    }

    /// Whether it is held.
    pub(super) const fn is_paused(&self) -> bool {
        match self.standing {
            Standing::Paused { .. } => true,
            Standing::Running | Standing::Done | Standing::Cancelled | Standing::Aborted(_) => false,
        }
    }

    /// The canary that is still to be sent.
    pub(super) fn canary(&self) -> Option<Canary> {
        self.order.redrive()?.canary.filter(|_| !self.is_past_canary)
    }

    /// Forgets those that were to go first and were not sent.
    pub(super) fn forget_waiting(&mut self) {
        self.first.retain(|first| first.way == Way::Sent);
        self.behind_first = None;
    }
}

/// What is to be done after a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More is needed to tell.
    Wait,
    /// The others follow.
    Go,
    /// None follows; why, for people.
    Abort(String),
}

/// Judges a canary. `is_over`: it has had its time. `goes_on`: the host was away in between, and may not have seen all. Whoever
/// has not ended by then has not done well: a task that goes on over what nobody saw would make the second wave of an outage.
pub(super) fn judge(canary: &Canary, counts: &CanaryCounts, is_over: bool, goes_on: bool) -> Verdict {
    #[expect(clippy::cast_precision_loss, reason = "a canary is some messages")]
    let (sent, badly) = (counts.sent as f64, counts.badly as f64);
    if badly * 100.0 > canary.abort_above * sent {
        let CanaryCounts { sent, badly, .. } = counts;
        return Verdict::Abort(format!(
            "{badly} of the {sent} that went first failed again, and {}% may",
            canary.abort_above
        ));
    }
    let ended = counts.well + counts.badly;
    match (ended >= counts.sent, is_over) {
        (true, _) => Verdict::Go,
        (false, false) => Verdict::Wait,
        (false, true) => Verdict::Abort(format!(
            "only {ended} of the {} that went first have ended on this host within {}{}: look what became of the others",
            counts.sent,
            humantime::format_duration(canary.patience),
            if goes_on { ", and it was started again in between and may not have seen all of them" } else { "" }
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_canary_goes_on_only_when_all_have_ended_and_few_failed() {
        let canary = Canary { letters: 10, abort_above: 20.0, patience: Duration::from_secs(60) };
        let judged = |well, badly, is_over| judge(&canary, &CanaryCounts { sent: 10, well, badly }, is_over, false);
        assert_eq!(judged(10, 0, false), Verdict::Go);
        assert_eq!(judged(8, 2, false), Verdict::Go, "20% may");
        assert_eq!(judged(0, 2, false), Verdict::Wait);
        assert_eq!(judged(9, 0, false), Verdict::Wait);
        let told = |verdict| match verdict {
            Verdict::Abort(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(told(judged(0, 3, false)).contains("3 of the 10"), "at once, not when its time is over");
        assert!(told(judged(9, 0, true)).contains("only 9 of the 10") && told(judged(9, 0, true)).contains("1m"));
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let act = Act::Redrive(Redrive { force: true, ..Redrive::default() });
        let filter = DeadLetterFilter { since: Some(SystemTime::UNIX_EPOCH), ..DeadLetterFilter::default() };
        let order = Order { act, filter, brokers: vec!["main".to_owned()], rate: Some(0.5), by: "me".to_owned() };
        let mut record = Record::new("1".to_owned(), order, SystemTime::UNIX_EPOCH, Some(3));
        record.standing = Standing::Aborted("it failed".to_owned());
        record.after = Some(DeadLetterId("x@7".to_owned()));
        let json = serde_json::to_string(&record).unwrap_or_else(|error| panic!("{error}"));
        let back: Record = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(back, record);
    }

    /// A host of before wrote no more than this down.
    #[test]
    fn a_redrive_of_an_earlier_host_goes_on() {
        let act: Act = serde_json::from_str(r#"{"redrive":{"force":true,"canary":null}}"#).unwrap_or(Act::Discard);
        assert_eq!(act, Act::Redrive(Redrive { force: true, ..Redrive::default() }));
    }

    /// It would send all of them back to where they came from.
    #[test]
    fn a_redrive_that_an_earlier_host_does_not_know_whole_is_not_read_by_it() {
        let to = Redrive { to: Some("orders.manual".to_owned()), ..Redrive::default() };
        let others = Redrive { only_if_version_changed: true, ..Redrive::default() };
        for (redrive, name) in [(Redrive::default(), "redrive"), (to, "redrive-so"), (others, "redrive-so")] {
            let act = Act::Redrive(redrive);
            let json = serde_json::to_value(&act).unwrap_or_default();
            assert!(json.get(name).is_some(), "{json}");
            assert_eq!(serde_json::from_value::<Act>(json).ok(), Some(act));
        }
        let later = r#"{"redrive-so":{"force":false,"canary":null,"of_a_later_host":true}}"#;
        assert!(serde_json::from_str::<Act>(later).is_err());
        assert_eq!(serde_json::to_value(Act::Discard).unwrap_or_default(), "discard");
    }
}
