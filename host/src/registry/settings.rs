//! What a version may use and where it may send: hashed, because a changed limit or grant is another version.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::HandlerConfig;
use crate::sandbox::limits::Limits;
use crate::settle::outputs::{Grant, Grants};

/// The limits and grants of a version.
///
/// They are stored as JSON. A field that is added here later is left out where it has its default, so that a new host
/// finds its versions of old unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// What one run may use.
    pub limits: Limits,
    /// Where it may send messages, by the name that it uses.
    pub outputs: BTreeMap<String, OutputGrant>,
}

/// Somewhere that a version may send messages to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputGrant {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The subject; or, when it ends in `.>`, the prefix below which the handler may name any.
    pub subject: String,
}

impl Settings {
    /// What a configuration gives to a handler.
    #[must_use]
    pub fn of(config: &HandlerConfig) -> Self {
        let output = |(name, to): (&String, &crate::config::OutputConfig)| {
            (name.clone(), OutputGrant { broker: to.broker.clone(), subject: to.subject.clone() })
        };
        Self { limits: config.limits.clone(), outputs: config.outputs.iter().map(output).collect() }
    }

    /// As they are stored, and hashed: always the same text for the same settings.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain data of ours with text keys always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The sha256 of their JSON, in hex.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.to_json()))
    }

    /// The outputs, as routing asks for them.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let grant = |to: &OutputGrant| Grant { broker: to.broker.as_str().into(), subject: to.subject.clone() };
        self.outputs.iter().map(|(name, to)| (name.clone(), grant(to))).collect()
    }

    /// The outputs of these that others do not have, or have otherwise.
    pub fn outputs_beyond<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = &'a str> {
        let beyond = self.outputs.iter().filter(|(name, to)| others.outputs.get(*name) != Some(*to));
        beyond.map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        let to = OutputGrant { broker: "main".into(), subject: "a".into() };
        Settings { limits: Limits::default(), outputs: BTreeMap::from([("out".into(), to)]) }
    }

    #[test]
    fn settings_come_back_as_they_were_and_each_change_shows_in_the_hash() {
        let plain = settings();
        assert_eq!(serde_json::from_str::<Settings>(&plain.to_json()).unwrap(), plain);
        let mut odd = settings();
        odd.limits.timeout = Duration::from_micros(10_500);
        odd.limits.fuel = None;
        assert_eq!(serde_json::from_str::<Settings>(&odd.to_json()).unwrap(), odd);
        let mut granted = settings();
        granted.outputs.get_mut("out").unwrap().subject = "b".into();
        let hashes = [plain.hash(), odd.hash(), granted.hash()];
        assert_eq!(std::collections::BTreeSet::from(hashes.clone()).len(), 3, "{hashes:?}");
        assert_eq!(plain.hash(), settings().hash());
        assert_eq!(granted.outputs_beyond(&plain).collect::<Vec<_>>(), ["out"]);
        assert_eq!(plain.outputs_beyond(&odd).count(), 0);
    }

    /// A host that hashes otherwise would take every version of old for a changed one at its first start.
    #[test]
    fn the_hash_of_the_defaults_never_changes() {
        let settings = Settings { limits: Limits::default(), outputs: BTreeMap::new() };
        assert_eq!(
            settings.to_json(),
            r#"{"limits":{"fuel":1000000000,"timeout":"10s","max_run":"15m","memory":67108864,"outputs":256,"output_bytes":4194304,"log_lines":256,"log_bytes":65536,"metric_series":64,"host_calls":10000,"payload":8388608,"module_size":67108864,"reuse":1},"outputs":{}}"#
        );
    }
}
