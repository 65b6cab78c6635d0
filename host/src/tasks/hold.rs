//! Holding a task, and telling it to go on.
//!
//! Invariants:
//! - When a pause is answered it is on the disk, and nothing more is begun with: only what was under way is finished.
//! - A task that is held goes on looking at what it has sent: what becomes of a canary meanwhile is seen.

use std::sync::Arc;

use tokio::time::Instant;

use super::work::save;
use super::{Inner, MOST_RUNNING, Standing, Task, TaskError, TaskRecord, Tasks};

impl Tasks {
    /// Holds one until [`resume`](Self::resume), over starts of the host too. One that is held stays so.
    ///
    /// # Errors
    /// When there is none of this id, it has ended, or it cannot be written down; then it goes on.
    pub async fn pause(&self, id: &str, by: &str) -> Result<TaskRecord, TaskError> {
        self.turn(id, Standing::Paused { by: by.to_owned() }).await
    }

    /// Lets one go on that is held. One that goes on stays so.
    ///
    /// # Errors
    /// When there is none of this id, it has ended, as many go on as may, or it cannot be written down; then it stays held.
    pub async fn resume(&self, id: &str) -> Result<TaskRecord, TaskError> {
        self.turn(id, Standing::Running).await
    }

    async fn turn(&self, id: &str, to: Standing) -> Result<TaskRecord, TaskError> {
        let inner = &self.inner;
        let task = inner.task(id)?;
        // One after the other: what another one is about to take back is no answer.
        let _turn = task.turning.lock().await;
        let before = {
            // One at a time: two that go on at once are not one too many.
            let all = inner.lock();
            let is_full = all.values().filter(|task| task.lock().is_running()).count() >= MOST_RUNNING;
            let mut record = task.lock();
            if record.has_ended() {
                return Err(TaskError::HasEnded(record.id.clone()));
            }
            if std::mem::discriminant(&record.standing) == std::mem::discriminant(&to) {
                None
            } else if to == Standing::Running && is_full {
                return Err(TaskError::TooMany);
            } else {
                record.waits_for = None;
                Some(std::mem::replace(&mut record.standing, to))
            }
        };
        let Some(before) = before else {
            // Whoever told it so may have gone before it was written down.
            inner.save(&task).await?;
            return Ok(task.now());
        };
        task.tell();
        if let Err(error) = inner.save(&task).await {
            {
                let mut record = task.lock();
                if !record.has_ended() {
                    record.standing = before;
                }
            }
            task.tell();
            return Err(error);
        }
        inner.show_running();
        let record = task.now();
        tracing::info!(task = record.id, standing = ?record.standing, "a task over dead letters was told to");
        Ok(record)
    }
}

impl Task {
    /// Whoever waits looks again at how it stands.
    pub(super) fn tell(&self) {
        self.is_held.send_replace(self.lock().is_paused());
    }

    /// Whether nothing more may be begun with.
    pub(super) fn is_held(&self) -> bool {
        *self.is_held.borrow()
    }
}

/// Waits while somebody holds the task; or until it is cancelled, or the host ends. Cancel-safe.
async fn while_held(inner: &Inner, task: &Task) {
    let mut is_held = task.is_held.subscribe();
    tokio::select! {
        () = task.cancel.cancelled() => {}
        () = inner.stop.cancelled() => {}
        // The sender lives as long as the task does.
        _ = is_held.wait_for(|is_held| !is_held) => {}
    }
}

/// The same with what it did written down.
pub(super) async fn rest_while_held(inner: &Inner, task: &Arc<Task>) {
    if !task.is_held() {
        return;
    }
    // All that was done is counted: who kills the host now leaves nothing unknown.
    task.lock().rests = true;
    save(inner, task).await;
    while_held(inner, task).await;
    task.lock().rests = false;
    save(inner, task).await;
}

/// Waits for a time, unless the task is held or cancelled before, or the host ends. Cancel-safe.
pub(super) async fn wait_until(inner: &Inner, task: &Task, time: Instant) {
    let mut is_held = task.is_held.subscribe();
    tokio::select! {
        biased;
        () = task.cancel.cancelled() => {}
        () = inner.stop.cancelled() => {}
        _ = is_held.wait_for(|is_held| *is_held) => {}
        () = tokio::time::sleep_until(time) => {}
    }
}
