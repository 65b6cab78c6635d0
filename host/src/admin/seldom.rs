//! A line that is logged once in a while, however often there is reason for it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Says something at most once in a given time.
#[derive(Debug)]
pub(super) struct Seldom {
    every: Duration,
    /// When it was last said, and how often it was not since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new((None, 0)) }
    }

    /// Says it, with the number of times that it went unsaid before; or counts it.
    pub(super) fn say(&self, say: impl FnOnce(u64)) {
        let unsaid = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0.is_some_and(|at| at.elapsed() < self.every) {
                last.1 += 1;
                return;
            }
            last.0 = Some(Instant::now());
            std::mem::take(&mut last.1)
        };
        say(unsaid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_unsaid_is_counted() {
        let mut said = Vec::new();
        let hourly = Seldom::new(Duration::from_secs(3600));
        (0..3).for_each(|_| hourly.say(|unsaid| said.push(unsaid)));
        let always = Seldom { every: Duration::ZERO, ..hourly };
        always.say(|unsaid| said.push(unsaid));
        assert_eq!(said, [0, 2]);
    }
}
