//! What a subscription's stream still has of the messages that went by: to be run again with no effect.
//!
//! Invariant: looking changes nothing: no message is handed out, none is settled, and nothing is made on a broker for it.

use std::time::SystemTime;

use crate::message::Message;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastQuery {
    /// Those that were published then or later.
    pub since: SystemTime,
    /// And not later than that; `None`: until now.
    pub until: Option<SystemTime>,
    /// Those behind this position alone: where the page before ended.
    pub after: Option<u64>,
    /// At most so many.
    pub messages: usize,
    /// At most so many bytes; a single message that is larger comes alone.
    pub bytes: usize,
}

/// A page of them, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastPage {
    /// The messages, as they were published: what is known of their deliveries is not in them.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<u64>,
    /// When the oldest message was published that the stream still has; `None`: it has none.
    pub oldest: Option<SystemTime>,
    /// Whether the broker keeps messages that every subscription has settled. Where it does not, only those are there that
    /// some subscription has yet to settle.
    pub keeps_settled: bool,
}

/// A page that is being filled, in the order of the positions.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    query: &'a PastQuery,
    page: PastPage,
    /// Of its messages.
    bytes: usize,
    /// The last position that was looked at.
    last: u64,
}

impl<'a> Filling<'a> {
    pub(super) fn new(query: &'a PastQuery, oldest: Option<SystemTime>, keeps_settled: bool) -> Self {
        let page = PastPage { oldest, keeps_settled, ..PastPage::default() };
        Self { query, page, bytes: 0, last: query.after.unwrap_or(0) }
    }

    /// The position to begin behind, and to go on behind from then on.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether a message that was published then is asked for.
    pub(super) fn wants(&self, published_at: SystemTime) -> bool {
        published_at >= self.query.since && self.query.until.is_none_or(|until| published_at <= until)
    }

    /// Adds a message. `false`: there is no room for it, and the page ends before it.
    #[must_use]
    pub(super) fn add(&mut self, message: Message) -> bool {
        let size = message.size();
        let is_full = self.page.messages.len() >= self.query.messages || self.bytes + size > self.query.bytes;
        if is_full && !self.page.messages.is_empty() {
            self.cut();
            return false;
        }
        self.bytes += size;
        self.page.messages.push(message);
        true
    }

    /// What stands at a position has been looked at.
    pub(super) fn passed(&mut self, position: u64) {
        self.last = position;
    }

    /// The page ends here, and there may be more.
    pub(super) fn cut(&mut self) {
        self.page.next = Some(self.last);
    }

    pub(super) fn done(self) -> PastPage {
        self.page
    }
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// The broker cannot be asked now.
    #[error("the stream cannot be read just now: {0}")]
    Away(String),
    /// The broker has no way to do it.
    #[error("this broker hands messages out and cannot be looked into")]
    Unsupported,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Headers;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn message(sequence: u64, bytes: usize) -> Message {
        Message {
            id: String::new(),
            subject: String::new(),
            headers: Headers::default(),
            body: vec![0; bytes].into(),
            sequence,
            published_at: at(sequence),
        }
    }

    /// The sequences of a page of messages of these sizes, and where the next one begins.
    fn page(query: &PastQuery, sizes: &[usize]) -> (Vec<u64>, Option<u64>) {
        let mut filling = Filling::new(query, None, true);
        let begin = filling.last();
        for (sequence, bytes) in (1..).zip(sizes).filter(|(sequence, _)| *sequence > begin) {
            if filling.wants(at(sequence)) && !filling.add(message(sequence, *bytes)) {
                break;
            }
            filling.passed(sequence);
        }
        let page = filling.done();
        (page.messages.iter().map(|message| message.sequence).collect(), page.next)
    }

    #[test]
    fn a_page_has_room_for_so_many_and_a_large_one_comes_alone() {
        let all = PastQuery { since: at(0), until: None, after: None, messages: 2, bytes: 10 };
        let sizes = [4, 4, 4, 30, 1];
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let (sequences, next) = page(&PastQuery { after, ..all }, &sizes);
            seen.push(sequences);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [vec![1, 2], vec![3], vec![4], vec![5]]);
        let some = PastQuery { since: at(2), until: Some(at(3)), messages: 9, ..all };
        assert_eq!(page(&some, &sizes), (vec![2, 3], None));
    }
}
