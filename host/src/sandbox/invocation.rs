//! One run of a version on one message, from its permit to what came of it.
//!
//! Invariants:
//! - Instantiation, the start function included, is part of the run and under the same limits.
//! - A run ends at its deadline or at the lease's end, spinning or parked in the host.
//! - Dropping the future drops the store, and with it everything that the guest did.
//! - An instance that had a fault is never used again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::{Store, UpdateDeadline};

use super::clock::Clock;
use super::convert;
use super::entry::{Answer, Handle};
use super::fault::{self, Circumstances, Stop};
use super::limits::Limits;
use super::sample::Sampler;
use super::state::State;
use super::version::{ReusePlace, Version};
use crate::broker::lease::{Lease, while_held};
use crate::handler::{Call, Effects, Handler as _, Run};
use crate::outcome::{Fault, Outcome, Usage};

/// What the host may allocate for one result besides the outputs' bytes: the lists' and records' own size. A header
/// takes 48 bytes here and can be empty there, so the bytes count twice and each output for 256 more.
fn transfer_limit(limits: &Limits) -> usize {
    const REASON_BYTES: usize = 64 << 10;
    let records = usize::try_from(limits.outputs.get()).unwrap_or(usize::MAX).saturating_mul(256);
    limits.output_bytes.saturating_mul(2).saturating_add(records).saturating_add(REASON_BYTES)
}

/// How long a start outside of a run waits for an instance, when runs have them all.
const INIT_PATIENCE: Duration = Duration::from_secs(30);

/// A store and what lives in it. The permit is given back last, when the pool's slots are free again.
pub(super) struct Instance {
    store: Store<State>,
    handle: Option<Handle>,
    clock: Arc<Clock>,
    served: u32,
    /// How long it took to start, until a run has said so.
    start_took: Option<Duration>,
    /// Its place among the instances that are kept for reuse, once it has one.
    place: Option<ReusePlace>,
    _permit: OwnedSemaphorePermit,
}

/// Runs a version on a message.
pub(super) async fn run(version: &Version, call: &Call<'_>) -> Run {
    let started = Instant::now();
    let limits = &version.limits;
    let mut instance = match instance(version, call).await {
        Ok(instance) => instance,
        Err(stop) => return refused(version, &stop),
    };
    instance.begin(limits, started, call.previous_failure);
    instance.begin_message(call);
    let clock = Arc::clone(&instance.clock);
    let ended = drive(instance.handle(version, call), &clock, call.lease).await;
    let (run, whole) = instance.conclude(version, ended, started);
    if let Some(instance) = whole {
        version.keep(instance);
    }
    run
}

/// Runs a version on a message, and looks at its stack on the way.
pub(super) async fn run_sampled(version: &Version, call: &Call<'_>, sampler: &Sampler) -> Run {
    let started = Instant::now();
    let mut instance = match instance(version, call).await {
        Ok(instance) => instance,
        Err(stop) => return refused(version, &stop),
    };
    instance.begin(&version.limits, started, call.previous_failure);
    instance.begin_message(call);
    let clock = Arc::clone(&instance.clock);
    let attached = sampler.attach(&mut instance.store, version.limits.fuel.map_or(0, std::num::NonZero::get));
    let ended = match attached {
        Ok(()) => {
            let followed = Sampler::followed(instance.handle(version, call), &version.station.engine);
            drive(followed, &clock, call.lease).await
        }
        Err(error) => Ok(Err(error)),
    };
    instance.conclude(version, ended, started).0
}

/// An instance for a message, when it is not too large for the handler.
async fn instance(version: &Version, call: &Call<'_>) -> Result<Instance, Stop> {
    let (size, limit) = (call.message.body.len(), version.limits.payload);
    if size > limit {
        return Err(Stop::Payload { size, limit });
    }
    match version.take_idle(call.effects) {
        Some(instance) => Ok(instance),
        None => permit(version, call.lease).await.map(|permit| Instance::new(version, permit)),
    }
}

/// A run that did not begin.
fn refused(version: &Version, stop: &Stop) -> Run {
    Run::without_usage(Outcome::Fault(fault::stopped(stop, &circumstances(version))))
}

fn circumstances(version: &Version) -> Circumstances<'_> {
    let limits = &version.limits;
    let fuel_limit = limits.fuel.map_or(0, std::num::NonZero::get);
    Circumstances { digest: version.digest(), fuel_limit, output_bytes: limits.output_bytes }
}

