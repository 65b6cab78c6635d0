//! What a version may reach in mid-run, because its handler's configuration grants it: values, key-value buckets, hosts.
//!
//! Invariants:
//! - An interface is there for those alone who are granted something behind it; `check_imports` sees to it, because the
//!   linker is shared by all versions.
//! - Every call counts as a call into the host, is bounded in bytes, and ends with the run.
//! - Where [`Effects`](crate::handler::Effects) are suppressed nothing is changed outside of the run: what it would have
//!   done is recorded instead.
//! - A secret is handed to the guest and to nobody else.

mod buckets;
mod hosts;
mod http;
pub(super) mod opened;
mod overlay;
mod reach;
mod used;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::Linker;

pub use hosts::{HostError, HostPattern, Hosts};
pub(super) use http::{Client, Exchange, Outlet};
pub(super) use used::Used;
pub use values::{Value, Values};

use super::state::State;
pub use crate::broker::Access;
use crate::broker::{Bucket, EmptyBucket};

/// Makes what can be granted known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    values::link(linker)?;
    buckets::link(linker)?;
    http::link(linker)
}

/// What a version is given. Nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// Values and secrets, by name.
    pub values: Values,
    /// Key-value buckets, by the name that the handler uses.
    pub buckets: BTreeMap<String, GrantedBucket>,
    /// Hosts that it may send requests to.
    pub hosts: Hosts,
    /// No configuration says what is granted, so every import is: for a module alone, without a host.
    pub anything: bool,
}

/// A bucket, and what may be done with it.
#[derive(Debug, Clone)]
pub struct GrantedBucket {
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// What the handler may do with it.
    pub access: Access,
}

/// A kind of grant, as the configuration names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `config` and `secrets`.
    Values,
    /// `buckets`.
    Buckets,
    /// `hosts`.
    Hosts,
}

impl GrantedBucket {
    fn shared(&self) -> Arc<dyn Bucket> {
        Arc::clone(&self.bucket)
    }
}

impl Granted {
    /// For a module without a configuration, where effects are suppressed: every import is granted, and there is nothing
    /// behind it.
    #[must_use]
    pub fn anything() -> Self {
        Self { anything: true, ..Self::default() }
    }

    /// The same, with nothing in its buckets.
    pub(super) fn with_empty_buckets(&self) -> Self {
        let empty = |granted: &GrantedBucket| GrantedBucket { bucket: Arc::new(EmptyBucket), access: granted.access };
        let buckets = self.buckets.iter().map(|(name, granted)| (name.clone(), empty(granted))).collect();
        Self { buckets, ..self.clone() }
    }

    /// Whether there is a grant of that kind.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.anything
            || match kind {
                Kind::Values => !self.values.is_empty(),
                Kind::Buckets => !self.buckets.is_empty(),
                Kind::Hosts => !self.hosts.is_empty(),
            }
    }
}

impl Kind {
    /// What the configuration of a handler needs for it.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Values => "`config.NAME = \"value\"`, or `secrets.NAME = { env = \"VARIABLE\" }`,",
            Self::Buckets => "`buckets.NAME = { broker = \"BROKER\" }`",
            Self::Hosts => "`hosts = [\"https://api.example.com\"]`",
        }
    }
}
