//! How a task goes about a broker that does not answer: it says what it waits for, and waits longer each time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::work::{Next, ended, save};
use super::{Inner, Task};

/// The longest pause between two tries at a broker that cannot take them now.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Between two records of how far a task is: what a kill makes a task look at once more is a second's work.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often it tried, and since when it has not written down how far it is.
pub(super) struct Patience {
    pause: Duration,
    /// Tries at a dead letter that its store cannot read while the broker is there.
    pub(super) tries: u32,
    saved_at: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, tries: 0, saved_at: Instant::now() }
    }

    /// It went on.
    pub(super) fn refresh(&mut self) {
        (self.pause, self.tries) = (FIRST_PAUSE, 0);
    }

    /// Writes down how far the task is, when that was not done for a while.
    pub(super) async fn save_in_time(&mut self, inner: &Inner, task: &Arc<Task>) {
        if self.saved_at.elapsed() >= SAVE_EVERY {
            save(inner, task).await;
            self.saved_at = Instant::now();
        }
    }
}

/// Says what the task waits for, and waits a while.
pub(super) async fn pause(inner: &Inner, task: &Task, patience: &mut Patience, why: String) -> Next {
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
