//! One handler on this host: what the configuration says of it, what runs, what is kept ready.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::rollout::{Held, OnTrial, Unrecorded};
use super::turn::Turn;
use crate::config::{HandlerConfig, SecretGrant};
use crate::dispatch::{Deployed, Slot};
use crate::registry::Settings;
use crate::sandbox::Version;
use crate::telemetry::{Metrics, VersionFigures};

/// Replaced versions of a handler that stay ready in memory, so that going back takes no load. A version is its compiled
/// code, mapped from the cache and shared with it (400 KB for Rust, 40 MB for Python, given back under pressure), and some
/// tens of KB of our own: two of them on each of 1,000 handlers are under 100 MB.
const LOADED_BEFORE: usize = 2;

/// One handler.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) slot: Arc<Slot>,
    /// Who changes it.
    pub(super) turn: Turn,
    terms: ArcSwap<Terms>,
    state: Mutex<State>,
}

/// What the configuration says of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// The module that it names.
    pub(super) module: Option<PathBuf>,
    /// The limits and grants that it gives: those of the next version.
    pub(super) settings: Settings,
    /// Where the secrets are read from that it grants.
    pub(super) secrets: BTreeMap<String, SecretGrant>,
    /// Where its golden messages are.
    pub(super) golden: Option<PathBuf>,
}

impl Terms {
    pub(super) fn of(config: &HandlerConfig) -> Self {
        // By name, so that what is added there is not forgotten when a configuration is applied to a host that runs.
        let HandlerConfig { module, golden, outputs: _, config: _, secrets, buckets: _, hosts: _, limits: _ } = config;
        let (module, golden, secrets) = (module.clone(), golden.clone(), secrets.clone());
        Self { module, settings: Settings::of(config), secrets, golden }
    }
}

#[derive(Default)]
struct State {
    active: Option<Loaded>,
    /// The one that is tried beside it.
    trial: Option<OnTrial>,
    /// One that is not tried any more, which is not recorded yet.
    unrecorded: Option<Unrecorded>,
    /// One that is recorded as tried, and cannot go on yet.
    held: Option<Held>,
    /// Replaced ones, the latest first.
    before: VecDeque<Loaded>,
    /// Why there is no version that runs.
    trouble: Option<String>,
    /// What the configuration says of it was not yet held against what is to run in the cluster.
    unplanned: bool,
    /// The version that somebody was shown to be replaced by that, and no other one is; nothing: nobody was shown any.
    shown: Option<Option<u64>>,
}

/// A version that is ready to run.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) version: Arc<Version>,
    pub(super) settings: Settings,
    pub(super) deployed: Arc<Deployed>,
}

impl Loaded {
    pub(super) fn new(number: u64, version: Arc<Version>, settings: &Settings, metrics: &Metrics) -> Self {
        let deployed = Arc::new(Deployed {
            number,
            handler: Arc::clone(&version) as _,
            grants: settings.grants(),
            max_run: settings.limits.max_run,
            measurements: metrics.handler(version.name(), settings.limits.metric_series),
            figures: VersionFigures::default(),
        });
        Self { version, settings: settings.clone(), deployed }
    }
}

impl Entry {
    pub(super) fn new(name: &str, terms: Terms) -> Self {
        let (slot, terms) = (Slot::empty(), ArcSwap::from_pointee(terms));
        Self { name: name.to_owned(), slot, turn: Turn::default(), terms, state: Mutex::default() }
    }

