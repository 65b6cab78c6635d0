//! One process owns a queue's directory: a locked file that names its owner.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::OpenError;

/// The name of the lock file in the queue's directory.
pub(super) const LOCK_FILE: &str = "queue.lock";

/// How long a lock that somebody holds is asked for again. Each program that this process starts has the lock's file for
/// the moment from its fork to its exec, so a queue that is closed and opened anew right then meets its own lock.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked for meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Holds the directory until it is dropped. The system lets the lock go when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(LOCK_FILE);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match try_for(&file, PATIENCE) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // The name is for a person to read; without it the refusal still stands.
                let _unread = file.read_to_string(&mut owner);
                let owner = match owner.trim() {
                    "" => "another process".to_owned(),
                    named => named.to_owned(),
                };
                return Err(OpenError::Owned { path: directory.to_owned(), owner });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn try_for(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if asked.elapsed() < patience => std::thread::sleep(ASK_EVERY),
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let text = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(first);
        Lock::take(directory.path()).unwrap();
    }

    #[test]
    fn what_is_held_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        // As a program that is being started does.
        let copy = first._file.try_clone().unwrap();
        drop(first);
        let asking = File::open(directory.path().join(LOCK_FILE)).unwrap();
        assert!(matches!(try_for(&asking, Duration::ZERO), Err(TryLockError::WouldBlock)));
        let takes = std::thread::spawn({
            let path = directory.path().to_owned();
            move || Lock::take(&path).map(drop)
        });
        drop(copy);
        takes.join().unwrap().unwrap();
    }
}
