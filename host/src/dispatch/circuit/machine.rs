//! The circuit of a subscription, as a state machine: pure, time is passed in.
//!
//! ```text
//!            enough fail                        its time is over, or another version came
//!   closed --------------> open -----------------------------------------------------------> probing
//!     ^                      ^                                                                |   |
//!     |                      '------------ the probe failed: twice the pause ----------------'   |
//!     '------------------------- the probe went well, or somebody closed it ---------------------'
//! ```
//!
//! Invariants:
//! - It opens only when enough messages ran within the window and enough of them failed; one message never opens it.
//! - A failure counts as an attempt while it is closed, and never else.
//! - What closes it is a message that went well, or a person.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::{CircuitPolicy, Sign};
use super::window::Window;

/// A circuit.
#[derive(Debug)]
pub(super) struct Machine {
    /// `None`: it never opens.
    policy: Option<CircuitPolicy>,
    state: State,
    /// When it was closed last, and the pause before that.
    closed: Option<(Instant, Duration)>,
}

#[derive(Debug)]
enum State {
    /// Messages are taken.
    Closed(Window),
    /// None are, until then.
    Open { until: Instant, pause: Duration },
    /// One at a time is, to see how it goes.
    Probing { pause: Duration },
}

/// What the state allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Closed,
    Open { until: Instant },
    Probing,
}

/// A run that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// The message's position in its stream.
    pub(crate) message: u64,
    /// What the run says.
    pub(crate) sign: Sign,
    /// Whether the message is given up as bad by itself: the same fault twice. As a probe it says nothing of the others.
    pub(crate) is_proven_bad: bool,
}

/// How a circuit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened: so many messages ran well, and so many failed, within the window.
    Opened {
        /// Messages that ran well.
        good: u64,
        /// Messages that failed.
        bad: u64,
        /// Until the first probe.
        pause: Duration,
    },
    /// A probe failed.
    ProbeFailed {
        /// Until the next one.
        pause: Duration,
    },
    /// A probe went well, and it is closed.
    ProbeWentWell,
    /// Somebody closed it, or it was configured not to open.
    ClosedByHand,
}

/// What a run led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// `None`: a failure counts as ever. Else it does not, and the pause is so long now.
    pub(super) spared: Option<Duration>,
    pub(super) change: Option<Change>,
}

impl Machine {
    pub(super) fn new(policy: Option<CircuitPolicy>) -> Self {
        Self { policy, state: State::Closed(Window::default()), closed: None }
    }

    pub(super) const fn standing(&self) -> Standing {
        match self.state {
            State::Closed(_) => Standing::Closed,
            State::Open { until, .. } => Standing::Open { until },
            State::Probing { .. } => Standing::Probing,
        }
    }

    /// When it was closed last by a probe that went well or by somebody; `None`: it never was open.
    pub(super) fn closed_at(&self) -> Option<Instant> {
        self.closed.map(|(at, _)| at)
    }

    /// How long a message that failed stands aside at the most, so that others are probes too.
    pub(super) fn aside(&self) -> Duration {
        // An hour, by the longest pause of five minutes.
        const PAUSES: u32 = 12;
        self.policy.map_or(Duration::ZERO, |policy| policy.max_pause.saturating_mul(PAUSES))
    }

    /// A run ended.
    pub(super) fn ran(&mut self, ended: Ended, now: Instant) -> Answer {
        let Some(policy) = self.policy else { return Answer { spared: None, change: None } };
        match &mut self.state {
            State::Closed(window) => {
                let change = match ended.sign {
                    Sign::Good => {
                        window.good(now, policy.window);
                        None
                    }
                    Sign::Nothing => None,
                    Sign::Bad => {
                        let (good, bad) = window.bad(ended.message, now, policy.window);
                        policy.is_met(good, bad).then(|| self.open(&policy, good, bad, now))
                    }
                };
                Answer { spared: None, change }
            }
            // It ran already when the circuit opened.
            State::Open { pause, .. } => Answer { spared: Some(*pause), change: None },
            State::Probing { pause } => {
                let pause = *pause;
                match ended.sign {
                    Sign::Good => {
                        self.close(pause, now);
                        Answer { spared: None, change: Some(Change::ProbeWentWell) }
                    }
                    Sign::Bad if !ended.is_proven_bad => {
                        let pause = policy.after(pause);
                        self.state = State::Open { until: now + pause, pause };
                        Answer { spared: Some(pause), change: Some(Change::ProbeFailed { pause }) }
                    }
                    // The next message is the probe.
                    Sign::Bad | Sign::Nothing => Answer { spared: Some(pause), change: None },
                }
            }
        }
    }

    /// Lets a message in to see how it goes, when its time has come or at once. False when it is not open, or too early.
    pub(super) fn probe(&mut self, at_once: bool, now: Instant) -> bool {
        match self.state {
            State::Open { until, pause } if at_once || until <= now => {
                self.state = State::Probing { pause };
                true
            }
            State::Open { .. } | State::Closed(_) | State::Probing { .. } => false,
        }
    }

    /// Closes it by hand.
    pub(super) fn close_by_hand(&mut self, now: Instant) -> Option<Change> {
        match self.state {
            State::Closed(_) => None,
            State::Open { .. } | State::Probing { .. } => {
                // Somebody knows that it is over: should it open again, it begins with the first pause.
                self.close(Duration::ZERO, now);
                Some(Change::ClosedByHand)
            }
        }
    }

    /// Goes by another policy from now on. One that never opens it closes it.
    pub(super) fn set_policy(&mut self, policy: Option<CircuitPolicy>, now: Instant) -> Option<Change> {
        let change = if policy.is_none() { self.close_by_hand(now) } else { None };
        self.policy = policy;
        change
    }

    fn open(&mut self, policy: &CircuitPolicy, good: u64, bad: u64, now: Instant) -> Change {
        // What opens again at once had not been mended: the pause goes on where it was.
        let again = self.closed.filter(|(at, _)| now.saturating_duration_since(*at) < policy.window);
        let pause = again.map_or(policy.pause, |(_, before)| policy.after(before).max(policy.pause));
        self.state = State::Open { until: now + pause, pause };
        Change::Opened { good, bad, pause }
    }

    fn close(&mut self, pause: Duration, now: Instant) {
        self.state = State::Closed(Window::default());
        self.closed = Some((now, pause));
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
