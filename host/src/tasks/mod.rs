//! Tasks over dead letters: many sent back or removed, at a rate, some first, with progress, until done or ended.
//!
//! A task goes through the dead letters that matched and had died when it began, the oldest first, and writes down how far
//! it is. What dies again while it goes on is not among them, so no task runs in a circle.
//!
//! Invariants:
//! - Killed at any moment, a task goes on at the next start. What was sent back before is not sent back twice on the
//!   embedded queue, where sending back and marking are one transaction; on JetStream it has the same message id, and a
//!   dead letter stays until its message is confirmed.
//! - A task is on the disk before it does anything. One that is held stays so, whoever kills the host.
//! - What a broker cannot take now (full, away) is waited for; what it will never take is counted, named and passed over.

mod canary;
mod each;
mod error;
mod first;
mod hold;
mod patience;
mod record;
mod store;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use error::TaskError;
pub use record::{Act, Canary, CanaryCounts, Counts, Failed, Order, Record, Redrive, Standing};

use crate::broker::{By, Counted, DeadLetterFilter, Directory, Running, Tally};
use crate::dispatch::Live;
use crate::telemetry::Metrics;
use record::Record as TaskRecord;
use store::{KEPT, Store};

/// Tasks that go on at once: a person at work has one, and a second one beside it.
const MOST_RUNNING: usize = 4;

/// Who writes down how tasks end.
#[async_trait]
pub trait Ends: Send + Sync {
    /// A task is about to be shown as ended, with this record. One whose host is killed at that moment may end twice.
    async fn ended(&self, task: &Record);
}

/// Who knows which versions run on this host.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Those that messages run on now. The error says why nobody knows.
    async fn running(&self) -> Result<Running, String>;
}

/// What runs on this host.
#[derive(Clone)]
pub struct Here {
    /// What becomes of messages.
    pub live: Arc<Live>,
    /// What they run on.
    pub versions: Arc<dyn Versions>,
}

/// The tasks of a host.
pub struct Tasks {
    inner: Arc<Inner>,
    /// What goes on.
    working: Mutex<JoinSet<()>>,
}

/// What tasks work with.
struct Inner {
    store: Store,
    brokers: Arc<Directory>,
    /// `None`: nothing runs here.
    here: Option<Here>,
    metrics: Arc<Metrics>,
    ends: Arc<dyn Ends>,
    all: Mutex<BTreeMap<String, Arc<Task>>>,
    /// The host ends.
    stop: CancellationToken,
}

/// A task, and the way to end it.
struct Task {
    record: Mutex<TaskRecord>,
    cancel: CancellationToken,
    /// Somebody holds it.
    is_held: watch::Sender<bool>,
    /// Whoever holds it or lets it go on.
    turning: tokio::sync::Mutex<()>,
}

impl Task {
    fn new(record: TaskRecord) -> Arc<Self> {
        let is_held = watch::Sender::new(record.is_paused());
        let (cancel, turning) = (CancellationToken::new(), tokio::sync::Mutex::default());
        Arc::new(Self { record: Mutex::new(record), cancel, is_held, turning })
    }

    fn now(&self) -> TaskRecord {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, TaskRecord> {
        // Counts are changed in single steps: they are whole even if a holder died.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// The tasks whose records are in a folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn open(
        folder: PathBuf,
        brokers: Arc<Directory>,
        here: Option<Here>,
        metrics: Arc<Metrics>,
        ends: Arc<dyn Ends>,
    ) -> Result<Arc<Self>, TaskError> {
        let store = Store::new(folder);
        let reading = store.clone();
        let records = on_disk(move || reading.read()).await?;
        let all = records.into_iter().map(|record| (record.id.clone(), Task::new(record))).collect();
        let (all, stop) = (Mutex::new(all), CancellationToken::new());
        let inner = Inner { store, brokers, here, metrics, ends, all, stop };
        Ok(Arc::new(Self { inner: Arc::new(inner), working: Mutex::default() }))
    }

    /// Goes on with those that an earlier life of the host began and did not end.
    pub fn go_on(&self) {
        let unfinished: Vec<_> = self.inner.lock().values().filter(|task| !task.lock().has_ended()).cloned().collect();
        for task in unfinished {
            tracing::info!(task = task.lock().id, "a task over dead letters goes on");
            self.work_on(task, true);
        }
    }

    /// Begins a task. A discard says how many it removes (`confirmed`), and is refused when others match.
    ///
    /// # Errors
    /// When it cannot be done as ordered, too many go on already, or it cannot be written down; then nothing is done.
    pub async fn begin(&self, mut order: Order, confirmed: Option<u64>) -> Result<TaskRecord, TaskError> {
        let now = SystemTime::now();
        order.filter = DeadLetterFilter { include_redriven: false, ..order.filter.by(now) };
        let counted = self.inner.count(&order, self.inner.running(&order).await?).await?;
        let total = whole(&counted);
        match (&order.act, confirmed, total) {
            (Act::Redrive(_), _, _) => {}
            (Act::Discard, Some(confirmed), Some(total)) if confirmed == total => {}
            (Act::Discard, _, total) => {
                return Err(TaskError::OtherCount { total: total.unwrap_or_default(), confirmed });
            }
        }
        let mut record = TaskRecord::new(ulid::Ulid::generate().to_string(), order, now, total);
        record.counts.same_version = counted.same_version;
        let task = Task::new(record.clone());
        {
            let mut all = self.inner.lock();
            if all.values().filter(|task| task.lock().is_running()).count() >= MOST_RUNNING {
                return Err(TaskError::TooMany);
            }
            all.insert(record.id.clone(), Arc::clone(&task));
        }
        if let Err(error) = self.inner.save(&task).await {
            self.inner.lock().remove(&record.id);
            return Err(error);
        }
        self.inner.forget_old();
        tracing::info!(task = record.id, by = record.order.by, ?total, "a task over dead letters begins");
        self.work_on(task, false);
        Ok(record)
    }

    /// All that are kept, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<TaskRecord> {
        self.inner.lock().values().rev().map(|task| task.now()).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn get(&self, id: &str) -> Result<TaskRecord, TaskError> {
        Ok(self.inner.task(id)?.now())
    }

    /// Ends one: what was sent back or removed stays so. One that has ended is as it was.
    ///
    /// # Errors
    /// When there is none of this id, or its end cannot be written down.
    pub async fn cancel(&self, id: &str) -> Result<TaskRecord, TaskError> {
        let task = self.inner.task(id)?;
        task.cancel.cancel();
        {
            let mut record = task.lock();
            if !record.has_ended() {
                record.standing = Standing::Cancelled;
                record.ended_at = Some(SystemTime::now());
                record.waits_for = None;
            }
        }
        self.inner.save(&task).await?;
        Ok(task.now())
    }

    /// Stops all of them; they go on at the next start.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        let mut working = std::mem::take(&mut *self.working.lock().unwrap_or_else(PoisonError::into_inner));
        while working.join_next().await.is_some() {}
    }

