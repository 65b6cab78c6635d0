//! `tidegate publish`: messages from files, JSON lines or standard input, each confirmed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::client::Client;
use super::direct::Reached;
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::messages::{Found, MessageArguments, inputs, is_whole_message};
use super::{direct, say, table};
use crate::admin::wire::PublishLine;

mod unheard;

use unheard::Subjects;

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
        subjects: Subjects::default(),
        warned: false,
    };
    let sent = sender.send_all(&files, &arguments.messages);
    bar.finish_and_clear();
    let (mut counts, subjects) = (sender.counts, sender.subjects);
    counts.seconds = begun.elapsed().as_secs_f64();
    report(&counts, arguments.json)?;
    let stored = counts.published + counts.duplicates;
    if stored > 0 {
        tell_of_receivers(&reached, arguments.broker.as_deref(), &subjects);
    }
    match sent {
        Ok(()) if counts.failed == 0 => Ok(Exit::Done),
        Ok(()) => Ok(if stored > 0 { Exit::Partly } else { Exit::Failed }),
        Err(error) => Err(Failure { exit: if stored > 0 { Exit::Partly } else { Exit::Failed }, error }),
    }
}

/// Tells where no host runs, and of what no subscription receives: neither is an error, as others may.
fn tell_of_receivers(reached: &Reached, broker: Option<&str>, subjects: &Subjects) {
    if let Some(nobody) = reached.nobody_runs() {
        say::talk(&format!("{nobody}: what is published waits in its broker until one runs"));
    }
    let Some(broker) = reached.publishes_to(broker) else { return };
    let mut receives = reached.receives();
    let are_known = !receives.is_empty();
    receives.retain(|one| one.broker == broker);
    if are_known && let Some(warning) = subjects.unheard(&receives) {
        say::talk(&warning);
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

/// A message as the host reads it.
fn line_of(found: &Found) -> anyhow::Result<Vec<u8>> {
    let line = PublishLine::from_publish(&found.publish).map_err(|error| anyhow::anyhow!(error));
    line.and_then(|line| Ok(serde_json::to_vec(&line)?)).with_context(|| found.place.clone())
}

struct Sender<'a> {
    client: &'a Client,
    broker: Option<&'a str>,
    bar: &'a ProgressBar,
    begun: Instant,
    batch: Batch,
    counts: Counts,
    subjects: Subjects,
    /// Of bodies that are messages themselves it is told once.
    warned: bool,
}

impl Sender<'_> {
    /// Ends at the first input that is no message, and behind the first batch of which something was not stored.
    fn send_all(&mut self, files: &[PathBuf], messages: &MessageArguments) -> anyhow::Result<()> {
        for file in files {
            for found in messages.read(file)? {
                // What was read before a line that is wrong is sent all the same.
                let (found, line) = match found.and_then(|found| Ok((line_of(&found)?, found))) {
                    Ok((line, found)) => (found, line),
                    Err(error) => {
                        self.flush()?;
                        return Err(error.context(self.before_it()));
                    }
                };
                self.look_at(&found, messages);
                if !self.add(found, &line)? {
                    return Ok(());
                }
            }
        }
        self.flush().map(drop)
    }

    /// How far it went before an input that is no message.
    fn before_it(&self) -> String {
        let stored = self.counts.published + self.counts.duplicates;
        match stored {
            0 => "nothing was published".to_owned(),
            1 => "the 1 message before it was published, and nothing from it on".to_owned(),
            more => format!("the {} messages before it were published, and nothing from it on", table::number(more)),
        }
    }

    /// Keeps the subject, and warns of a body that was meant as the whole message.
    fn look_at(&mut self, found: &Found, messages: &MessageArguments) {
        self.subjects.add(&found.publish.subject);
        if !self.warned && messages.takes_bodies() && is_whole_message(&found.publish.body) {
            self.warned = true;
            say::talk(&format!(
                "warning: {} has a subject and a body of its own, and goes whole as a body to `{}`; without --subject its own are taken",
                found.place, found.publish.subject
            ));
        }
    }

    /// False when something was not stored and nothing more is to be sent.
    fn add(&mut self, found: Found, line: &[u8]) -> anyhow::Result<bool> {
        self.batch.lines.extend_from_slice(line);
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
