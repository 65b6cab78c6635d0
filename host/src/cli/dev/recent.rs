//! The last messages that the host ran, kept in memory to be run again.
//!
//! Invariant: what is kept is bounded in messages and in bytes; the oldest make room.

use std::collections::VecDeque;

use crate::admin::wire::EndedView;
use crate::message::Message;

/// All messages that are kept have so many bytes together, whatever their number.
const BYTES: usize = 8 << 20;

/// A message, and what it came to.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) subscription: String,
    pub(super) attempt: u32,
    /// What it was settled as, or its reason when that says more.
    pub(super) came_to: String,
}

/// The last messages, the oldest first.
#[derive(Debug)]
pub(super) struct Recent {
    kept: VecDeque<Kept>,
    most: usize,
    bytes: usize,
}

impl Recent {
    /// For at most so many messages.
    pub(super) const fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most, bytes: 0 }
    }

    /// Keeps the message of an ending. One that comes again takes its own place.
    pub(super) fn add(&mut self, ended: &EndedView) {
        let Some(message) = ended.message() else { return };
        let is_it = |kept: &Kept| kept.subscription == ended.subscription && kept.message.sequence == ended.sequence;
        if let Some(before) = self.kept.iter().position(is_it).and_then(|place| self.kept.remove(place)) {
            self.bytes -= before.message.size();
        }
        let came_to = match ended.settled_as.as_str() {
            "retried" | "returned" | "dead-lettered" => ended.reason.clone(),
            other => other.to_owned(),
        };
        self.bytes += message.size();
        let (subscription, attempt) = (ended.subscription.clone(), ended.attempt);
        self.kept.push_back(Kept { message, subscription, attempt, came_to });
        while self.kept.len() > self.most || self.bytes > BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.message.size();
        }
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<Kept> {
        self.kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn ended(sequence: u64, body: &str, settled_as: &str) -> EndedView {
        serde_json::from_value(serde_json::json!({
            "at": "", "broker": "b", "subscription": "s", "handler": "h", "message_id": format!("id-{sequence}"),
            "sequence": sequence, "subject": "a", "attempt": 1, "settled_as": settled_as, "reason": "because",
            "fuel_used": 1, "run_us": 1,
            "message": { "published_at": "2026-01-01T00:00:00Z", "headers": [["A", { "base64": "/w==" }]], "body": body },
        }))
        .unwrap()
    }

    #[test]
    fn the_oldest_make_room_and_one_that_comes_again_takes_its_own_place() {
        let mut recent = Recent::new(2);
        recent.add(&ended(1, "one", "retried"));
        recent.add(&ended(2, "two", "completed"));
        recent.add(&ended(1, "one", "completed"));
        let shown = |recent: &Recent| {
            recent.all().into_iter().map(|kept| (kept.message.sequence, kept.came_to)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&recent), [(2, "completed".to_owned()), (1, "completed".to_owned())]);
        recent.add(&ended(3, "three", "dead-lettered"));
        assert_eq!(shown(&recent), [(1, "completed".to_owned()), (3, "because".to_owned())]);
        let kept = recent.all().pop().unwrap();
        assert_eq!(
            (kept.message.body.as_ref(), kept.message.headers.get("a").unwrap().as_ref()),
            (&b"three"[..], &[255][..])
        );
        recent.add(&EndedView { message: None, ..ended(4, "", "completed") });
        assert_eq!(recent.all().len(), 2, "one that is not shown whole is not kept");

        let mut large = Recent::new(100);
        let body = "x".repeat(3 << 20);
        (0..4).for_each(|sequence| large.add(&ended(sequence, &body, "completed")));
        assert_eq!(large.all().iter().map(|kept| kept.message.sequence).collect::<Vec<_>>(), [2, 3]);
        assert!(large.bytes <= BYTES);
    }
}
