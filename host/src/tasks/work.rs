//! A task at work: page by page, letter by letter, until all are gone through.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::record::{Canary, Failed, NAMED_FAILURES, Verdict, judge};
use super::watch::Watched;
use super::{Act, Inner, Standing, Task};
use crate::broker::{DeadLetterError, DeadLetterPage, DeadLetterQuery, DeadLetters, NamedBroker, PublishError, Status};
use crate::settle::dead_letter::StoredDeadLetter;

/// Dead letters that are listed at once.
const PAGE: usize = 256;
/// Dead letters that are in the broker's hands at once: a few, so that a group commit or a server's answer is shared.
const AT_ONCE: usize = 16;
/// The longest pause between two tries at a broker that cannot take them now.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Between two records of how far a task is: what a kill makes a task look at once more is a second's work.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// A dead letter that its store cannot read while the broker is there is tried so often.
const TRIES: u32 = 5;

/// What is done next.
enum Next {
    On,
    /// The task has ended.
    End(Standing),
    /// The host ends; the task goes on at its next start.
    Stop,
}

/// What became of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Met {
    Done,
    Gone,
    HeldBack,
    Failed(String),
    /// The broker cannot take it now.
    Full(String),
    /// It cannot be read or written now.
    Unreadable(String),
}

/// How a task goes about a broker that does not answer.
struct Patience {
    pause: Duration,
    tries: u32,
    saved_at: Instant,
}

/// Works until the task has ended, or the host does. `goes_on`: it was begun in an earlier life of the host.
pub(super) async fn work(inner: &Inner, task: &Arc<Task>, goes_on: bool) {
    let mut patience = Patience { pause: FIRST_PAUSE, tries: 0, saved_at: Instant::now() };
    if goes_on {
        correct(inner, task).await;
    }
    let standing = loop {
        match step(inner, task, &mut patience).await {
            Next::On => {}
            Next::End(standing) => break standing,
            Next::Stop => return save(inner, task).await,
        }
        if patience.saved_at.elapsed() >= SAVE_EVERY {
            save(inner, task).await;
            patience.saved_at = Instant::now();
        }
        crate::failpoint::reached("task-page");
    };
    let mut record = task.now();
    // Whoever cancelled it has said so already.
    if record.is_running() {
        record.standing = standing;
        record.ended_at = Some(SystemTime::now());
        record.waits_for = None;
    }
    let (id, counts) = (&record.id, &record.counts);
    tracing::info!(
        task = id,
        standing = ?record.standing,
        done = counts.done,
        failed = counts.failed,
        "a task over dead letters ended"
    );
    // Before anybody sees that it has ended, so that whoever waits for that finds it written down.
    inner.ends.ended(&record).await;
    {
        let mut shown = task.lock();
        if shown.is_running() {
            *shown = record;
        }
    }
    save(inner, task).await;
}

/// After a kill fewer may stand in the record than were done: what is left says how many were.
async fn correct(inner: &Inner, task: &Task) {
    let record = task.now();
    let Some(total) = record.counts.total else { return };
    if let Ok(Some(left)) = inner.count(&record.order.brokers, &record.order).await {
        let mut record = task.lock();
        let counts = &mut record.counts;
        counts.done = counts.done.max(total.saturating_sub(left).saturating_sub(counts.gone));
    }
}

async fn save(inner: &Inner, task: &Arc<Task>) {
    if let Err(error) = inner.save(task).await {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(?why, "how far a task over dead letters is could not be written down");
    }
}

async fn step(inner: &Inner, task: &Arc<Task>, patience: &mut Patience) -> Next {
    if let Some(end) = ended(inner, task) {
        return end;
    }
    let record = task.now();
    let Some(name) = record.left.first() else { return Next::End(Standing::Done) };
    let Some(named) = inner.brokers.get(name) else {
        return Next::End(Standing::Aborted(format!("broker `{name}` is not configured any more")));
    };
    let canary = record.canary();
    let query = DeadLetterQuery {
        filter: record.order.filter.clone(),
        after: record.after.clone(),
        limit: canary.map_or_else(|| page_size(record.order.rate), |canary| canary.letters.clamp(1, PAGE)),
        oldest_first: true,
    };
    let letters = named.broker.dead_letters();
    let page = match letters.list(&query).await {
        Ok(page) => page,
        Err(error) => return pause(inner, task, patience, error.to_string()).await,
    };
    match canary {
        Some(canary) if !page.letters.is_empty() => first_ones(inner, task, &canary, &*letters, page, patience).await,
        Some(_) | None => {
            let met = all_of(inner, task, &*letters, &page.letters).await;
            take_in(inner, task, patience, &named, page, met).await
        }
    }
}

