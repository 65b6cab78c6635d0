//! A session: sources change, builds end, versions come, messages are handled, keys are pressed; one event after the
//! other, and what is done about each.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender};

use super::event::{Event, named};
use super::own::{Own, RestartError};
use super::recent::Recent;
use super::rerun::Bench;
use super::setting::{Sample, Setting};
use super::show::{Screen, Tone};
use super::sources::{Scan, Sources};
use super::work::Work;
use crate::admin::wire::LiveLine;
use crate::app::Report;
use crate::cli::deploy;
use crate::cli::exit::Failure;
use crate::cli::table::{duration, harmless, size};
use crate::deploy::report::Line;

mod asked;

pub(super) use asked::HELP;

/// A build that changes what it is built from would be made again without end: after so many in a row it is not.
const AGAIN_IN_A_ROW: u32 = 3;
/// So many changed files are named.
const NAMED: usize = 3;

/// What a session is begun with.
pub(super) struct Plan {
    pub(super) runtime: Arc<Runtime>,
    pub(super) setting: Setting,
    /// Reads the setting anew.
    pub(super) reread: Box<dyn Fn() -> Result<Setting, Failure>>,
    pub(super) work: Work,
    pub(super) sources: Sources,
    /// The host, when it is the session's own.
    pub(super) own: Option<Own>,
    pub(super) sample: Option<Sample>,
    pub(super) screen: Screen,
    /// How many messages can be run again.
    pub(super) last: usize,
    /// Run them on each new version without being asked.
    pub(super) rerun: bool,
    pub(super) events: Sender<Event>,
}

pub(super) struct Session {
    plan: Plan,
    /// What the last build began with.
    base: Scan,
    /// What is there now.
    latest: Scan,
    building: Option<JoinHandle<()>>,
    again: Again,
    /// Builds in a row that something changed under.
    in_a_row: u32,
    recent: Recent,
    current: Option<Current>,
    /// Made when it is first needed, by the settings of then.
    bench: Option<Bench>,
    rerunning: bool,
    /// Asked for while a build was made.
    rerun_wanted: bool,
    is_away: bool,
    /// The host was started anew, and its messages are not seen yet.
    restarted: bool,
}

/// What is to be done when the build that runs has ended.
#[derive(Debug, Default, Clone, Copy)]
struct Again {
    /// Somebody asked for another one.
    asked: bool,
    /// Something changed.
    changed: bool,
}

/// The version that this session deployed last.
struct Current {
    version: u64,
    module: Vec<u8>,
}

/// How a session ended.
pub(super) enum End {
    Drained(Vec<Report>),
    /// A second signal came before that.
    Hurried,
}

impl Session {
    pub(super) fn new(plan: Plan, first: Scan) -> Self {
        Self {
            recent: Recent::new(plan.last),
            plan,
            base: Scan::default(),
            latest: first,
            building: None,
            again: Again::default(),
            in_a_row: 0,
            current: None,
            bench: None,
            rerunning: false,
            rerun_wanted: false,
            is_away: false,
            restarted: false,
        }
    }

    /// Builds, and goes on until it is told to end; then drains.
    pub(super) fn run(mut self, events: &mut Receiver<Event>) -> anyhow::Result<End> {
        self.build()?;
        while let Some(event) = events.blocking_recv() {
            match event {
                Event::Stop(why) => {
                    self.say(&format!("{why}: draining"))?;
                    break;
                }
                Event::Key('q') => {
                    self.say("draining")?;
                    break;
                }
                event => self.apply(event)?,
            }
        }
        self.end(events)
    }

