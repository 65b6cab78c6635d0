//! A catalog in memory of what lies in the stream of dead letters: counting and looking for those of an error take no reading then.
//!
//! ```text
//! ask ── follow: what the leader has; what is new read; where it differs (reconcile) read anew ── state: rows, groups ── view
//!   └─── keeper: reads in the background where that takes long; gives all back when nobody asks
//! ```
//!
//! Invariants:
//! - It is made when somebody asks, and given back when nobody has asked for a while: an idle host has none.
//! - Its memory is bounded: rows by their number, groups by their bytes.
//! - Nobody depends on it: whoever gets no answer reads the stream, with the same result.
//! - One follows the stream at a time. Whoever is dropped in the middle leaves what was read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, RwLock, RwLockReadGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod follow;
mod groups;
mod keeper;
mod reconcile;
mod rows;
mod state;
mod view;

pub(super) use view::{Meant, Texts, View, breathe};

use follow::Met;
use keeper::{Kept, Loads};
use state::State;

use crate::broker::jetstream::link::Link;
use crate::broker::jetstream::options::CatalogOptions;
use crate::broker::jetstream::session::Session;

/// How often one request asks again after it waited for reading in the background.
const ROUNDS: usize = 4;

/// What is known of the stream of dead letters.
#[derive(Debug)]
pub(super) struct Catalog {
    inner: Arc<Inner>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    link: Arc<Link>,
    stream: String,
    options: CatalogOptions,
    state: Mutex<State>,
    /// Who has it follows the stream.
    turn: tokio::sync::Mutex<()>,
    /// Held while this host removes a message, and by whoever asks how many there are.
    deleting: RwLock<()>,
    /// Reading in the background is wanted.
    wanted: Notify,
    loads: watch::Sender<Loads>,
}

/// Somebody follows the stream.
#[derive(Debug)]
struct Turn<'a> {
    inner: &'a Inner,
    _held: tokio::sync::MutexGuard<'a, ()>,
}

impl Catalog {
    pub(super) fn new(link: Arc<Link>, stream: &str, options: CatalogOptions) -> Self {
        let inner = Inner {
            link,
            stream: stream.to_owned(),
            state: Mutex::new(State::new(options.segment)),
            options,
            turn: tokio::sync::Mutex::new(()),
            deleting: RwLock::new(()),
            wanted: Notify::new(),
            loads: watch::Sender::new(Loads::default()),
        };
        Self { inner: Arc::new(inner), keeper: Mutex::new(None) }
    }

    /// Notes that somebody asks; whether there may be rows at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.inner.is_wanted()
    }

    /// The rows as the stream is now, where there are rows already; `None`: it is to be read.
    pub(super) async fn exact_if_there(&self, session: &Session) -> Option<View> {
        let is_there = self.inner.lock().is_begun();
        if is_there { self.exact(session, 0).await } else { None }
    }

    /// Held by whoever removes a message, until it has said so.
    pub(super) async fn deleting(&self) -> RwLockReadGuard<'_, ()> {
        self.inner.deleting.read().await
    }

    /// This host removed a message.
    pub(super) fn deleted(&self, sequence: u64) {
        self.inner.lock().deleted(sequence);
    }

    /// The leader does not have a message.
    pub(super) fn missing(&self, sequence: u64) {
        self.inner.lock().missing(sequence);
    }

    /// Waits for the end of what goes on in the background, once the link is closed.
    pub(super) async fn close(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper
            && keeper.await.is_err()
        {
            tracing::error!("the task that reads the dead letters into memory ended badly");
        }
    }

    /// The rows as the stream is; `None`: it is to be read. `patience`: so many messages that have to be read before are waited for.
    pub(super) async fn exact(&self, session: &Session, patience: u64) -> Option<View> {
        if !self.inner.is_wanted() {
            return None;
        }
        let mut loads = self.inner.loads.subscribe();
        for _ in 0..ROUNDS {
            let seen = loads.borrow_and_update().ended;
            let to_read = match self.meet(session, &mut loads).await? {
                Met::Current(view) => {
                    self.keep();
                    return Some(view);
                }
                Met::Unsure => return None,
                Met::Behind(to_read) => to_read,
            };
            self.load(to_read);
            if to_read > patience {
                return None;
            }
            let is_read = tokio::select! {
                loads = loads.wait_for(|loads| loads.ended > seen) => !loads.ok()?.failed,
                // Nobody begins to read any more.
                () = self.inner.link.closing().cancelled() => false,
            };
            if !is_read {
                return None;
            }
        }
        None
    }

    /// How the rows stand. Whoever comes while they are read in the background does not stand in line for that.
    async fn meet(&self, session: &Session, loads: &mut watch::Receiver<Loads>) -> Option<Met> {
        let _turn = tokio::select! {
            biased;
            turn = self.inner.turn() => turn,
            under_way = loads.wait_for(|loads| loads.under_way.is_some()) => {
                let to_read = under_way.ok()?.under_way.unwrap_or_default();
                return Some(Met::Behind(to_read));
            }
        };
        match self.inner.meet(session, self.inner.options.read_at_once).await {
            Ok(met) => Some(met),
            Err(error) => {
                // Whoever asks reads the stream, and tells what is wrong with that.
                tracing::debug!(stream = self.inner.stream, %error, "the list of dead letters in memory is not brought up to date");
                None
            }
        }
    }

    /// Reads in the background.
    fn load(&self, to_read: u64) {
        // Before it is looked whether there is a task: one that ends in between tells that it ended, and another one begins.
        self.inner.loads.send_modify(|loads| loads.under_way = Some(loads.under_way.unwrap_or(to_read)));
        self.keep();
        self.inner.wanted.notify_one();
    }

    /// Begins the task that reads, and gives the rows back.
    fn keep(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.inner.link.is_closed()
            && let Some(kept) = Kept::begin(&self.inner)
        {
            *keeper = Some(tokio::spawn(keeper::keep(kept)));
        }
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self) -> Turn<'_> {
        Turn { inner: self, _held: self.turn.lock().await }
    }

    /// Notes that somebody asks; whether there may be rows at all.
    fn is_wanted(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        state.asked = now;
        self.options.rows_at_most > 0 && state.too_varied_until.is_none_or(|until| now >= until)
    }

    fn too_varied(&self) {
        let mut state = self.lock();
        state.forget();
        state.too_varied_until = Some(Instant::now() + self.options.kept_for);
    }

    /// Gives the rows back, if nobody has asked for as long as they are kept.
    fn give_back(&self) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        let mut state = self.lock();
        if state.asked.elapsed() >= self.options.kept_for {
            state.forget();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.lock().unwatch();
    }
}
