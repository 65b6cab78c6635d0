//! What the queue keeps: the disk's room, and the age of what nobody wants.
//!
//! Invariants:
//! - Age removes only messages that no subscription has yet to settle. What a subscription wants is given up by the
//!   retry policy, which makes a dead letter of it.
//! - Publishes are refused while the disk still has room for acknowledgements with their outputs, returns and dead letters.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::codec;
use super::error::Failure;
use super::filters::Filters;
use super::publish::Kept;
use super::settle::unsettled;
use super::space::{Look, Space};
use super::writer::Writer;
use crate::broker::Left;

/// How many messages a sweep looks at in one group: about a millisecond's work.
const SWEEP_AT_ONCE: i64 = 512;
/// How long a sweep that found nothing more waits.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The room on the disk, as it was when it was last looked at.
pub(super) struct Room {
    space: Space,
    reserve: u64,
    problem: Option<String>,
    /// Why not even outputs should be stored: they may have half of the reserve, and dead letters the rest.
    problem_for_outputs: Option<String>,
}

impl Room {
    pub(super) fn new(directory: PathBuf, reserve: u64) -> Self {
        Self { space: Space::new(directory), reserve, problem: None, problem_for_outputs: None }
    }

    /// Why nothing more should be stored.
    pub(super) fn problem(&self, kept: Kept) -> Option<String> {
        match kept {
            Kept::ByPublishes => self.problem.clone(),
            Kept::ByOutputs => self.problem_for_outputs.clone(),
        }
    }

    pub(super) fn written(&mut self, bytes: i64) {
        self.space.written(bytes);
    }

    /// Looks at the disk again, when it is time to. Between two groups, so that a group sees one answer.
    pub(super) fn look(&mut self, connection: &Connection) {
        let Look::Found(free) = self.space.look(connection) else { return };
        let below = |kept: u64| {
            let (left, reserve) = (free.disk >> 20, self.reserve >> 20);
            free.is_below(kept).then(|| format!("the disk has {left} MiB free, and {reserve} MiB are kept in reserve"))
        };
        let problem = below(self.reserve);
        self.problem_for_outputs = below(self.reserve / 2);
        match (&self.problem, &problem) {
            (None, Some(problem)) => tracing::error!(%problem, "publishes are refused; consuming goes on"),
            (Some(_), None) => tracing::info!("the disk has room again; publishes are taken"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.problem = problem;
    }
}

/// A subscription that was forgotten.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) id: i64,
    pub(super) filters: Filters,
    pub(super) left: Left,
}

impl Gone {
    fn wanted(&self, message: &Aged) -> bool {
        message.target.map_or_else(|| self.filters.want(&message.subject), |target| target == self.id)
    }
}

/// How far the sweep has come, and when it goes on.
pub(super) struct Sweep {
    through: i64,
    pub(super) next: Instant,
    /// Those whose messages are looked through, young ones too.
    gone: Vec<Gone>,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Self { through: 0, next: Instant::now(), gone: Vec::new() }
    }

    /// Starts from the oldest message, and goes through all: what a subscription held may be held by nobody any more.
    pub(super) fn clear_after(&mut self, gone: Gone) {
        (self.through, self.next) = (0, Instant::now());
        self.gone.push(gone);
    }
}

/// A message as the sweep sees it.
struct Aged {
    sequence: i64,
    subject: String,
    target: Option<i64>,
    published_us: i64,
    bytes: i64,
}

impl Writer<'_> {
    /// Removes messages that are too old and that nobody has yet to settle. A message that it passes over because
    /// somebody wants it is removed when the last one settles it, so the sweep need not come back. And removes what those
    /// that were forgotten held.
    pub(super) fn sweep(&mut self) -> Result<(), Failure> {
        if Instant::now() < self.sweep.next || self.state.totals.messages == 0 {
            return Ok(());
        }
        let oldest_kept = self.now_us.saturating_sub(codec::duration_micros(self.options.max_age));
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Aged {
                sequence: row.get(0)?,
                subject: row.get(1).unwrap_or_default(),
                target: row.get(2)?,
                published_us: row.get(3)?,
                bytes: row.get(4)?,
            })
        };
        let aged: Result<Vec<_>, _> =
            self.st.oldest_messages.query_map([self.sweep.through, SWEEP_AT_ONCE], read)?.collect();
        let aged = aged?;
        let mut removed = 0;
        let mut ended = i64::try_from(aged.len()).unwrap_or(0) < SWEEP_AT_ONCE;
        for message in aged {
            let is_old = message.published_us < oldest_kept;
            if !is_old && self.sweep.gone.is_empty() {
                ended = true;
                break;
            }
            if (is_old || self.was_held(&message)) && !self.is_wanted(&message)? {
                self.st.delete_message.execute([message.sequence])?;
                self.state.totals.messages -= 1;
                self.state.totals.bytes -= message.bytes;
                self.state.totals.expired += i64::from(is_old);
                removed += i64::from(is_old);
            }
            self.sweep.through = message.sequence;
        }
        if ended {
            // From the oldest again: it went past what is not old yet.
            if !self.sweep.gone.is_empty() {
                self.sweep.gone.clear();
                self.sweep.through = 0;
            }
            self.sweep.next = Instant::now() + SWEEP_EVERY;
        }
        if removed > 0 {
            tracing::warn!(removed, "messages that no subscription wanted were removed at their age");
        }
        Ok(())
    }

    /// Whether a subscription that was forgotten is why a message is there: others had settled it, or it alone wanted it
    /// and it is to go.
    fn was_held(&mut self, message: &Aged) -> bool {
        let mut gone = self.sweep.gone.iter().filter(|gone| gone.wanted(message));
        let Some(first) = gone.next() else { return false };
        let is_to_go = first.left == Left::Removed || gone.any(|gone| gone.left == Left::Removed);
        is_to_go || (message.target.is_none() && !self.state.wanted_by(&message.subject).is_empty())
    }

    fn is_wanted(&mut self, message: &Aged) -> Result<bool, Failure> {
        let wanted_by = self.state.audience(&message.subject, message.target);
        for subscription in self.state.subscriptions.values() {
            let wants = wanted_by.binary_search(&subscription.id).is_ok();
            // One that was handed out or waits for a retry is not settled, even if the filters were changed since.
            let handed_out = message.sequence <= subscription.marks.cursor && subscription.holds_some();
            if (wants || handed_out) && unsettled(&mut self.st, subscription, message.sequence)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
