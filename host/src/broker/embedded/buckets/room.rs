//! What buckets leave free of the disk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::broker::disk;
use crate::broker::embedded::retain::free_inside;

/// How often the disk's free space is looked at, while something is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And after so many bytes in between: an eighth of the default reserve.
const LOOK_AFTER_BYTES: i64 = 8 << 20;

/// How a write changes what a bucket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// It takes more.
    More,
    /// It takes no more, and is written anew all the same: that goes through the log, which needs room too.
    Same,
}

/// The room on the disk, as it was when it was last looked at.
#[derive(Debug)]
pub(super) struct Room {
    directory: PathBuf,
    /// What the queue keeps free for itself.
    reserve: u64,
    looked_at: Option<Instant>,
    written: i64,
    /// On the disk, and in pages of the file that are free: `None` when it cannot be read, and then nothing is refused.
    free: Option<Free>,
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Free {
    disk: u64,
    inside: u64,
}

impl Room {
    pub(super) const fn new(directory: PathBuf, reserve: u64) -> Self {
        Self { directory, reserve, looked_at: None, written: 0, free: None, told: false }
    }

    pub(super) fn written(&mut self, bytes: i64) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Looks at the disk again, when it is time to. Between two groups, so that a group sees one answer.
    pub(super) fn look(&mut self, connection: &Connection) {
        let recent = self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        if recent && self.written < LOOK_AFTER_BYTES {
            return;
        }
        self.looked_at = Some(Instant::now());
        self.written = 0;
        self.free = match disk::free(&self.directory) {
            Ok(disk) => Some(Free { disk, inside: free_inside(connection).unwrap_or(0) }),
            Err(error) => {
                tracing::warn!(%error, "the free space of the disk cannot be read");
                None
            }
        };
        let problem = self.problem(Growth::More);
        match (&problem, std::mem::replace(&mut self.told, problem.is_some())) {
            (Some(problem), false) => tracing::error!(%problem, "buckets take no more; messages are still taken"),
            (None, true) => tracing::info!("the disk has room again; buckets take more"),
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Why a write should not be done. What removes needs no room that is worth counting.
    pub(super) fn problem(&self, growth: Growth) -> Option<String> {
        let Free { disk, inside } = self.free?;
        let kept = match growth {
            Growth::More => self.reserve.saturating_mul(2),
            Growth::Same => self.reserve,
        };
        // Pages that are free inside the file are room too, but the log needs real space beside them.
        let is_short = disk.saturating_add(inside) < kept || disk < kept / 2;
        is_short.then(|| {
            let (free, kept) = (disk >> 20, kept >> 20);
            format!("the disk has {free} MiB free, and buckets leave {kept} MiB to messages")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_leave_twice_the_reserve_and_what_stands_there_may_change_a_while_longer() {
        const MIB: u64 = 1 << 20;
        for (disk, inside, more, same) in [
            (128, 0, true, true),
            (127, 0, false, true),
            (100, 28, true, true),
            // Only half of it may be inside the file.
            (63, 200, false, true),
            (64, 0, false, true),
            (63, 0, false, false),
            (31, 200, false, false),
        ] {
            let mut room = Room::new(PathBuf::new(), 64 * MIB);
            room.free = Some(Free { disk: disk * MIB, inside: inside * MIB });
            let is_free = [Growth::More, Growth::Same].map(|growth| room.problem(growth).is_none());
            assert_eq!(is_free, [more, same], "{disk} MiB and {inside} MiB inside");
        }
    }
}
