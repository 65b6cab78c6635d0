//! Payloads and dead letters stand in the files of a queue: only the host's user reads them.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::buckets;
use super::lock::LOCK_FILE;
use super::schema::{LOG_FILE, STORE_FILE};

/// What SQLite keeps beside a store and its log while one is open.
const SHARED_FILE: &str = "queue.db-shm";

/// The directory of a queue is for its user alone.
const DIRECTORY: u32 = 0o700;
/// And so is each file in it.
const FILE: u32 = 0o600;

/// Makes the directory of a queue, where it is not there.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(directory)
}

/// Takes a queue that is there, of an earlier version or with a directory that somebody else made, from the eyes of others.
/// Where that cannot be done the queue works all the same, and whoever looks after it is told.
pub(super) fn close_to_others(directory: &Path) {
    let names = [STORE_FILE, LOG_FILE, SHARED_FILE, LOCK_FILE].into_iter().chain(buckets::FILES);
    let files = names.map(|name| (directory.join(name), FILE));
    let all = std::iter::once((directory.to_owned(), DIRECTORY)).chain(files);
    for (path, mode) in all {
        match restrict(&path, mode) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "others on this machine may read the messages of this queue: its permissions could not be set");
            }
        }
    }
}

fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?.permissions().mode();
    // What is narrower already stays.
    match found & 0o777 & !mode {
        0 => Ok(()),
        _ => std::fs::set_permissions(path, Permissions::from_mode(mode)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::broker::Broker as _;
    use crate::broker::embedded::{EmbeddedQueue, Options};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A data directory that was there before made a queue that every user of the machine could read.
    #[tokio::test]
    async fn a_queue_is_for_its_user_alone_whoever_made_its_directory() {
        let data = tempfile::tempdir().unwrap();
        let open = async |path: &Path| EmbeddedQueue::open(Options::new(path.to_owned())).await.unwrap();
        for made_before in [false, true] {
            let path = data.path().join(format!("queue-{made_before}"));
            if made_before {
                std::fs::create_dir(&path).unwrap();
                open(&path).await.close().await;
                std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
                for entry in std::fs::read_dir(&path).unwrap() {
                    std::fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
                }
            }
            let queue = open(&path).await;
            assert_eq!(mode(&path), 0o700, "{made_before}");
            let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() >= 3, "{files:?}");
            for file in files {
                assert_eq!(mode(&file), 0o600, "{made_before}: {}", file.display());
            }
            queue.close().await;
        }
    }
}
