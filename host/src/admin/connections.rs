//! The connections of the listener: bounded in number, and in how long one may keep its place without asking anything.
//! Whoever comes when all places are taken waits in the kernel's queue; with TLS, for a moment after the handshake.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handshakes::Handshakes;
use super::seldom::Seldom;
use super::tls::Tls;

/// More than a scraper, a load balancer's checks and the command line ever open; 256 of 16 KiB buffers are 4 MiB.
const CONNECTIONS: usize = 256;
/// A connection that has not sent the head of a request within this time, its first or its next, is closed: a stranger
/// who opens connections and says nothing takes places for so long and no longer.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// When the process has no file descriptors left, accepting again at once would only spin.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Answers connections until `stop` ends; requests that run are then finished. Dropped, it ends them all.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let stopping = CancellationToken::new();
    let handshakes = tls.map(Handshakes::new);
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = open.join_next() => {}
            accepted = accept(&listener, handshakes.is_none().then_some(&permits)) => {
                let Some((stream, peer, place)) = accepted else { continue };
                let (router, stopping) = (router.clone().layer(Extension(peer)), stopping.clone());
                match &handshakes {
                    None => open.spawn(connection(stream, router, stopping, place)),
                    Some(handshakes) => {
                        let (handshakes, permits) = (Arc::clone(handshakes), Arc::clone(&permits));
                        open.spawn(encrypted(handshakes, permits, stream, peer, router, stopping))
                    }
                };
            }
        }
    }
    drop(listener);
    stopping.cancel();
    while open.join_next().await.is_some() {}
    Ok(())
}

/// The next connection, once there is a place for it where one is taken at once. Dropped, it has taken neither a place nor
/// a connection.
async fn accept(
    listener: &TcpListener,
    permits: Option<&Arc<Semaphore>>,
) -> Option<(TcpStream, Peer, Option<OwnedSemaphorePermit>)> {
    let place = match permits {
        // The semaphore is never closed, so there is always a permit in the end.
        Some(permits) => Some(Arc::clone(permits).acquire_owned().await.ok()?),
        None => None,
    };
    match listener.accept().await {
        Ok((stream, address)) => {
            // Answers are small and awaited one by one: nothing is gained by holding them back.
            let _ = stream.set_nodelay(true);
            Some((stream, Peer(address), place))
        }
        Err(error) if of_the_connection(&error) => None,
        Err(error) => {
            tracing::warn!(%error, "a connection to the listener could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Whether an error is that of one connection which went before it was accepted.
fn of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Agrees on TLS, takes a place, and answers.
async fn encrypted(
    handshakes: Arc<Handshakes>,
    permits: Arc<Semaphore>,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    stopping: CancellationToken,
) {
    let entered = tokio::select! {
        entered = handshakes.enter(stream, permits) => entered,
        () = stopping.cancelled() => return,
    };
    match entered {
        Ok((stream, place)) => connection(stream, router, stopping, Some(place)).await,
        Err(error) => refused().say(|unsaid| {
            tracing::warn!(from = %peer.0, %error, unsaid, "a connection to the listener did not come to be");
        }),
    }
}

/// Told once a second at most: a stranger can try without end, and the log has one.
fn refused() -> &'static Seldom {
    static SELDOM: Seldom = Seldom::new(Duration::from_secs(1));
    &SELDOM
}

/// Answers the requests of one connection, and gives its place back.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stopping: CancellationToken,
    _place: Option<OwnedSemaphorePermit>,
) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let mut answering = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended: Result<(), hyper::Error> = tokio::select! {
        ended = answering.as_mut() => ended,
        () = stopping.cancelled() => {
            answering.as_mut().graceful_shutdown();
            answering.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the listener broke");
    }
}
