//! The dead letters of the embedded queue, as everyone else sees them.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use super::codec;
use super::error::Failure;
use super::inbox::{Forgotten, Op, Redrive, Request, Restore};
use super::prepare::dead_row;
use super::reader::Reader;
use super::{Inner, OpenError};
use crate::broker::{
    DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, KeptSubscription, Published,
    SendBack, Status, Tally, disk,
};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, StoredDeadLetter};

/// Less than this on the disk, and dead letters are not sure to be stored: the largest message of the default, and its
/// pages once more in the log.
const LEAST_FREE: u64 = 2 << 20;

pub(super) struct EmbeddedDeadLetters {
    pub(super) inner: Arc<Inner>,
}

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        self.inner.reader.list(query).await
    }

    async fn tally(&self, filter: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError> {
        self.inner.reader.tally(filter, tally).await
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        self.inner.reader.get(id).await
    }

    // Dropped, it is done all the same or not at all.
    async fn send_back(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError> {
        let (request, answered) = Request::new(Redrive { id: id.0.clone(), how: how.clone() });
        self.inner.inbox.push(Op::Redrive(request), 0).await.map_err(|failure| failure.dead_letter())?;
        answered.await.unwrap_or_else(|_gone| Err(Failure::Closed.dead_letter()))
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError> {
        let (request, answered) = Request::new(id.0.clone());
        self.inner.inbox.push(Op::Discard(request), 0).await.map_err(|failure| failure.dead_letter())?;
        answered.await.unwrap_or_else(|_gone| Err(Failure::Closed.dead_letter()))
    }

    // Dropped, it is done all the same or not at all.
    async fn restore(&self, letter: DeadLetter) -> Result<bool, DeadLetterError> {
        let DeadLetter { record, headers, body } = letter;
        let unfit = |why: &str| DeadLetterError::Store(format!("dead letter `{}`: {why}", record.id));
        let headers = codec::encode_headers(&headers).ok_or_else(|| unfit("a header is longer than 4 GiB"))?;
        let row = dead_row(&record, headers, body).map_err(|why| unfit(&why))?;
        let (request, answered) = Request::new(Restore { subscription: record.subscription, row });
        self.inner.inbox.push(Op::Restore(request), 0).await.map_err(|failure| failure.dead_letter())?;
        answered.await.unwrap_or_else(|_gone| Err(Failure::Closed.dead_letter()))
    }

    async fn forget_redriven(&self, before: SystemTime, at_most: usize) -> Result<usize, DeadLetterError> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let (request, answered) = Request::new(Forgotten { before_us: codec::micros(before), at_most });
        self.inner.inbox.push(Op::ForgetRedriven(request), 0).await.map_err(|failure| failure.dead_letter())?;
        answered.await.unwrap_or_else(|_gone| Err(Failure::Closed.dead_letter()))
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        self.inner.reader.depth().await
    }

    async fn oldest(&self) -> Result<Option<SystemTime>, DeadLetterError> {
        self.inner.reader.oldest_dead().await
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        if let Status::Failed(why) = self.inner.shared.status() {
            return Err(DeadLetterError::Store(why));
        }
        // They are written from the reserve, which publishes leave alone; somebody else may have used it up.
        let free = disk::free(&self.inner.directory)?;
        if free < LEAST_FREE {
            return Err(DeadLetterError::Store(format!(
                "the disk has {} KiB free, and settling takes some; make room in {}",
                free >> 10,
                self.inner.directory.display()
            )));
        }
        Ok(())
    }
}

/// A look at a queue that another process may own: its dead letters and subscriptions, and nothing is changed.
#[derive(Debug, Clone)]
pub struct Inspector {
    reader: Reader,
}

impl Inspector {
    pub(super) async fn open(directory: &Path) -> Result<Self, OpenError> {
        let reader = Reader::new(directory);
        reader.probe().await?;
        Ok(Self { reader })
    }

    /// The subscriptions of the queue. Whether they are in use is not known from here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn subscriptions(&self) -> Result<Vec<KeptSubscription>, DeadLetterError> {
        self.reader.subscriptions().await.map_err(DeadLetterError::Store)
    }
}

#[async_trait]
impl DeadLetters for Inspector {
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        self.reader.list(query).await
    }

    async fn tally(&self, filter: &DeadLetterFilter, tally: Tally) -> Result<Tally, DeadLetterError> {
        self.reader.tally(filter, tally).await
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        self.reader.get(id).await
    }

    async fn send_back(&self, _id: &DeadLetterId, _how: &SendBack) -> Result<Published, DeadLetterError> {
        Err(only_looking())
    }

    async fn discard(&self, _id: &DeadLetterId) -> Result<(), DeadLetterError> {
        Err(only_looking())
    }

    async fn restore(&self, _letter: DeadLetter) -> Result<bool, DeadLetterError> {
        Err(only_looking())
    }

    async fn forget_redriven(&self, _before: SystemTime, _at_most: usize) -> Result<usize, DeadLetterError> {
        Err(only_looking())
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        self.reader.depth().await
    }

    async fn oldest(&self) -> Result<Option<SystemTime>, DeadLetterError> {
        self.reader.oldest_dead().await
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        Err(only_looking())
    }
}

fn only_looking() -> DeadLetterError {
    DeadLetterError::Store("the queue was opened only to look at it; the host that owns it can change it".to_owned())
}
