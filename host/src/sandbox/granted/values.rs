//! `wasi:config/store`: the values and secrets of a handler.
//!
//! Invariants: a secret is printed nowhere but to the guest; one that could not be read is the contract's own error, and says
//! where it was to come from.

use std::collections::BTreeMap;
use std::fmt;

use wasmtime::component::{HasSelf, Linker};

use crate::config::Secret;
use crate::sandbox::bindings::wasi_config::Imports;
use crate::sandbox::bindings::wasi_config::wasi::config::store;
use crate::sandbox::state::State;

/// What a handler reads by name.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<String, Value>);

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
    pub fn missing(&self) -> Option<&str> {
        self.0.values().find_map(|value| match value {
            Value::Missing(why) => Some(why.as_str()),
            Value::Plain(_) | Value::Secret(_) => None,
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self(values.into_iter().collect())
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
        let value = self.granted.values.0.get(&key).map(Value::read).transpose();
        Ok(value.map(|value| value.map(ToOwned::to_owned)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        self.count_call()?;
        let read = |(name, value): (&String, &Value)| Ok((name.clone(), value.read()?.to_owned()));
        Ok(self.granted.values.0.iter().map(read).collect())
    }
}
