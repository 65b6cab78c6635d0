//! What is done with each dead letter of a page, and how that is counted.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::first::{First, Way};
use super::hold::wait_until;
use super::patience::{Patience, pause};
use super::record::{Counts, Failed, NAMED_FAILURES, Record};
use super::work::Next;
use super::{Act, Inner, Standing, Task, TaskError};
use crate::broker::{DeadLetterError, DeadLetters, NamedBroker, PublishError, Running, SendBack, Status, Traits};
use crate::settle::dead_letter::{DeadLetterId, StoredDeadLetter};

/// Dead letters that are in the broker's hands at once: a few, so that a group commit or a server's answer is shared.
const AT_ONCE: usize = 16;
/// A dead letter that its store cannot read while the broker is there is tried so often.
const TRIES: u32 = 5;

/// One that it is done with.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// The dead letter's id, as people know it.
    id: String,
    /// By which its store finds it.
    handle: DeadLetterId,
    /// It is passed over, and for what.
    passed: Option<Met>,
}

impl Aim {
    /// One of a page. `record`: of the task that is at it.
    pub(super) fn new(stored: &StoredDeadLetter, record: &Record, sieve: &Sieve) -> Self {
        let passed = match record.still_there.contains(&stored.handle) {
            true => Some(Met::Sent),
            false => sieve.holds(stored).then_some(Met::SameVersion),
        };
        Self { id: stored.letter.record.id.0.clone(), handle: stored.handle.clone(), passed }
    }
}

impl From<&First> for Aim {
    fn from(first: &First) -> Self {
        let passed = first.same_version.then_some(Met::SameVersion);
        Self { id: first.id.clone(), handle: first.handle.clone(), passed }
    }
}

/// What became of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    Done,
    /// The same, and it could not be taken out; why, for people.
    StillThere(String),
    /// It is one of these, met once more.
    Sent,
    Gone,
    HeldBack,
    SameVersion,
    Failed(String),
    /// Nobody takes any of them where they are to go.
    Nowhere(String),
    /// The broker cannot take it now.
    Full(String),
    /// It cannot be read or written now.
    Unreadable(String),
}

/// Tells those apart that are passed over, where that is ordered.
pub(super) struct Sieve(Option<Running>);

impl Sieve {
    /// By what runs now: a version that comes while a task goes on mends what comes behind it. The error says why nobody knows.
    pub(super) async fn of(inner: &Inner, record: &Record) -> Result<Self, String> {
        let wanted = record.order.redrive().is_some_and(|redrive| redrive.only_if_version_changed);
        match &inner.here {
            Some(here) if wanted => here.versions.running().await.map(|running| Self(Some(running))),
            None if wanted => Err(TaskError::NoVersions.to_string()),
            Some(_) | None => Ok(Self(None)),
        }
    }

    /// Whether one is passed over.
    pub(super) fn holds(&self, stored: &StoredDeadLetter) -> bool {
        self.0.as_ref().is_some_and(|running| running.failed_in(&Traits::of(&stored.letter.record)))
    }
}

