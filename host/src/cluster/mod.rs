//! Several hosts that run the same versions: they meet in buckets of one NATS, and nobody leads.
//!
//! ```text
//! a deploy, on any host:  every step here -> module into the object store -> what is to run, by compare-and-set -> here
//! every other host:       sees that it changed -> module from the object store, verified -> every step there -> there
//! ```
//!
//! A version that is tried is a part of what is to run: each host tries it on its messages of the same share, says what both
//! versions came to there, and adds up what all say. Whoever sees enough, or sees that a shadow has had its time, ends it by a
//! change like every other.
//!
//! Invariants:
//! - What is to run ([`record::Desired`]) changes by compare-and-set alone: of two who change it at once one is told who was
//!   first, and nothing of its change stays.
//! - A module is in the object store, confirmed, before what is to run names it.
//! - A module runs nowhere but where its bytes have the digest that is named.
//! - A host that cannot take what is to run goes on with what it runs, and says so under its key.
//! - While NATS is away every host goes on with what it runs; nothing is deployed until it is back.
//! - What is paused on all hosts changes by compare-and-set too, and a host that cannot ask goes by what it saw last.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::broker::jetstream::{BucketError, Buckets, Held, Keys, SwapError, Watch};

mod counts;
mod decide;
mod error;
mod hosts;
mod identity;
mod pauses;
pub mod record;
pub mod report;
mod wanted;
mod word;

pub use counts::Counts;
pub(crate) use counts::{DIFFERENCES, DIFFERENCES_OF_ALL};
pub use decide::{Next, next};
pub use error::{ClusterError, CopyError, First};
pub(crate) use hosts::{COUNTS_EVERY, NotYet, Part, SAYS_AT_MOST_EVERY, SAYS_EVERY};
pub use identity::IdentityError;
pub use pauses::{AllPaused, PausesError};
pub use word::Word;

use hosts::Hosts;
use record::Desired;
use report::HeldThere;

/// What a host is called among the others, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The cluster's name.
    pub cluster: String,
    /// The host's name in it.
    pub host: String,
    /// Tells this life of the host from others: two hosts of one name have two.
    pub life: String,
    /// Where it answers over HTTP.
    pub address: String,
}

/// A host's end of its cluster.
#[derive(Debug)]
pub struct Cluster {
    me: Member,
    buckets: Buckets,
    hosts: Hosts,
    /// What this host says of itself has changed.
    changed: Notify,
    /// All handlers are to be held against what is to run.
    look_again: Notify,
    /// What is paused on all hosts, with what of it is in flight here.
    paused_here: Mutex<BTreeMap<String, HeldThere>>,
}

/// What is to run of a handler, as it was when somebody began to change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    /// What is to run; `None`: the cluster knows nothing of the handler.
    pub desired: Option<Desired>,
    /// What a change of it has to name.
    pub(crate) revision: u64,
}

impl Cluster {
    /// The end of a host whose data lies in a folder. Touches no network.
    ///
    /// # Errors
    /// When the host's name cannot be read or kept there.
    pub fn open(
        config: &crate::config::ClusterConfig,
        host_name: &str,
        data_dir: &Path,
        broker: &dyn Broker,
        address: String,
    ) -> Result<Self, IdentityError> {
        let host = match &config.host {
            Some(host) => host.clone(),
            None => identity::kept(data_dir, host_name)?,
        };
        let prefix = format!("tidegate-{}", config.name);
        let buckets = broker.buckets(&prefix, config.replicas);
        let buckets = buckets.ok_or_else(|| IdentityError::NoBuckets { broker: config.broker.clone() })?;
        let life = ulid::Ulid::generate().to_string();
        let me = Member { cluster: config.name.clone(), host, life, address };
        let (hosts, changed, look_again) = (Hosts::default(), Notify::new(), Notify::new());
        Ok(Self { me, buckets, hosts, changed, look_again, paused_here: Mutex::default() })
    }

    /// What this host is called.
    #[must_use]
    pub const fn me(&self) -> &Member {
        &self.me
    }

    /// What is known of all hosts.
    pub(crate) const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The time that all hosts go by: the server's clock, or this host's own while that is not known.
    pub(crate) fn now(&self) -> SystemTime {
        self.hosts.now().unwrap_or_else(SystemTime::now)
    }

    /// The same, when it is known for sure: what the other hosts said last may be old until this one hears itself.
    pub(crate) fn now_for_sure(&self) -> Option<SystemTime> {
        self.hosts.now().filter(|_| self.hosts.hears(&self.me))
    }