/// Whether the task is not to go on.
fn ended(inner: &Inner, task: &Task) -> Option<Next> {
    if task.cancel.is_cancelled() {
        return Some(Next::End(Standing::Cancelled));
    }
    inner.stop.is_cancelled().then_some(Next::Stop)
}

/// A slow task writes down how far it is as often as a fast one.
fn page_size(rate: Option<f64>) -> usize {
    let Some(rate) = rate else { return PAGE };
    // The first number that is not below the rate.
    (1..PAGE).find(|size| u32::try_from(*size).is_ok_and(|size| f64::from(size) >= rate)).unwrap_or(PAGE)
}

/// Does what was ordered with each of a page, some at once, at the rate. Those that were not begun when the task was ended
/// are not in the answer.
async fn all_of(
    inner: &Inner,
    task: &Task,
    letters: &dyn DeadLetters,
    page: &[StoredDeadLetter],
) -> Vec<(String, Met)> {
    let (act, rate) = {
        let record = task.lock();
        (record.order.act.clone(), record.order.rate)
    };
    let apart = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let begun = Instant::now();
    let begins = page.iter().zip(0u32..).map(|(letter, number)| {
        let act = &act;
        async move {
            if let Some(apart) = apart {
                tokio::select! {
                    biased;
                    () = task.cancel.cancelled() => return None,
                    () = inner.stop.cancelled() => return None,
                    () = tokio::time::sleep_until(begun + apart * number) => {}
                }
            }
            if task.cancel.is_cancelled() || inner.stop.is_cancelled() {
                return None;
            }
            let result = match act {
                Act::Redrive { force, .. } => letters.redrive(&letter.handle, *force).await.map(drop),
                Act::Discard => letters.discard(&letter.handle).await,
            };
            Some((letter.letter.record.id.0.clone(), met(result)))
        }
    });
    // As a list: a stream over the iterator would hold its closure, of which the compiler cannot see that it may be sent.
    let begins: Vec<_> = begins.collect();
    let met = futures_util::stream::iter(begins).buffered(AT_ONCE).collect::<Vec<_>>().await;
    if let Some(apart) = apart {
        // The last one has its time too, or the next page would begin early.
        let ends = begun + apart * u32::try_from(page.len()).unwrap_or(u32::MAX);
        tokio::select! {
            () = task.cancel.cancelled() => {}
            () = inner.stop.cancelled() => {}
            () = tokio::time::sleep_until(ends) => {}
        }
    }
    met.into_iter().flatten().collect()
}

fn met(result: Result<(), DeadLetterError>) -> Met {
    match result {
        Ok(()) => Met::Done,
        Err(DeadLetterError::NotFound(_) | DeadLetterError::AlreadyRedriven(_)) => Met::Gone,
        Err(DeadLetterError::Loop { .. }) => Met::HeldBack,
        Err(DeadLetterError::Store(why)) => Met::Unreadable(why),
        Err(DeadLetterError::Publish { source, .. }) => match source {
            PublishError::Unavailable(_) | PublishError::Full(_) => Met::Full(source.to_string()),
            PublishError::Invalid(_) | PublishError::TooLarge { .. } => Met::Failed(source.to_string()),
        },
    }
}

