//! `tidegate replay`: messages that went by, run on the active version and on a candidate, and what the candidate would do
//! otherwise. In a sandbox of this command: nothing is sent, settled or changed.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::{self, Client};
use super::dlq::{When, parse_when};
use super::exit::{Ended, Exit, Failure};
use super::host::Place;
use super::say;
use super::table::number;
use crate::deploy::lacking;

mod bench;
mod past;
mod sums;

use bench::Bench;
use past::{Question, Sources, Told};
use sums::Sums;

const HELP: &str = "\
Both run now, in a sandbox of this command, on the same bytes and by the limits of the active version: nothing is sent,
settled or changed. What became of a message when it went by is not looked at.

A stream of JetStream with `retention: limits` has what was settled too, as far back as it keeps it. The embedded queue,
and a stream that is a work queue, has a message until every subscription has settled it: there it is those that wait,
are to be retried or are held by a pause. What was given up on is found with --dead-letters; what was completed is gone.

Ends with 0 when the candidate does the same with all of them, with 5 when it does something else with some, with 3 when
there is none. Ctrl-C ends it with what is known by then: with 5, or with 4 when nothing differed so far.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Arguments {
    /// The handler whose messages are run
    #[arg(long, value_name = "NAME")]
    handler: String,
    /// The module to compare with the version that is active
    #[arg(long, value_name = "MODULE")]
    with: PathBuf,
    /// Messages that were published since then: for so long, such as 2h, or a day or time in UTC
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    from: When,
    /// And until then [default: now]
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    to: Option<When>,
    /// Only those of this subscription of the handler
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
    /// The messages of the handler's dead letters that died since then, in the place of its streams
    #[arg(long, conflicts_with = "subscription")]
    dead_letters: bool,
    /// At most so many of each subscription, the oldest first
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    limit: u64,
    /// So many examples are shown of each kind of difference
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    examples: usize,
    #[command(flatten)]
    place: Place,
}

/// Why no more messages were run.
enum End {
    All,
    /// Somebody pressed Ctrl-C.
    Stopped,
    /// No more could be read.
    Failed(Failure),
}

/// How far it is, for people: a line that changes on a terminal; elsewhere one at the first message, the tenth, the hundredth.
struct Progress {
    bar: Option<ProgressBar>,
}

pub(super) fn replay(arguments: &Arguments) -> Ended {
    let with = std::fs::read(&arguments.with);
    let with = with.with_context(|| format!("reading the module {}", arguments.with.display()))?;
    let now = SystemTime::now();
    let (since, until) = (arguments.from.at(now), arguments.to.map_or(now, |to| to.at(now)));
    if since > until {
        return Err(Failure::usage(anyhow!("--to lies before --from")));
    }
    let client = client::of(&arguments.place.host)?;
    let handler = client.handler(&arguments.handler)?;
    let active = handler.versions.iter().find(|version| Some(version.number) == handler.active);
    let active = active.ok_or_else(|| {
        Failure::not_found(anyhow!("handler `{}` has no active version to compare with", arguments.handler))
    })?;
    let module = client.module(&arguments.handler, active.digest.as_str())?;
    let sources = match arguments.dead_letters {
        true => Sources::DeadLetters,
        false => Sources::Streams(subscriptions(&client, arguments)?),
    };
    let question = Question { handler: arguments.handler.clone(), sources, since, until, limit: arguments.limit };
    let name = format!("{}@{}", arguments.handler, active.number);
    let fuel_limit = active.settings.limits.fuel.map(std::num::NonZeroU64::get);
    let mut sums = Sums::new(name, arguments.with.display().to_string(), fuel_limit, arguments.examples);
    if let Some(lacking) = lacking(&active.settings) {
        say::talk(&lacking);
    }
    let runtime = Runtime::new().context("starting the runtime")?;
    let end = runtime.block_on(async {
        let bench = Bench::new(&arguments.handler, &active.settings, [module, with], sums.names()).await?;
        Ok::<_, Failure>(compare(&bench, client, question, &mut sums, Progress::new(arguments.place.json)).await)
    });
    // A host that does not answer is not waited for.
    runtime.shutdown_background();
    tell(arguments, &sums, since, end?)
}

