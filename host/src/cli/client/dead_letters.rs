//! Dead letters over the listener.

use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::{Context as _, anyhow};

use super::{Client, LARGEST_ANSWER, encoded, read, refusal, unmet};
use crate::admin::wire::{
    DeadLetterList, DeadLetterStats, DeadLetterView, ExportEnd, ImportSummary, PublishedMessage, TaskList, TaskView,
};
use crate::cli::exit::Failure;

/// Which dead letters, and what is to be done with them: keys of the query with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted(Vec<(&'static str, String)>);

impl Wanted {
    /// The same, and what has this value too, where there is one.
    pub(crate) fn and(mut self, key: &'static str, value: Option<impl Into<String>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
    }

    /// The same, and this value in the place of another one.
    pub(crate) fn but(mut self, key: &'static str, value: &str) -> Self {
        self.0.retain(|(there, _)| *there != key);
        self.and(key, Some(value))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

impl Client {
    /// A page of dead letters.
    pub(crate) fn dead_letters(
        &self,
        wanted: &Wanted,
        after: Option<&str>,
        limit: usize,
    ) -> Result<DeadLetterList, Failure> {
        let request = self.agent.get(format!("{}/v1/dead-letters", self.base)).query("limit", limit.to_string());
        let request = request.query_pairs(wanted.pairs()).query_pairs(after.map(|after| ("after", after)));
        read(request.call())
    }

    /// How many there are of each kind.
    pub(crate) fn dead_letter_stats(&self, wanted: &Wanted) -> Result<DeadLetterStats, Failure> {
        read(self.agent.get(format!("{}/v1/dead-letters/stats", self.base)).query_pairs(wanted.pairs()).call())
    }

    /// One dead letter, whole.
    pub(crate) fn dead_letter(&self, id: &str, broker: Option<&str>) -> Result<DeadLetterView, Failure> {
        read(self.agent.get(self.of_letter(id, "")).query_pairs(broker.map(|broker| ("broker", broker))).call())
    }

    /// Sends one back.
    pub(crate) fn redrive(&self, id: &str, how: &Wanted) -> Result<PublishedMessage, Failure> {
        read(self.agent.post(self.of_letter(id, "/redrive")).query_pairs(how.pairs()).send_empty())
    }

    /// Sends one back with another body.
    pub(crate) fn redrive_with(&self, id: &str, how: &Wanted, body: &[u8]) -> Result<PublishedMessage, Failure> {
        let request = self.agent.post(self.of_letter(id, "/redrive")).query("edited", "true").query_pairs(how.pairs());
        read(request.header("content-type", "application/octet-stream").send(body))
    }

    /// Removes one.
    pub(crate) fn discard(&self, id: &str, broker: Option<&str>) -> Result<(), Failure> {
        let request = self.agent.delete(self.of_letter(id, "")).query_pairs(broker.map(|broker| ("broker", broker)));
        let mut answer = request.call().map_err(unmet)?;
        if answer.status().is_success() { Ok(()) } else { Err(refusal(&mut answer)) }
    }

    /// Passes each line of an export on, as it is; how many dead letters there were.
    pub(crate) fn export_dead_letters(
        &self,
        wanted: &Wanted,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> Result<u64, Failure> {
        let request = self.agent.get(format!("{}/v1/dead-letters/export", self.base)).query_pairs(wanted.pairs());
        // It lasts as long as there is more.
        let mut answer = request.config().timeout_recv_body(None).build().call().map_err(unmet)?;
        if !answer.status().is_success() {
            return Err(refusal(&mut answer));
        }
        let mut lines = BufReader::new(answer.body_mut().as_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let cut_off = "the export was cut off: what was written before is whole";
            let read = lines.by_ref().take(LARGEST_ANSWER).read_until(b'\n', &mut line).context(cut_off)?;
            if read == 0 {
                return Err(Failure::from(anyhow!("{cut_off}")));
            }
            if let Ok(ExportEnd { exported }) = serde_json::from_slice(&line) {
                return Ok(exported);
            }
            each(&line)?;
        }
    }

    /// Brings lines of an export in.
    pub(crate) fn import_dead_letters(&self, broker: &str, lines: &[u8]) -> Result<ImportSummary, Failure> {
        let request = self.agent.post(format!("{}/v1/dead-letters/import", self.base)).query("broker", broker);
        read(request.header("content-type", "application/x-ndjson").send(lines))
    }

    /// Begins a task over many.
    pub(crate) fn begin_task(&self, wanted: &Wanted) -> Result<TaskView, Failure> {
        read(self.agent.post(self.of_task("")).query_pairs(wanted.pairs()).send_empty())
    }

    /// The tasks.
    pub(crate) fn tasks(&self) -> Result<TaskList, Failure> {
        read(self.agent.get(self.of_task("")).call())
    }

    /// One task.
    pub(crate) fn task(&self, id: &str) -> Result<TaskView, Failure> {
        read(self.agent.get(self.of_task(&format!("/{}", encoded(id)))).call())
    }

    /// Holds a task.
    pub(crate) fn pause_task(&self, id: &str) -> Result<TaskView, Failure> {
        read(self.agent.post(self.of_task(&format!("/{}/pause", encoded(id)))).send_empty())
    }

    /// Lets a task go on.
    pub(crate) fn resume_task(&self, id: &str) -> Result<TaskView, Failure> {
        read(self.agent.post(self.of_task(&format!("/{}/resume", encoded(id)))).send_empty())
    }

    /// Ends a task.
    pub(crate) fn cancel_task(&self, id: &str) -> Result<TaskView, Failure> {
        read(self.agent.post(self.of_task(&format!("/{}/cancel", encoded(id)))).send_empty())
    }

    fn of_task(&self, rest: &str) -> String {
        format!("{}/v1/dead-letters/tasks{rest}", self.base)
    }

    fn of_letter(&self, id: &str, rest: &str) -> String {
        format!("{}/v1/dead-letters/{}{rest}", self.base, encoded(id))
    }
}
