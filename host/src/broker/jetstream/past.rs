//! The messages that a stream still has, read and left as they are.
//!
//! They are asked for by questions that answer in JSON, and not by a consumer. Nothing is made on the server then, so nothing can
//! be left there, whoever is killed; a work queue takes no second consumer, and a stream that keeps by interest would keep more
//! for one; and what the client library cannot read from the wire ends the connection that the host's messages come on
//! ([`super::unreadable`]).

use std::collections::VecDeque;
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::session::Session;
use super::setup::stream_info;
use super::stored::{self, Read};
use super::wire::{ApiError, Stored, StreamInfo, text};
use crate::broker::past::Filling;
use crate::broker::{PastError, PastPage, PastQuery, SubscriptionSpec};
use crate::message::{Message, REDRIVE_FOR_HEADER};

/// A page looks at so many: a second or so, also where few of them are wanted.
const LOOK_AT_MOST: usize = 2_000;
/// Questions that are under way at once. Sixteen messages of NATS's usual limit are 16 MiB.
const AT_ONCE: usize = 16;
/// What the answers of one round may have in bytes, and twice as many still be asked for in the next.
const ROUND_BYTES: usize = 1 << 20;

/// A page of what a subscription wants of its stream.
pub(super) async fn page(
    session: &Session,
    stream: &str,
    spec: &SubscriptionSpec,
    query: &PastQuery,
) -> Result<PastPage, PastError> {
    let info = stream_info(session, stream).await.map_err(|error| PastError::Away(error.to_string()))?;
    let info = info.ok_or_else(|| PastError::Away(format!("there is no stream `{stream}`")))?;
    // With the other policies a message goes when it is acknowledged. The server leaves out what is as it is by default.
    let keeps_settled = matches!(text(&info.config, "retention"), "limits" | "");
    let oldest = oldest(&info);
    let mut filling = Filling::new(query, oldest, keeps_settled);
    if oldest.is_none() {
        return Ok(filling.done());
    }
    let asking = Asking { session, stream };
    let first = match query.after {
        Some(after) => after.saturating_add(1),
        None if oldest.is_some_and(|oldest| oldest < query.since) => asking.first_since(&info, query.since).await?,
        None => info.state.first_seq,
    };
    fill(&asking, spec, first, query.until, &mut filling).await?;
    Ok(filling.done())
}

/// When the oldest message was stored; `None`: there is none.
fn oldest(info: &StreamInfo) -> Option<SystemTime> {
    let time = info.state.first_ts.as_deref().filter(|_| info.state.messages > 0)?;
    humantime::parse_rfc3339(time).ok()
}

async fn fill(
    asking: &Asking<'_>,
    spec: &SubscriptionSpec,
    first: u64,
    until: Option<SystemTime>,
    filling: &mut Filling<'_>,
) -> Result<(), PastError> {
    // The filters of one subscription may overlap on no message: the server refuses a consumer of which two do.
    let mut walks: Vec<Walk<'_>> = spec.subjects.iter().map(|subject| Walk::from(subject, first)).collect();
    for _ in 0..LOOK_AT_MOST {
        for walk in &mut walks {
            walk.look_ahead(asking).await?;
        }
        let next = walks.iter_mut().min_by_key(|walk| walk.head().unwrap_or(u64::MAX));
        let Some(stored) = next.and_then(|walk| walk.ahead.pop_front()) else { return Ok(()) };
        let position = stored.position();
        if until.is_some_and(|until| position.stored_at > until) {
            return Ok(());
        }
        // Times of one stream go forward, but for a clock that was set back.
        if filling.wants(position.stored_at) {
            let message = match stored.read(asking.stream).map_err(away)? {
                Read::Message(message) => Some(message).filter(|message| is_for(message, spec)),
                // No handler is given it.
                Read::Unreadable(_) => None,
            };
            if message.is_some_and(|message| !filling.add(message)) {
                return Ok(());
            }
        }
        filling.passed(position.sequence);
    }
    filling.cut();
    Ok(())
}

/// What one filter wants, in its order.
struct Walk<'a> {
    subject: &'a str,
    /// Nothing before this position is left.
    from: u64,
    /// What has come and is not looked at.
    ahead: VecDeque<Stored>,
    /// So many are asked for at once. Where the filter wants one after the other, each answer is another message; where it wants
    /// few, all answers of a round are the same one.
    at_once: usize,
    is_at_end: bool,
}

