//! Publishes as fast as the host takes it, and never more ahead of the handlers than is allowed.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use crate::http::Address;

/// Two, so that one prepares while the other waits for the disk.
const PUBLISHERS: usize = 2;
/// Messages of one request: two groups of the host.
const GROUP: u64 = 512;
/// How long one who may not publish now waits.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a group that was not taken whole is sent again; the ids make that safe.
const TRIES: u32 = 10;

/// The id of a message.
pub(super) fn id(number: u64) -> String {
    format!("soak-{number}")
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    allowed: AtomicU64,
    stop: AtomicBool,
}

pub(super) struct Feed {
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<Result<()>>>,
}

impl Feed {
    pub(super) fn start(host: Address) -> Self {
        let shared = Arc::new(Shared::default());
        let publishers = (0..PUBLISHERS).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || publish(host, &shared))
        });
        Self { publishers: publishers.collect(), shared }
    }

    /// Lets messages of numbers below a bound be published.
    pub(super) fn allow(&self, below: u64) {
        self.shared.allowed.store(below, Ordering::Relaxed);
    }

    /// Stops, and says how many messages were published and confirmed: all numbers below.
    pub(super) fn finish(self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for publisher in self.publishers {
            publisher.join().map_err(|_panic| anyhow!("a publisher broke off"))??;
        }
        Ok(self.shared.next.load(Ordering::Relaxed))
    }
}

fn publish(host: Address, shared: &Shared) -> Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        if shared.next.load(Ordering::Relaxed) + GROUP > shared.allowed.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
            continue;
        }
        let first = shared.next.fetch_add(GROUP, Ordering::Relaxed);
        send(host, &lines(first))?;
    }
    Ok(())
}

/// 256 bytes of body each.
fn lines(first: u64) -> String {
    let mut lines = String::new();
    for number in first..first + GROUP {
        // Writing to a string does not fail.
        let _ = writeln!(lines, r#"{{"subject":"in.x","id":"{}","body":"{:x<256}"}}"#, id(number), number);
    }
    lines
}

#[derive(Deserialize)]
struct Summary {
    published: u64,
    duplicates: u64,
}

fn send(host: Address, lines: &str) -> Result<()> {
    let mut last = String::new();
    for _ in 0..TRIES {
        last = match host.post_lines("/v1/publish?broker=queue", lines) {
            Ok(answer) => answer,
            // A host that was held up for long, on a machine that does much else; it may have stored all of it.
            Err(error) => {
                last = format!("{error:#}");
                continue;
            }
        };
        let summary: Summary = serde_json::from_str(&last).context("reading the answer to a publish")?;
        if summary.published + summary.duplicates == GROUP {
            return Ok(());
        }
    }
    ensure!(false, "the host does not take a group: {last}");
    Ok(())
}
