//! Carries a group of settlements out: first what makes them safe, then the word to the server.
//!
//! Invariants:
//! - An acknowledgement is sent after its outputs are stored, a `+TERM` after its dead letter is stored.
//! - What is done stands in the record before the server is told, so that a crash in between costs no second run.
//! - A lease that is over stops everything: nothing is published and nothing is sent for it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::acks::{self, StandsOn, Word};
use super::reply;
use super::source::JetStreamSource;
use crate::broker::done::MessageIdentity;
use crate::broker::{Settle, SettleError, Settlement};
use crate::message::Publish;
use crate::settle::dead_letter::DeadLetter;
use crate::settle::progress::Progress;

/// Settlements whose outputs or dead letters are stored at once. What is under way in all is bounded by the publisher.
const STORES: usize = 256;

/// What must be stored before the word may be sent.
enum First {
    Outputs(Vec<Publish>),
    DeadLetter(Box<DeadLetter>),
}

/// A settlement on its way.
struct Going {
    index: usize,
    word: Word,
    /// Whether the message is settled for good by it.
    done: bool,
}

/// A settlement whose word is out.
struct Settled {
    index: usize,
    message: MessageIdentity,
    done: bool,
}

/// Carries a group out. One result a settlement, in order.
///
/// Dropped in the middle, it leaves each settlement either carried out or not, and says of none that it was.
pub(super) async fn settle(source: &JetStreamSource, group: Vec<Settle>) -> Vec<Result<(), SettleError>> {
    let mut results: Vec<Option<Result<(), SettleError>>> = group.iter().map(|_| None).collect();
    // What is returned may come again at once, and must not be held back then.
    let messages: Vec<_> = group.iter().map(|settle| reply::message(&settle.receipt)).collect();
    let origins = source.held.origins(messages.iter().copied());
    let returned = group.iter().zip(&messages).filter(|(settle, _)| is_return(&settle.settlement));
    source.held.let_go(returned.map(|(_, message)| *message));
    let mut going: Vec<Going> = Vec::with_capacity(group.len());
    let mut to_store: Vec<(Going, First)> = Vec::new();
    let mut notes: Vec<(MessageIdentity, Progress)> = Vec::new();
    let (now, losses) = (Instant::now(), source.losses.found());
    for ((index, settle), (message, origin)) in group.into_iter().enumerate().zip(messages.into_iter().zip(origins)) {
        if settle.lease_ends_at <= now {
            put(&mut results, index, Err(SettleError::LeaseLost));
            continue;
        }
        let (reply, lease_ends_at) = (settle.receipt.token, settle.lease_ends_at);
        let word = |payload: Bytes, stands_on| Word { message, origin, stands_on, reply, payload, lease_ends_at };
        match settle.settlement {
            Settlement::Ack { outputs } if outputs.is_empty() => {
                let stands_on = StandsOn::HandedOut(origin.map_or(0, |origin| origin.losses));
                going.push(Going { index, word: word(acks::ack(), stands_on), done: true });
            }
            Settlement::Ack { outputs } => {
                let ack = Going { index, word: word(acks::ack(), StandsOn::Stored(losses)), done: true };
                to_store.push((ack, First::Outputs(outputs)));
            }
            Settlement::Return { delay, progress } => {
                notes.push((message, *progress));
                going.push(Going { index, word: word(acks::nak(delay), StandsOn::Nothing), done: false });
            }
            Settlement::DeadLetter(mut letter) => {
                letter.record.stream.get_or_insert_with(|| source.stream().to_owned());
                let word = word(acks::term(&letter.record.reason), StandsOn::Stored(losses));
                let term = Going { index, word, done: true };
                to_store.push((term, First::DeadLetter(letter)));
            }
        }
    }
    store_all(source, to_store, losses, &mut going, &mut results).await;
    crate::failpoint::reached("outputs-stored");
    // What is not to be acknowledged is not done.
    going.retain(|settlement| match settlement.word.stands_on.refused(losses) {
        Some(error) => {
            put(&mut results, settlement.index, Err(error));
            false
        }
        None => true,
    });
    write_record(source, &going, notes, losses).await;
    crate::failpoint::reached("done-recorded");
    let mut words: Vec<Word> = Vec::with_capacity(going.len());
    let mut settled: Vec<Settled> = Vec::with_capacity(going.len());
    for Going { index, word, done } in going {
        settled.push(Settled { index, message: word.message, done });
        words.push(word);
    }
    let confirmed = acks::confirm(source, &words).await;
    let for_good = settled.iter().zip(&confirmed).filter(|(settled, result)| settled.done && result.is_ok());
    source.held.let_go(for_good.map(|(settled, _)| settled.message));
    for (settled, result) in settled.iter().zip(confirmed) {
        put(&mut results, settled.index, result);
    }
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|| Err(SettleError::Unconfirmed("it was not carried out".to_owned()))))
        .collect()
}

