//! Work on handlers that is under way: each of them by its handler's name, however it ends.

use std::collections::{BTreeSet, HashMap};

use tokio::task::{Id, JoinError, JoinSet};

/// Work on handlers, one for each at the most.
#[derive(Debug)]
pub(super) struct UnderWay<T> {
    running: JoinSet<T>,
    handlers: HashMap<Id, String>,
    names: BTreeSet<String>,
}

impl<T: Send + 'static> UnderWay<T> {
    pub(super) fn nothing() -> Self {
        Self { running: JoinSet::new(), handlers: HashMap::new(), names: BTreeSet::new() }
    }

    pub(super) fn has(&self, handler: &str) -> bool {
        self.names.contains(handler)
    }

    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Begins work on a handler.
    pub(super) fn begin(&mut self, handler: &str, work: impl Future<Output = T> + Send + 'static) {
        let task = self.running.spawn(work);
        self.handlers.insert(task.id(), handler.to_owned());
        self.names.insert(handler.to_owned());
    }

    /// The next that ends, and how; one that panicked is under way no more than any other. `None`: nothing is under way. Nothing
    /// is lost when this future is dropped.
    pub(super) async fn ended(&mut self) -> Option<(String, Result<T, JoinError>)> {
        let (id, ended) = match self.running.join_next_with_id().await? {
            Ok((id, ended)) => (id, Ok(ended)),
            Err(error) => (error.id(), Err(error)),
        };
        let handler = self.handlers.remove(&id).unwrap_or_default();
        self.names.remove(&handler);
        Some((handler, ended))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    /// A handler on which the host panicked once was under way for good: it followed the cluster no more until a restart.
    #[tokio::test]
    async fn what_panics_is_told_by_its_name_and_can_begin_again() {
        let mut under_way = UnderWay::nothing();
        assert!(under_way.ended().await.is_none());
        under_way.begin("good", async { 1 });
        under_way.begin("bad", async { panic!("on purpose") });
        assert!(under_way.has("good") && under_way.has("bad") && under_way.count() == 2);
        let (one, other) = (under_way.ended().await.unwrap(), under_way.ended().await.unwrap());
        let mut ended = [one, other].map(|(name, ended)| (name, ended.map_err(|error| error.is_panic())));
        ended.sort();
        assert_eq!(ended, [("bad".to_owned(), Err(true)), ("good".to_owned(), Ok(1))]);
        assert!(!under_way.has("good") && !under_way.has("bad") && under_way.count() == 0);
        under_way.begin("bad", async { 2 });
        assert_eq!(under_way.ended().await.unwrap().1.unwrap(), 2);
    }
}
