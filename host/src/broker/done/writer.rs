//! The thread that writes: it takes all who wait, writes what changed once for all of them, and answers.

use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::file::{Changes, File};
use super::{Flush, Shared};

/// Runs until the last sender is gone.
pub(super) fn run(shared: &Shared, mut file: File, mut waiting: mpsc::Receiver<Flush>) {
    let mut group: Vec<Flush> = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while let Ok(next) = waiting.try_recv() {
            group.push(next);
        }
        let result = write_changes(shared, &mut file);
        for waiter in group.drain(..) {
            // Who does not wait any more does not need to know.
            let _ = waiter.send(result.clone());
        }
    }
}

fn write_changes(shared: &Shared, file: &mut File) -> Result<(), String> {
    let changes = {
        let mut state = shared.lock();
        Changes {
            sources: std::mem::take(&mut state.new_sources),
            blocks: state.blocks.take_dirty(),
            notes: state.notes.take_dirty(),
            outputs: state.outputs.take_dirty(),
        }
    };
    if changes.is_empty() {
        return Ok(());
    }
    match file.write(&changes) {
        Ok(()) => {
            if shared.failing.swap(false, Ordering::Relaxed) {
                tracing::info!("the record of what is done can be written again");
            }
            Ok(())
        }
        Err(error) => {
            let mut state = shared.lock();
            state.new_sources.extend(changes.sources);
            state.blocks.put_back(changes.blocks.into_iter().map(|(key, _)| key));
            state.notes.put_back(changes.notes.into_iter().map(|(key, _)| key));
            state.outputs.put_back(changes.outputs.into_iter().map(|(stream, _)| stream));
            drop(state);
            shared.failed_writes.fetch_add(1, Ordering::Relaxed);
            if !shared.failing.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    %error,
                    "the record of what is done cannot be written; messages that the broker gives back may run again"
                );
            }
            Err(error.to_string())
        }
    }
}