/// Shows what came of it, and how that ends.
fn tell(arguments: &Arguments, sums: &Sums, since: SystemTime, end: End) -> Ended {
    let was_stopped = match end {
        End::All => false,
        End::Stopped => true,
        End::Failed(failure) if sums.messages() == 0 => return Err(failure),
        End::Failed(_) => false,
    };
    if arguments.place.json {
        say::json(sums)?;
    } else {
        say::data(&sums.for_people(since))?;
    }
    if let End::Failed(Failure { exit, error }) = end {
        return Err(Failure { exit, error: error.context("no more messages could be read") });
    }
    Ok(match (sums.messages(), sums.differ()) {
        (_, 1..) => Exit::NotCompleted,
        _ if was_stopped => Exit::Partly,
        (0, 0) => Exit::NotFound,
        (1.., 0) => Exit::Done,
    })
}

/// The subscriptions of the handler whose streams are read.
fn subscriptions(client: &Client, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let all = client.status()?.subscriptions;
    let ours: Vec<String> =
        all.into_iter().filter(|one| one.handler == arguments.handler).map(|one| one.name).collect();
    let listed = ours.join(", ");
    match &arguments.subscription {
        Some(name) if ours.contains(name) => Ok(vec![name.clone()]),
        Some(name) => Err(Failure::not_found(anyhow!(
            "handler `{}` has no subscription `{name}`; there is: {listed}",
            arguments.handler
        ))),
        None if ours.is_empty() => {
            Err(Failure::not_found(anyhow!("no subscription of the host has the handler `{}`", arguments.handler)))
        }
        None => Ok(ours),
    }
}

/// Runs what is read on both, as it is read, until there is no more of it or somebody ends it.
async fn compare(bench: &Bench, client: Client, question: Question, sums: &mut Sums, progress: Progress) -> End {
    let mut interrupt = match signal(SignalKind::interrupt()) {
        Ok(interrupt) => interrupt,
        Err(error) => return End::Failed(anyhow::Error::from(error).context("listening for Ctrl-C").into()),
    };
    // A page is read while the one before runs, and no more: they are held in memory.
    let (tell, mut told) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || question.read(&client, &tell));
    let [active, candidate] = sums.names();
    say::talk(&format!("running on {active} and on {candidate}; Ctrl-C ends it with what is known by then"));
    loop {
        let next = tokio::select! {
            biased;
            _ = interrupt.recv() => return sums.stop(),
            next = told.recv() => next,
        };
        let messages = match next {
            Some(Told::Messages(messages)) => messages,
            Some(Told::Source { name, oldest, keeps_settled }) => {
                sums.begin(name, oldest, keeps_settled);
                continue;
            }
            Some(Told::More) => {
                sums.more();
                continue;
            }
            None => break,
        };
        for past in messages {
            let compared = tokio::select! {
                biased;
                _ = interrupt.recv() => return sums.stop(),
                compared = Box::pin(bench.compare(&past)) => compared,
            };
            sums.add(&past, &compared);
            progress.tell(sums);
        }
    }
    match reading.await {
        Ok(Ok(())) => End::All,
        Ok(Err(failure)) => End::Failed(failure),
        Err(error) => End::Failed(anyhow::Error::from(error).context("reading messages").into()),
    }
}

impl Progress {
    fn new(is_json: bool) -> Self {
        let on_terminal = !is_json && std::io::stderr().is_terminal();
        Self { bar: on_terminal.then(ProgressBar::new_spinner) }
    }

    fn tell(&self, sums: &Sums) {
        let messages = sums.messages();
        let plural = if messages == 1 { "" } else { "s" };
        let (shown, differ) = (number(messages), number(sums.differ()));
        let text = format!("{shown} message{plural}, {differ} would be handled otherwise");
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None if is_milestone(messages) => say::talk(&text),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// 1, 10, 100, ...
fn is_milestone(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) == count)
}

#[cfg(test)]
mod tests {
    use super::is_milestone;

    #[test]
    fn few_lines_say_how_far_it_is() {
        let told: Vec<u64> = (0..=1000).filter(|count| is_milestone(*count)).collect();
        assert_eq!(told, [1, 10, 100, 1000]);
    }
}