/// Starts an instance and drops it, under the limits of a run.
pub(super) async fn init(version: &Version) -> Result<Usage, Fault> {
    let limits = &version.limits;
    let circumstances = circumstances(version);
    let fuel_limit = circumstances.fuel_limit;
    let stopped = |stop: Stop| fault::stopped(&stop, &circumstances);
    let permit = permit(version, &Lease::until(Instant::now() + INIT_PATIENCE)).await.map_err(stopped)?;
    let started = Instant::now();
    let mut instance = Instance::new(version, permit);
    instance.begin(limits, started, None);
    let clock = Arc::clone(&instance.clock);
    let lease = Lease::until(started + limits.max_run + INIT_PATIENCE);
    crate::failpoint::reached("initializing");
    match drive(instance.start(version), &clock, &lease).await {
        Ok(Ok(_handle)) => Ok(instance.usage(fuel_limit, started)),
        Ok(Err(error)) => Err(fault::classify(&error, &circumstances)),
        Err(stop) => Err(stopped(stop)),
    }
}

/// Starts an instance for a message that is to come, under the limits of a run and until the lease ends; `None`: it did not
/// start, or more than half of all instances are in use.
pub(super) async fn start_ahead(version: &Version, lease: &Lease) -> Option<Instance> {
    let (permits, limits) = (&version.station.permits, &version.limits);
    let half = usize::try_from(version.station.max_instances / 2).unwrap_or(usize::MAX);
    if permits.available_permits() <= half {
        return None;
    }
    let permit = Arc::clone(permits).try_acquire_many_owned(version.permits).ok()?;
    let mut instance = Instance::new(version, permit);
    instance.begin(limits, Instant::now(), None);
    let clock = Arc::clone(&instance.clock);
    drive(instance.start(version), &clock, lease).await.ok()?.ok()?;
    // The start belongs to no message: neither what it said nor that it ran is the first one's.
    let state = instance.store.data_mut();
    drop((state.log.finish(), std::mem::take(&mut state.measurements)));
    instance.served = 0;
    Some(instance)
}

/// Takes the permits for one more instance; waits while all are taken, at the longest until the lease ends.
async fn permit(version: &Version, lease: &Lease) -> Result<OwnedSemaphorePermit, Stop> {
    let permits = &version.station.permits;
    if let Ok(permit) = Arc::clone(permits).try_acquire_many_owned(version.permits) {
        return Ok(permit);
    }
    match while_held(&[lease], Arc::clone(permits).acquire_many_owned(version.permits)).await {
        Some(Ok(permit)) => Ok(permit),
        Some(Err(AcquireError { .. })) | None => Err(Stop::LeaseOver),
    }
}

