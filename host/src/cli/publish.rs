//! `tidegate publish`: messages from files, JSON lines or standard input, each confirmed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::client::Client;
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::messages::{Found, MessageArguments, inputs};
use super::{direct, say, table};
use crate::admin::wire::PublishLine;

/// The host stores so many together; it answers for each batch before the next is sent.
const BATCH_MESSAGES: usize = 256;
/// Or as many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// How many failures are told.
const TOLD_FAILURES: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files to read; `-`, or none at all, is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    host: HostArguments,
    /// The broker, by its name in the configuration; needed when there are several
    #[arg(long, short, value_name = "NAME")]
    broker: Option<String>,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    messages: MessageArguments,
}

/// What became of the messages.
#[derive(Debug, Default, Serialize)]
struct Counts {
    published: u64,
    /// Known by their ids, so that nothing was added.
    duplicates: u64,
    failed: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Told>,
}

#[derive(Debug, Serialize)]
struct Told {
    place: String,
    message: String,
}

pub(super) fn publish(arguments: &Arguments) -> Ended {
    let reached = direct::reach(&arguments.host, arguments.broker.as_deref())?;
    let begun = Instant::now();
    let files = inputs(&arguments.files);
    let bar = bar(&files, arguments.json);
    let mut sender = Sender {
        client: &reached.client,
        broker: arguments.broker.as_deref(),
        bar: &bar,
        begun,
        batch: Batch::default(),
        counts: Counts::default(),
    };
    let sent = sender.send_all(&files, &arguments.messages);
    bar.finish_and_clear();
    let mut counts = sender.counts;
    counts.seconds = begun.elapsed().as_secs_f64();
    report(&counts, arguments.json)?;
    let stored = counts.published + counts.duplicates;
    match sent {
        Ok(()) if counts.failed == 0 => Ok(Exit::Done),
        Ok(()) => Ok(if stored > 0 { Exit::Partly } else { Exit::Failed }),
        Err(error) => Err(Failure { exit: if stored > 0 { Exit::Partly } else { Exit::Failed }, error }),
    }
}

/// Bytes where they are known beforehand, else a count. It shows itself on a terminal only.
fn bar(files: &[PathBuf], quiet: bool) -> ProgressBar {
    let sizes = files.iter().map(|path| std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file));
    let total: Option<u64> = sizes.map(|metadata| metadata.map(|metadata| metadata.len())).sum();
    let (bar, template) = match total {
        _ if quiet => (ProgressBar::hidden(), ""),
        Some(total) => (ProgressBar::new(total), "{bar:30} {bytes} of {total_bytes}  {msg}"),
        None => (ProgressBar::no_length(), "{spinner} {bytes}  {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn report(counts: &Counts, json: bool) -> anyhow::Result<()> {
    if json {
        return say::json(counts);
    }
    for Told { place, message } in &counts.failures {
        say::talk(&format!("{place}: {message}"));
    }
    let elapsed = Duration::from_secs_f64(counts.seconds);
    let mut line = format!("{} published", table::number(counts.published));
    if counts.duplicates > 0 {
        line += &format!(", {} there already", table::number(counts.duplicates));
    }
    if counts.failed > 0 {
        line += &format!(", {} failed", table::number(counts.failed));
    }
    say::data(&format!("{line}, in {} ({})", table::duration(elapsed), rate(counts, elapsed)))
}

fn rate(counts: &Counts, elapsed: Duration) -> String {
    let per_second = (counts.published + counts.duplicates).saturating_mul(1_000_000)
        / u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    format!("{} a second", table::number(per_second))
}

#[derive(Debug, Default)]
struct Batch {
    /// The messages as the host reads them.
    lines: Vec<u8>,
    /// Where each was read.
    places: Vec<String>,
    input_bytes: u64,
}

struct Sender<'a> {
    client: &'a Client,
    broker: Option<&'a str>,
    bar: &'a ProgressBar,
    begun: Instant,
    batch: Batch,
    counts: Counts,
}

impl Sender<'_> {
    /// Ends at the first input that is no message, and behind the first batch of which something was not stored.
    fn send_all(&mut self, files: &[PathBuf], messages: &MessageArguments) -> anyhow::Result<()> {
        for file in files {
            for found in messages.read(file)? {
                // What was read before a line that is wrong is sent all the same.
                match found.and_then(|found| self.add(found)) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(error) => {
                        self.flush()?;
                        return Err(error);
                    }
                }
            }
        }
        self.flush().map(drop)
    }

    /// False when something was not stored and nothing more is to be sent.
    fn add(&mut self, found: Found) -> anyhow::Result<bool> {
        let line = PublishLine::from_publish(&found.publish).map_err(|error| anyhow::anyhow!(error));
        let line = line.and_then(|line| Ok(serde_json::to_vec(&line)?)).with_context(|| found.place.clone())?;
        self.batch.lines.extend_from_slice(&line);
        self.batch.lines.push(b'\n');
        self.batch.places.push(found.place);
        self.batch.input_bytes += found.bytes;
        let full = self.batch.places.len() >= BATCH_MESSAGES || self.batch.lines.len() >= BATCH_BYTES;
        if full { self.flush() } else { Ok(true) }
    }

    fn flush(&mut self) -> anyhow::Result<bool> {
        let batch = std::mem::take(&mut self.batch);
        if batch.places.is_empty() {
            return Ok(true);
        }
        let summary = self.client.publish(self.broker, &batch.lines)?;
        self.counts.published += summary.published;
        self.counts.duplicates += summary.duplicates;
        let told = summary.published + summary.duplicates + summary.failed;
        // A batch that ended early leaves lines of which nothing was said: they were not stored either.
        let untold = (batch.places.len() as u64).saturating_sub(told);
        self.counts.failed += summary.failed + untold;
        let room = TOLD_FAILURES.saturating_sub(self.counts.failures.len());
        for failure in summary.failures.into_iter().take(room) {
            let index = usize::try_from(failure.line.saturating_sub(1)).unwrap_or(usize::MAX);
            let place = batch.places.get(index).cloned().unwrap_or_default();
            self.counts.failures.push(Told { place, message: failure.error.message });
        }
        if let Some(error) = summary.error
            && self.counts.failures.is_empty()
        {
            let place = batch.places.first().cloned().unwrap_or_default();
            self.counts.failures.push(Told { place, message: error.message });
        }
        self.bar.inc(batch.input_bytes);
        self.bar.set_message(format!(
            "{} messages, {}",
            table::number(self.counts.published + self.counts.duplicates),
            rate(&self.counts, self.begun.elapsed())
        ));
        Ok(self.counts.failed == 0)
    }
}
