//! `tidegate top`: what a host does, live on the terminal; or once, as a table, where the output is none.

mod draw;
mod figures;
mod screen;

use std::io::{IsTerminal as _, stdout};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::client::{self, Client};
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::keys::Keys;
use super::say;
use crate::config::parse_duration;
use draw::Seen;
use figures::{By, Look};
use screen::Screen;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between the two looks of a single table.
const ONCE: Duration = Duration::from_secs(1);
/// A host is not asked more often than it changes for a person.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// Keys that were pressed while a frame was drawn.
const KEYS: usize = 16;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    host: HostArguments,
    /// Between two looks [default: 2s]
    #[arg(long, short, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,
    /// What has a line of its own
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Print one table, and end
    #[arg(long)]
    once: bool,
    /// Print the figures of one table as JSON, and end
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < LEAST_INTERVAL {
        return Err("a host is looked at every 100ms at the most".to_owned());
    }
    Ok(interval)
}

pub(super) fn top(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    if arguments.once || arguments.json || !stdout().is_terminal() {
        return once(&client, arguments);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let watched = runtime.block_on(watch(client, arguments.interval.unwrap_or(INTERVAL), arguments.by));
    // A look at a host that does not answer is not waited for.
    runtime.shutdown_background();
    watched?;
    Ok(Exit::Done)
}

fn look(client: &Client) -> Result<Look, Failure> {
    Ok(Look { at: Instant::now(), ready: client.readiness()?, status: client.status()? })
}

fn once(client: &Client, arguments: &Arguments) -> Ended {
    let before = look(client)?;
    std::thread::sleep(arguments.interval.unwrap_or(ONCE));
    let now = look(client)?;
    if arguments.json {
        say::json(&figures::Figures::between(Some(&before), &now, arguments.by))?;
    } else {
        let seen = Seen { before: Some(&before), now: Some(&now), trouble: None, by: arguments.by };
        let lines = draw::frame(&seen, None);
        say::data(&lines.into_iter().map(|line| line.text + "\n").collect::<String>())?;
    }
    Ok(Exit::Done)
}

/// What happened to a session.
enum Event {
    Looked(Box<Look>),
    Failed(Failure),
    Key(char),
    Resized,
    Stopped,
    Ends,
}

async fn watch(client: Client, interval: Duration, mut by: By) -> anyhow::Result<()> {
    let (pressed, mut keys) = mpsc::channel(KEYS);
    let listener = Keys::listen(move |key| {
        // A key that is pressed on a session that is busy with many others is one too many.
        let _ = pressed.try_send(key);
    })?;
    let again = listener.as_ref().map(|keys| tokio::spawn(keys.again()));
    let mut screen = Screen::enter()?;
    let heard = |kind| signal(kind).context("listening for signals");
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut terminate = heard(SignalKind::terminate())?;
    let mut hang_up = heard(SignalKind::hangup())?;
    let mut resized = heard(SignalKind::window_change())?;
    let mut stopped = heard(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut now, mut trouble) = (None, None, None);
    let mut looking: Option<JoinHandle<Result<Look, Failure>>> = None;
    loop {
        let event = tokio::select! {
            _ = ticks.tick(), if looking.is_none() => {
                let client = client.clone();
                looking = Some(tokio::task::spawn_blocking(move || look(&client)));
                continue;
            }
            Some(looked) = ended(&mut looking) => match looked {
                Ok(look) => Event::Looked(Box::new(look)),
                Err(failure) => Event::Failed(failure),
            },
            Some(key) = keys.recv() => Event::Key(key),
            _ = resized.recv() => Event::Resized,
            _ = stopped.recv() => Event::Stopped,
            _ = interrupt.recv() => Event::Ends,
            _ = terminate.recv() => Event::Ends,
            _ = hang_up.recv() => Event::Ends,
        };
        match event {
            Event::Looked(look) => {
                // A host that was started anew counts from nothing: there is no rate between two hosts.
                before = now.take().filter(|last: &Look| last.status.uptime_seconds <= look.status.uptime_seconds);
                (now, trouble) = (Some(*look), None);
            }
            Event::Failed(failure) => trouble = Some(format!("{:#}", failure.error)),
            Event::Key('q' | 'Q') | Event::Ends => break,
            Event::Key('h' | 'H') => by = by.other(),
            Event::Key(_) | Event::Resized => {}
            Event::Stopped => {
                screen.leave()?;
                // The shell has the terminal until somebody lets this go on.
                kill_process(getpid(), Signal::STOP).context("stopping")?;
                screen = Screen::enter()?;
            }
        }
        let seen = Seen { before: before.as_ref(), now: now.as_ref(), trouble: trouble.as_deref(), by };
        screen.draw(&draw::frame(&seen, Some(Screen::size())))?;
    }
    if let Some(again) = again {
        again.abort();
    }
    screen.leave()
}

/// What came of a look that has ended; never, where none is under way.
async fn ended(looking: &mut Option<JoinHandle<Result<Look, Failure>>>) -> Option<Result<Look, Failure>> {
    let Some(under_way) = looking else { return std::future::pending().await };
    let looked = under_way.await;
    *looking = None;
    // It is not aborted, and a panic is told by itself.
    looked.ok()
}
