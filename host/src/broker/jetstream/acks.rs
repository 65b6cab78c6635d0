//! Sends acknowledgements and makes sure that the server worked them off.
//!
//! Invariants:
//! - `Ok` means that the server answered for this acknowledgement, or for a later one that went over the same connection
//!   to the same consumer: a server works a consumer's acknowledgements off in the order of their arrival. Or that the message
//!   is not in the stream any more, so that there is nothing to acknowledge.
//! - Nothing is sent for a delivery whose lease is over; that is looked at right before each one is sent.
//! - A group whose confirmation did not come is confirmed one by one.
//! - Over another connection than the message came on, nothing is said before it is seen that the stream still has this
//!   message: a server that lost its newest ones may have given its sequence to another (see `survived`).

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::held::Origin;
use super::options::Confirm;
use super::session::{RequestError, Session, Unanswered};
use super::source::JetStreamSource;
use super::survived::is_as_it_came;
use crate::broker::SettleError;
use crate::broker::done::MessageIdentity;

/// Acknowledged for good.
const ACK: Bytes = Bytes::from_static(b"+ACK");
/// Tries to have a single one confirmed, each as long as a request may take.
const TRIES: u32 = 3;
/// Single confirmations that are under way at once: 64 reach a third of the full speed.
const SINGLE_AT_ONCE: usize = 64;

/// What to tell the server about one delivery.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Which message it is about.
    pub(super) message: MessageIdentity,
    /// Where that came from, when it is known.
    pub(super) origin: Option<Origin>,
    /// What has to stand for it to be true.
    pub(super) stands_on: StandsOn,
    /// The delivery's reply subject.
    pub(super) reply: Bytes,
    /// What to say.
    pub(super) payload: Bytes,
    /// Nothing is sent after this.
    pub(super) lease_ends_at: Instant,
}

/// What has to stand for a word to be true, with how many losses were known at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StandsOn {
    /// Nothing: the message comes again.
    Nothing,
    /// Its outputs or its dead letter, which were stored just before. Settled anew, they are stored anew.
    Stored(u64),
    /// What was known when it was handed out: that it is done, or that it comes to nothing.
    HandedOut(u64),
}

impl StandsOn {
    /// Why the word is not sent, now that so many losses were found.
    pub(super) fn refused(self, found: u64) -> Option<SettleError> {
        match self {
            Self::Stored(known) if found > known => {
                Some(SettleError::Unconfirmed("the server has lost outputs or dead letters since".to_owned()))
            }
            // It comes again, and is known for what it is.
            Self::HandedOut(known) if found > known => Some(SettleError::LeaseLost),
            Self::Nothing | Self::Stored(_) | Self::HandedOut(_) => None,
        }
    }
}

/// The payload of an acknowledgement.
pub(super) fn ack() -> Bytes {
    ACK
}

/// The payload that gives a message back until a delay is over.
pub(super) fn nak(delay: Duration) -> Bytes {
    if delay.is_zero() {
        return Bytes::from_static(b"-NAK");
    }
    Bytes::from(format!("-NAK {{\"delay\":{}}}", delay.as_nanos()))
}

/// The payload that gives a message up, with the reason that the server's advisory shows.
pub(super) fn term(reason: &str) -> Bytes {
    // The server takes the rest of the line as it is.
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Bytes::from(format!("+TERM {reason}"))
}

/// The payload that asks for another lease.
pub(super) fn in_progress() -> Bytes {
    Bytes::from_static(b"+WPI")
}

/// Sends words and has them confirmed. One result a word, in order.
///
/// Dropping the future leaves it unknown which were worked off; what was not comes back when its lease ends.
pub(super) async fn confirm(source: &JetStreamSource, words: &[Word]) -> Vec<Result<(), SettleError>> {
    let link = &source.link;
    let mut results: Vec<Option<Result<(), SettleError>>> = words.iter().map(|_| None).collect();
    let mut order: Vec<usize> = Vec::with_capacity(words.len());
    // Acknowledgements stand last: on a replicated consumer the answer to one comes when the copies have it, and with it
    // all before it.
    order.extend(words.iter().enumerate().filter(|(_, word)| word.payload != ACK).map(|(index, _)| index));
    order.extend(words.iter().enumerate().filter(|(_, word)| word.payload == ACK).map(|(index, _)| index));
    if link.confirm() == Confirm::Groups
        && order.len() > 1
        && let Ok(session) = link.session()
    {
        // What else there is goes one by one, and is asked for: a later message that is there says nothing of an earlier one,
        // as it may have been stored after the loss.
        let (upset_at, losses) = (source.last_upset(), source.losses.found());
        let as_it_came = |index: &usize| {
            words.get(*index).is_some_and(|word| {
                is_as_it_came(&session, upset_at, word.origin) && word.stands_on.refused(losses).is_none()
            })
        };
        let sure: Vec<usize> = order.iter().copied().filter(as_it_came).collect();
        confirm_group(&session, words, &sure, &mut results).await;
    }
    let open: Vec<usize> = order.into_iter().filter(|index| results.get(*index).is_some_and(Option::is_none)).collect();
    let mut single = futures_util::stream::iter(open)
        .map(|index| async move {
            match words.get(index) {
                Some(word) => (index, confirm_one(source, word).await),
                None => (index, Err(SettleError::LeaseLost)),
            }
        })
        .buffer_unordered(SINGLE_AT_ONCE);
    while let Some((index, result)) = single.next().await {
        if let Some(place) = results.get_mut(index) {
            *place = Some(result);
        }
    }
    drop(single);
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(SettleError::Unconfirmed("it was not sent".to_owned()))))
        .collect()
}

