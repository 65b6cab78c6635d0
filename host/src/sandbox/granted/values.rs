//! `wasi:config/store`: the values and secrets of a handler.
//!
//! Invariants:
//! - A secret is handed to the guest and printed nowhere; one that could not be read is the contract's own error, and says
//!   where it was to come from.
//! - A secret that is read anew is seen by the next look at it, in a run that goes on too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use wasmtime::component::{HasSelf, Linker};

use crate::config::Secret;
use crate::sandbox::bindings::wasi_config::Imports;
use crate::sandbox::bindings::wasi_config::wasi::config::store;
use crate::sandbox::state::State;

/// What a handler reads by name.
#[derive(Debug, Clone, Default)]
pub struct Values(Arc<ArcSwap<BTreeMap<String, Value>>>);

/// One of them.
#[derive(Clone)]
pub enum Value {
    /// As the configuration says it.
    Plain(String),
    /// Not to be shown.
    Secret(Secret),
    /// A secret that could not be read, and why.
    Missing(String),
}

impl Values {
    /// Why the first of those that could not be read is not there.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.0.load().values().find_map(|value| match value {
            Value::Missing(why) => Some(why.clone()),
            Value::Plain(_) | Value::Secret(_) => None,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whether it is a secret of these, and another one than that.
    #[must_use]
    pub fn has_other_secret(&self, name: &str, read: &Secret) -> bool {
        self.0.load().get(name).is_some_and(|held| match held {
            Value::Secret(held) => held != read,
            Value::Missing(_) => true,
            Value::Plain(_) => false,
        })
    }

    /// Puts a secret that was read anew in the place of the one of its name.
    pub fn renew(&self, name: &str, read: &Secret) {
        if self.has_other_secret(name, read) {
            self.0.rcu(|values| {
                let mut values = BTreeMap::clone(values);
                values.insert(name.to_owned(), Value::Secret(read.clone()));
                values
            });
        }
    }
}

impl FromIterator<(String, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(values.into_iter().collect())))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.debug_tuple("Plain").field(text).finish(),
            Self::Secret(secret) => f.debug_tuple("Secret").field(secret).finish(),
            Self::Missing(why) => f.debug_tuple("Missing").field(why).finish(),
        }
    }
}

impl Value {
    fn read(&self) -> Result<&str, store::Error> {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Secret(secret) => Ok(secret.expose()),
            Self::Missing(why) => Err(store::Error::Upstream(why.clone())),
        }
    }
}

/// Makes it known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Imports::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl store::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        self.count_call()?;
        let values = self.granted.values.0.load();
        let value = values.get(&key).map(Value::read).transpose();
        Ok(value.map(|value| value.map(ToOwned::to_owned)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        self.count_call()?;
        let read = |(name, value): (&String, &Value)| Ok((name.clone(), value.read()?.to_owned()));
        Ok(self.granted.values.0.load().iter().map(read).collect())
    }
}
