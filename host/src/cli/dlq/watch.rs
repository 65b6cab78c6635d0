//! `tidegate dlq redrive --watch`: what becomes of the messages that are sent back, seen from before they are sent, so that nothing is
//! missed however quick it is.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::admin::wire::{EndedView, LiveLine};
use crate::cli::client::Client;
use crate::cli::direct::Reached;
use crate::cli::exit::{Exit, Failure};
use crate::cli::say;
use crate::cli::table::{duration, harmless};

/// So long a message may take to come to its end: what is tried again for longer is seen by `tidegate status`.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines that wait here: the host tells how many it left out when more come.
const WAITING: usize = 256;

/// Looks at the host's messages since before something was sent.
pub(super) struct Watch {
    lines: Receiver<LiveLine>,
    /// The dead letters by their messages' ids: of several with the same one each run is told of all.
    of: BTreeMap<String, Vec<String>>,
}

impl Watch {
    /// Begins to look, for these dead letters.
    pub(super) fn begin(reached: &Reached, ids: &[String], broker: Option<&str>) -> Result<Self, Failure> {
        if reached.is_own() {
            return Err(Failure::usage(anyhow!(
                "no host runs here that would handle what is sent back: start one first"
            )));
        }
        let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            // One that is not there is told of when it is to be sent.
            if let Ok(letter) = reached.client.dead_letter(id, broker) {
                of.entry(letter.message_id).or_default().push(id.clone());
            }
        }
        let lines = looking(&reached.client)?;
        match lines.recv_timeout(PATIENCE) {
            Ok(LiveLine::Watching) => Ok(Self { lines, of }),
            Ok(LiveLine::Ended(_) | LiveLine::Missed { .. } | LiveLine::Quiet) | Err(_) => {
                Err(Failure::from(anyhow!("the host does not tell what becomes of messages, so nothing was sent back")))
            }
        }
    }

    /// Tells what becomes of those that were sent, until each has come to its end.
    pub(super) fn follow(self, sent: &[String], json: bool) -> Result<Exit, Failure> {
        let tell = |text: &str| {
            if json {
                say::talk(text);
                Ok(())
            } else {
                say::data(text)
            }
        };
        let mut open: Vec<&String> = sent.iter().collect();
        let mut all_well = true;
        let until = Instant::now() + PATIENCE;
        while !open.is_empty() {
            let line = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::from(anyhow!(
                        "the host ended, or went away, before all had come to their end"
                    )));
                }
            };
            match line {
                LiveLine::Ended(ended) => {
                    for id in self.of.get(&ended.message_id).into_iter().flatten().filter(|id| sent.contains(*id)) {
                        tell(&format!("{id}: {}", told(&ended)))?;
                        if let Some(well) = has_ended(&ended) {
                            open.retain(|still| *still != id);
                            all_well &= well;
                        }
                    }
                }
                LiveLine::Missed { count } => say::talk(&format!("{count} messages went by too fast to be seen here")),
                LiveLine::Watching | LiveLine::Quiet => {}
            }
        }
        for id in &open {
            say::talk(&format!(
                "{id}: its end was not seen within {}: it may wait behind others or for a pause to end, or another host has taken it",
                duration(PATIENCE)
            ));
        }
        Ok(if open.is_empty() && all_well { Exit::Done } else { Exit::Partly })
    }
}

/// What the host tells, from a thread that ends with the command.
fn looking(client: &Client) -> Result<Receiver<LiveLine>, Failure> {
    let (tell, lines) = sync_channel(WAITING);
    let client = client.clone();
    let look = move || {
        // Whoever waits sees that nothing comes any more.
        let _ = client.live(&[], |line| tell.send(line).is_ok());
    };
    std::thread::Builder::new().name("look".to_owned()).spawn(look).context("starting a thread")?;
    Ok(lines)
}

/// Whether a message is done with, and whether that is well; nothing: it comes again.
fn has_ended(ended: &EndedView) -> Option<bool> {
    match ended.settled_as.as_str() {
        "completed" | "skipped" | "already-done" => Some(true),
        "dead-lettered" => Some(false),
        _ => None,
    }
}

fn told(ended: &EndedView) -> String {
    let mut text = ended.settled_as.clone();
    if ended.reason != ended.settled_as {
        text += &format!(" as {}", ended.reason);
    }
    if let Some(version) = ended.version {
        text += &format!(" on {}@{version} in {}", ended.handler, duration(Duration::from_micros(ended.run_us)));
    }
    if let Some(detail) = &ended.detail {
        text += &format!(": {}", harmless(detail).replace('\n', " "));
    }
    if let Some(again) = ended.again_in_ms {
        text += &format!("; again in {}", duration(Duration::from_millis(again)));
    }
    if let Some(letter) = &ended.dead_letter {
        text += &format!("; tidegate dlq show {letter}");
    }
    text
}
