//! What the server tells of a consumer, once and to whoever listens: an alarm, and never the way of a message.
//!
//! What it tells of single messages (returned, given up) is not listened to: it would send as many of these as messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::counters::Counters;
use super::pump::Inboxes;
use super::source::JetStreamSource;
use crate::broker::ReceiveError;

/// Something that the server tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advisory {
    /// It hands a message out no more: somebody set `max_deliver`.
    MaxDeliveries,
    /// The consumer was paused, or goes on.
    Pause,
    /// The consumer was removed.
    Deleted,
    /// Another server of the cluster leads the consumer.
    LeaderElected,
    /// Too few servers of the cluster are left to lead the consumer.
    QuorumLost,
}

impl Advisory {
    /// All of them, in the order of their definition.
    pub(super) const ALL: [Self; 5] =
        [Self::MaxDeliveries, Self::Pause, Self::Deleted, Self::LeaderElected, Self::QuorumLost];

    /// The word for it in its subject.
    const fn token(self) -> &'static str {
        match self {
            Self::MaxDeliveries => "MAX_DELIVERIES",
            Self::Pause => "PAUSE",
            Self::Deleted => "DELETED",
            Self::LeaderElected => "LEADER_ELECTED",
            Self::QuorumLost => "QUORUM_LOST",
        }
    }

    /// The same in metric labels.
    const fn name(self) -> &'static str {
        match self {
            Self::MaxDeliveries => "max_deliveries",
            Self::Pause => "pause",
            Self::Deleted => "deleted",
            Self::LeaderElected => "leader_elected",
            Self::QuorumLost => "quorum_lost",
        }
    }

    /// Where the server tells it of a consumer.
    pub(super) fn subject(self, stream: &str, consumer: &str) -> String {
        format!("$JS.EVENT.ADVISORY.CONSUMER.{}.{stream}.{consumer}", self.token())
    }
}

/// How often each was told.
#[derive(Debug, Default)]
pub(super) struct Told([AtomicU64; Advisory::ALL.len()]);

impl Told {
    pub(super) fn note(&self, advisory: Advisory) {
        if let Some(count) = self.0.get(advisory as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = Advisory::ALL.iter().zip(&self.0);
        counts.map(|(advisory, count)| (advisory.name(), count.load(Ordering::Relaxed))).collect()
    }
}

impl JetStreamSource {
    /// Listens for what becomes of the consumer, as long as there are these inboxes. It is counted and logged; what has to
    /// be done about it is found by looking at the consumer. (Messages that are handed out no more have a way of their own,
    /// see [`super::exhausted`].)
    pub(super) async fn listen_for_advisories(&self, inboxes: &Inboxes) -> Result<(), ReceiveError> {
        let (stream, consumer) = (self.bound.stream.clone(), self.spec.name.clone());
        let mut told = Vec::new();
        for advisory in Advisory::ALL.into_iter().filter(|advisory| *advisory != Advisory::MaxDeliveries) {
            let listening = inboxes.session.subscribe(advisory.subject(&stream, &consumer)).await;
            let messages = listening.map_err(|error| ReceiveError::Away(error.to_string()))?;
            told.push(messages.map(move |_| advisory));
        }
        let mut told = futures_util::stream::select_all(told);
        let (counters, stopped): (Arc<Counters>, _) = (Arc::clone(&self.counters), inboxes.stopped().clone());
        let upsets = Arc::clone(&self.upsets);
        // Not joined: it holds nothing that must be finished, and ends with the inboxes or the session.
        tokio::spawn(async move {
            while let Some(Some(advisory)) = stopped.run_until_cancelled(told.next()).await {
                counters.told.note(advisory);
                if !matches!(advisory, Advisory::Pause) {
                    upsets.note(Instant::now());
                }
                match advisory {
                    Advisory::QuorumLost | Advisory::Deleted => {
                        tracing::warn!(
                            stream,
                            consumer,
                            advisory = advisory.name(),
                            "the server tells of the consumer"
                        );
                    }
                    Advisory::Pause | Advisory::LeaderElected | Advisory::MaxDeliveries => {
                        tracing::info!(
                            stream,
                            consumer,
                            advisory = advisory.name(),
                            "the server tells of the consumer"
                        );
                    }
                }
            }
        });
        Ok(())
    }
}