impl<'a> Walk<'a> {
    fn from(subject: &'a str, from: u64) -> Self {
        Self { subject, from, ahead: VecDeque::new(), at_once: 1, is_at_end: false }
    }

    fn head(&self) -> Option<u64> {
        self.ahead.front().map(|stored| stored.seq)
    }

    /// Asks for more when there is nothing ahead.
    async fn look_ahead(&mut self, asking: &Asking<'_>) -> Result<(), PastError> {
        if !self.ahead.is_empty() || self.is_at_end {
            return Ok(());
        }
        let asked = self.from..self.from.saturating_add(self.at_once as u64);
        let subject = self.subject;
        let answers = futures_util::stream::iter(asked.clone()).map(|from| asking.next(from, subject));
        let answers: Vec<Option<Stored>> = answers.buffered(AT_ONCE).try_collect().await?;
        self.take(asked, answers);
        Ok(())
    }

    /// Takes the answers of a round.
    fn take(&mut self, asked: std::ops::Range<u64>, answers: Vec<Option<Stored>>) {
        let (mut bytes, mut all_differ) = (0, true);
        for (from, answer) in asked.zip(answers) {
            let Some(stored) = answer else {
                self.is_at_end = true;
                break;
            };
            all_differ &= stored.seq == from;
            bytes += stored.data.len() + stored.hdrs.len();
            if stored.seq >= self.from {
                self.from = stored.seq.saturating_add(1);
                self.ahead.push_back(stored);
            }
        }
        let more = all_differ && bytes <= ROUND_BYTES;
        self.at_once = if more { (self.at_once * 2).min(AT_ONCE) } else { (self.at_once / 2).max(1) };
    }
}

/// Questions to one stream.
struct Asking<'a> {
    session: &'a Session,
    stream: &'a str,
}

impl Asking<'_> {
    /// The first message from a position on that a filter wants.
    async fn next(&self, from: u64, subject: &str) -> Result<Option<Stored>, PastError> {
        stored::next(self.session, self.stream, from, subject).await.map_err(away)
    }

    /// The first position whose message was stored then or later. Of a million it looks at twenty.
    async fn first_since(&self, info: &StreamInfo, since: SystemTime) -> Result<u64, PastError> {
        let (mut low, mut high) = (info.state.first_seq, info.state.last_seq.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next(middle, ">").await? {
                Some(stored) if stored.position().stored_at < since => low = stored.seq.saturating_add(1),
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whether the subscription is handed it: what was sent back to another is not.
fn is_for(message: &Message, spec: &SubscriptionSpec) -> bool {
    message.headers.text(REDRIVE_FOR_HEADER).is_none_or(|name| name == spec.name)
}

fn away(error: ApiError) -> PastError {
    PastError::Away(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(seq: u64, bytes: usize) -> Option<Stored> {
        let data = "x".repeat(bytes);
        Some(Stored { subject: "a".into(), seq, hdrs: String::new(), data, time: String::new() })
    }

    #[test]
    fn more_is_asked_for_at_once_where_each_answer_is_another_message() {
        let mut walk = Walk::from("a", 1);
        let mut seen = Vec::new();
        let mut round = |walk: &mut Walk<'_>, found: &dyn Fn(u64) -> Option<Stored>| {
            let asked = walk.from..walk.from + walk.at_once as u64;
            walk.take(asked.clone(), asked.map(found).collect());
            seen.extend(walk.ahead.drain(..).map(|stored| stored.seq));
            walk.at_once
        };
        for at_once in [2, 4, 8, 16, 16] {
            assert_eq!(round(&mut walk, &|from| stored(from, 1)), at_once);
        }
        // From 32 on there is one in a hundred.
        for at_once in [8, 4, 2, 1, 1] {
            assert_eq!(round(&mut walk, &|from| stored(from.next_multiple_of(100), 1)), at_once);
        }
        assert_eq!(round(&mut walk, &|from| stored(from, ROUND_BYTES + 1)), 1, "large ones come one by one");
        assert!(!walk.is_at_end);
        round(&mut walk, &|_| None);
        assert!(walk.is_at_end);
        let expected: Vec<u64> = (1..32).chain([100, 200, 300, 400, 500, 501]).collect();
        assert_eq!(seen, expected, "each once, in their order");
    }
}