    fn work_on(&self, task: Arc<Task>, goes_on: bool) {
        let inner = Arc::clone(&self.inner);
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        while working.try_join_next().is_some() {}
        working.spawn(async move {
            inner.show_running();
            work::work(&inner, &task, goes_on).await;
            inner.show_running();
        });
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Task>>> {
        // Changed in single steps: it is whole even if a holder died.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: &str) -> Result<Arc<Task>, TaskError> {
        self.lock().get(id).cloned().ok_or_else(|| TaskError::NotFound(id.chars().take(40).collect()))
    }

    fn show_running(&self) {
        let running = self.lock().values().filter(|task| task.lock().is_running()).count();
        self.metrics.set_dead_letter_tasks(running);
    }

    /// Writes down how far a task is.
    async fn save(&self, task: &Arc<Task>) -> Result<(), TaskError> {
        let (store, task) = (self.store.clone(), Arc::clone(task));
        on_disk(move || store.write(|| task.now())).await
    }

    /// The versions that run, for a redrive to warn of them. Refuses what nobody could do here.
    async fn running(&self, order: &Order) -> Result<Option<Running>, TaskError> {
        // Elsewhere another handler takes them.
        let Some(redrive) = order.redrive().filter(|redrive| redrive.to.is_none()) else { return Ok(None) };
        match &self.here {
            Some(here) => match here.versions.running().await {
                Ok(running) => Ok(Some(running)),
                Err(why) if redrive.only_if_version_changed => Err(TaskError::Versions(why)),
                // It could only have been warned of.
                Err(_) => Ok(None),
            },
            None if redrive.canary.is_some() => Err(TaskError::NobodyRuns),
            None if redrive.only_if_version_changed => Err(TaskError::NoVersions),
            None => Ok(None),
        }
    }

    /// How many match, and of those how many failed in a version that runs.
    async fn count(&self, order: &Order, running: Option<Running>) -> Result<Counted, TaskError> {
        let tally = Tally::new(By::Reason, SystemTime::now()).on(running);
        // What is removed is removed by its count; how many are sent back is good to know.
        let mut tally = match order.act {
            Act::Discard => tally.whole(),
            Act::Redrive(_) => tally,
        };
        for name in &order.brokers {
            let named = self.brokers.get(name).ok_or_else(|| TaskError::NoBroker(name.clone()))?;
            tally = named.broker.dead_letters().tally(&order.filter, tally.at(name)).await?;
        }
        Ok(tally.finish(0))
    }

    /// Forgets the oldest of those that have ended, beyond those that are kept.
    fn forget_old(&self) {
        let mut all = self.lock();
        let ended: Vec<String> =
            all.iter().filter(|(_, task)| task.lock().has_ended()).map(|(id, _)| id.clone()).collect();
        for id in ended.iter().take(ended.len().saturating_sub(KEPT)) {
            all.remove(id);
            // What cannot be removed is met again at the next start.
            let _ = self.store.remove(id);
        }
    }
}

/// How many there are; `None`: more than were counted.
fn whole(counted: &Counted) -> Option<u64> {
    (!counted.is_cut).then_some(counted.matched)
}

/// Works with the disk away from the executor's threads.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, TaskError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(TaskError::Disk),
        Err(stopped) => Err(TaskError::Disk(std::io::Error::other(stopped))),
    }
}

#[cfg(test)]
mod tests;
