//! The subjects that a subscription wants.

use crate::broker::subject::matches;

/// A set of filters; a message is wanted when one of them takes in its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filters {
    subjects: Vec<String>,
    everything: bool,
}

impl Filters {
    pub(super) fn new(subjects: Vec<String>) -> Self {
        let everything = subjects.iter().any(|filter| filter == ">");
        Self { subjects, everything }
    }

    /// From the text in the store: a filter a line, for a filter has no control characters.
    pub(super) fn from_text(text: &str) -> Self {
        Self::new(text.lines().map(str::to_owned).collect())
    }

    pub(super) fn to_text(&self) -> String {
        self.subjects.join("\n")
    }

    pub(super) fn subjects(&self) -> &[String] {
        &self.subjects
    }

    pub(super) fn into_subjects(self) -> Vec<String> {
        self.subjects
    }

    pub(super) fn want(&self, subject: &str) -> bool {
        self.everything || self.subjects.iter().any(|filter| matches(filter, subject))
    }
}
