//! From what came on the wire to deliveries: each under its lease, with what is known of the message.
//!
//! Invariants:
//! - A message whose lease was over before it could be handed out is not handed out; the server hands it out anew.
//! - One that comes again while its lease here holds is held back.
//! - One that is done is not handed out while it is not known whether what it came to is still there; it comes again.
//! - What was taken out and is not handed out, as nobody waits for it any more, waits again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::held::Origin;
use super::pull::Arrived;
use super::pump::Inboxes;
use super::reply::Position;
use super::session::Session;
use super::source::JetStreamSource;
use super::{arrival, notes};
use crate::broker::done::MessageIdentity;
use crate::broker::{Delivery, Receipt, Source as _, Standing};
use crate::message::{Message, REDRIVE_FOR_HEADER};
use crate::settle::progress::Progress;

/// Over which connection messages came, and how many losses were known before it was looked which of them are done.
struct Since {
    session: u64,
    losses: u64,
}

/// Whether a message is done, and the note on it.
type Known = (bool, Option<Progress>);

/// What was taken out of the inboxes. Dropped, it waits there again.
struct Taken<'a> {
    inboxes: &'a Inboxes,
    arrived: Vec<Arrived>,
}

impl Taken<'_> {
    fn take(mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.arrived.is_empty() {
            self.inboxes.pulls().put_back(std::mem::take(&mut self.arrived));
        }
    }
}

impl JetStreamSource {
    /// Turns what came into deliveries: those whose lease is over and those that are held already are left out.
    pub(super) async fn hand_out(&self, inboxes: &Inboxes, arrived: Vec<Arrived>) -> Vec<Delivery> {
        let taken = Taken { inboxes, arrived };
        if taken.arrived.is_empty() {
            return Vec::new();
        }
        let told = self.told_of(&inboxes.session, &taken.arrived).await;
        // From what is known to what is handed out there is no await: what is settled meanwhile would run again.
        // And how many losses were known is asked before: one that is found in between makes what is handed out too old.
        let mut losses = self.losses.found();
        let mut known = self.known(&taken.arrived);
        let mut is_sure = true;
        if known.iter().any(|(is_done, _)| *is_done) {
            let since = taken.arrived.iter().map(|arrived| arrived.at).max();
            is_sure = self.losses.look(&inboxes.session, since).await;
            losses = self.losses.found();
            known = self.known(&taken.arrived);
        }
        let mut arrived: Vec<_> = taken.take().into_iter().zip(known).collect();
        if !is_sure {
            // They come again.
            arrived.retain(|(_, (is_done, _))| !is_done);
        }
        self.deliveries(Since { session: inboxes.session.number, losses }, arrived, told)
    }

    /// What the record has of each.
    fn known(&self, arrived: &[Arrived]) -> Vec<Known> {
        // What has no position is no delivery, and nothing is known of it.
        let nowhere = MessageIdentity { sequence: 0, stored_at: SystemTime::UNIX_EPOCH };
        let messages = arrived.iter().map(|one| one.position.as_ref().map_or(nowhere, Position::message));
        self.record.look_up(self.source, messages)
    }

    /// What other hosts noted of messages. Looked for where the count of deliveries does not follow from what is noted here:
    /// somebody else had the message in between.
    async fn told_of(&self, session: &Session, arrived: &[Arrived]) -> HashMap<MessageIdentity, Progress> {
        let again = arrived.iter().filter_map(|arrived| arrived.position).filter(|position| position.deliveries > 1);
        let again: Vec<_> = again.collect();
        // Nearly always there is none.
        if again.is_empty() {
            return HashMap::new();
        }
        let known = self.record.look_up(self.source, again.iter().map(Position::message));
        let follows = |note: &Progress, deliveries: u32| note.deliveries.saturating_add(1) == deliveries;
        let doubtful = again.iter().zip(known).filter(|(position, (already_done, note))| {
            !already_done && !note.as_ref().is_some_and(|note| follows(note, position.deliveries))
        });
        let doubtful = doubtful.map(|(position, _)| position.message()).collect();
        self.notes.read(session, &self.place, doubtful).await
    }

    fn deliveries(
        &self,
        since: Since,
        arrived: Vec<(Arrived, Known)>,
        mut told: HashMap<MessageIdentity, Progress>,
    ) -> Vec<Delivery> {
        let lease = self.lease_duration();
        let (now, Since { session, losses }) = (Instant::now(), since);
        let mut fresh = Vec::with_capacity(arrived.len());
        {
            let mut held = self.held.begin(now, self.spec.max_in_flight.saturating_mul(4) + 1024);
            for (Arrived { message, position, at }, known) in arrived {
                let Some(position) = position else { continue };
                let lease_ends_at = at + lease;
                if lease_ends_at <= now {
                    self.counters.stale.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                if !held.hold(position.message(), Origin { session, at, losses }, lease_ends_at, now) {
                    self.counters.held_back.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                fresh.push((message, position, lease_ends_at, known));
            }
        }
        let wall = SystemTime::now();
        fresh
            .into_iter()
            .map(|(message, position, lease_ends_at, (already_done, note))| {
                let told = if told.is_empty() { None } else { told.remove(&position.message()) };
                let progress = arrival::progress(notes::newer(note, told), position.deliveries, wall);
                let token = message.reply.as_ref().map(|reply| Bytes::copy_from_slice(reply.as_bytes()));
                let receipt = Receipt { sequence: position.sequence, token: token.unwrap_or_default() };
                let message = arrival::message(&self.bound.stream, message, &position);
                let standing = self.standing(&message, already_done);
                Delivery { message, progress, receipt, lease_ends_at, standing }
            })
            .collect()
    }

    fn standing(&self, message: &Message, already_done: bool) -> Standing {
        if already_done {
            self.counters.already_done.fetch_add(1, Ordering::Relaxed);
            return Standing::Done;
        }
        match message.headers.text(REDRIVE_FOR_HEADER) {
            Some(name) if name != self.spec.name => Standing::ForAnother,
            Some(_) | None => Standing::Due,
        }
    }
}
