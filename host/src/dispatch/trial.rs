//! A version on trial: a candidate beside the version that runs, and what each of the two comes to meanwhile.

use std::sync::Arc;

use crate::dispatch::shadow::{Shadow, Work};
use crate::dispatch::share::Share;
use crate::dispatch::slot::Deployed;
use crate::outcome::{Outcome, Usage};
use crate::telemetry::{Ending, SideFigures};

/// A trial of a candidate on live messages.
#[derive(Debug)]
pub struct Trial {
    /// The version that is tried.
    pub candidate: Arc<Deployed>,
    /// Which messages the candidate gets.
    pub share: Share,
    /// What the version that was there before comes to, from the start of the trial on. Beside a shadow: on the messages on
    /// which both were compared.
    pub stable: Arc<SideFigures>,
    /// What the candidate comes to.
    pub tried: Arc<SideFigures>,
    /// How it gets them.
    pub way: Way,
}

/// How a candidate gets its messages.
#[derive(Debug)]
pub enum Way {
    /// They run on it, and not on the version that was there before.
    Canary,
    /// They run on the version that was there before, and their copies on the candidate, with no effect.
    Shadow(Shadow),
}

impl Trial {
    /// A canary that begins.
    #[must_use]
    pub fn canary(candidate: Arc<Deployed>, share: Share) -> Arc<Self> {
        Arc::new(Self { candidate, share, stable: Arc::default(), tried: Arc::default(), way: Way::Canary })
    }

    /// A shadow that begins, and its work, which is to be run by whoever begins it.
    pub fn shadow(candidate: Arc<Deployed>, share: Share) -> (Arc<Self>, Work) {
        let (stable, tried) = (Arc::default(), Arc::default());
        let (shadow, work) = Shadow::begin(&candidate, &stable, &tried);
        (Arc::new(Self { candidate, share, stable, tried, way: Way::Shadow(shadow) }), work)
    }

    /// It is over: a shadow takes no copies any more. What messages run on finishes there.
    pub(crate) fn end(&self) {
        match &self.way {
            Way::Canary => {}
            Way::Shadow(shadow) => shadow.end(),
        }
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
        let (version, side) = match &trial.way {
            Way::Canary if trial.share.has(message_id) => (&trial.candidate, Side::Tried),
            Way::Canary | Way::Shadow(_) => (active, Side::Stable),
        };
        Self { version: Arc::clone(version), trial: Some((Arc::clone(trial), side)) }
    }

    /// Whether it is the candidate of a canary, whose failures are judged there.
    pub(crate) fn is_canary(&self) -> bool {
        self.trial.as_ref().is_some_and(|(_, side)| *side == Side::Tried)
    }

    /// Where the trial counts it by itself; a shadow counts when it compares.
    fn figures(&self) -> Option<&SideFigures> {
        self.trial.as_ref().and_then(|(trial, side)| match (&trial.way, side) {
            (Way::Canary, Side::Stable) => Some(trial.stable.as_ref()),
            (Way::Canary, Side::Tried) => Some(trial.tried.as_ref()),
            (Way::Shadow(_), Side::Stable | Side::Tried) => None,
        })
    }

    /// The shadow that is to see a copy of the message.
    pub(crate) fn shadow(&self, message_id: &str) -> Option<&Shadow> {
        self.trial.as_ref().and_then(|(trial, _)| match &trial.way {
            Way::Canary => None,
            Way::Shadow(shadow) => trial.share.has(message_id).then_some(shadow),
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