    fn apply(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Changed(scan) => self.changed(*scan),
            Event::NotBuilt { error } => {
                let error = self.plan.screen.toned(Tone::Badly, &format!("error: {error:#}"));
                self.say(&format!("{error}\n{}", self.goes_on()))?;
                self.built()
            }
            Event::Built { took } => self.say(&format!("built in {}", duration(took))),
            Event::Deployed { end, module, built_at } => {
                self.deployed(end, module, built_at)?;
                self.built()
            }
            Event::Live(line) => self.live(line),
            Event::Away(why) => {
                let first = !std::mem::replace(&mut self.is_away, true);
                if first { self.say(&format!("the host does not answer ({why}); it is asked again")) } else { Ok(()) }
            }
            Event::Reran { version, runs } => self.reran(version, runs),
            Event::Key(key) => self.key(key),
            Event::Stop(_) => Ok(()),
        }
    }

    fn changed(&mut self, scan: Scan) -> anyhow::Result<()> {
        if scan.cut_off && !self.latest.cut_off {
            self.say("there are too many files here to watch all of them: name what is no source in .gitignore")?;
        }
        let changed = scan.changed_since(&self.latest);
        self.latest = scan;
        if self.building.is_some() {
            self.again.changed = !self.latest.changed_since(&self.base).is_empty();
            return Ok(());
        }
        if self.latest.changed_since(&self.base).is_empty() {
            return Ok(());
        }
        self.say(&format!("\nchanged: {}", several(&changed)))?;
        self.build()
    }

    /// Begins a build of what is there now.
    fn build(&mut self) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut self.base, self.plan.sources.scan());
        self.latest = self.base.clone();
        let configuration = self.plan.setting.config.path().to_owned();
        let is_it = |path: &PathBuf| named(path) == named(&configuration);
        if !before.folders.is_empty() && self.base.changed_since(&before).iter().any(is_it) {
            self.reconfigure()?;
        }
        self.building = Some(self.plan.work.clone().begin()?);
        Ok(())
    }

    /// Takes the configuration up that was changed.
    fn reconfigure(&mut self) -> anyhow::Result<()> {
        let setting = match (self.plan.reread)() {
            Ok(setting) => setting,
            Err(failure) => return self.say(&format!("{:#}\nthe configuration of before goes on", failure.error)),
        };
        let Some(own) = &mut self.plan.own else {
            let file = named(self.plan.setting.config.path());
            (self.plan.setting, self.bench) = (setting, None);
            return self
                .say(&format!("{} is not the host's own: it applies its file by `tidegate apply`", file.display()));
        };
        if setting.handler != self.plan.setting.handler {
            return self.say("the handler has another name now: end the session and begin a new one");
        }
        match own.restart(&setting) {
            Ok(()) => {}
            Err(error @ RestartError::Refused(_)) => {
                let error = self.plan.screen.toned(Tone::Badly, &format!("error: {error}"));
                return self.say(&format!("{error}\nthe configuration of before goes on"));
            }
            Err(RestartError::Gone(error)) => return Err(error),
        }
        (self.plan.setting, self.bench) = (setting, None);
        // Said when its messages are seen again: whoever publishes then sees what becomes of it.
        self.restarted = true;
        Ok(())
    }

    /// A build has come to its end, and another one may have to follow.
    fn built(&mut self) -> anyhow::Result<()> {
        if let Some(thread) = self.building.take() {
            let _panicked = thread.join();
        }
        let again = std::mem::take(&mut self.again);
        self.in_a_row = if again.changed { self.in_a_row + 1 } else { 0 };
        if again.changed && !again.asked && self.in_a_row >= AGAIN_IN_A_ROW {
            let changed = self.latest.changed_since(&self.base);
            let name = changed.first().map(|path| named(path).display().to_string()).unwrap_or_default();
            (self.in_a_row, self.base) = (0, self.latest.clone());
            self.say(&format!(
                "{name} changed during {AGAIN_IN_A_ROW} builds in a row, so it is not built again by itself: name what a \
                 build writes in .gitignore, and press b or save"
            ))?;
        } else if again.changed || again.asked {
            if again.changed {
                let changed = self.latest.changed_since(&self.base);
                self.say(&format!("\nchanged during the build: {}", several(&changed)))?;
            }
            return self.build();
        }
        if std::mem::take(&mut self.rerun_wanted) { self.rerun() } else { Ok(()) }
    }

    fn deployed(&mut self, end: Result<Line, Failure>, module: Vec<u8>, built_at: Instant) -> anyhow::Result<()> {
        let live_after = duration(built_at.elapsed());
        match end {
            Ok(Line::Done(done)) => {
                let version = format!("{}@{}", done.handler, done.version);
                let bytes = size(module.len() as u64);
                self.current = Some(Current { version: done.version, module });
                if done.unchanged {
                    return self.say(&format!("{version} goes on: the module is the same"));
                }
                let digest = done.digest.to_string();
                let digest = digest.get(..12).unwrap_or(&digest);
                let mut text =
                    self.plan.screen.toned(Tone::Well, &format!("{version} is live, {live_after} after the build"));
                text += &format!(" ({digest}, {bytes})\n");
                for change in done.changes.iter().filter(|change| change.what != "size") {
                    text += &format!("  {}\n", deploy::changed(change));
                }
                text += &deploy::golden(&done.golden);
                self.rerun_wanted |= self.plan.rerun;
                self.say(&text)
            }
            Ok(Line::Failed(failed)) => {
                let refused = self.plan.screen.toned(Tone::Badly, &deploy::refused(&failed));
                self.say(&format!("{refused}\n{}", self.goes_on()))
            }
            Ok(Line::Step(_)) => Ok(()),
            Err(failure) => {
                let error = self.plan.screen.toned(Tone::Badly, &format!("error: {:#}", failure.error));
                self.say(&format!("{error}\n{}", self.goes_on()))
            }
        }
    }

    /// What runs after something that did not go well.
    fn goes_on(&self) -> String {
        match &self.current {
            Some(current) => format!("{}@{} goes on", self.plan.setting.handler, current.version),
            None => "nothing was changed; messages wait until there is a version".to_owned(),
        }
    }

    fn live(&mut self, line: LiveLine) -> anyhow::Result<()> {
        match line {
            LiveLine::Watching => {
                let was_away = std::mem::replace(&mut self.is_away, false);
                if std::mem::replace(&mut self.restarted, false) {
                    return self.say("the host runs by the changed configuration");
                }
                if was_away { self.say("the host answers again") } else { Ok(()) }
            }
            LiveLine::Ended(ended) => {
                self.recent.add(&ended);
                self.say(&self.plan.screen.ended(&ended))
            }
            LiveLine::Missed { count } => {
                self.say(&format!("{count} messages were handled faster than they could be shown here"))
            }
            LiveLine::Quiet => Ok(()),
        }
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        self.plan.screen.say(text)
    }

    /// Ends a build that runs, and lets the host finish what it has; shows what it does meanwhile.
    fn end(mut self, events: &mut Receiver<Event>) -> anyhow::Result<End> {
        self.plan.work.project.running().end();
        let Some(own) = self.plan.own.take() else { return Ok(End::Drained(Vec::new())) };
        let runtime = Arc::clone(&self.plan.runtime);
        let mut draining = std::pin::pin!(own.drain());
        loop {
            let event = runtime.block_on(async {
                tokio::select! {
                    biased;
                    reports = draining.as_mut() => Err(End::Drained(reports)),
                    Some(event) = events.recv() => Ok(event),
                }
            });
            match event {
                Err(end) => return self.last_words(events, end),
                Ok(Event::Stop(_)) => return Ok(End::Hurried),
                Ok(Event::Live(line)) => self.live(line)?,
                Ok(_) => {}
            }
        }
    }

    /// What the host said of its last messages.
    fn last_words(&mut self, events: &mut Receiver<Event>, end: End) -> anyhow::Result<End> {
        while let Ok(event) = events.try_recv() {
            if let Event::Live(line) = event {
                self.live(line)?;
            }
        }
        Ok(end)
    }
}

/// The first of some files by name, and how many more there are.
fn several(paths: &[PathBuf]) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| named(path).display().to_string()).collect();
    if paths.len() > NAMED {
        names.push(format!("{} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// A text of somebody else's on one line.
pub(super) fn plain(text: &str) -> String {
    harmless(text).replace('\n', " ")
}
