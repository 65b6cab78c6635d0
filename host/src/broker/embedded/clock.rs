//! The queue's clock: wall time that never goes back.
//!
//! Due times are stored as wall clock, because they must hold over a restart. While the process runs, a wall clock
//! that goes back is bridged with the monotonic one, so nothing that was due becomes not due; one that jumps forward is
//! followed, so retries fire early at worst. Over a restart the wall clock is believed again: after it went back, a
//! retry comes late by as much, and never twice, since what is handed out has no due time.

use std::time::{Instant, SystemTime};

use super::codec::{duration_micros, micros};

#[derive(Debug)]
pub(super) struct Clock {
    anchor: Instant,
    anchor_us: i64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { anchor: Instant::now(), anchor_us: micros(SystemTime::now()) }
    }

    /// Microseconds since 1970, never fewer than at an earlier call.
    pub(super) fn now_us(&mut self) -> i64 {
        self.read(Instant::now(), micros(SystemTime::now()))
    }

    fn read(&mut self, now: Instant, wall_us: i64) -> i64 {
        let bridged = self.anchor_us.saturating_add(duration_micros(now.saturating_duration_since(self.anchor)));
        if wall_us > bridged {
            self.anchor = now;
            self.anchor_us = wall_us;
        }
        wall_us.max(bridged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wall_clock_that_jumps_never_takes_the_queue_back() {
        let start = Instant::now();
        let mut clock = Clock { anchor: start, anchor_us: 1_000_000 };
        let second = Duration::from_secs(1);
        assert_eq!(clock.read(start + second, 2_000_000), 2_000_000);
        // Back by an hour: bridged.
        assert_eq!(clock.read(start + 2 * second, -3_598_000_000), 3_000_000);
        // Forward by an hour: followed.
        assert_eq!(clock.read(start + 3 * second, 3_604_000_000), 3_604_000_000);
        // And back to where it was: bridged from there.
        assert_eq!(clock.read(start + 4 * second, 5_000_000), 3_605_000_000);
    }
}
