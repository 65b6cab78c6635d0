//! Dead letters that were sent back are forgotten at their age, on every broker.
//!
//! Hosts that share a broker all do this: what one has removed another does not find.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::applier::Applier;
use crate::broker::{DeadLetterError, DeadLetters, Directory, Status};

/// Between two looks: of ages that are days.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How many are removed at once: a short transaction of the embedded queue, some requests to a server.
const AT_ONCE: usize = 256;

/// Forgets them, as the configuration that runs says, until it is dropped.
pub(super) async fn forget(applier: Applier, brokers: Arc<Directory>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // An age that is longer than time has gone by keeps all.
        let Some(before) = SystemTime::now().checked_sub(applier.running().dead_letters.keep_redriven) else {
            continue;
        };
        for (broker, named) in brokers.all().iter() {
            if named.broker.status() != Status::Connected {
                continue;
            }
            match forget_of(named.broker.dead_letters().as_ref(), before).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::info!(broker, count, "dead letters that were sent back are forgotten at their age")
                }
                Err(error) => {
                    tracing::warn!(broker, %error, "dead letters that were sent back could not be removed; tried again later");
                }
            }
        }
    }
}

async fn forget_of(letters: &dyn DeadLetters, before: SystemTime) -> Result<usize, DeadLetterError> {
    let mut count = 0;
    loop {
        let removed = letters.forget_redriven(before, AT_ONCE).await?;
        count += removed;
        if removed < AT_ONCE {
            return Ok(count);
        }
    }
}
