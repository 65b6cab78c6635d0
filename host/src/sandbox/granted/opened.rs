//! What a store holds of buckets: those that the guest has opened, what it has read to compare with, and, where effects are
//! suppressed, what it would have written.
//!
//! Invariants:
//! - What a run writes into buckets is within its limit on the bytes of outputs, and so is what it would have written.
//! - What the guest holds to compare with is within that limit too, from one run to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};

use super::overlay::Overlay;
use super::{Access, GrantedBucket};
use crate::broker::bucket::{ENTRY_BYTES, Held, check_name};
use crate::broker::{Bucket, EmptyBucket};
use crate::handler::Effects;
use crate::sandbox::fault::Stop;
use crate::sandbox::limits::Limits;
use crate::sandbox::state::State;

/// Buckets and values to compare with that a guest may hold at once.
const RESOURCES: usize = 1024;

/// A bucket that the guest has opened, by the name that it uses.
#[derive(Debug, Clone)]
#[expect(unreachable_pub, reason = "the generated code exports it again, and is as public as it goes")]
pub struct Opened {
    pub(super) name: String,
}

/// What stood under a key when the guest looked at it.
#[derive(Debug, Clone)]
#[expect(unreachable_pub, reason = "the generated code exports it again, and is as public as it goes")]
pub struct Compared {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) held: Held,
}

/// What one store holds of buckets.
#[derive(Debug)]
pub(in crate::sandbox) struct OpenBuckets {
    table: ResourceTable,
    /// Bytes of what is held to compare with.
    compared_bytes: usize,
    /// Bytes that this run has written.
    written_bytes: usize,
    /// What this run would have written, by the names that the guest uses.
    overlays: BTreeMap<String, Arc<Overlay>>,
}

impl Default for OpenBuckets {
    fn default() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self { table, compared_bytes: 0, written_bytes: 0, overlays: BTreeMap::new() }
    }
}

impl OpenBuckets {
    /// Forgets what a run before has written. What it has opened stays open: an instance may be used again.
    pub(super) fn begin(&mut self) {
        self.written_bytes = 0;
        self.overlays.clear();
    }
}

impl Compared {
    fn bytes(&self) -> usize {
        self.name.len() + self.key.len() + self.held.value.as_ref().map_or(0, bytes::Bytes::len)
    }
}

fn within(bytes: usize, what: &'static str, limits: &Limits) -> Result<(), Stop> {
    if bytes > limits.output_bytes {
        return Err(Stop::TooMany { what, limit: limits.output_bytes as u64 });
    }
    Ok(())
}

impl State {
    fn open_buckets(&mut self) -> &mut OpenBuckets {
        &mut self.used.get_or_insert_default().buckets
    }

    /// What the handler may do with a bucket; `None`: it has no grant of that name.
    pub(super) fn access(&self, name: &str) -> Option<Access> {
        match self.granted.buckets.get(name) {
            Some(granted) => Some(granted.access),
            None => (self.granted.anything && check_name(name).is_ok()).then_some(Access::ReadWrite),
        }
    }

    /// The bucket behind a name, as this run sees it.
    pub(super) fn bucket(&mut self, name: &str) -> Arc<dyn Bucket> {
        let granted = self.granted.buckets.get(name);
        let bucket = granted.map_or_else(|| Arc::new(EmptyBucket) as Arc<dyn Bucket>, GrantedBucket::shared);
        match self.effects {
            Effects::Real => bucket,
            Effects::Suppressed => {
                let overlays = &mut self.open_buckets().overlays;
                if let Some(overlay) = overlays.get(name) {
                    return Arc::clone(overlay) as Arc<dyn Bucket>;
                }
                let overlay = Arc::new(Overlay::new(bucket));
                overlays.insert(name.to_owned(), Arc::clone(&overlay));
                overlay
            }
        }
    }

    /// Counts what is to be written, before it is.
    pub(super) fn count_written(&mut self, key: &str, bytes: usize) -> Result<(), Stop> {
        let limits = Arc::clone(&self.limits);
        let entry = usize::try_from(ENTRY_BYTES).unwrap_or(0).saturating_add(key.len()).saturating_add(bytes);
        let buckets = self.open_buckets();
        buckets.written_bytes = buckets.written_bytes.saturating_add(entry);
        within(buckets.written_bytes, "bytes written into buckets", &limits)
    }

    /// Gives the guest a bucket.
    pub(super) fn give_bucket(&mut self, name: String) -> wasmtime::Result<Resource<Opened>> {
        Ok(self.open_buckets().table.push(Opened { name }).map_err(full)?)
    }

    /// The name of a bucket that the guest has opened.
    pub(super) fn bucket_name(&mut self, bucket: &Resource<Opened>) -> wasmtime::Result<String> {
        Ok(self.open_buckets().table.get(bucket)?.name.clone())
    }

    /// Takes a bucket back.
    pub(super) fn take_bucket(&mut self, bucket: Resource<Opened>) -> wasmtime::Result<()> {
        self.open_buckets().table.delete(bucket)?;
        Ok(())
    }

    /// Gives the guest something to compare with.
    pub(super) fn give_compared(&mut self, compared: Compared) -> wasmtime::Result<Resource<Compared>> {
        let limits = Arc::clone(&self.limits);
        let buckets = self.open_buckets();
        buckets.compared_bytes = buckets.compared_bytes.saturating_add(compared.bytes());
        within(buckets.compared_bytes, "bytes held to be compared with", &limits)?;
        Ok(buckets.table.push(compared).map_err(full)?)
    }

    /// What the guest holds to compare with.
    pub(super) fn compared(&mut self, compared: &Resource<Compared>) -> wasmtime::Result<&Compared> {
        Ok(self.open_buckets().table.get(compared)?)
    }

    /// Takes it back.
    pub(super) fn take_compared(&mut self, compared: Resource<Compared>) -> wasmtime::Result<Compared> {
        let buckets = self.open_buckets();
        let compared = buckets.table.delete(compared)?;
        buckets.compared_bytes = buckets.compared_bytes.saturating_sub(compared.bytes());
        Ok(compared)
    }
}

fn full(_full: wasmtime::component::ResourceTableError) -> Stop {
    Stop::TooMany { what: "buckets and comparisons held at once", limit: RESOURCES as u64 }
}