/// Does what was ordered with each of a page, some at once, at the rate. Those that were not begun when the task was ended
/// or held are not in the answer.
pub(super) async fn all_of(inner: &Inner, task: &Task, letters: &dyn DeadLetters, page: &[Aim]) -> Vec<(Aim, Met)> {
    let (act, rate) = {
        let record = task.lock();
        (record.order.act.clone(), record.order.rate)
    };
    let apart = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let begun = Instant::now();
    // What is passed over takes no time of the rate.
    let mut sent = 0;
    let begins = page.iter().map(|aim| {
        let (act, number) = (&act, sent);
        sent += u32::from(aim.passed.is_none());
        async move {
            if let Some(passed) = &aim.passed {
                return Some((aim.clone(), passed.clone()));
            }
            if let Some(apart) = apart {
                wait_until(inner, task, begun + apart * number).await;
            }
            if task.cancel.is_cancelled() || inner.stop.is_cancelled() || task.is_held() {
                return None;
            }
            let result = match act {
                Act::Redrive(redrive) => {
                    let how = SendBack { force: redrive.force, body: None, to: redrive.to.clone() };
                    letters.send_back(&aim.handle, &how).await.map(drop)
                }
                Act::Discard => letters.discard(&aim.handle).await,
            };
            Some((aim.clone(), met(result)))
        }
    });
    // As a list: a stream over the iterator would hold its closure, of which the compiler cannot see that it may be sent.
    let begins: Vec<_> = begins.collect();
    let met = futures_util::stream::iter(begins).buffered(AT_ONCE).collect::<Vec<_>>().await;
    if let Some(apart) = apart {
        // The last one has its time too, or the next page would begin early.
        wait_until(inner, task, begun + apart * sent).await;
    }
    met.into_iter().flatten().collect()
}

fn met(result: Result<(), DeadLetterError>) -> Met {
    match result {
        Ok(()) => Met::Done,
        // Its message runs: what is left of it is no reason to send it again.
        Err(error @ DeadLetterError::StillThere { .. }) => Met::StillThere(error.to_string()),
        Err(DeadLetterError::NotFound(_) | DeadLetterError::AlreadyRedriven(_)) => Met::Gone,
        Err(DeadLetterError::Loop { .. }) => Met::HeldBack,
        Err(DeadLetterError::Store(why)) => Met::Unreadable(why),
        Err(DeadLetterError::NobodyTakes { to, why, .. }) => {
            Met::Nowhere(format!("nothing can be sent to `{to}`: {why}"))
        }
        Err(DeadLetterError::Publish { source, .. }) => match source {
            PublishError::Unavailable(_) | PublishError::Full(_) => Met::Full(source.to_string()),
            PublishError::Invalid(_) | PublishError::TooLarge { .. } => Met::Failed(source.to_string()),
        },
    }
}

/// Counts a page of so many, and goes on behind it; or stays, when the broker could not take all of it now.
pub(super) async fn take_in(
    inner: &Inner,
    task: &Task,
    patience: &mut Patience,
    named: &NamedBroker,
    asked: usize,
    next: Option<DeadLetterId>,
    met: Vec<(Aim, Met)>,
) -> Next {
    let is_whole = met.len() == asked;
    let waits_for = met.iter().find_map(|(_, met)| match met {
        Met::Full(why) => Some((false, why.clone())),
        Met::Unreadable(why) => Some((true, why.clone())),
        Met::Done | Met::StillThere(_) | Met::Sent | Met::Gone | Met::HeldBack => None,
        Met::SameVersion | Met::Failed(_) | Met::Nowhere(_) => None,
    });
    let waits_for = match waits_for {
        // The broker is there and cannot read this one: others need not wait for it.
        Some((true, _)) if patience.tries >= TRIES => None,
        Some((is_unreadable, why)) => {
            let is_there = named.broker.status() == Status::Connected;
            patience.tries += u32::from(is_unreadable && is_there);
            Some(why)
        }
        None => None,
    };
    let nowhere = met.iter().find_map(|(_, met)| match met {
        Met::Nowhere(why) => Some(why.clone()),
        Met::Done | Met::StillThere(_) | Met::Sent | Met::Gone | Met::HeldBack => None,
        Met::SameVersion | Met::Failed(_) | Met::Full(_) | Met::Unreadable(_) => None,
    });
    let goes_on = waits_for.is_none() && nowhere.is_none() && is_whole;
    let still_there: Vec<_> =
        met.iter().filter(|(_, met)| matches!(met, Met::StillThere(_))).map(|(aim, _)| aim.handle.clone()).collect();
    {
        let mut record = task.lock();
        let met: Vec<_> =
            met.into_iter().map(|(aim, met)| (aim.id, sent_first(&mut record, &aim.handle, met))).collect();
        // At the most as many as a page has: they stay at its beginning.
        record.still_there.extend(still_there);
        show(inner, &record, &met, goes_on);
        for (id, met) in met {
            count(&mut record.counts, id, met, goes_on);
        }
        if goes_on {
            record.forget_waiting();
            record.still_there.clear();
            record.waits_for = None;
            record.after = next;
            if record.after.is_none() && !record.left.is_empty() {
                record.left.remove(0);
            }
            patience.refresh();
        }
    }
    match (nowhere, waits_for) {
        (Some(why), _) => Next::End(Standing::Aborted(why)),
        (None, Some(why)) => pause(inner, task, patience, why).await,
        (None, None) => Next::On,
    }
}

