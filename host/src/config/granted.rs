//! What a handler is granted beside its outputs: values, secrets, key-value buckets, and hosts that it may ask.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Checker;
use super::problem::Problem;
use super::raw_handler::RawBucket;
use super::raw_values::RawSecret;
use super::secret::SecretSource;
use crate::broker::bucket::RESERVED;
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
        if bucket.starts_with(RESERVED) {
            let path = ["handlers", handler, "buckets", name];
            let problem = Problem::at(&path, format!("a bucket named `{bucket}` is the cluster's own"));
            checker
                .problem(problem.help(format!("say with `bucket` which one is meant; none begins with `{RESERVED}`")));
        }
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
                let message = format!("`{text}` is no grant of a host: {error}");
                let problem = Problem::at(&["handlers", handler, "hosts", &index.to_string()], message);
                checker.problem(problem.help(
                    "scheme, host and, where it is not 80 or 443, port: \"https://api.example.com\", \
                     \"http://10.0.0.7:8080\", \"https://*.example.com\"",
                ));
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use std::path::Path;

    use expect_test::expect;

    use super::*;
    use crate::config::Config;
    use crate::registry::Settings;

    const GRANTED: &str = r#"
[brokers.queue]
type = "embedded"
[handlers.triage]
config.region = "eu"
config."db.url" = "two\nlines"
secrets.api_token = { env = "API_TOKEN" }
secrets.key = { file = "keys/one.txt" }
buckets.seen = { broker = "queue" }
buckets.prices = { broker = "queue", bucket = "all-prices", access = "read" }
hosts = ["HTTPS://Api.Example.com:443/", "http://10.0.0.7:8080", "https://*.internal.example"]
"#;

    fn config(path: &str, text: &str) -> Config {
        Config::from_text(Path::new(path), text.to_owned(), &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    fn problems(handler: &str) -> String {
        let text = format!("[brokers.queue]\ntype = \"embedded\"\n[handlers.h]\n{handler}\n");
        match Config::from_text(Path::new("t.toml"), text, &[]) {
            Ok(_) => panic!("this was taken for a configuration: {handler}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_granted_is_part_of_the_settings_and_does_not_depend_on_where_the_file_lies() {
        let settings = Settings::of(&config("/etc/tidegate/tidegate.toml", GRANTED).handlers["triage"]);
        expect![[r#"
            {
              "buckets": {
                "prices": {
                  "access": "read",
                  "broker": "queue",
                  "bucket": "all-prices"
                },
                "seen": {
                  "access": "read-write",
                  "broker": "queue",
                  "bucket": "seen"
                }
              },
              "config": {
                "db.url": "two\nlines",
                "region": "eu"
              },
              "hosts": [
                "http://10.0.0.7:8080",
                "https://*.internal.example",
                "https://api.example.com"
              ],
              "secrets": {
                "api_token": "env:API_TOKEN",
                "key": "file:keys/one.txt"
              }
            }"#]]
        .assert_eq(&granted(&settings));
        let elsewhere = config("/srv/t.toml", GRANTED);
        assert_eq!(Settings::of(&elsewhere.handlers["triage"]), settings);
        let dumped = config("/srv/t.toml", &elsewhere.dump());
        assert_eq!(dumped.handlers, elsewhere.handlers);
        assert_eq!(Settings::of(&dumped.handlers["triage"]), settings);
    }

    fn granted(settings: &Settings) -> String {
        let mut value = serde_json::to_value(settings).unwrap();
        value.as_object_mut().unwrap().retain(|key, _| key != "limits" && key != "outputs");
        serde_json::to_string_pretty(&value).unwrap()
    }

    #[test]
    fn each_mistake_in_a_grant_is_told() {
        let shown = [
            "config.a = 1",
            "config.\"a b\" = \"x\"",
            "config.a = \"x\"\nsecrets.a = { env = \"A\" }",
            "buckets.seen = { bucket = \"a.b\", acces = \"read\" }",
            "buckets.seen = { broker = \"quue\", access = \"write\" }",
            "buckets.tidegate-main = { broker = \"queue\" }",
            "buckets.\"a.b\" = { broker = \"queue\" }",
            "hosts = [\"https://a.example\", \"a.example\", \"https://a.example/v1\", \"http://10.0.0.7:0\", \"https://*\"]",
        ]
        .map(problems)
        .join("\n\n");
        expect![[r#"
            error: expected text, found a whole number
             --> t.toml:4:12
              |
            4 | config.a = 1
              |            ^

            error: `a b` cannot be the name of a value
             --> t.toml:4:8
              |
            4 | config."a b" = "x"
              |        ^^^^^
              = help: use 1 to 255 characters, without spaces

            error: `a` is both a value under `config` and a secret
             --> t.toml:5:9
              |
            5 | secrets.a = ***
              |         ^
              = help: the handler reads both by their names alone: rename one

            error: bucket `seen` has no `broker`
             --> t.toml:4:16
              |
            4 | buckets.seen = { bucket = "a.b", acces = "read" }
              |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

            error: `a.b` cannot be the name of a bucket
             --> t.toml:4:27
              |
            4 | buckets.seen = { bucket = "a.b", acces = "read" }
              |                           ^^^^^
              = help: use letters, digits, `-` and single `_`, at most 64 characters

            error: unknown key `acces` in [handlers.h.buckets.seen]
             --> t.toml:4:34
              |
            4 | buckets.seen = { bucket = "a.b", acces = "read" }
              |                                  ^^^^^
              = help: did you mean `access`?

            error: there is no broker `quue`
             --> t.toml:4:27
              |
            4 | buckets.seen = { broker = "quue", access = "write" }
              |                           ^^^^^^
              = help: did you mean `queue`?

            error: expected one of read, read-write
             --> t.toml:4:44
              |
            4 | buckets.seen = { broker = "quue", access = "write" }
              |                                            ^^^^^^^

            error: a bucket named `tidegate-main` is the cluster's own
             --> t.toml:4:25
              |
            4 | buckets.tidegate-main = { broker = "queue" }
              |                         ^^^^^^^^^^^^^^^^^^^^
              = help: say with `bucket` which one is meant; none begins with `tidegate-`

            error: `a.b` cannot be the name of a bucket
             --> t.toml:4:9
              |
            4 | buckets."a.b" = { broker = "queue" }
              |         ^^^^^
              = help: use letters, digits, `-` and single `_`, at most 64 characters: the name becomes part of subjects, metrics and environment variables

            error: `a.example` is no grant of a host: it does not say how the host is spoken to: begin it with `https://` or `http://`
             --> t.toml:4:31
              |
            4 | hosts = ["https://a.example", "a.example", "https://a.example/v1", "http://10.0.0.7:0", "https://*"]
              |                               ^^^^^^^^^^^
              = help: scheme, host and, where it is not 80 or 443, port: "https://api.example.com", "http://10.0.0.7:8080", "https://*.example.com"

            error: `https://a.example/v1` is no grant of a host: a grant is for all of a host: leave out the path, and what else stands behind host and port
             --> t.toml:4:44
              |
            4 | hosts = ["https://a.example", "a.example", "https://a.example/v1", "http://10.0.0.7:0", "https://*"]
              |                                            ^^^^^^^^^^^^^^^^^^^^^^
              = help: scheme, host and, where it is not 80 or 443, port: "https://api.example.com", "http://10.0.0.7:8080", "https://*.example.com"

            error: `http://10.0.0.7:0` is no grant of a host: the port is no number from 1 to 65535
             --> t.toml:4:68
              |
            4 | hosts = ["https://a.example", "a.example", "https://a.example/v1", "http://10.0.0.7:0", "https://*"]
              |                                                                    ^^^^^^^^^^^^^^^^^^^
              = help: scheme, host and, where it is not 80 or 443, port: "https://api.example.com", "http://10.0.0.7:8080", "https://*.example.com"

            error: `https://*` is no grant of a host: `*` stands for all that is below a name of two labels or more: write `https://*.example.com`
             --> t.toml:4:89
              |
            4 | hosts = ["https://a.example", "a.example", "https://a.example/v1", "http://10.0.0.7:0", "https://*"]
              |                                                                                         ^^^^^^^^^^^
              = help: scheme, host and, where it is not 80 or 443, port: "https://api.example.com", "http://10.0.0.7:8080", "https://*.example.com""#]].assert_eq(&shown);
    }

    #[test]
    fn values_are_bounded_since_every_version_has_them() {
        let fits = "x".repeat(VALUES_BYTES - 1);
        config("t.toml", &format!("[handlers.h]\nconfig.a = \"{fits}\"\n"));
        let told = problems(&format!("config.a = \"x{fits}\""));
        assert!(told.contains("have 65537 bytes, and the most is 65536"), "{}", &told[..200]);
        let hosts: Vec<String> = (0..=HOSTS).map(|n| format!("\"https://h{n}.example\"")).collect();
        assert!(problems(&format!("hosts = [{}]", hosts.join(", "))).contains("there are 65 hosts"));
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        for text in [
            "secrets.api = \"hunter2\"",
            "secrets = { api = \"hunter2\" }",
            "[handlers.h.secrets]\napi = \"hunter2\"",
            "[handlers.h.secrets]\napi = \"hunter2",
            "[handlers.h.secrets]\napi = { env = \"hunter2\", fil = \"hunter2\" }",
            "secrets = {\n  api = \"hunter2\",\n}",
            "secrets = {\n  other = { env = \"O\" },\n  api = \"hunter2\",\n}",
            "secrets = {\n  api = \"hunter2",
            "secrets.api = {\n  fil = \"hunter2\",\n}",
        ] {
            let told = problems(text);
            assert!(!told.contains("hunter2") && told.contains("***"), "{told}");
        }
    }
}
