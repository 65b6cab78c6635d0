//! What a version may use and where it may send: hashed, because a changed limit or grant is another version.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::HandlerConfig;
use crate::sandbox::granted::{Access, HostPattern, Hosts};
use crate::sandbox::limits::Limits;
use crate::settle::outputs::{Grant, Grants};

/// The limits and grants of a version.
///
/// They are stored as JSON. A field that is added here later is left out where it has its default, so that a new host
/// finds its versions of old unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// What one run may use.
    pub limits: Limits,
    /// Where it may send messages, by the name that it uses.
    pub outputs: BTreeMap<String, OutputGrant>,
    /// Values that it reads, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Secrets that it reads as values: where each is read from (`env:API_TOKEN`, `file:token.txt`), and never what it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Key-value buckets that it may open, by the name that it uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<String, BucketGrant>,
    /// Hosts that it may send requests to: scheme, host and port.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
}

/// Somewhere that a version may send messages to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputGrant {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The subject; or, when it ends in `.>`, the prefix below which the handler may name any.
    pub subject: String,
}

/// A key-value bucket that a version may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BucketGrant {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The bucket's name there.
    pub bucket: String,
    /// What it may do with it.
    pub access: Access,
}

impl Settings {
    /// What a configuration gives to a handler.
    #[must_use]
    pub fn of(config: &HandlerConfig) -> Self {
        let output = |(name, to): (&String, &crate::config::OutputConfig)| {
            (name.clone(), OutputGrant { broker: to.broker.clone(), subject: to.subject.clone() })
        };
        let bucket = |(name, to): (&String, &crate::config::BucketConfig)| {
            let (broker, bucket) = (to.broker.clone(), to.bucket.clone());
            (name.clone(), BucketGrant { broker, bucket, access: to.access })
        };
        Self {
            limits: config.limits.clone(),
            outputs: config.outputs.iter().map(output).collect(),
            config: config.config.clone(),
            secrets: config.secrets.iter().map(|(name, secret)| (name.clone(), secret.spelled.clone())).collect(),
            buckets: config.buckets.iter().map(bucket).collect(),
            hosts: config.hosts.iter().map(ToString::to_string).collect(),
        }
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

    /// What of these others do not grant, or grant otherwise: `output done`, `secret api_token`, `host https://a.example`.
    /// Values open nothing: they go with the version, as its limits do.
    #[must_use]
    pub fn grants_beyond(&self, others: &Self) -> Vec<String> {
        let granted: Hosts = others.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect();
        let is_granted = |host: &str| HostPattern::parse(host).is_ok_and(|host| granted.include(&host));
        let hosts = self.hosts.iter().filter(|host| !is_granted(host)).map(|host| format!("host {host}"));
        let outputs = beyond("output", &self.outputs, &others.outputs);
        outputs.chain(self.read_beyond(others)).chain(hosts).collect()
    }

    /// The same of what a run without effects reaches all the same: secrets, and what stands in buckets.
    pub fn read_beyond<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = String> + 'a {
        let secrets = beyond("secret", &self.secrets, &others.secrets);
        let buckets = self.buckets.iter();
        let buckets =
            buckets.filter(move |(name, to)| !others.buckets.get(*name).is_some_and(|other| to.is_within(other)));
        secrets.chain(buckets.map(|(name, _)| format!("bucket {name}")))
    }
}

impl BucketGrant {
    /// Whether another grant of the same name allows all that this one does.
    fn is_within(&self, other: &Self) -> bool {
        let Self { broker, bucket, access } = self;
        let same = (broker, bucket) == (&other.broker, &other.bucket);
        same && match (access, other.access) {
            (Access::Read, Access::Read | Access::ReadWrite) | (Access::ReadWrite, Access::ReadWrite) => true,
            (Access::ReadWrite, Access::Read) => false,
        }
    }
}

/// Grants of one kind that others do not have, or have otherwise.
fn beyond<'a, T: PartialEq>(
    kind: &'static str,
    own: &'a BTreeMap<String, T>,
    others: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = String> + 'a {
    own.iter().filter(|(name, to)| others.get(*name) != Some(*to)).map(move |(name, _)| format!("{kind} {name}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;

    fn settings() -> Settings {
        let to = OutputGrant { broker: "main".into(), subject: "a".into() };
        Settings { limits: Limits::default(), outputs: BTreeMap::from([("out".into(), to)]), ..Settings::default() }
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
        assert_eq!(granted.grants_beyond(&plain), ["output out"]);
        assert_eq!(plain.grants_beyond(&odd), Vec::<String>::new());
    }

    #[test]
    fn what_others_do_not_grant_is_named_by_its_kind() {
        let bucket = |access| BucketGrant { broker: "q".into(), bucket: "b".into(), access };
        let all = |region: &str, access| Settings {
            config: BTreeMap::from([("region".into(), region.into()), ("tier".into(), "1".into())]),
            secrets: BTreeMap::from([("token".into(), "env:TOKEN".into())]),
            buckets: BTreeMap::from([("seen".into(), bucket(access))]),
            hosts: BTreeSet::from(["https://a.example".into()]),
            ..settings()
        };
        let granted = all("eu", Access::ReadWrite);
        assert_eq!(granted.grants_beyond(&granted), Vec::<String>::new());
        assert_eq!(all("eu", Access::Read).grants_beyond(&granted), Vec::<String>::new(), "less than that is granted");
        assert_eq!(granted.grants_beyond(&all("us", Access::Read)), ["bucket seen"]);
        let beyond = granted.grants_beyond(&Settings::default());
        assert_eq!(beyond, ["output out", "secret token", "bucket seen", "host https://a.example"]);
        let read = |others: &Settings| granted.read_beyond(others).collect::<Vec<_>>();
        assert_eq!(read(&Settings::default()), ["secret token", "bucket seen"], "what is sent is nothing that is read");
        assert_eq!(read(&all("us", Access::Read)), ["bucket seen"]);
        assert_eq!(read(&Settings { outputs: BTreeMap::new(), hosts: BTreeSet::new(), ..granted.clone() }), [""; 0]);
        assert_eq!(serde_json::from_str::<Settings>(&granted.to_json()).unwrap(), granted);
    }

    #[test]
    fn a_host_is_beyond_what_no_grant_covers() {
        let with = |hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            Settings { hosts, ..settings() }
        };
        let wide = with(&["https://*.example.com", "http://10.0.0.7:8080"]);
        let covered = with(&["https://api.example.com", "https://*.eu.example.com", "http://10.0.0.7:8080"]);
        assert_eq!(covered.grants_beyond(&wide), Vec::<String>::new());
        let beyond = with(&["https://example.com", "http://10.0.0.7"]);
        assert_eq!(beyond.grants_beyond(&wide), ["host http://10.0.0.7", "host https://example.com"]);
        assert_eq!(wide.grants_beyond(&settings()), ["host http://10.0.0.7:8080", "host https://*.example.com"]);
    }

    /// A host that hashes otherwise would take every version of old for a changed one at its first start.
    #[test]
    fn the_hash_of_the_defaults_never_changes() {
        let settings = Settings::default();
        assert_eq!(
            settings.to_json(),
            r#"{"limits":{"fuel":1000000000,"timeout":"10s","max_run":"15m","memory":67108864,"outputs":256,"output_bytes":4194304,"log_lines":256,"log_bytes":65536,"metric_series":64,"host_calls":10000,"payload":8388608,"module_size":67108864,"reuse":1},"outputs":{}}"#
        );
    }
}
