//! What a host says of itself under its key. Plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::{HeldThere, OnHost};
use super::{Counts, Member};

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Tells this life of the host from others.
    pub life: String,
    /// Where it answers over HTTP.
    pub address: String,
    /// The version of the program.
    pub program: String,
    /// It stops.
    #[serde(default)]
    pub stopped: bool,
    /// Its handlers.
    pub handlers: BTreeMap<String, OnHost>,
    /// What the versions of those came to of which one is tried there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, Counts>,
    /// What is paused on all hosts, as it holds that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paused: BTreeMap<String, HeldThere>,
}

impl Word {
    /// What a host says that runs these handlers.
    #[must_use]
    pub fn of(me: &Member, handlers: BTreeMap<String, OnHost>, counts: BTreeMap<String, Counts>) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let (life, address, paused) = (me.life.clone(), me.address.clone(), BTreeMap::new());
        Self { life, address, program, stopped: false, handlers, counts, paused }
    }

    /// As it stands under the key.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Plain data of ours with text keys always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
