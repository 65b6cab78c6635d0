//! A version on trial: a candidate beside the version that runs, and what each of the two comes to meanwhile.

use std::sync::Arc;

use crate::dispatch::share::Share;
use crate::dispatch::slot::Deployed;
use crate::outcome::{Outcome, Usage};
use crate::telemetry::{Ending, SideFigures};

/// A trial of a candidate on live messages.
#[derive(Debug)]
pub struct Trial {
    /// The version that is tried.
    pub candidate: Arc<Deployed>,
    /// Which messages run on the candidate; the others run on the version that was there before.
    pub share: Share,
    /// What the version that was there before comes to, from the start of the trial on.
    pub stable: Arc<SideFigures>,
    /// What the candidate comes to.
    pub tried: Arc<SideFigures>,
}

impl Trial {
    /// A trial that begins.
    #[must_use]
    pub fn new(candidate: Arc<Deployed>, share: Share) -> Arc<Self> {
        Arc::new(Self { candidate, share, stable: Arc::default(), tried: Arc::default() })
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Stable,
    Tried,
}

/// What a message runs on, from the start of its run to its end.
#[derive(Debug, Clone)]
pub struct Pick {
    /// The version.
    pub version: Arc<Deployed>,
    /// The trial that was on when it was picked: it is counted there to its end.
    trial: Option<(Arc<Trial>, Side)>,
}

impl Pick {
    /// Chooses for a message, by its id.
    pub(super) fn choose(active: &Arc<Deployed>, trial: Option<&Arc<Trial>>, message_id: &str) -> Self {
        let Some(trial) = trial else { return Self { version: Arc::clone(active), trial: None } };
        let (version, side) =
            if trial.share.has(message_id) { (&trial.candidate, Side::Tried) } else { (active, Side::Stable) };
        Self { version: Arc::clone(version), trial: Some((Arc::clone(trial), side)) }
    }

    fn figures(&self) -> Option<&SideFigures> {
        self.trial.as_ref().map(|(trial, side)| match side {
            Side::Stable => trial.stable.as_ref(),
            Side::Tried => trial.tried.as_ref(),
        })
    }

    /// The run ended. `first`: it was on the first delivery of its message.
    pub(crate) fn ran(&self, first: bool, outcome: &Outcome, usage: &Usage) {
        self.version.figures.ran(outcome.code(), usage);
        if let Some(figures) = self.figures() {
            figures.ran(first, outcome, usage);
        }
    }

    /// The message was settled.
    pub(crate) fn settled(&self, ending: Ending) {
        if let Some(figures) = self.figures() {
            figures.settled(ending);
        }
    }
}
