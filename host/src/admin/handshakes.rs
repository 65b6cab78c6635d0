//! TLS handshakes under way: bounded in number and in time.
//!
//! Invariants:
//! - A connection takes none of the listener's places before its handshake has ended well: whoever opens connections and
//!   says nothing keeps nobody out.
//! - When there are too many, the oldest one ends and the new one goes on: those who mean it need a moment each.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::tls::Tls;

/// Handshakes at once. One that has not ended holds some 20 KiB: 5 MiB at most. A stranger has to open so many within
/// the moment that a handshake takes, over and over, before anybody else is kept waiting.
const AT_ONCE: usize = 256;
/// How long one may take: two round trips and a signature, which across the world is a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client that has agreed on TLS waits for a place.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);

/// The handshakes of a listener.
#[derive(Debug)]
pub(super) struct Handshakes {
    tls: Arc<Tls>,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// The oldest first.
    all: VecDeque<(u64, CancellationToken)>,
}

/// One handshake, counted until it is dropped.
struct Counted {
    handshakes: Arc<Handshakes>,
    number: u64,
    crowded_out: CancellationToken,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.handshakes.lock().all.retain(|(number, _)| *number != self.number);
    }
}

impl Handshakes {
    pub(super) fn new(tls: Arc<Tls>) -> Arc<Self> {
        Arc::new(Self { tls, under_way: Mutex::default() })
    }

    /// Agrees with a client, then takes one of the places.
    ///
    /// # Errors
    /// When they do not agree, it takes too long, there is no place, or it was the oldest of too many.
    pub(super) async fn enter(
        self: &Arc<Self>,
        stream: TcpStream,
        places: Arc<Semaphore>,
    ) -> io::Result<(TlsStream<TcpStream>, OwnedSemaphorePermit)> {
        // Counted until it has its place: whoever waits for one is bounded, too.
        let counted = self.count();
        let entered = async {
            let agreed = tokio::time::timeout(PATIENCE, self.tls.acceptor().accept(stream)).await;
            let stream = agreed.map_err(|_| io::Error::other("the client did not end its handshake in time"))??;
            match tokio::time::timeout(PLACE_PATIENCE, places.acquire_owned()).await {
                Ok(Ok(place)) => Ok((stream, place)),
                Ok(Err(_)) | Err(_) => Err(io::Error::other("all connections of the listener are in use")),
            }
        };
        tokio::select! {
            entered = entered => entered,
            () = counted.crowded_out.cancelled() => {
                Err(io::Error::other("it was the oldest of too many handshakes that had not ended"))
            }
        }
    }

    fn count(self: &Arc<Self>) -> Counted {
        let mut under_way = self.lock();
        while under_way.all.len() >= AT_ONCE {
            let Some((_, oldest)) = under_way.all.pop_front() else { break };
            oldest.cancel();
        }
        let (number, crowded_out) = (under_way.next, CancellationToken::new());
        under_way.next += 1;
        under_way.all.push_back((number, crowded_out.clone()));
        drop(under_way);
        Counted { handshakes: Arc::clone(self), number, crowded_out }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Handshakes {
    /// How many have not ended.
    pub(super) fn under_way(&self) -> usize {
        self.lock().all.len()
    }

    /// The most at once.
    pub(super) const AT_ONCE: usize = AT_ONCE;
}