fn is_return(settlement: &Settlement) -> bool {
    match settlement {
        Settlement::Return { .. } => true,
        Settlement::Ack { .. } | Settlement::DeadLetter(_) => false,
    }
}

/// Stores what must be stored first. Those of which it is go on; the others have their result.
async fn store_all(
    source: &JetStreamSource,
    to_store: Vec<(Going, First)>,
    losses: u64,
    going: &mut Vec<Going>,
    results: &mut [Option<Result<(), SettleError>>],
) {
    let mut storing = futures_util::stream::iter(to_store)
        .map(|(settlement, first)| async move {
            let stored = tokio::time::timeout_at(settlement.word.lease_ends_at, store(source, first, losses)).await;
            (settlement, stored.unwrap_or(Err(SettleError::LeaseLost)))
        })
        .buffer_unordered(STORES);
    while let Some((settlement, stored)) = storing.next().await {
        match stored {
            Ok(()) => going.push(settlement),
            Err(error) => put(results, settlement.index, Err(error)),
        }
    }
}

async fn store(source: &JetStreamSource, first: First, losses: u64) -> Result<(), SettleError> {
    match first {
        First::Outputs(outputs) => {
            for stored in source.publisher.publish_each(outputs).await {
                let stored = stored.map_err(SettleError::Output)?;
                source.duplicates.fetch_add(u64::from(stored.duplicate), Ordering::Relaxed);
                source.record.reached(&stored.stream, stored.seq, losses);
            }
            Ok(())
        }
        First::DeadLetter(letter) => {
            let stored = source.dead.store(&letter).await.map_err(SettleError::DeadLetter)?;
            source.record.reached(&stored.stream, stored.seq, losses);
            Ok(())
        }
    }
}

/// Writes down what is done and what is to be remembered. A record that cannot be written stops nothing: it saves
/// second runs, and to keep back acknowledgements would only make more of them. The record logs and counts it.
async fn write_record(source: &JetStreamSource, going: &[Going], notes: Vec<(MessageIdentity, Progress)>, losses: u64) {
    let done: Vec<_> =
        going.iter().filter(|settlement| settlement.done).map(|settlement| settlement.word.message).collect();
    if !done.is_empty()
        && let Err(error) = source.record.mark(source.source, &done, losses).await
    {
        tracing::debug!(%error, "settled without the record");
    }
    if !notes.is_empty() {
        // For this host and for the others: whoever gets the message next finds it.
        let (told, noted) =
            (source.notes.write(&source.place, notes.clone()), source.record.note(source.source, notes));
        if let ((), Err(error)) = futures_util::future::join(told, noted).await {
            tracing::debug!(%error, "returned without the note");
        }
    }
}

fn put(results: &mut [Option<Result<(), SettleError>>], index: usize, result: Result<(), SettleError>) {
    if let Some(place) = results.get_mut(index) {
        *place = Some(result);
    }
}
