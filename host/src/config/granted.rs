//! What a handler is granted beside its outputs: values, secrets, key-value buckets, and hosts that it may ask.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Checker;
use super::problem::Problem;
use super::raw_handler::RawBucket;
use super::raw_values::RawSecret;
use super::secret::SecretSource;
use crate::sandbox::granted::{Access, HostPattern};

/// The longest name of a value or a secret. Spin and Kubernetes stop at 63 and 253.
const LONGEST_VALUE_NAME: usize = 255;
/// Bytes of all values of a handler with their names: they are part of every version's record, and of the word on it that a
/// cluster shares, which NATS takes up to 1 MiB of.
const VALUES_BYTES: usize = 64 << 10;
/// Hosts of one handler: each request is held against all of them.
const HOSTS: usize = 64;

/// A secret that a handler reads as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    /// Where it is read from.
    pub source: SecretSource,
    /// The same as the file says it, which does not depend on where the file lies: `env:API_TOKEN`, `file:token.txt`.
    pub spelled: String,
}

/// A key-value bucket that a handler may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketConfig {
    /// The broker's name in the configuration.
    pub broker: String,
    /// The bucket's name there.
    pub bucket: String,
    /// What the handler may do with it.
    pub access: Access,
}

impl SecretGrant {
    pub(super) fn of(raw: &RawSecret, checker: &Checker) -> Self {
        let source = checker.secret(raw);
        let spelled = match &source {
            SecretSource::Env(name) => format!("env:{name}"),
            SecretSource::File(path) => format!("file:{}", checker.relative(path).display()),
        };
        Self { source, spelled }
    }
}

impl BucketConfig {
    pub(super) fn validate(handler: &str, name: &str, raw: RawBucket, brokers: &[&str], checker: &mut Checker) -> Self {
        checker.name_at("bucket", &["handlers", handler, "buckets"], name);
        let broker = broker("bucket", &["handlers", handler, "buckets", name], raw.broker, brokers, checker);
        let bucket = match raw.bucket {
            Some(bucket) => {
                if !Checker::is_name(&bucket) {
                    let path = ["handlers", handler, "buckets", name, "bucket"];
                    let problem = Problem::at(&path, format!("`{bucket}` cannot be the name of a bucket"));
                    checker.problem(problem.help("use letters, digits, `-` and single `_`, at most 64 characters"));
                }
                bucket
            }
            None => name.to_owned(),
        };
        Self { broker, bucket, access: raw.access.unwrap_or_default() }
    }
}

/// The broker that something of a handler names.
pub(super) fn broker(
    what: &str,
    path: &[&str; 4],
    given: Option<String>,
    brokers: &[&str],
    checker: &mut Checker,
) -> String {
    let [section, handler, kind, name] = *path;
    let broker = given.unwrap_or_default();
    if broker.is_empty() {
        checker.problem(Problem::at(path, format!("{what} `{name}` has no `broker`")));
    } else if !brokers.contains(&broker.as_str()) {
        let path = [section, handler, kind, name, "broker"];
        let problem = Problem::at(&path, format!("there is no broker `{broker}`"));
        checker.problem(problem.nearest(&broker, brokers.iter().copied()));
    }
    broker
}

/// Looks whether the values and secrets of a handler can be told apart, and are not too much to be carried along.
pub(super) fn check_values(
    handler: &str,
    values: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, RawSecret>,
    checker: &mut Checker,
) {
    for (section, name) in
        values.keys().map(|name| ("config", name)).chain(secrets.keys().map(|name| ("secrets", name)))
    {
        if name.is_empty() || name.len() > LONGEST_VALUE_NAME || name.contains(|c: char| c.is_control() || c == ' ') {
            let path = ["handlers", handler, section, name].map(str::to_owned).to_vec();
            let message = format!("`{}` cannot be the name of a value", name.escape_debug());
            let help = format!("use 1 to {LONGEST_VALUE_NAME} characters, without spaces");
            checker.problem(Problem::of_key(path, message).help(help));
        }
    }
    for name in secrets.keys().filter(|name| values.contains_key(*name)) {
        let path = ["handlers", handler, "secrets", name].map(str::to_owned).to_vec();
        let problem = Problem::of_key(path, format!("`{name}` is both a value under `config` and a secret"));
        checker.problem(problem.help("the handler reads both by their names alone: rename one"));
    }
    let bytes: usize = values.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > VALUES_BYTES {
        let message = format!("the values of `config` have {bytes} bytes, and the most is {VALUES_BYTES}");
        let problem = Problem::at(&["handlers", handler, "config"], message);
        checker.problem(problem.help("they are part of every version: put what is larger into a bucket"));
    }
}

/// The hosts that a handler may ask.
pub(super) fn hosts(handler: &str, raw: &[String], checker: &mut Checker) -> BTreeSet<HostPattern> {
    if raw.len() > HOSTS {
        let problem = Problem::at(&["handlers", handler, "hosts"], format!("there are {} hosts", raw.len()));
        checker.problem(problem.help(format!("at most {HOSTS}; `https://*.example.com` covers all below one name")));
    }
    let mut hosts = BTreeSet::new();
    for (index, text) in raw.iter().enumerate() {
        match HostPattern::parse(text) {
            Ok(host) => drop(hosts.insert(host)),
            Err(error) => {
                let problem = Problem::at(&["handlers", handler, "hosts", &index.to_string()], error.to_string());
                checker.problem(problem.help(
                    "scheme, host and, where it is not 80 or 443, port: \"https://api.example.com\", \
                     \"http://10.0.0.7:8080\", \"https://*.example.com\"",
                ));
            }
        }
    }
    hosts
}
