//! What buckets leave free of the disk.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::broker::embedded::space::{Free, Look, Space};

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
    space: Space,
    /// What the queue keeps free for itself.
    reserve: u64,
    /// `None` when it cannot be read, and then nothing is refused.
    free: Option<Free>,
    told: bool,
}

impl Room {
    pub(super) const fn new(directory: PathBuf, reserve: u64) -> Self {
        Self { space: Space::new(directory), reserve, free: None, told: false }
    }

    pub(super) fn written(&mut self, bytes: i64) {
        self.space.written(bytes);
    }

    /// Looks at the disk again, when it is time to. Between two groups, so that a group sees one answer.
    pub(super) fn look(&mut self, connection: &Connection) {
        self.free = match self.space.look(connection) {
            Look::NotYet => return,
            Look::Unreadable => None,
            Look::Found(free) => Some(free),
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
        let free = self.free?;
        let kept = match growth {
            Growth::More => self.reserve.saturating_mul(2),
            Growth::Same => self.reserve,
        };
        free.is_below(kept).then(|| {
            let (left, kept) = (free.disk >> 20, kept >> 20);
            format!("the disk has {left} MiB free, and buckets leave {kept} MiB to messages")
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