    /// What the configuration says of it now.
    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.load_full()
    }

    pub(super) fn set_terms(&self, terms: Terms) {
        self.terms.store(Arc::new(terms));
    }

    pub(super) fn active(&self) -> Option<Loaded> {
        self.lock().active.clone()
    }

    /// A version that is in memory, active or not.
    pub(super) fn loaded(&self, number: u64) -> Option<Loaded> {
        self.all_loaded().into_iter().find(|loaded| loaded.deployed.number == number)
    }

    /// Every version that is in memory.
    pub(super) fn all_loaded(&self) -> Vec<Loaded> {
        let state = self.lock();
        let tried = state.trial.iter().map(|on| &on.loaded);
        state.active.iter().chain(tried).chain(&state.before).cloned().collect()
    }

    /// The version that is tried.
    pub(super) fn on_trial(&self) -> Option<OnTrial> {
        self.lock().trial.clone()
    }

    /// Messages of the trial's share run on its candidate from here on.
    pub(super) fn begin_trial(&self, on: OnTrial) {
        let mut state = self.lock();
        self.slot.begin(Arc::clone(&on.trial));
        state.trial = Some(on);
        state.held = None;
        drop(state);
        self.turn.changed();
    }

    /// All messages run on the active version from here on.
    pub(super) fn end_trial(&self) {
        let mut state = self.lock();
        self.slot.end_trial();
        // Its memory is given back with the last run on it: it is nothing to go back to.
        let over = state.trial.take();
        drop(state);
        self.turn.changed();
        drop(over);
    }

    /// The same, where that is to be recorded yet.
    pub(super) fn abort_trial(&self, over: Unrecorded) {
        self.set_unrecorded(Some(over));
        self.end_trial();
    }

    /// A trial that is over, which is not recorded.
    pub(super) fn unrecorded(&self) -> Option<Unrecorded> {
        self.lock().unrecorded.clone()
    }

    pub(super) fn set_unrecorded(&self, over: Option<Unrecorded>) {
        self.lock().unrecorded = over;
    }

    /// A trial that is recorded, and cannot go on yet.
    pub(super) fn held(&self) -> Option<Held> {
        self.lock().held.clone()
    }

    pub(super) fn set_held(&self, held: Option<Held>) {
        self.lock().held = held;
    }

    /// Changes what is held in one step, where that still is the version of this number.
    pub(super) fn change_held(&self, number: u64, change: impl FnOnce(Held) -> Option<Held>) {
        let mut state = self.lock();
        if let Some(held) = state.held.take_if(|held| held.number == number) {
            state.held = change(held);
        }
    }

    /// Takes a replaced version out of those that are kept ready.
    pub(super) fn take_loaded(&self, number: u64) -> Option<Loaded> {
        let mut state = self.lock();
        let place = state.before.iter().position(|loaded| loaded.deployed.number == number)?;
        state.before.remove(place)
    }

    /// Puts a version among those that are kept ready.
    pub(super) fn keep_loaded(&self, loaded: Loaded) {
        self.lock().keep(loaded);
    }

    /// Puts a version behind those that are kept ready, where there is room, and it is not in memory by now.
    pub(super) fn keep_behind(&self, loaded: Loaded) {
        let mut state = self.lock();
        let is_it = |other: &Loaded| other.deployed.number == loaded.deployed.number;
        let is_there = state.active.as_ref().is_some_and(is_it) || state.before.iter().any(is_it);
        if !is_there && state.before.len() < LOADED_BEFORE {
            state.before.push_back(loaded);
        }
    }

    /// New messages run on this version from here on. A trial that was on is over.
    pub(super) fn switch(&self, loaded: Loaded) {
        let mut state = self.lock();
        let deployed = Arc::clone(&loaded.deployed);
        let over = state.trial.take();
        state.held = None;
        state.trouble = None;
        if let Some(before) = state.active.replace(loaded) {
            state.keep(before);
        }
        // Under the lock, so that two switches come into the slot in the order in which they are remembered.
        let replaced = self.slot.swap(deployed);
        drop(state);
        self.turn.changed();
        drop((replaced, over));
    }

    /// What the configuration says of it is to be held against what is to run in the cluster; or that has been done.
    pub(super) fn set_unplanned(&self, unplanned: bool) {
        let mut known = self.lock();
        known.unplanned = unplanned;
        known.shown = known.shown.filter(|_| unplanned);
    }

    /// The same, by somebody who was shown which version that replaces.
    pub(super) fn plan_over(&self, replaces: Option<u64>) {
        let mut known = self.lock();
        (known.unplanned, known.shown) = (true, Some(replaces));
    }

    /// Whether what is planned may replace a version.
    pub(super) fn may_replace(&self, version: u64) -> bool {
        self.lock().shown.is_none_or(|shown| shown == Some(version))
    }

    pub(super) fn is_unplanned(&self) -> bool {
        self.lock().unplanned
    }

    pub(super) fn set_trouble(&self, why: String) {
        self.lock().trouble = Some(why);
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed in steps that cannot panic: it is whole even if a holder died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, loaded: Loaded) {
        self.before.push_front(loaded);
        self.before.truncate(LOADED_BEFORE);
    }
}
