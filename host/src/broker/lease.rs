//! The host's own clock on a delivery. A broker does not stop a late settle (JetStream applies it to whoever holds the
//! message now), so the host does.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// How long a delivery is ours. Shared between the run, the keeper that extends it and the settle stage.
#[derive(Debug)]
pub struct Lease {
    origin: Instant,
    /// Microseconds from `origin` to the end; only ever grows.
    ends_after_us: AtomicU64,
}

impl Lease {
    /// A lease that ends at an instant.
    #[must_use]
    pub fn until(ends_at: Instant) -> Self {
        // The origin is the end itself at first: instants may lie before it, so it is taken an hour earlier where the
        // clock allows.
        let origin = ends_at.checked_sub(Duration::from_secs(3600)).unwrap_or(ends_at);
        Self { origin, ends_after_us: AtomicU64::new(micros(ends_at.duration_since(origin))) }
    }

    /// When it ends, as known now.
    #[must_use]
    pub fn ends_at(&self) -> Instant {
        self.origin + Duration::from_micros(self.ends_after_us.load(Ordering::Acquire))
    }

    /// Moves the end further out. An earlier end than the present one changes nothing.
    pub fn extend_to(&self, ends_at: Instant) {
        self.ends_after_us.fetch_max(micros(ends_at.saturating_duration_since(self.origin)), Ordering::AcqRel);
    }

    /// Whether it is over: nothing may be published or settled for this delivery any more.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.ends_at()
    }

    /// What is left of it.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        self.ends_at().saturating_duration_since(now)
    }
}

/// Does something as long as all of these leases hold, extended ones to their new end. `None`: one ended first.
pub(crate) async fn while_held<T>(leases: &[&Lease], work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        let first_end = leases.iter().map(|lease| lease.ends_at()).min()?;
        match timeout_at(first_end, work.as_mut()).await {
            Ok(done) => return Some(done),
            Err(_elapsed) if leases.iter().any(|lease| lease.is_over(Instant::now())) => return None,
            // It was extended meanwhile.
            Err(_elapsed) => {}
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_only_ever_grows() {
        let now = Instant::now();
        let lease = Lease::until(now + Duration::from_secs(10));
        assert!(!lease.is_over(now));
        lease.extend_to(now + Duration::from_secs(5));
        assert_eq!(lease.remaining(now), Duration::from_secs(10));
        lease.extend_to(now + Duration::from_secs(20));
        assert!(!lease.is_over(now + Duration::from_secs(19)));
        assert!(lease.is_over(now + Duration::from_secs(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_every_lease_holds_and_ends_with_the_first() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let (short, long) = (Lease::until(now + seconds(2)), Lease::until(now + seconds(9)));
        let work = |takes| async move {
            tokio::time::sleep(takes).await;
            7
        };
        assert_eq!(while_held(&[&long, &short], work(seconds(1))).await, Some(7));
        assert_eq!(while_held(&[&long, &short], work(seconds(5))).await, None);
        assert_eq!(Instant::now(), now + seconds(2));
        let extended = Lease::until(now + seconds(3));
        let (done, ()) = futures_util::future::join(while_held(&[&extended], work(seconds(4))), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            extended.extend_to(now + seconds(8));
        })
        .await;
        assert_eq!(done, Some(7));
    }
}
