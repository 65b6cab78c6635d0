//! Shadows: copies of messages run on a candidate, to see what it would have done, and for nothing else.
//!
//! ```text
//! run -> decide -> settle
//!          |
//!          '--copy--> queue (bounded) --> one run at a time, behind all others --> compare --> counts, last differences
//! ```
//!
//! Invariants:
//! - A copy is made when its message is decided about, and nothing waits for it: without room it is dropped and counted.
//! - What a run on a copy does has no effect: its outputs are compared and then dropped, so are its log and what it
//!   measures; it settles nothing, and it is counted here alone.
//! - A message is copied at its first delivery only: it runs on the candidate once, however often it comes, and not at
//!   all when it may have killed the host.
//! - What waits is bounded in number and bytes, and so is what is kept of the differences.

mod books;
mod compare;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::{CancellationToken, DropGuard};

pub use books::{Books, Did, Difference, WouldSend};
pub(crate) use compare::{compare, told, told_of_record};
pub use work::Work;
pub(crate) use work::gave_way;

use crate::dispatch::slot::Deployed;
use crate::handler::Effect;
use crate::message::Message;
use crate::outcome::{Outcome, Usage};
use crate::settle::outputs::Routed;
use crate::telemetry::{CopyFate, SideFigures};

/// Copies that wait: a burst of some hundred messages is seen whole where a run takes less than a message's settling.
const COPIES: usize = 256;
/// Bytes that wait, of messages and of what the other version published: 256 of 32 KiB each. One alone may be larger.
const BYTES: usize = 8 << 20;

/// Where copies of messages go, and what came of them.
#[derive(Debug)]
pub struct Shadow {
    copies: async_channel::Sender<Waiting>,
    /// Bytes of the copies that wait and of the one that runs.
    held: Arc<AtomicUsize>,
    books: Arc<Books>,
    ends: CancellationToken,
    /// It ends too when nobody has it any more.
    _ends_with_it: DropGuard,
}

/// A message, and what became of it on the other version.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) message: Message,
    pub(crate) subscription: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) stable: Ran,
}

/// How a run ended, as far as runs are compared by it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ran {
    /// Without its outputs.
    pub(crate) outcome: Outcome,
    /// Where they were to go.
    pub(crate) outputs: Vec<Routed>,
    pub(crate) usage: Usage,
    /// What it would have done elsewhere in its middle; `None`: it has done it, and what that was is not known.
    pub(crate) effects: Option<Vec<Effect>>,
}

/// A copy in the queue; its bytes are free again when it is dropped.
#[derive(Debug)]
struct Waiting {
    copied: Copied,
    _room: Room,
}

#[derive(Debug)]
struct Room {
    held: Arc<AtomicUsize>,
    size: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl Shadow {
    /// A shadow that begins, and its work, which is to be run by whoever begins it.
    pub(super) fn begin(
        candidate: &Arc<Deployed>,
        stable: &Arc<SideFigures>,
        tried: &Arc<SideFigures>,
    ) -> (Self, Work) {
        let (copies, taken) = async_channel::bounded(COPIES);
        let (books, ends) = (Arc::<Books>::default(), CancellationToken::new());
        let work = Work {
            copies: taken,
            candidate: Arc::clone(candidate),
            stable: Arc::clone(stable),
            tried: Arc::clone(tried),
            books: Arc::clone(&books),
            ends: ends.clone(),
        };
        let ends_with_it = ends.clone().drop_guard();
        (Self { copies, held: Arc::default(), books, ends, _ends_with_it: ends_with_it }, work)
    }

    /// What came of the copies.
    #[must_use]
    pub const fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// Takes a copy of a message of so many bytes, when there is room. Never waits.
    pub(crate) fn offer(&self, size: usize, copy: impl FnOnce() -> Copied) {
        if self.ends.is_cancelled() {
            return;
        }
        let before = self.held.fetch_add(size, Ordering::Relaxed);
        let room = Room { held: Arc::clone(&self.held), size };
        let fits = (before == 0 || before.saturating_add(size) <= BYTES) && !self.copies.is_full();
        if !fits || self.copies.try_send(Waiting { copied: copy(), _room: room }).is_err() {
            self.books.count(CopyFate::Dropped);
        }
    }

    /// It is over: what runs is stopped, what waits is dropped, nothing more is taken.
    pub(super) fn end(&self) {
        self.ends.cancel();
    }
}

#[cfg(test)]
mod tests;
