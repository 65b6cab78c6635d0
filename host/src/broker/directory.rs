//! The brokers of a host, by their names in the configuration. They may come and go while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::named_bucket::NamedBucket;
use super::{Access, Broker, Bucket};

/// A broker and its kind.
#[derive(Clone)]
pub struct NamedBroker {
    /// The word that chose it in the configuration: `embedded`, `jetstream`.
    pub kind: &'static str,
    /// The broker.
    pub broker: Arc<dyn Broker>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all.load().keys()).finish()
    }
}

/// All of them as they are now. Looking takes no lock; what was looked up stays usable when its name goes.
pub struct Directory {
    all: ArcSwap<BTreeMap<String, NamedBroker>>,
    changed: Notify,
}

impl Directory {
    /// A directory of these.
    #[must_use]
    pub fn new(brokers: BTreeMap<String, NamedBroker>) -> Arc<Self> {
        Arc::new(Self { all: ArcSwap::from_pointee(brokers), changed: Notify::new() })
    }

    /// All of them now.
    #[must_use]
    pub fn all(&self) -> Arc<BTreeMap<String, NamedBroker>> {
        self.all.load_full()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<NamedBroker> {
        self.all.load().get(name).cloned()
    }

    /// A bucket of one of them, which need not be there yet: it is looked up each time that the bucket is used.
    #[must_use]
    pub fn bucket(self: &Arc<Self>, broker: &str, bucket: &str, access: Access) -> Arc<dyn Bucket> {
        Arc::new(NamedBucket::new(Arc::clone(self), broker, bucket, access))
    }

    /// Adds brokers, each in the place of the one of its name.
    pub fn add(&self, more: &BTreeMap<String, NamedBroker>) {
        self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.extend(more.iter().map(|(name, broker)| (name.clone(), broker.clone())));
            all
        });
        self.changed.notify_waiters();
    }

    /// Ends with the next change; to be made before they are looked at.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Takes one out and gives it back.
    pub fn remove(&self, name: &str) -> Option<NamedBroker> {
        let before = self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.remove(name);
            all
        });
        self.changed.notify_waiters();
        before.get(name).cloned()
    }
}
