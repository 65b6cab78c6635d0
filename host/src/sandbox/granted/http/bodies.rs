//! What goes out with a request and comes in with its answer.
//!
//! Invariants:
//! - A body that a run leaves unfinished never ends as if it were whole: the host at the other end sees it torn.
//! - A connection is lent to one answer, and kept only when that was read to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::client::{Client, Connection};
use super::errors;
use crate::sandbox::granted::hosts::Target;

/// The body of a request.
pub(super) struct Upload {
    body: WasiBody,
    over: Arc<AtomicBool>,
    open: Open,
}

/// The place of a request among those that are open at once in its run: both bodies hold it.
pub(super) type Open = Arc<OwnedSemaphorePermit>;

impl Upload {
    /// `over` is set when the run ends, before anything of it is dropped.
    pub(super) const fn new(body: WasiBody, over: Arc<AtomicBool>, open: Open) -> Self {
        Self { body, over, open }
    }

    /// An empty one of the same request.
    pub(super) fn without_content(&self) -> Self {
        Self { body: WasiBody::default(), over: Arc::clone(&self.over), open: Arc::clone(&self.open) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // A guest that is gone looks like one that has finished.
        if frame.is_none() && self.over.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an answer that is not at its end holds.
pub(super) struct Lent {
    pub(super) client: Arc<Client>,
    pub(super) target: Target,
    pub(super) connection: Connection,
    pub(super) _open: Open,
}

/// The body of an answer.
pub(super) struct Answer {
    incoming: Incoming,
    lent: Option<Lent>,
    /// How long the next bytes may take, where the guest has said so.
    patience: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, lent: Lent, between_bytes: Option<Duration>) -> Self {
        let patience = between_bytes.map(|time| (time, Box::pin(sleep(time))));
        let mut answer = Self { incoming, lent: Some(lent), patience };
        answer.end_if_read();
        answer
    }

    fn end_if_read(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(Lent { client, target, connection, _open }) = self.lent.take() {
            client.keep(target, connection);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.end_if_read();
                if let Some((time, timer)) = &mut self.patience {
                    timer.as_mut().reset(Instant::now() + *time);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lent = None;
                Poll::Ready(Some(Err(errors::of_hyper(&error))))
            }
            Poll::Pending => {
                let Some((_time, timer)) = &mut self.patience else { return Poll::Pending };
                ready!(timer.as_mut().poll(context));
                self.lent = None;
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