    /// Waits until the cluster can be asked, at most so long.
    ///
    /// # Errors
    /// When NATS is away for so long, or refuses.
    pub async fn ready(&self, limit: Duration) -> Result<(), ClusterError> {
        self.buckets.ready(limit).await.map_err(ClusterError::from)
    }

    /// What is to run of a handler, to be changed from there.
    ///
    /// # Errors
    /// When NATS is away, or what stands there cannot be read.
    pub async fn basis(&self, handler: &str) -> Result<Basis, ClusterError> {
        let Held { value, revision } = self.buckets.get(Keys::Desired, handler).await?;
        let desired = value.map(|value| Desired::read(handler, &value)).transpose()?;
        Ok(Basis { desired, revision })
    }

    /// Changes what is to run of a handler, if it still is what it was.
    ///
    /// When NATS does not confirm the change, it is asked what stands there now.
    ///
    /// # Errors
    /// When somebody else was first, or NATS is away; whether it was done is then not known.
    pub async fn change(&self, handler: &str, basis: &Basis, to: &Desired) -> Result<(), ClusterError> {
        let value = Bytes::from(to.to_json());
        let detail = match self.buckets.swap(Keys::Desired, handler, value, basis.revision).await {
            Ok(revision) => {
                self.hosts.wanted(handler, Some(to), revision);
                return Ok(());
            }
            Err(SwapError::NotDone(error)) => return Err(error.into()),
            Err(SwapError::Conflict) => String::new(),
            Err(SwapError::Unconfirmed(detail)) => detail,
        };
        match self.basis(handler).await {
            Ok(Basis { desired: Some(found), revision }) if found.change.id == to.change.id => {
                self.hosts.wanted(handler, Some(to), revision);
                Ok(())
            }
            Ok(Basis { desired: Some(found), revision }) if revision != basis.revision => {
                Err(ClusterError::conflict(handler, &found))
            }
            Ok(_) | Err(_) if !detail.is_empty() => {
                Err(ClusterError::Unconfirmed { handler: handler.to_owned(), detail })
            }
            Ok(_) => Err(ClusterError::Removed { handler: handler.to_owned() }),
            Err(error) => Err(error),
        }
    }

    /// The handlers of which the cluster knows something.
    pub(crate) async fn handlers(&self) -> Result<Vec<String>, ClusterError> {
        Ok(self.buckets.keys_of_desired().await?)
    }

    /// The modules of the cluster.
    pub(crate) const fn modules(&self) -> &Buckets {
        &self.buckets
    }

    /// What is to run of all handlers, and each change of it.
    pub(crate) async fn watch_desired(&self) -> Result<Watch, BucketError> {
        self.buckets.watch(Keys::Desired).await
    }

    /// What all hosts say of themselves, and each change of it.
    pub(crate) async fn watch_hosts(&self) -> Result<Watch, BucketError> {
        self.buckets.watch(Keys::Hosts).await
    }

    /// The number of the connection to NATS, when there is one just now: each has another one.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.buckets.connection()
    }

    /// What is paused on all hosts, whenever that changes.
    pub(crate) async fn watch_pauses(&self) -> Result<Watch, BucketError> {
        self.buckets.watch(Keys::Pauses).await
    }

    /// Says what is to be known of this host.
    pub(crate) async fn say(&self, word: &Word) -> Result<(), BucketError> {
        self.buckets.say(&self.me.host, word.to_json().into()).await
    }

    /// What is paused on all hosts is known here, with how much of it is in flight: the others are told soon.
    pub(crate) fn paused_here(&self, paused: BTreeMap<String, HeldThere>) {
        let mut before = self.paused_here.lock().unwrap_or_else(PoisonError::into_inner);
        if *before != paused {
            *before = paused;
            self.touch();
        }
    }

    /// The same, to be said.
    pub(crate) fn to_say_of_pauses(&self) -> BTreeMap<String, HeldThere> {
        self.paused_here.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this host says of itself has changed.
    pub(crate) fn touch(&self) {
        self.changed.notify_one();
    }

    /// All handlers are to be held against what is to run, soon.
    pub(crate) fn look_again(&self) {
        self.look_again.notify_one();
    }

    /// Waits until they are to be.
    pub(crate) async fn to_look_again(&self) {
        self.look_again.notified().await;
    }

    /// Waits until it has.
    pub(crate) async fn touched(&self) {
        self.changed.notified().await;
    }
}
