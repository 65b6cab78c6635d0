//! `tidegate dev`: a session of work on a handler. Its project is built when a source changes, what was built comes live
//! on a host that runs, and what becomes of messages is seen, all in one place.
//!
//! Invariants:
//! - What does not build, or does not come live, changes nothing: the version of before goes on.
//! - One build at a time; whatever changes during one is in the build after it.
//! - A session of its own host reaches nobody else's messages: its queues are in the project's folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Sender};

use super::build::Project;
use super::client::Client;
use super::exit::{Ended, Exit, Failure};
use super::keys::Keys;
use super::language::Language;
use super::profile::TlsFiles;
use super::{host, run, say};
use crate::config::FILE_NAME;
use crate::telemetry::logs;

mod event;
mod ignored;
mod own;
mod recent;
mod rerun;
mod session;
mod setting;
mod show;
mod sources;
mod watch;
mod work;

use event::{EVENTS, Event, named};
use own::Own;
use session::{End, Plan, Session};
use setting::Setting;
use show::Screen;
use sources::Sources;
use work::Work;

/// How long until a host that does not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Args)]
pub(super) struct Arguments {
    /// The project's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The language, where the folder's files tell of several
    #[arg(long, value_enum)]
    lang: Option<Language>,
    /// The configuration [default: tidegate.toml in the project's folder]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The handler, by its name in the configuration; needed when it could be several
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Deploy to the host that runs there, such as http://127.0.0.1:7171, in place of one of the session's own
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// Begin with empty queues, without what earlier sessions left
    #[arg(long, conflicts_with = "host")]
    fresh: bool,
    /// Watch this folder too, such as that of a library
    #[arg(long, value_name = "FOLDER")]
    watch: Vec<PathBuf>,
    /// The message that the key p publishes [default: the one that `tidegate new` made]
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// The subject to publish it on [default: one that the handler gets]
    #[arg(long, short)]
    subject: Option<String>,
    /// How many of the last messages can be run again; they have at most 8 MiB together
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    last: u16,
    /// Run the last messages again on each new version, without being asked
    #[arg(long)]
    rerun: bool,
}

pub(super) fn dev(arguments: &Arguments) -> Ended {
    let project = Arc::new(Project::find(&arguments.folder, arguments.lang).map_err(Failure::usage)?);
    let reread = rereader(arguments, &project);
    let setting = reread()?;
    logs::set_up_quietly().map_err(anyhow::Error::from)?;
    let runtime = Arc::new(Runtime::new().context("starting the runtime")?);
    let (tell, mut events) = mpsc::channel(EVENTS);
    runtime.block_on(async { stops(tell.clone()) })?;
    let (own, client) = match &arguments.host {
        Some(url) => (None, Client::remote(&host::at(url)?)?),
        None => {
            let own = Own::start(&runtime, &setting, arguments.fresh)?;
            let client = Client::local(own.http(), None, &TlsFiles::default())?;
            (Some(own), client)
        }
    };
    let sources = Sources::new(project.folder(), &arguments.watch);
    let first = sources.scan();
    watch::watch(sources.clone(), first.clone(), tell.clone())?;
    look_on(&client, &setting.handler, tell.clone())?;
    let pressed = tell.clone();
    // A session that is busy and has no room has enough to do.
    let keys = Keys::listen(move |key| {
        let _ = pressed.try_send(Event::Key(key));
    })?;
    let sample = setting.sample(&project, arguments.sample.as_deref(), arguments.subject.as_deref());
    let work = Work { project, handler: setting.handler.clone(), client, events: tell.clone() };
    let screen = Screen::new();
    let plan = Plan {
        runtime: Arc::clone(&runtime),
        setting,
        reread,
        work,
        sources,
        own,
        sample,
        screen,
        last: usize::from(arguments.last),
        rerun: arguments.rerun,
        events: tell,
    };
    screen.say(&greeting(&plan, keys.is_some()))?;
    if let Some(keys) = &keys {
        runtime.spawn(keys.again());
    }
    let ended = Session::new(plan, first).run(&mut events);
    drop(keys);
    match ended? {
        End::Drained(reports) if reports.is_empty() => Ok(Exit::Done),
        End::Drained(reports) => {
            say::talk(&run::drained(&reports));
            Ok(Exit::Done)
        }
        End::Hurried => {
            say::talk("stopped at once; what was not settled stays in the queue");
            Ok(Exit::Partly)
        }
    }
}

/// Reads the configuration, now and whenever it changes.
fn rereader(arguments: &Arguments, project: &Arc<Project>) -> Box<dyn Fn() -> Result<Setting, Failure>> {
    let (arguments, project) = (arguments.clone(), Arc::clone(project));
    Box::new(move || {
        let path = arguments.config.clone().unwrap_or_else(|| project.folder().join(FILE_NAME));
        Setting::read(&path, &project, arguments.handler.as_deref())
    })
}

/// Passes on the signals that end a session. They come as long as the runtime is there.
fn stops(events: Sender<Event>) -> anyhow::Result<()> {
    for (kind, name) in [(SignalKind::interrupt(), "Ctrl-C"), (SignalKind::terminate(), "SIGTERM")] {
        let mut signals = signal(kind).context("listening for signals")?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if events.send(Event::Stop(name)).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Passes on what becomes of the handler's messages, and goes on to when the host comes back.
///
/// The thread waits in a read for as long as nothing happens; it ends with the host, or with the process.
fn look_on(client: &Client, handler: &str, events: Sender<Event>) -> anyhow::Result<()> {
    let (client, handler) = (client.clone(), handler.to_owned());
    let look = move || {
        let query = [("handler", handler.as_str()), ("payloads", "true")];
        while !events.is_closed() {
            let ended = client.live(&query, |line| events.blocking_send(Event::Live(line)).is_ok());
            let why = ended.err().map_or_else(|| "it has ended".to_owned(), |failure| format!("{:#}", failure.error));
            std::thread::sleep(ASK_AGAIN);
            // A host that was started anew in the meantime is no trouble, and is asked right away.
            if !client.is_there() {
                let _ = events.blocking_send(Event::Away(session::plain(&why)));
            }
        }
    };
    std::thread::Builder::new().name("look".to_owned()).spawn(look).context("starting a thread")?;
    Ok(())
}

/// What a session is, for whoever has never seen one.
fn greeting(plan: &Plan, has_keys: bool) -> String {
    let (project, setting) = (&plan.work.project, &plan.setting);
    let folder = std::path::absolute(project.folder()).unwrap_or_default();
    let mut text = format!("{} in {}, from {}\n", setting.handler, project.language().name(), folder.display());
    let base = plan.work.client.base();
    match &plan.own {
        Some(_) => {
            text += &format!(
                "host      {base}, for this handler alone; its queue stays in {}\n",
                named(&setting.data()).display()
            );
        }
        None => text += &format!("host      {base}\n"),
    }
    let subjects: Vec<&str> = setting.subscriptions().flat_map(|(_, subjects)| subjects).map(String::as_str).collect();
    text += &format!("takes     {}", subjects.join(", "));
    if let Some(sample) = &plan.sample {
        text += &format!("; try: tidegate publish --subject {} {}", sample.subject, named(&sample.file).display());
    }
    if has_keys {
        text += &format!("\n{}", session::HELP);
    }
    text + "\n"
}
