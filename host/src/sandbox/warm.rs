//! A version made ready for its first messages, before it is live and where no message waits for it.
//!
//! What a version that was just compiled lacks, and its first messages would wait for: no slot of the pool has its memory's
//! image, and where instances are reused, there is none. (Its code is mapped in when it is loaded.) The pool keeps the
//! slots of each thread apart, so instances are made on as many threads as there are cores: that reaches the slots of those
//! threads that will run it.
//!
//! Invariants:
//! - Nothing runs here but the module's start, under the limits of a run; what it does has no effect.
//! - What is met here decides nothing: whether a module starts at all was found out by [`Version::init`].
//! - It takes a bounded time, and of the pool no more than what leaves half of it to messages.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::version::Version;
use super::{compiler, invocation};
use crate::broker::lease::Lease;

/// Instances that each thread makes before it drops the first: one runs on a core at a time, and one more is there while
/// a longer run has given way.
const EACH: usize = 2;
/// Cores beyond these are not gone for: the pool tells no more threads apart.
const MAX_THREADS: usize = 16;
/// What all of it may take. A module of Rust takes 1 ms, one of Python 10; one that is at work for long when it starts
/// gets as many instances ready as there is time for.
const TIME: Duration = Duration::from_millis(500);

/// Makes a version ready. Of the instances that are made as many are kept for its first messages as `keep` says, when its
/// instances are reused. Takes as long as it does: call it where that may be, with the runtime that the guest's time
/// comes from.
pub(super) fn warm(version: &Version, keep: usize, runtime: &Handle) {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS);
    let each = EACH.max(keep.div_ceil(threads));
    let (keep, lease) = (&AtomicUsize::new(keep), &Lease::until(Instant::now() + TIME));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let make = move || {
                compiler::give_way();
                runtime.block_on(make_ready(version, each, keep, lease));
            };
            if let Err(error) = std::thread::Builder::new().name("sandbox-warm".to_owned()).spawn_scoped(scope, make) {
                tracing::debug!(%error, "a version is not made ready on every core");
            }
        }
    });
}

/// Makes so many instances, which exist at once, and keeps those that are to be kept.
async fn make_ready(version: &Version, count: usize, keep: &AtomicUsize, lease: &Lease) {
    let mut made = Vec::new();
    while made.len() < count {
        let Some(instance) = invocation::start_ahead(version, lease).await else { break };
        made.push(instance);
    }
    for instance in made {
        let is_kept = keep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if is_kept.is_ok() {
            version.keep(instance);
        }
    }
}