/// Counts a page, and goes on behind it; or stays, when the broker could not take all of it now.
async fn take_in(
    inner: &Inner,
    task: &Task,
    patience: &mut Patience,
    named: &NamedBroker,
    page: DeadLetterPage,
    met: Vec<(String, Met)>,
) -> Next {
    let is_whole = met.len() == page.letters.len();
    let waits_for = met.iter().find_map(|(_, met)| match met {
        Met::Full(why) => Some((false, why.clone())),
        Met::Unreadable(why) => Some((true, why.clone())),
        Met::Done | Met::Gone | Met::HeldBack | Met::Failed(_) => None,
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
    let goes_on = waits_for.is_none() && is_whole;
    show(inner, task, &met, goes_on);
    {
        let mut record = task.lock();
        for (id, met) in met {
            let counts = &mut record.counts;
            match met {
                Met::Done => counts.done += 1,
                // These come again with the same page, and are counted when it is done.
                Met::Gone | Met::HeldBack | Met::Failed(_) | Met::Full(_) | Met::Unreadable(_) if !goes_on => {}
                Met::Gone => counts.gone += 1,
                Met::HeldBack => counts.held_back += 1,
                Met::Failed(why) | Met::Full(why) | Met::Unreadable(why) => {
                    counts.failed += 1;
                    if counts.failures.len() < NAMED_FAILURES {
                        counts.failures.push(Failed { id, why });
                    }
                }
            }
        }
        if goes_on {
            record.waits_for = None;
            record.after = page.next;
            if record.after.is_none() && !record.left.is_empty() {
                record.left.remove(0);
            }
            patience.pause = FIRST_PAUSE;
            patience.tries = 0;
        }
    }
    match waits_for {
        Some(why) => pause(inner, task, patience, why).await,
        None => Next::On,
    }
}

/// Counts a page for the metrics, as the record is counted.
fn show(inner: &Inner, task: &Task, met: &[(String, Met)], goes_on: bool) {
    let (action, broker) = {
        let record = task.lock();
        (record.order.act.word(), record.left.first().cloned().unwrap_or_default())
    };
    let count = |of: fn(&Met) -> bool| met.iter().filter(|(_, met)| of(met)).count() as u64;
    inner.metrics.dead_letters_acted(&broker, action, "done", count(|met| *met == Met::Done));
    if goes_on {
        inner.metrics.dead_letters_acted(&broker, action, "gone", count(|met| *met == Met::Gone));
        inner.metrics.dead_letters_acted(&broker, action, "held-back", count(|met| *met == Met::HeldBack));
        let failed = count(|met| matches!(met, Met::Failed(_) | Met::Full(_) | Met::Unreadable(_)));
        inner.metrics.dead_letters_acted(&broker, action, "failed", failed);
    }
}

/// Says what the task waits for, and waits a while.
async fn pause(inner: &Inner, task: &Task, patience: &mut Patience, why: String) -> Next {
    {
        let mut record = task.lock();
        if record.waits_for.as_ref() != Some(&why) {
            tracing::warn!(task = record.id, why, "a task over dead letters waits");
        }
        record.waits_for = Some(why).filter(|_| record.is_running());
    }
    let pause = patience.pause;
    patience.pause = (pause * 2).min(LONGEST_PAUSE);
    tokio::select! {
        () = task.cancel.cancelled() => {}
        () = inner.stop.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
    ended(inner, task).unwrap_or(Next::On)
}

/// Sends the first ones back, and watches what becomes of them. The cursor stays: what was sent back is not met again.
async fn first_ones(
    inner: &Inner,
    task: &Arc<Task>,
    canary: &Canary,
    letters: &dyn DeadLetters,
    page: DeadLetterPage,
    patience: &mut Patience,
) -> Next {
    // Before the first is sent, or its end could be missed.
    let look = inner.live.as_ref().map(|live| live.look(false));
    let Some(Ok(mut look)) = look else {
        return pause(inner, task, patience, "too many look at what happens: the canary cannot be watched".to_owned())
            .await;
    };
    let met = all_of(inner, task, letters, &page.letters).await;
    let mut watched = Watched::default();
    for record in page.letters.iter().map(|stored| &stored.letter.record) {
        if met.iter().any(|(id, met)| *met == Met::Done && *id == record.id.0) {
            watched.add(record.subscription.clone(), record.message_id.clone());
        }
    }
    let sent = met.iter().filter(|(_, met)| *met == Met::Done).count() as u64;
    show(inner, task, &met, false);
    task.lock().counts.done += sent;
    if sent == 0 {
        return match met.into_iter().find_map(|(_, met)| match met {
            Met::Full(why) | Met::Unreadable(why) => Some(why),
            Met::Done | Met::Gone | Met::HeldBack | Met::Failed(_) => None,
        }) {
            Some(why) => pause(inner, task, patience, why).await,
            None => {
                // None of them can be sent back, so that none can tell anything; they are counted with the others.
                task.lock().is_past_canary = true;
                Next::On
            }
        };
    }
    save(inner, task).await;
    let until = Instant::now() + canary.patience;
    loop {
        let counts = watched.counts();
        task.lock().counts.canary = Some(counts);
        match judge(canary, &counts, Instant::now() >= until) {
            Verdict::Go => {
                task.lock().is_past_canary = true;
                return Next::On;
            }
            Verdict::Abort(why) => return Next::End(Standing::Aborted(why)),
            Verdict::Wait => {}
        }
        tokio::select! {
            biased;
            () = task.cancel.cancelled() => return Next::End(Standing::Cancelled),
            () = inner.stop.cancelled() => return Next::Stop,
            // Nobody tells any more what happens: the host ends.
            more = watched.next(&mut look) => if !more { return Next::Stop },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}
