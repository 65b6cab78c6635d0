//! The wall clock, in one place, so that a simulation can run years in a second.

use std::time::SystemTime;

use tokio::time::Instant;

/// Tells the time of day. In a simulation it follows tokio's paused clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    simulated: Option<(Instant, SystemTime)>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self { simulated: None }
    }

    /// A clock that shows `start` now and goes on with tokio's clock, paused or not.
    #[must_use]
    pub fn simulated(start: SystemTime) -> Self {
        Self { simulated: Some((Instant::now(), start)) }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        match self.simulated {
            Some((origin, start)) => start + origin.elapsed(),
            None => SystemTime::now(),
        }
    }
}