/// Sends all but the last plainly and the last as a request, on one session. Fills in what is known afterwards.
async fn confirm_group(
    session: &Arc<Session>,
    words: &[Word],
    order: &[usize],
    results: &mut [Option<Result<(), SettleError>>],
) {
    let mut sent: Vec<usize> = Vec::with_capacity(order.len());
    // Waiting for room in the connection's queue ends with the first lease; what was not sent then is confirmed singly.
    let Some(until) = words.iter().map(|word| word.lease_ends_at).min() else { return };
    let sending = send_plainly(session, words, order, &mut sent, results);
    let Ok(Ok(held)) = tokio::time::timeout_at(until, sending).await else { return };
    let Some((last, word)) = held else { return };
    let Some(limit) = time_left(word, session.request_timeout()) else {
        fill(results, last, Err(SettleError::LeaseLost));
        return;
    };
    let Ok(subject) = Subject::try_from(word.reply.clone()) else { return };
    // All went over this session, so over one connection: the answer speaks for all of them.
    match session.request(subject, None, word.payload.clone(), limit).await {
        Ok(_) => {
            sent.push(last);
            for index in sent {
                fill(results, index, Ok(()));
            }
        }
        Err(error) => {
            tracing::debug!(%error, size = sent.len() + 1, "a group was not confirmed; confirming one by one");
        }
    }
}

fn fill(results: &mut [Option<Result<(), SettleError>>], index: usize, result: Result<(), SettleError>) {
    if let Some(place) = results.get_mut(index) {
        *place = Some(result);
    }
}

/// Sends all but the last that has a lease, and gives that one back.
async fn send_plainly<'a>(
    session: &Session,
    words: &'a [Word],
    order: &[usize],
    sent: &mut Vec<usize>,
    results: &mut [Option<Result<(), SettleError>>],
) -> Result<Option<(usize, &'a Word)>, RequestError> {
    let mut held: Option<(usize, &Word)> = None;
    for index in order {
        let Some(word) = words.get(*index) else { continue };
        // One is held back, so that the last that has a lease is the one that is confirmed.
        let Some((before, word)) = held.replace((*index, word)) else { continue };
        if Instant::now() >= word.lease_ends_at {
            fill(results, before, Err(SettleError::LeaseLost));
            continue;
        }
        let subject = Subject::try_from(word.reply.clone())
            .map_err(|_| Unanswered::NotSent("the reply subject is not UTF-8".to_owned()))?;
        session.send(subject, word.payload.clone()).await?;
        sent.push(before);
    }
    Ok(held)
}

/// Has one word confirmed, with some tries, over whichever session there is while the lease lasts.
async fn confirm_one(source: &JetStreamSource, word: &Word) -> Result<(), SettleError> {
    let mut trouble = "it was not sent".to_owned();
    for _ in 0..TRIES {
        let Some(left) = time_left(word, Duration::MAX) else {
            return Err(SettleError::LeaseLost);
        };
        let session = match source.link.wait(left.min(Duration::from_secs(5))).await {
            Ok(session) => session,
            Err(detail) => {
                trouble = detail;
                continue;
            }
        };
        let upset_at = source.last_upset();
        let since = upset_at.max(word.origin.map(|origin| origin.at)).or_else(|| Some(Instant::now()));
        if word.stands_on != StandsOn::Nothing
            && !is_as_it_came(&session, upset_at, word.origin)
            && !timeout_at(word.lease_ends_at, source.losses.look(&session, since)).await.unwrap_or(false)
        {
            "nobody tells of a stream of outputs or dead letters".clone_into(&mut trouble);
            continue;
        }
        if let Some(error) = word.stands_on.refused(source.losses.found()) {
            return Err(error);
        }
        match source.survived(&session, word.message, word.origin, word.lease_ends_at).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(detail) => {
                trouble = detail;
                continue;
            }
        }
        let Some(limit) = time_left(word, session.request_timeout()) else {
            return Err(SettleError::LeaseLost);
        };
        let Ok(subject) = Subject::try_from(word.reply.clone()) else {
            return Err(SettleError::Unconfirmed("the reply subject is not UTF-8".to_owned()));
        };
        match session.request(subject, None, word.payload.clone(), limit).await {
            Ok(_) => return Ok(()),
            Err(RequestError::NoResponders(_)) => {
                return Err(SettleError::Unconfirmed("nobody takes acknowledgements: the consumer is gone".to_owned()));
            }
            Err(RequestError::Unanswered(why)) => trouble = why.to_string(),
        }
    }
    Err(SettleError::Unconfirmed(trouble))
}

/// What is left of a word's lease, at most so much; `None` when it is over.
fn time_left(word: &Word, most: Duration) -> Option<Duration> {
    let left = word.lease_ends_at.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_word_stands_on_is_as_old_as_it_was_stored_and_a_return_stands_on_nothing() {
        for (stands_on, found, expected) in [
            (StandsOn::Nothing, 9, ""),
            (StandsOn::Stored(1), 1, ""),
            (StandsOn::Stored(1), 2, "Unconfirmed"),
            (StandsOn::HandedOut(1), 1, ""),
            (StandsOn::HandedOut(1), 2, "LeaseLost"),
        ] {
            let told = stands_on.refused(found).map_or(String::new(), |error| format!("{error:?}"));
            assert!(told.starts_with(expected) && told.is_empty() == expected.is_empty(), "{stands_on:?}: {told}");
        }
    }

    #[test]
    fn words_are_spelt_as_the_server_reads_them() {
        assert_eq!(nak(Duration::ZERO), "-NAK");
        assert_eq!(nak(Duration::from_millis(1500)), "-NAK {\"delay\":1500000000}");
        assert_eq!(term("trap:unreachable\r\n"), "+TERM trap:unreachable  ");
        assert_eq!(ack(), "+ACK");
    }
}