impl Instance {
    fn new(version: &Version, permit: OwnedSemaphorePermit) -> Self {
        let clock = Arc::new(Clock::new(Instant::now()));
        let (limits, granted) = (Arc::clone(&version.limits), Arc::clone(&version.granted));
        let client = version.client.clone();
        let state = State::new(limits, granted, client, Arc::clone(&clock), version.station.repeatable);
        let mut store = Store::new(&version.station.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(transfer_limit(&version.limits));
        store.epoch_deadline_callback(|store| {
            store.data().check_tick()?;
            Ok(UpdateDeadline::Yield(1))
        });
        Self { store, handle: None, clock, served: 0, start_took: None, place: None, _permit: permit }
    }

    fn usage(&mut self, fuel_limit: u64, started: Instant) -> Usage {
        Usage {
            fuel: fuel_limit.saturating_sub(self.store.get_fuel().unwrap_or(fuel_limit)),
            fuel_limit,
            memory_peak: self.store.data().memory_peak(),
            duration: started.elapsed(),
            start: self.start_took.take(),
        }
    }

    /// What came of a run that has ended, and the instance where it is whole.
    fn conclude(
        mut self,
        version: &Version,
        ended: Result<wasmtime::Result<Answer>, Stop>,
        started: Instant,
    ) -> (Run, Option<Self>) {
        let (limits, circumstances) = (&version.limits, circumstances(version));
        let ended = match ended {
            Ok(Ok(result)) => self
                .store
                .data()
                .check_calls()
                .and_then(|()| convert::outcome(result, limits))
                .map_err(|stop| fault::stopped(&stop, &circumstances)),
            Ok(Err(error)) => Err(fault::classify(&error, &circumstances)),
            Err(stop) => Err(fault::stopped(&stop, &circumstances)),
        };
        // First, as what is open ends here: a span ends no later than its run.
        let (logs, spans) = self.store.data_mut().log.finish();
        let usage = self.usage(circumstances.fuel_limit, started);
        let state = self.store.data_mut();
        let measurements = std::mem::take(&mut state.measurements);
        let effects = state.used.as_mut().map(|used| used.take()).unwrap_or_default();
        match ended {
            Ok(outcome) => (Run { outcome, usage, logs, measurements, effects, spans }, Some(self)),
            Err(fault) => (Run { outcome: Outcome::Fault(fault), usage, logs, measurements, effects, spans }, None),
        }
    }

    /// Messages that it has been given.
    pub(super) const fn served(&self) -> u32 {
        self.served
    }

    /// Whether a request of its last message is on its way, or its answer not read to the end.
    pub(super) fn is_asking(&self) -> bool {
        self.store.data().is_asking()
    }

    /// Whether it may run with these effects. What it remembers of a run without effects was never done, and must not be taken
    /// for it: a value that it keeps in its memory would be in no bucket.
    pub(super) fn fits(&self, effects: Effects) -> bool {
        self.served == 0 || self.store.data().effects == effects
    }

    /// Gets a place among the instances that are kept for reuse, when there is one.
    pub(super) fn find_place(&mut self, version: &Version) -> bool {
        if self.place.is_none() {
            self.place = version.find_place();
        }
        self.place.is_some()
    }

    fn begin(&mut self, limits: &Limits, now: Instant, previous_failure: Option<&str>) {
        self.served = self.served.saturating_add(1);
        self.clock.start(now, limits.timeout, limits.max_run);
        self.store.data_mut().begin(previous_failure);
        self.store.set_epoch_deadline(1);
    }

    /// What the run is on: the time that the guest sees, and whether its spans are kept.
    fn begin_message(&self, call: &Call<'_>) {
        let state = self.store.data();
        state.begin_time(call.message.published_at);
        state.log.spans(|spans, _now| spans.begin(call.keeps_spans));
    }

    async fn handle(&mut self, version: &Version, call: &Call<'_>) -> wasmtime::Result<Answer> {
        let (store, handle) = self.start(version).await?;
        store.data_mut().begin_effects(call.effects);
        handle.call(store, call).await
    }

    /// Fills the tank, and starts the guest when it has not started.
    async fn start(&mut self, version: &Version) -> wasmtime::Result<(&mut Store<State>, &Handle)> {
        let store = &mut self.store;
        if let Some(fuel) = version.limits.fuel {
            store.set_fuel(fuel.get())?;
        }
        let handle = match self.handle.take() {
            Some(handle) => handle,
            None => {
                let began = Instant::now();
                let instance = version.linked()?.instantiate_async(&mut *store).await?;
                let handle = version.entry.of(store, instance)?;
                self.start_took = Some(began.elapsed());
                handle
            }
        };
        Ok((store, self.handle.insert(handle)))
    }
}

/// Drives a run to its end, to its deadline or to the lease's end.
///
/// A guest that spins gives way at each tick and is stopped there by the clock. One that waits in the host is stopped
/// by a timer, which is set up only when a run does not end at once. When this future is dropped, so is the run.
async fn drive<F: Future>(run: F, clock: &Clock, lease: &Lease) -> Result<F::Output, Stop> {
    let mut run = pin!(run);
    let mut timer = pin!(None::<Sleep>);
    std::future::poll_fn(|context| {
        clock.see_lease(lease.ends_at());
        if let Poll::Ready(output) = run.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        loop {
            let ends_at = clock.ends_at();
            if let Err(stop) = clock.check(Instant::now()) {
                return Poll::Ready(Err(stop));
            }
            if timer.is_none() {
                timer.set(Some(sleep_until(ends_at)));
            }
            let Some(mut timer) = timer.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            if timer.deadline() != ends_at {
                timer.as_mut().reset(ends_at);
            }
            if timer.poll(context).is_pending() {
                return Poll::Pending;
            }
            // The deadline or the lease has moved, or the timer was early: look again.
            clock.see_lease(lease.ends_at());
        }
    })
    .await
}
