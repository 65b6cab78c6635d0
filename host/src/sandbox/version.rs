//! A version of a handler: a module that is linked and ready, with its limits and its idle instances.
//!
//! Invariants:
//! - A version never changes; a reload makes another one, and runs of this one finish on it.
//! - Idle instances are bounded, and only a run or a start without a fault leaves one behind.
//! - What it held is given back beside the runs: neither its last run nor the switch to the next version waits for that.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{Component, InstancePre};

use super::contract::{Contract, named};
use super::engine::{Station, permits_for};
use super::entry::Entry;
use super::error::LoadError;
use super::granted::{Client, Granted};
use super::grants::{self, Missing};
use super::invocation::{self, Instance};
use super::limits::Limits;
use super::module::Module;
use super::sample::{Profile, Sampler};
use super::state::State;
use crate::handler::{Call, Effects, Handler, Run};
use crate::outcome::{Fault, Usage};

/// A page of linear memory.
const PAGE_BYTES: u64 = 64 << 10;

/// One module of one handler, ready to run.
pub struct Version {
    name: String,
    digest: String,
    size: usize,
    contract: Contract,
    imports: Vec<String>,
    exports: Vec<String>,
    /// Taken only when the version goes.
    pre: Option<InstancePre<State>>,
    pub(super) entry: Arc<Entry>,
    pub(super) station: Arc<Station>,
    pub(super) limits: Arc<Limits>,
    pub(super) granted: Arc<Granted>,
    /// What its requests are sent with, where any host is granted.
    pub(super) client: Option<Arc<Client>>,
    /// Instance permits that one instance of this version takes.
    pub(super) permits: u32,
    idle: Mutex<Idle>,
    /// Instances that have a place among those that are kept for reuse, running or idle.
    kept: Arc<AtomicUsize>,
}

/// Instances that wait for the next message.
#[derive(Default)]
struct Idle {
    /// No message will come for now: nothing is kept.
    resting: bool,
    instances: Vec<Instance>,
}

