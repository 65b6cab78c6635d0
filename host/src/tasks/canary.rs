//! The dead letters that go first: sent until there are as many as were ordered, watched, and only then judged.
//!
//! Invariants:
//! - What cannot be sent (held back, failed, gone) is counted as any other and passed, and the next ones are taken: those that
//!   are judged are as many as were ordered, or all that there are.
//! - Over all lives of the host no more are sent before the verdict, and all that were sent are judged: each stands on the disk
//!   before it is sent, and what a life that was killed left open is asked after before another one is chosen.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::each::{Aim, Sieve, all_of, take_in};
use super::first::{First, counts, doubt, see, waiting};
use super::hold::rest_while_held;
use super::patience::{Patience, pause};
use super::record::{Canary, CanaryCounts, Record, Verdict, judge};
use super::work::{Next, PAGE, ended, save};
use super::{Inner, Standing, Task};
use crate::broker::{DeadLetterQuery, NamedBroker};
use crate::dispatch::{Glimpse, Look};

/// How far the sending of the first ones is.
enum Sending {
    More,
    /// As many were sent as are to go first, or nothing is left.
    All,
    /// The task does not go on with it.
    Ends(Next),
}

impl From<Next> for Sending {
    fn from(next: Next) -> Self {
        match next {
            Next::On => Self::More,
            Next::End(_) | Next::Stop => Self::Ends(next),
        }
    }
}

/// Sends the first ones back, and watches what becomes of them.
pub(super) async fn first_ones(inner: &Inner, task: &Arc<Task>, canary: &Canary, patience: &mut Patience) -> Next {
    // Before the first is sent, or its end could be missed.
    let look = inner.here.as_ref().map(|here| here.live.look(false));
    let Some(Ok(mut look)) = look else {
        let why = "too many look at what happens: the canary cannot be watched";
        return pause(inner, task, patience, why.to_owned()).await;
    };
    let goes_on = {
        let mut record = task.lock();
        doubt(&mut record.first);
        !record.first.is_empty()
    };
    loop {
        match watching(task, &mut look, some(inner, task, canary, patience)).await {
            Sending::More => patience.save_in_time(inner, task).await,
            Sending::All => break,
            Sending::Ends(next) => return next,
        }
    }
    save(inner, task).await;
    let until = Instant::now() + canary.patience;
    loop {
        let counts = shown(&mut task.lock());
        match judge(canary, &counts, Instant::now() >= until, goes_on) {
            Verdict::Go => {
                {
                    let mut record = task.lock();
                    record.is_past_canary = true;
                    record.first.clear();
                }
                // At once: after a kill nobody could tell any more how they did.
                save(inner, task).await;
                return Next::On;
            }
            Verdict::Abort(why) => return Next::End(Standing::Aborted(why)),
            Verdict::Wait => {}
        }
        patience.save_in_time(inner, task).await;
        tokio::select! {
            biased;
            () = task.cancel.cancelled() => return Next::End(Standing::Cancelled),
            () = inner.stop.cancelled() => return Next::Stop,
            // Nobody tells any more what happens: the host ends.
            more = watch(task, &mut look) => if !more { return Next::Stop },
            () = tokio::time::sleep_until(until) => {}
        }
    }
}

/// Chooses some of those that are missing, or sends those that are chosen.
async fn some(inner: &Inner, task: &Arc<Task>, canary: &Canary, patience: &mut Patience) -> Sending {
    // What was sent is looked at meanwhile.
    rest_while_held(inner, task).await;
    if let Some(end) = ended(inner, task) {
        return Sending::Ends(end);
    }
    let record = task.now();
    let Some(name) = record.left.first() else { return Sending::All };
    let waiting = waiting(&record.first);
    let missing = canary.letters.saturating_sub(record.first.len());
    if missing == 0 && waiting.is_empty() {
        return Sending::All;
    }
    let Some(named) = inner.brokers.get(name) else {
        return Sending::Ends(Next::End(Standing::Aborted(format!("broker `{name}` is not configured any more"))));
    };
    if waiting.is_empty() {
        return choose(inner, task, &record, missing, patience, &named).await;
    }
    let aims: Vec<Aim> = waiting.iter().map(Aim::from).collect();
    let met = all_of(inner, task, &*named.broker.dead_letters(), &aims).await;
    crate::failpoint::reached("task-first");
    let next = take_in(inner, task, patience, &named, aims.len(), record.behind_first, met).await;
    shown(&mut task.lock());
    next.into()
}

/// Chooses so many that follow, and writes them down.
async fn choose(
    inner: &Inner,
    task: &Arc<Task>,
    record: &Record,
    missing: usize,
    patience: &mut Patience,
    named: &NamedBroker,
) -> Sending {
    let query = DeadLetterQuery {
        filter: record.order.filter.clone(),
        after: record.after.clone(),
        limit: missing.clamp(1, PAGE),
        oldest_first: true,
    };
    let page = match named.broker.dead_letters().list(&query).await {
        Ok(page) => page,
        Err(error) => return pause(inner, task, patience, error.to_string()).await.into(),
    };
    if page.letters.is_empty() {
        return take_in(inner, task, patience, named, 0, page.next, Vec::new()).await.into();
    }
    let sieve = match Sieve::of(inner, record).await {
        Ok(sieve) => sieve,
        Err(why) => return pause(inner, task, patience, why).await.into(),
    };
    {
        let mut record = task.lock();
        record.first.extend(page.letters.iter().map(|stored| First::new(stored, sieve.holds(stored))));
        record.behind_first = page.next;
    }
    let Err(error) = inner.save(task).await else { return Sending::More };
    // Nothing is sent that is not written down: it is chosen again when it can be.
    task.lock().forget_waiting();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    pause(inner, task, patience, format!("how far the task is cannot be written down{cause}")).await.into()
}

/// Works, and meanwhile takes in what the messages come to that were sent: so many others may end that what is looked at late is
/// missed.
async fn watching<T>(task: &Task, look: &mut Look, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut more = true;
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            is_open = watch(task, look), if more => more = is_open,
        }
    }
}

/// Takes the next ending in; false: nothing more will come. Cancel-safe.
async fn watch(task: &Task, look: &mut Look) -> bool {
    match look.next().await {
        Some(Glimpse::Seen(seen)) => {
            let mut record = task.lock();
            see(&mut record.first, &seen.identity.subscription, &seen.message_id, seen.settled_as);
            shown(&mut record);
            true
        }
        // Those that were missed are taken for not ended.
        Some(Glimpse::Missed(_)) => true,
        None => false,
    }
}

/// Shows how those did that were sent; nothing while there are none.
fn shown(record: &mut Record) -> CanaryCounts {
    let counts = counts(&record.first);
    record.counts.canary = Some(counts).filter(|counts| counts.sent > 0);
    counts
}
