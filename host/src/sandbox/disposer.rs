//! Gives back what nothing runs on any more: one thread, beside those that run handlers.
//!
//! Giving a version back unmaps its code and takes its memory's image out of every slot of the pool that still has it;
//! giving an idle instance back cleans its memory. Both would fall on whoever lets go last, which is the last message
//! on an old version, or the switch to the next one.
//!
//! The thread has the priority of those that run handlers. Nearly all that it does is the kernel's work on the process's memory map,
//! behind a lock that whoever starts an instance needs: with a lower priority it was put back while it held that, and messages
//! waited for it: of those around a switch two to three in a hundred took over twice as long as 99 % take otherwise, and one does now.
//!
//! Invariants:
//! - What is handed over is given back before the sandbox is gone: the thread is waited for.
//! - What waits to be given back is bounded; what finds no room is given back by whoever brought it.

use std::any::Any;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use super::error::SandboxError;

/// What may wait to be given back: the idle instances of one version are one of them, its code is another. Applying a
/// configuration that takes a hundred handlers away brings two hundred.
const WAITING: usize = 256;

type Leftover = Box<dyn Any + Send>;

/// The thread's handle.
pub(super) struct Disposer {
    /// Dropped to end the thread.
    leftovers: Option<SyncSender<Leftover>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Disposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disposer").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Disposer {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self, SandboxError> {
        let (leftovers, brought) = mpsc::sync_channel::<Leftover>(WAITING);
        let thread = std::thread::Builder::new()
            .name("sandbox-dispose".to_owned())
            .spawn(move || brought.into_iter().for_each(drop))
            .map_err(|source| SandboxError::Disposer { source })?;
        Ok(Self { leftovers: Some(leftovers), thread: Some(thread) })
    }

    /// Takes what is to be dropped there. Never waits.
    pub(super) fn take(&self, leftover: impl Any + Send) {
        if let Some(leftovers) = &self.leftovers {
            // When there is no room it comes back, and is dropped here.
            drop(leftovers.try_send(Box::new(leftover)));
        }
    }
}

impl Drop for Disposer {
    fn drop(&mut self) {
        drop(self.leftovers.take());
        if let Some(thread) = self.thread.take() {
            // The thread runs nothing but destructors; if one panicked, the process has said so already.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    /// Says on which thread it was dropped, once it may be.
    struct Tells(Sender<ThreadId>, Option<Receiver<()>>);

    impl Drop for Tells {
        fn drop(&mut self) {
            if let Some(may) = &self.1 {
                may.recv().unwrap();
            }
            self.0.send(std::thread::current().id()).unwrap();
        }
    }

    #[test]
    fn what_is_handed_over_is_dropped_elsewhere_and_all_of_it_before_the_end() {
        let disposer = Disposer::start().unwrap();
        let (tell, told) = channel();
        let (go_on, may) = channel();
        disposer.take(Tells(tell.clone(), Some(may)));
        // The thread is held up by the first one: these wait for it.
        for _ in 0..10 {
            disposer.take(Tells(tell.clone(), None));
        }
        assert!(told.try_recv().is_err(), "nobody waited for it");
        go_on.send(()).unwrap();
        drop(disposer);
        let dropped: Vec<ThreadId> = told.try_iter().collect();
        assert_eq!(dropped.len(), 11);
        assert!(dropped.iter().all(|thread| *thread != std::thread::current().id()));
    }

    #[test]
    fn what_finds_no_room_is_dropped_by_who_brought_it() {
        let disposer = Disposer::start().unwrap();
        let (tell, told) = channel();
        let (go_on, may) = channel();
        disposer.take(Tells(tell.clone(), Some(may)));
        // One more than there is room for at the most: the thread may have taken the first one already, or not yet.
        for _ in 0..=WAITING {
            disposer.take(Tells(tell.clone(), None));
        }
        assert_eq!(told.try_recv(), Ok(std::thread::current().id()));
        go_on.send(()).unwrap();
        drop(disposer);
        assert!(told.try_iter().count() > WAITING / 2);
    }
}