/// The place of one instance among those that are kept for reuse.
pub(super) struct ReusePlace {
    kept: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for ReusePlace {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Version {
    /// Checks a component's imports and exports, and links it.
    pub(super) fn link(
        name: &str,
        module: Module,
        component: &Component,
        station: Arc<Station>,
        limits: Limits,
        granted: Arc<Granted>,
    ) -> Result<Self, LoadError> {
        let shape = component.component_type();
        let imports = shape.imports(&station.engine).map(|(name, _item)| name.to_owned()).collect::<Vec<_>>();
        let exports = shape.exports(&station.engine).map(|(name, _item)| name.to_owned()).collect::<Vec<_>>();
        // First what it is, then whether it fits: what was built for something else has other imports too.
        let contract = Contract::of(&exports)?;
        check_imports(&imports, contract, &granted)?;
        let pre = station.linker.instantiate_pre(component).map_err(|source| LoadError::Link { source })?;
        let entry = Entry::find(component, &pre, contract)?;
        let permits = match component.resources_required() {
            Some(needs) => {
                let bytes = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
                if bytes > limits.memory as u64 {
                    return Err(LoadError::Memory { needs: bytes, limit: limits.memory as u64 });
                }
                permits_for(needs.num_memories, needs.num_tables)
            }
            // Only a component that imports core modules has none, and no such import is granted.
            None => permits_for(super::engine::MEMORIES, super::engine::TABLES),
        };
        let client = (!granted.hosts.is_empty()).then(|| station.outlet.client());
        Ok(Self {
            name: name.to_owned(),
            digest: module.digest,
            size: module.bytes.len(),
            contract,
            imports,
            exports,
            pre: Some(pre),
            entry: Arc::new(entry),
            station,
            limits: Arc::new(limits),
            granted,
            client,
            permits,
            idle: Mutex::default(),
            kept: Arc::default(),
        })
    }

    /// The handler's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The module's size in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The contract that the module speaks.
    #[must_use]
    pub const fn contract(&self) -> Contract {
        self.contract
    }

    /// What it may reach in mid-run.
    #[must_use]
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// What a run of it may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The interfaces that the module imports, with their versions, in its order.
    pub fn imports(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().map(String::as_str)
    }

    /// The interfaces that the module exports, with their versions, in its order.
    pub fn exports(&self) -> impl Iterator<Item = &str> {
        self.exports.iter().map(String::as_str)
    }

    /// The same module under other limits, without compiling or linking it again. `None`: the code of a module counts fuel
    /// or does not, so limits without fuel cannot stand in for limits with it, nor the other way round.
    #[must_use]
    pub fn within(&self, limits: Limits) -> Option<Arc<Self>> {
        if limits.fuel.is_some() != self.limits.fuel.is_some() {
            return None;
        }
        Some(self.again(Arc::new(limits), Arc::clone(&self.granted)))
    }

    /// The same module with nothing in its buckets, and with instances of its own: what is known of a case is known of empty
    /// ones, and its runs leave nothing behind that a message finds.
    #[must_use]
    pub fn with_empty_buckets(&self) -> Arc<Self> {
        self.again(Arc::clone(&self.limits), Arc::new(self.granted.with_empty_buckets()))
    }

    fn again(&self, limits: Arc<Limits>, granted: Arc<Granted>) -> Arc<Self> {
        Arc::new(Self {
            name: self.name.clone(),
            digest: self.digest.clone(),
            size: self.size,
            contract: self.contract,
            imports: self.imports.clone(),
            exports: self.exports.clone(),
            pre: self.pre.clone(),
            entry: Arc::clone(&self.entry),
            station: Arc::clone(&self.station),
            limits,
            granted,
            client: self.client.clone(),
            permits: self.permits,
            idle: Mutex::default(),
            kept: Arc::default(),
        })
    }

    /// Runs it on a message as [`Handler::handle`] does, and looks at its stack each time that so much fuel was used. `None`:
    /// its code does not count fuel.
    pub async fn profile(&self, call: Call<'_>, interval: NonZeroU64) -> Option<Profile> {
        self.limits.fuel?;
        let sampler = Sampler::new(interval, self.station.frames.get());
        let run = invocation::run_sampled(self, &call, &sampler).await;
        Some(sampler.finish(run))
    }

    /// Starts an instance and drops it: a module that traps or loops at its start is found before it runs. The limits
    /// of a run hold; what is in the module's own memory afterwards is not seen by any message.
    ///
    /// # Errors
    /// The fault that a run would have had.
    pub async fn init(&self) -> Result<Usage, Fault> {
        invocation::init(self).await
    }

    /// What makes instances.
    pub(super) fn linked(&self) -> wasmtime::Result<&InstancePre<State>> {
        self.pre.as_ref().ok_or_else(|| wasmtime::format_err!("the version is being given back"))
    }

    /// How many of its instances are kept for reuse, running or idle.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// A place for one more instance among those that are kept for reuse, when there is one.
    pub(super) fn find_place(&self) -> Option<ReusePlace> {
        let permit = Arc::clone(&self.station.reusable).try_acquire_many_owned(self.permits).ok()?;
        self.kept.fetch_add(1, Ordering::Relaxed);
        Some(ReusePlace { kept: Arc::clone(&self.kept), _permit: permit })
    }

    /// An instance that an earlier run with the same effects left. When there are others alone, one of them makes room.
    pub(super) fn take_idle(&self, effects: Effects) -> Option<Instance> {
        if self.limits.reuse.get() == 1 {
            return None;
        }
        let mut idle = self.idle();
        if let Some(place) = idle.instances.iter().rposition(|instance| instance.fits(effects)) {
            return Some(idle.instances.swap_remove(place));
        }
        let other = idle.instances.pop();
        drop(idle);
        // Dropping it gives memory back to the system, which takes its time.
        if let Some(other) = other {
            self.station.disposer.take(other);
        }
        None
    }

    /// Keeps an instance for the next message when one may come, and it has messages left, and there is a place; else
    /// drops it. What it has asked another host for ends with its message.
    pub(super) fn keep(&self, mut instance: Instance) {
        let reuse = self.limits.reuse.get();
        if reuse > 1 && instance.served() < reuse && !instance.is_asking() && instance.find_place(self) {
            let mut idle = self.idle();
            if !idle.resting {
                idle.instances.push(instance);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // What the lock guards is changed in single steps: it is whole even if a holder died.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Handler for Version {
    async fn handle(&self, call: Call<'_>) -> Run {
        invocation::run(self, &call).await
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn serve(&self) {
        self.idle().resting = false;
    }

    fn rest(&self) {
        let mut idle = self.idle();
        idle.resting = true;
        let instances = std::mem::take(&mut idle.instances);
        drop(idle);
        // Dropping one gives memory back to the system, which takes its time.
        if !instances.is_empty() {
            self.station.disposer.take(instances);
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.station.disposer.take((idle.instances, self.pre.take()));
    }
}

fn check_imports(imports: &[String], contract: Contract, granted: &Granted) -> Result<(), LoadError> {
    let mut missing: Vec<(Missing, Vec<String>)> = Vec::new();
    for import in imports {
        let Some(why) = grants::missing(import, contract, granted) else { continue };
        match missing.iter_mut().find(|(known, _)| *known == why) {
            Some((_, imports)) => imports.push(import.clone()),
            None => missing.push((why, vec![import.clone()])),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let said = missing.iter().map(|(why, imports)| format!("{}, which {}", named(imports), why.help()));
    Err(LoadError::UngrantedImport { imports: said.collect::<Vec<_>>().join("; and ") })
}
