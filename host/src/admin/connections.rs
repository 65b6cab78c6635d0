//! The connections of the listener: bounded in number, and in how long one may keep its place without asking anything.
//! Whoever comes when all places are taken waits in the kernel's queue.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let stopping = CancellationToken::new();
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = open.join_next() => {}
            accepted = accept(&listener, &permits) => {
                if let Some((stream, peer, permit)) = accepted {
                    let router = router.clone().layer(Extension(peer));
                    open.spawn(connection(stream, router, stopping.clone(), permit));
                }
            }
        }
    }
    drop(listener);
    stopping.cancel();
    while open.join_next().await.is_some() {}
    Ok(())
}

/// The next connection, once there is a place for it. Dropped, it has taken neither a place nor a connection.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, Peer, OwnedSemaphorePermit)> {
    // The semaphore is never closed, so there is always a permit in the end.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            // Answers are small and awaited one by one: nothing is gained by holding them back.
            let _ = stream.set_nodelay(true);
            Some((stream, Peer(address), permit))
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

/// Answers the requests of one connection, and gives its place back.
async fn connection(stream: TcpStream, router: Router, stopping: CancellationToken, _place: OwnedSemaphorePermit) {
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
