//! Waits for the sources to change, with the operating system's help where it gives any.
//!
//! Its word only wakes: what has changed is found by a scan, so that a word too many or too few does no harm.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::Sender;

use super::event::Event;
use super::sources::{Scan, Sources};
use crate::cli::say;

/// An editor that saves several files, or one in several steps, is done when nothing happened for so long.
const SETTLED: Duration = Duration::from_millis(80);
/// What never settles is looked at after so long all the same.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Where nothing wakes us, the sources are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Words that wait. One that finds no room is not missed: those before it wake as well.
const WORDS: usize = 64;

/// Tells of each change of the sources until whoever listens has gone. The first scan is what is there now.
pub(super) fn watch(sources: Sources, first: Scan, events: Sender<Event>) -> anyhow::Result<()> {
    let (tell, words) = mpsc::sync_channel(WORDS);
    let told = move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| is_a_look(event.kind)) {
            let _ = tell.try_send(());
        }
    };
    let watcher = notify::recommended_watcher(told).context("watching the sources")?;
    let mut watched = Watched { watcher, folders: BTreeSet::new(), is_whole: true };
    watched.follow(&first);
    let thread = std::thread::Builder::new().name("sources".to_owned());
    // It ends with the channel, at the next word or look; nothing waits for it, for it holds nothing.
    let run = move || follow(&sources, first, &mut watched, &words, &events);
    thread.spawn(run).context("starting a thread")?;
    Ok(())
}

/// Whether somebody only looked, as our own scan does.
fn is_a_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

struct Watched {
    watcher: notify::RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    /// Whether all folders are watched. The system has a limit on how many.
    is_whole: bool,
}

impl Watched {
    /// Watches the folders of a scan that are not watched yet. A folder that has gone takes its watch along.
    fn follow(&mut self, scan: &Scan) {
        self.folders.retain(|folder| scan.folders.contains(folder));
        for folder in &scan.folders {
            if self.folders.contains(folder) || !self.is_whole {
                continue;
            }
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder.clone())),
                // Gone since the scan.
                Err(_) if !folder.exists() => {}
                Err(error) => {
                    self.is_whole = false;
                    say::talk(&format!("{error}; the sources are looked at every second instead"));
                }
            }
        }
    }
}

fn follow(sources: &Sources, mut last: Scan, watched: &mut Watched, words: &Receiver<()>, events: &Sender<Event>) {
    while wait(words, watched.is_whole) && !events.is_closed() {
        let scan = sources.scan();
        // Also when no file differs: a new folder may be filled at any time.
        watched.follow(&scan);
        if scan.changed_since(&last).is_empty() {
            continue;
        }
        last = scan.clone();
        if events.blocking_send(Event::Changed(Box::new(scan))).is_err() {
            return;
        }
    }
}

/// Waits for the next word and until all is quiet again; false when there will be none.
fn wait(words: &Receiver<()>, is_whole: bool) -> bool {
    if !is_whole {
        return !matches!(words.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Disconnected));
    }
    if words.recv().is_err() {
        return false;
    }
    let latest = Instant::now() + AT_LATEST;
    while Instant::now() < latest {
        match words.recv_timeout(SETTLED) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}
