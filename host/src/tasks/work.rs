//! A task at work: page by page, letter by letter, until all are gone through.

use std::sync::Arc;
use std::time::SystemTime;

use super::canary::first_ones;
use super::each::{Aim, Sieve, all_of, take_in};
use super::hold::rest_while_held;
use super::patience::{Patience, pause};
use super::{Inner, Standing, Task, whole};
use crate::broker::DeadLetterQuery;

/// Dead letters that are listed at once.
pub(super) const PAGE: usize = 256;

/// What is done next.
pub(super) enum Next {
    On,
    /// The task has ended.
    End(Standing),
    /// The host ends; the task goes on at its next start.
    Stop,
}

/// Works until the task has ended, or the host does. `goes_on`: it was begun in an earlier life of the host.
pub(super) async fn work(inner: &Inner, task: &Arc<Task>, goes_on: bool) {
    let mut patience = Patience::new();
    if goes_on {
        correct(inner, task).await;
    }
    let standing = loop {
        match step(inner, task, &mut patience).await {
            Next::On => {}
            Next::End(standing) => break standing,
            Next::Stop => {
                task.lock().rests = true;
                return save(inner, task).await;
            }
        }
        patience.save_in_time(inner, task).await;
        crate::failpoint::reached("task-page");
    };
    let mut record = task.now();
    // Whoever cancelled it has said so already.
    if !record.has_ended() {
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
        if !shown.has_ended() {
            *shown = record;
        }
    }
    save(inner, task).await;
}

/// After a kill fewer may stand in the record than were done: what is left says how many are gone that nobody counted. Whether
/// this task or somebody else sent them back or removed them, nothing tells.
async fn correct(inner: &Inner, task: &Arc<Task>) {
    let record = task.now();
    // A host that ended in peace had written down all that it did.
    let left = match (record.rests, record.counts.total) {
        (true, _) | (false, None) => None,
        (false, Some(_)) => inner.count(&record.order, None).await.ok().and_then(|counted| whole(&counted)),
    };
    {
        let mut record = task.lock();
        record.rests = false;
        let counts = &mut record.counts;
        if let (Some(left), Some(total)) = (left, counts.total) {
            let gone = total.saturating_sub(left);
            counts.unknown = counts.unknown.max(gone.saturating_sub(counts.done + counts.gone));
        }
    }
    save(inner, task).await;
}

pub(super) async fn save(inner: &Inner, task: &Arc<Task>) {
    if let Err(error) = inner.save(task).await {
        let why = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(?why, "how far a task over dead letters is could not be written down");
    }
}

async fn step(inner: &Inner, task: &Arc<Task>, patience: &mut Patience) -> Next {
    // A canary of which some were sent is looked at while the task is held.
    let waits = {
        let record = task.lock();
        !record.left.is_empty() && (record.canary().is_none() || record.first.is_empty())
    };
    if waits {
        rest_while_held(inner, task).await;
    }
    if let Some(end) = ended(inner, task) {
        return end;
    }
    let record = task.now();
    if let Some(canary) = record.canary() {
        return first_ones(inner, task, &canary, patience).await;
    }
    let Some(name) = record.left.first() else { return Next::End(Standing::Done) };
    let Some(named) = inner.brokers.get(name) else {
        return Next::End(Standing::Aborted(format!("broker `{name}` is not configured any more")));
    };
    let query = DeadLetterQuery {
        filter: record.order.filter.clone(),
        after: record.after.clone(),
        limit: page_size(record.order.rate),
        oldest_first: true,
    };
    let letters = named.broker.dead_letters();
    let page = match letters.list(&query).await {
        Ok(page) => page,
        Err(error) => return pause(inner, task, patience, error.to_string()).await,
    };
    let sieve = match Sieve::of(inner, &record).await {
        Ok(sieve) => sieve,
        Err(why) => return pause(inner, task, patience, why).await,
    };
    let aims: Vec<Aim> = page.letters.iter().map(|stored| Aim::new(stored, &record, &sieve)).collect();
    let met = all_of(inner, task, &*letters, &aims).await;
    take_in(inner, task, patience, &named, aims.len(), page.next, met).await
}

/// Whether the task is not to go on.
pub(super) fn ended(inner: &Inner, task: &Task) -> Option<Next> {
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