/// Notes of one that goes first whether it was sent. One that is gone and that a try was begun with is taken for sent: else
/// more could go first than were ordered.
fn sent_first(record: &mut Record, handle: &DeadLetterId, met: Met) -> Met {
    let Some(first) = record.first.iter_mut().find(|first| first.handle == *handle && first.way != Way::Sent) else {
        return met;
    };
    match met {
        Met::Done | Met::StillThere(_) => first.way = Way::Sent,
        Met::Gone if first.way == Way::Unsure => {
            first.way = Way::Sent;
            // It was among those of which nobody knew.
            record.counts.unknown = record.counts.unknown.saturating_sub(1);
            return Met::Done;
        }
        Met::Full(_) | Met::Unreadable(_) => first.way = Way::Unsure,
        Met::Sent | Met::Gone | Met::HeldBack | Met::SameVersion | Met::Failed(_) | Met::Nowhere(_) => {}
    }
    met
}

fn count(counts: &mut Counts, id: String, met: Met, goes_on: bool) {
    match met {
        Met::Done => counts.done += 1,
        Met::StillThere(why) => {
            counts.done += 1;
            name(counts, id, why);
        }
        // It was counted when it was sent.
        Met::Sent => {}
        // These come again with the same page, and are counted when it is done.
        Met::Gone | Met::HeldBack | Met::SameVersion | Met::Failed(_) | Met::Full(_) | Met::Unreadable(_)
            if !goes_on => {}
        // The task ends with it.
        Met::Nowhere(_) => {}
        Met::Gone => counts.gone += 1,
        Met::HeldBack => counts.held_back += 1,
        Met::SameVersion => counts.passed_over += 1,
        Met::Failed(why) | Met::Full(why) | Met::Unreadable(why) => {
            counts.failed += 1;
            name(counts, id, why);
        }
    }
}

/// Names one that a person has to look at, unless enough are named.
fn name(counts: &mut Counts, id: String, why: String) {
    if counts.failures.len() < NAMED_FAILURES {
        counts.failures.push(Failed { id, why });
    }
}

/// Counts a page for the metrics, as the record is counted.
fn show(inner: &Inner, record: &Record, met: &[(String, Met)], goes_on: bool) {
    let action = record.order.act.word();
    let broker = record.left.first().cloned().unwrap_or_default();
    let count = |of: fn(&Met) -> bool| met.iter().filter(|(_, met)| of(met)).count() as u64;
    inner.metrics.dead_letters_acted(
        &broker,
        action,
        "done",
        count(|met| matches!(met, Met::Done | Met::StillThere(_))),
    );
    if goes_on {
        inner.metrics.dead_letters_acted(&broker, action, "gone", count(|met| *met == Met::Gone));
        inner.metrics.dead_letters_acted(&broker, action, "held-back", count(|met| *met == Met::HeldBack));
        inner.metrics.dead_letters_acted(&broker, action, "same-version", count(|met| *met == Met::SameVersion));
        let failed = count(|met| matches!(met, Met::Failed(_) | Met::Full(_) | Met::Unreadable(_)));
        inner.metrics.dead_letters_acted(&broker, action, "failed", failed);
    }
}
