//! The engine: compiler settings, the pool that instances live in, and the linker with what handlers may import.
//!
//! Invariants:
//! - A run holds permits for every pool slot that it takes, so the pool is never found empty.
//! - Address space is reserved here; memory is mapped only when a guest touches it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::disposer::Disposer;
use super::error::SandboxError;
use super::granted::Outlet;
use super::state::State;
use super::ticker::Ticker;
use super::{SandboxOptions, adapters, granted, imports, wasi};

/// Which of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EngineKind {
    /// Counts fuel: all handlers but those that an operator excepts.
    Metered,
    /// Does not count fuel; the wall clock still holds.
    Unmetered,
}

/// Core instances that one component may have: wit-component makes 4 for Rust, componentize-py about 20.
pub(super) const CORE_INSTANCES: u32 = 64;
/// Linear memories that one component may have. Toolchains make one; a linked component of two languages has two.
pub(super) const MEMORIES: u32 = 4;
/// Tables that one component may have: the module's own, and the shim's.
pub(super) const TABLES: u32 = 16;
/// Elements of one table: Python starts with 7,715; 64 Ki are 512 KiB of address space.
pub(super) const TABLE_ELEMENTS: usize = 64 << 10;
/// Pool slots for memories and tables that one instance permit stands for. An instance that needs more takes more.
const MEMORIES_PER_PERMIT: u32 = 1;
const TABLES_PER_PERMIT: u32 = 4;

/// What a guest's calls may take of the stack. Deep recursion ends as a trap here; QuickJS and Python keep their own
/// stacks in linear memory.
const WASM_STACK: usize = 512 << 10;
/// The whole stack of a run, host calls included: they get what wasm does not.
const RUN_STACK: usize = 1 << 20;
/// Bytes of a used memory that are cleaned by overwriting rather than given back. With `pagemap_scan` only pages that
/// were written count. A trial with 1 MiB and without it took 55 us for a fresh instance, against 31.
const MEMORY_KEEP_RESIDENT: usize = 64 << 10;
/// The same for tables: a small handler's table is a few dozen elements.
const TABLE_KEEP_RESIDENT: usize = 8 << 10;
/// Freed slots that stay mapped for the same module. Each holds at most the two figures above: 100 KiB of a handler that
/// ran. The pool deals them out evenly to as many parts of it as there are cores (16 at most), a thread takes from its own
/// part first, and a part that has too few lets the oldest go. A module runs now on one core and now on the other, so it
/// wants a slot in each part: with 1,024 in all, 512 a part, messages to 1,000 handlers in turn found their slot mapped for
/// another module each time, and mapping it anew cost several runs. This is a thousand a part on four cores.
const WARM_SLOTS: u32 = 4096;

/// One engine, with its linker and its permits.
pub(super) struct Station {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) kind: EngineKind,
    /// One for each instance, running or idle.
    pub(super) permits: Arc<Semaphore>,
    /// One for each instance that is kept for reuse, running or idle: half of all, so that idle ones of some handlers
    /// never keep the others from running.
    pub(super) reusable: Arc<Semaphore>,
    /// The most permits there are.
    pub(super) max_instances: u32,
    /// Whether runs see the same time and random numbers each time.
    pub(super) repeatable: bool,
    /// The most frames that are looked at of a stack.
    pub(super) frames: NonZeroUsize,
    /// Where versions and idle instances go when nothing runs on them any more.
    pub(super) disposer: Arc<Disposer>,
    /// What requests to other hosts go out by.
    pub(super) outlet: Arc<Outlet>,
    /// Ticks as long as there is a version that may run.
    _ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Station").field("kind", &self.kind).field("max_instances", &self.max_instances).finish()
    }
}

impl Station {
    /// Makes an engine and gives it to the tick.
    pub(super) fn new(
        kind: EngineKind,
        options: &SandboxOptions,
        ticker: &Arc<Ticker>,
        disposer: &Arc<Disposer>,
        outlet: &Arc<Outlet>,
    ) -> Result<Self, SandboxError> {
        let build = || {
            // A component that needs more than one permit's slots must fit even when it is alone.
            let max_instances = options.max_instances.get().max(permits_for(MEMORIES, TABLES));
            let engine = Engine::new(&config(kind, max_instances, options.frames))?;
            let mut linker = Linker::new(&engine);
            imports::link(&mut linker)?;
            wasi::link(&mut linker)?;
            granted::link(&mut linker)?;
            adapters::wasi_logging::link(&mut linker)?;
            adapters::wasi_messaging::link(&mut linker)?;
            adapters::wasmcloud::link(&mut linker)?;
            Ok((engine, linker, max_instances))
        };
        let (engine, linker, max_instances) = build().map_err(|source| SandboxError::Engine { source })?;
        ticker.watch(&engine);
        let permits = usize::try_from(max_instances).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            engine,
            linker,
            kind,
            permits: Arc::new(Semaphore::new(permits)),
            reusable: Arc::new(Semaphore::new((permits / 2).max(1))),
            max_instances,
            repeatable: options.repeatable,
            frames: options.frames,
            disposer: Arc::clone(disposer),
            outlet: Arc::clone(outlet),
            _ticker: Arc::clone(ticker),
        })
    }
}

/// How many instance permits a component needs that has so many memories and tables.
pub(super) fn permits_for(memories: u32, tables: u32) -> u32 {
    memories.div_ceil(MEMORIES_PER_PERMIT).max(tables.div_ceil(TABLES_PER_PERMIT)).max(1)
}

/// An engine whose machine code those of its kind take, and that runs nothing: it reserves no address space.
pub(super) fn for_compiling(kind: EngineKind) -> wasmtime::Result<Engine> {
    Engine::new(&settings(kind))
}

/// All of an engine's settings but where its instances live.
fn settings(kind: EngineKind) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(kind == EngineKind::Metered)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(RUN_STACK)
        // Synchronous handlers need none of the stores' task tables; the contract has only such.
        .concurrency_support(false)
        // 64-bit memories need bounds checks, and cannot be larger than the limit anyway. Threads, which would share
        // memory past the limiter, are not compiled in.
        .wasm_memory64(false);
    config
}

fn config(kind: EngineKind, max_instances: u32, frames: NonZeroUsize) -> Config {
    // Warm slots are beside those that run: address space, and no memory before a guest touches it.
    let slots = max_instances.saturating_add(WARM_SLOTS);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(max_instances)
        .total_core_instances(max_instances.saturating_mul(CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MEMORIES_PER_PERMIT))
        .total_tables(slots.saturating_mul(TABLES_PER_PERMIT))
        .total_stacks(max_instances)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_memories_per_module(MEMORIES)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        // `Auto` asks the kernel: Linux 6.7 and later can tell which pages were written.
        .pagemap_scan(Enabled::Auto);
    let mut config = settings(kind);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).wasm_backtrace_max_frames(Some(frames));
    config
}
