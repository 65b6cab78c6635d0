//! What a person asks of a session by a key.

use super::Session;
use crate::admin::wire::PublishLine;
use crate::cli::dev::event::{Event, named};
use crate::cli::dev::rerun::{Bench, Reran};
use crate::cli::dev::setting::Sample;
use crate::cli::messages::MessageArguments;

/// What the keys do.
pub(in crate::cli::dev) const HELP: &str = "\
keys      r  run the last messages again, on the version that runs; with no effect on anything
          p  publish the sample message
          b  build and deploy, whether or not something changed
          q  end, as Ctrl-C does; ?  show this";

impl Session {
    pub(super) fn key(&mut self, key: char) -> anyhow::Result<()> {
        match key.to_ascii_lowercase() {
            'r' => self.rerun(),
            'p' => self.publish(),
            'b' if self.building.is_some() => {
                self.again.asked = true;
                self.say("a build is under way; another one follows it")
            }
            'b' => self.build(),
            '?' | 'h' => self.say(HELP),
            // An empty line, to set apart what comes from what was.
            '\n' | '\r' => self.say("\n"),
            _ => Ok(()),
        }
    }

    pub(super) fn rerun(&mut self) -> anyhow::Result<()> {
        if self.building.is_some() {
            self.rerun_wanted = true;
            return self.say("the last messages are run again when the build has ended");
        }
        let messages = self.recent.all();
        let Some(current) = &self.current else { return self.say("nothing was deployed yet") };
        if messages.is_empty() {
            return self.say("there were no messages yet to run again; p publishes one");
        }
        if std::mem::replace(&mut self.rerunning, true) {
            return self.say("the last messages are being run again already");
        }
        let bench = match self.bench.take() {
            Some(bench) => bench,
            None => Bench::new(&self.plan.setting)?,
        };
        self.bench = Some(bench.clone());
        let (version, module, events) = (current.version, current.module.clone(), self.plan.events.clone());
        // It ends with the runtime, which the session's end waits for.
        self.plan.runtime.spawn(async move {
            let runs = bench.run(module, messages).await;
            let _ = events.send(Event::Reran { version, runs }).await;
        });
        Ok(())
    }

    pub(super) fn reran(&mut self, version: u64, runs: anyhow::Result<Vec<Reran>>) -> anyhow::Result<()> {
        self.rerunning = false;
        let runs = match runs {
            Ok(runs) => runs,
            Err(error) => return self.say(&format!("error: {error:#}")),
        };
        let same = runs.iter().filter(|reran| reran.run.outcome.code().0 == reran.before.came_to).count();
        let count = runs.len();
        let mut text = format!("\nthe last {count} on {}@{version}, with no effect:\n", self.plan.setting.handler);
        text.extend(runs.iter().map(|reran| self.plan.screen.reran(reran)));
        text += &format!("{same} of {count} ended as before\n");
        self.say(&text)
    }

    fn publish(&self) -> anyhow::Result<()> {
        let Some(sample) = &self.plan.sample else {
            return self.say("there is no sample message: name one with --sample FILE");
        };
        let (file, subject) = (named(&sample.file), &sample.subject);
        match self.send(sample) {
            Ok(()) => self.say(&format!("published {} on {subject}", file.display())),
            Err(error) => self.say(&format!("error: {error:#}")),
        }
    }

    fn send(&self, sample: &Sample) -> anyhow::Result<()> {
        let arguments = MessageArguments { subject: Some(sample.subject.clone()), ..MessageArguments::default() };
        for found in arguments.read(&sample.file)? {
            let line = PublishLine::from_publish(&found?.publish).map_err(|error| anyhow::anyhow!(error))?;
            let broker = self.plan.own.is_some().then_some(sample.broker.as_str());
            let summary = self.plan.work.client.publish(broker, &serde_json::to_vec(&line)?)?;
            if let Some(error) = summary.error {
                anyhow::bail!("{}", error.message);
            }
        }
        Ok(())
    }
}
