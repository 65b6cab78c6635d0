//! Reads beside the writer, on the blocking pool: a few at a time, each on a connection of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::store;
use crate::broker::bucket::BucketError;

/// Reads at once. A value that is in memory takes some microseconds, so four keep up with every handler; and a disk that
/// hangs holds up four threads of the pool and not all of them.
pub(super) const READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Those that nobody reads on now.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(directory: &Path) -> Self {
        let shared = Shared { directory: directory.to_owned(), idle: Mutex::default() };
        Self { shared: Arc::new(shared), turns: Arc::new(Semaphore::new(READERS)) }
    }

    /// Dropped, a read that has begun ends by itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, BucketError> {
        let failed = |why: String| BucketError::Unavailable(format!("the store of buckets cannot be read: {why}"));
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_closed| super::closed())?;
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = match shared.idle().pop() {
                Some(connection) => connection,
                None => store::open_reader(&shared.directory)?,
            };
            let answer = read(&connection).map_err(|error| error.to_string());
            if answer.is_ok() {
                shared.idle().push(connection);
            }
            answer
        });
        task.await.map_err(|error| failed(error.to_string()))?.map_err(failed)
    }

    /// Lets the connections go; nothing is read any more.
    pub(super) fn close(&self) {
        self.turns.close();
        self.shared.idle().clear();
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A list that is pushed to and popped from is whole whoever died meanwhile.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
