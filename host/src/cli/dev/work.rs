//! Builds the project and deploys what came of it, on a thread of its own.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc::Sender;

use super::event::Event;
use crate::cli::build::Project;
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::deploy::report::Line;

/// What a build is made of, and where it goes.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) project: Arc<Project>,
    pub(super) handler: String,
    pub(super) client: Client,
    pub(super) events: Sender<Event>,
}

impl Work {
    /// Begins. The last event is that nothing was built, or what the deploy came to.
    pub(super) fn begin(self) -> anyhow::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("build".to_owned());
        thread.spawn(move || self.run()).context("starting a thread")
    }

    fn run(&self) {
        let begun = Instant::now();
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let module = self.project.build().and_then(|path| read(&path));
        let built_at = Instant::now();
        // The session that has ended does not hear of it, and needs not to.
        match module {
            Err(error) => drop(self.events.blocking_send(Event::NotBuilt { error })),
            Ok(module) => {
                let _ = self.events.blocking_send(Event::Built { took: built_at - begun });
                let end = self.deploy(&module);
                let _ = self.events.blocking_send(Event::Deployed { end, module, built_at });
            }
        }
    }

    fn deploy(&self, module: &[u8]) -> Result<Line, Failure> {
        let mut last = None;
        let source = [("source", "tidegate dev".to_owned())];
        self.client.deploy(&self.handler, module, None, &source, |line| match line {
            Line::Step(_) => {}
            end @ (Line::Done(_) | Line::Failed(_)) => last = Some(end),
        })?;
        last.ok_or_else(|| Failure::from(anyhow!("the host did not say how it ended")))
    }
}
