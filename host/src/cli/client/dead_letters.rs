//! Dead letters over the listener.

use super::{Client, encoded, read, refusal, unmet};
use crate::admin::wire::{DeadLetterList, DeadLetterStats, DeadLetterView, PublishedMessage};
use crate::cli::exit::Failure;

/// Which dead letters: keys of the query with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted(Vec<(&'static str, String)>);

impl Wanted {
    /// The same, and what has this value too, where there is one.
    pub(crate) fn and(mut self, key: &'static str, value: Option<impl Into<String>>) -> Self {
        self.0.extend(value.map(|value| (key, value.into())));
        self
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
    pub(crate) fn redrive(&self, id: &str, broker: Option<&str>, force: bool) -> Result<PublishedMessage, Failure> {
        let request = self.agent.post(self.of_letter(id, "/redrive")).query("force", force.to_string());
        read(request.query_pairs(broker.map(|broker| ("broker", broker))).send_empty())
    }

    /// Removes one.
    pub(crate) fn discard(&self, id: &str, broker: Option<&str>) -> Result<(), Failure> {
        let request = self.agent.delete(self.of_letter(id, "")).query_pairs(broker.map(|broker| ("broker", broker)));
        let mut answer = request.call().map_err(unmet)?;
        if answer.status().is_success() { Ok(()) } else { Err(refusal(&mut answer)) }
    }

    fn of_letter(&self, id: &str, rest: &str) -> String {
        format!("{}/v1/dead-letters/{}{rest}", self.base, encoded(id))
    }
}
