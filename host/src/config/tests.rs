#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};

use super::*;
use crate::broker::jetstream::Confirm;
use crate::dispatch::CircuitPolicy;
use crate::settle::policy::{Backoff, RetryPolicy};

/// The smallest configuration that runs something.
const SMALL: &str = r#"
[brokers.local]
type = "embedded"

[handlers.triage]
module = "triage.wasm"

[subscriptions.webhooks]
broker = "local"
subjects = ["github.>"]
handler = "triage"
"#;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_text(Path::new("tidegate.toml"), text.to_owned(), &variables)
}

fn bad(text: &str, variables: &[(&str, &str)], expected: &Expect) {
    match load(text, variables) {
        Ok(_) => panic!("this was taken for a configuration:\n{text}"),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

fn good(text: &str, variables: &[(&str, &str)]) -> Config {
    load(text, variables).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = good("", &[]);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7171");
    assert_eq!(config.host.data_dir, Path::new("tidegate-data"));
    assert_eq!(config.host.cache_dir, Path::new("tidegate-data/cache"));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = good(SMALL, &[]);
    let subscription = &config.subscriptions["webhooks"];
    assert_eq!(subscription.spec.ack_wait, Duration::from_secs(30));
    assert_eq!(subscription.concurrency.get(), 16);
    assert_eq!(subscription.retry, RetryPolicy::standard());
    assert_eq!(subscription.circuit, Some(CircuitPolicy::standard()));
    assert_eq!(config.handlers["triage"].limits, crate::sandbox::limits::Limits::default());
    let BrokerConfig::Embedded(queue) = &config.brokers["local"] else { panic!("not embedded") };
    assert_eq!(queue.path, Path::new("tidegate-data/queue-local"));
    assert_eq!(*queue, crate::broker::embedded::Options::new("tidegate-data/queue-local"));
}

#[test]
fn everything_that_can_be_said_is_heard() {
    let text = r#"
[host]
name = "host-1"
data_dir = "/var/lib/tidegate"
compile_memory = "1GiB"
max_in_flight_bytes = "1GiB"
drain_timeout = "5s"
log = { level = "debug", format = "json" }
[http]
listen = "[::1]:8080"
max_publish_bytes = "1MiB"
[brokers.nats]
type = "jetstream"
servers = ["nats://a:4222", "nats://b:4222"]
user = "tidegate"
password = { file = "password.txt" }
tls = { ca = "ca.pem" }
replicas = 3
streams.ORDERS = { subjects = ["orders.>"], max_age = "7d" }
[handlers.bill]
module = "/opt/bill.wasm"
outputs.paid = { broker = "nats", subject = "paid" }
limits = { fuel = "unmetered", timeout = "1m", memory = "128MiB" }
instances = { reuse = 1000 }
[subscriptions.orders]
broker = "nats"
subjects = ["orders.*.new", "orders.*.changed"]
handler = "bill"
concurrency = 200
create = true
retry = { schedule = ["1s", "10s", "5m"], retry_after_max = "1h" }
"#;
    let config = good(text, &[]);
    let BrokerConfig::JetStream(nats) = &config.brokers["nats"] else { panic!("not JetStream") };
    assert_eq!(nats.replicas, 3);
    assert!(nats.tls.as_ref().unwrap().required);
    let Authentication::Password { user, password } = &nats.auth else { panic!("{:?}", nats.auth) };
    assert_eq!((user.as_str(), password), ("tidegate", &SecretSource::File("password.txt".into())));
    let limits = &config.handlers["bill"].limits;
    assert_eq!((limits.fuel, limits.reuse.get(), limits.timeout), (None, 1000, Duration::from_secs(60)));
    let orders = &config.subscriptions["orders"];
    assert_eq!(orders.spec.stream.as_deref(), Some("ORDERS"), "the stream that takes in the subjects");
    assert_eq!(orders.spec.max_in_flight, 400);
    assert_eq!(orders.retry.max_attempts.get(), 4);
    assert_eq!(orders.retry.max_deliveries.get(), 40);
    assert_eq!(orders.retry.backoff, Backoff::Schedule([1, 10, 300].map(Duration::from_secs).to_vec()));
    assert_eq!(config.host.compile_memory.unwrap().get(), 1 << 30);
    assert_eq!(config.host.log, LogConfig { level: LogThreshold::Debug, format: LogFormat::Json });
}

#[test]
fn the_environment_stands_over_the_file() {
    let config = good(
        SMALL,
        &[
            ("TIDEGATE_HTTP__LISTEN", "127.0.0.1:9000"),
            ("TIDEGATE_SUBSCRIPTIONS__WEBHOOKS__CONCURRENCY", "4"),
            ("TIDEGATE_SUBSCRIPTIONS__WEBHOOKS__SUBJECTS", r#"["a.b", "c"]"#),
            ("TIDEGATE_SUBSCRIPTIONS__WEBHOOKS__CREATE", "true"),
            ("TIDEGATE_HANDLERS__TRIAGE__LIMITS__FUEL", "1_000"),
            ("TIDEGATE_HANDLERS__TRIAGE__LIMITS__TIMEOUT", "2s"),
            ("TIDEGATE_BROKERS__LOCAL__MAX_BYTES", "1GiB"),
            // What Kubernetes sets beside a service named `tidegate`, and what is no setting of the host.
            ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("TIDEGATE_PORT_7171_TCP_ADDR", "10.0.0.1"),
            ("TIDEGATE_CONFIG", "elsewhere.toml"),
            ("HOME", "/root"),
        ],
    );
    assert_eq!(config.http.listen.port(), 9000);
    let webhooks = &config.subscriptions["webhooks"];
    assert_eq!(webhooks.concurrency.get(), 4);
    assert_eq!(webhooks.spec.subjects, ["a.b", "c"]);
    assert!(webhooks.spec.create);
    let limits = &config.handlers["triage"].limits;
    assert_eq!((limits.fuel.unwrap().get(), limits.timeout), (1000, Duration::from_secs(2)));
}

#[test]
fn a_variable_finds_a_name_with_dashes() {
    let text = "[brokers.my-queue]\ntype = \"embedded\"\n";
    let config = good(text, &[("TIDEGATE_BROKERS__MY_QUEUE__MAX_PAYLOAD", "1KiB")]);
    let BrokerConfig::Embedded(queue) = &config.brokers["my-queue"] else { panic!("not embedded") };
    assert_eq!(queue.max_payload, 1024);
}

#[test]
fn variables_that_are_no_settings_are_named() {
    bad(
        SMALL,
        &[
            ("TIDEGATE_HTTP_LISTEN", "127.0.0.1:1"),
            ("TIDEGATE_HTTP__LISTN", "127.0.0.1:1"),
            ("TIDEGATE_SUBSCRIPTIONS__WEBHOOKS__CONCURRENCY", "many"),
            ("TIDEGATE_NONSENSE", "1"),
        ],
        &expect![[r#"
            error: `TIDEGATE_HTTP_LISTEN` is not a setting
             --> environment variable TIDEGATE_HTTP_LISTEN
              = help: two underscores stand between the levels: TIDEGATE_HTTP__LISTEN

            error: `TIDEGATE_NONSENSE` is not a setting
             --> environment variable TIDEGATE_NONSENSE
              = help: a setting is named by its path, with two underscores between the levels: TIDEGATE_HTTP__LISTEN

            error: expected a whole number from 0 to 4294967295
             --> environment variable TIDEGATE_SUBSCRIPTIONS__WEBHOOKS__CONCURRENCY

            error: unknown key `listn` in [http]
             --> environment variable TIDEGATE_HTTP__LISTN
              = help: did you mean `listen`?"#]],
    );
}

#[test]
fn every_problem_is_shown_at_once() {
    bad(
        r#"
[host]
drain_timout = "25s"
max_in_flight_bytes = 1000

[http]
listen = "0.0.0.0:7171"

[brokers.local]
type = "embeded"

[handlers.triage]
limits = { fuel = 0, timeout = "20s", max_run = "10s", memory = "1KiB" }
outputs.routed = { broker = "lokal", subject = "a.*" }

[handlers."a b"]
module = "x.wasm"

[subscriptions.web-hooks]
broker = "locale"
subjects = ["github.>", "github.push", "a..b"]
handler = "triag"
concurrency = 0
max_in_flight = 1
retry = { preset = "slow", schedule = [] }

[subscriptions.web_hooks]
concurrency = -1
ack_wait = "10ms"

[subscription.x]
"#,
        &[],
        &expect![[r#"
            error: unknown key `drain_timout` in [host]
             --> tidegate.toml:3:1
              |
            3 | drain_timout = "25s"
              | ^^^^^^^^^^^^
              = help: did you mean `drain_timeout`?

            error: the number 1000 has no unit: write "1000B", or another unit
             --> tidegate.toml:4:23
              |
            4 | max_in_flight_bytes = 1000
              |                       ^^^^

            error: `0.0.0.0:7171` can be reached from other machines, and nobody is asked who they are
             --> tidegate.toml:7:10
              |
            7 | listen = "0.0.0.0:7171"
              |          ^^^^^^^^^^^^^^
              = help: `tidegate token new --role deploy --name NAME` makes a token and its lines for this file; or stay on loopback: "127.0.0.1:7171"

            error: `0.0.0.0:7171` can be reached from other machines, and tokens would cross the wire as text
             --> tidegate.toml:7:10
              |
            7 | listen = "0.0.0.0:7171"
              |          ^^^^^^^^^^^^^^
              = help: name a certificate and its key in [http.tls]; or let a proxy speak TLS in front, see to it that nobody else reaches this port, and say so with `insecure_plaintext = true` in [http]

            error: expected one of embedded, jetstream; did you mean `embedded`?
              --> tidegate.toml:10:8
               |
            10 | type = "embeded"
               |        ^^^^^^^^^

            error: `fuel` must not be zero
              --> tidegate.toml:13:19
               |
            13 | limits = { fuel = 0, timeout = "20s", max_run = "10s", memory = "1KiB" }
               |                   ^
               = help: to run without counting, say so: fuel = "unmetered"

            error: `max_run` is shorter than `timeout`
              --> tidegate.toml:13:49
               |
            13 | limits = { fuel = 0, timeout = "20s", max_run = "10s", memory = "1KiB" }
               |                                                 ^^^^^
               = help: `max_run` is what a run may extend itself to, so it is at least `timeout`

            error: `memory` must be at least 128KiB: less starts no guest
              --> tidegate.toml:13:65
               |
            13 | limits = { fuel = 0, timeout = "20s", max_run = "10s", memory = "1KiB" }
               |                                                                 ^^^^^^

            error: there is no broker `lokal`
              --> tidegate.toml:14:29
               |
            14 | outputs.routed = { broker = "lokal", subject = "a.*" }
               |                             ^^^^^^^
               = help: did you mean `local`?

            error: `a.*` is not a subject: it has a wildcard, and a message is published to one subject
              --> tidegate.toml:14:48
               |
            14 | outputs.routed = { broker = "lokal", subject = "a.*" }
               |                                                ^^^^^
               = help: one subject; or "prefix.>", to let the handler name the rest

            error: `a b` cannot be the name of a handler
              --> tidegate.toml:16:11
               |
            16 | [handlers."a b"]
               |           ^^^^^
               = help: use letters, digits, `-` and single `_`, at most 64 characters: the name becomes part of subjects, metrics and environment variables

            error: there is no broker `locale`
              --> tidegate.toml:20:10
               |
            20 | broker = "locale"
               |          ^^^^^^^^
               = help: did you mean `local`?

            error: `github.push` is taken in by `github.>` already
              --> tidegate.toml:21:25
               |
            21 | subjects = ["github.>", "github.push", "a..b"]
               |                         ^^^^^^^^^^^^^

            error: `a..b` is not a subject filter: it has an empty token (a dot at an end, or two in a row)
              --> tidegate.toml:21:40
               |
            21 | subjects = ["github.>", "github.push", "a..b"]
               |                                        ^^^^^^

            error: there is no handler `triag`
              --> tidegate.toml:22:11
               |
            22 | handler = "triag"
               |           ^^^^^^^
               = help: did you mean `triage`?

            error: `concurrency` must not be zero
              --> tidegate.toml:23:15
               |
            23 | concurrency = 0
               |               ^

            error: expected one of quick, standard, patient
              --> tidegate.toml:25:20
               |
            25 | retry = { preset = "slow", schedule = [] }
               |                    ^^^^^^

            error: `schedule` must have from 1 to 100 delays
              --> tidegate.toml:25:39
               |
            25 | retry = { preset = "slow", schedule = [] }
               |                                       ^^

            error: subscription `web_hooks` has no `broker`
              --> tidegate.toml:27:16
               |
            27 | [subscriptions.web_hooks]
               |                ^^^^^^^^^

            error: subscription `web_hooks` has no `handler`
              --> tidegate.toml:27:16
               |
            27 | [subscriptions.web_hooks]
               |                ^^^^^^^^^

            error: subscription `web_hooks` has no `subjects`
              --> tidegate.toml:27:16
               |
            27 | [subscriptions.web_hooks]
               |                ^^^^^^^^^
               = help: subjects = ["orders.>"]

            error: `web_hooks` and `web-hooks` differ in case or in `-` and `_` only
              --> tidegate.toml:27:16
               |
            27 | [subscriptions.web_hooks]
               |                ^^^^^^^^^
               = help: an environment variable could not tell them apart; rename one

            error: expected a whole number from 0 to 4294967295
              --> tidegate.toml:28:15
               |
            28 | concurrency = -1
               |               ^^

            error: `ack_wait` must be at least 1s
              --> tidegate.toml:29:12
               |
            29 | ack_wait = "10ms"
               |            ^^^^^^

            error: unknown section `subscription`
              --> tidegate.toml:31:2
               |
            31 | [subscription.x]
               |  ^^^^^^^^^^^^
               = help: did you mean `subscriptions`?"#]],
    );
}

#[test]
fn text_that_is_not_toml_is_shown_with_its_line() {
    bad(
        "[http]\nlisten = \"127.0.0.1:7171\nport = 1\n",
        &[],
        &expect![[r#"
            error: this is not TOML: invalid basic string, expected `"`
             --> tidegate.toml:2:25
              |
            2 | listen = "127.0.0.1:7171
              |                         ^"#]],
    );
    bad(
        "[http]\nlisten = \"a\"\nlisten = \"b\"\n",
        &[],
        &expect![[r#"
            error: this is not TOML: duplicate key
             --> tidegate.toml:3:1
              |
            3 | listen = "b"
              | ^^^^^^"#]],
    );
}

#[test]
fn a_literal_secret_is_refused_and_not_shown() {
    let text = r#"
[brokers.nats]
type = "jetstream"
servers = ["nats://joe:hunter2@127.0.0.1:4222"]
token = "hunter2"
user = "me"
pasword = "hunter2"
creds = { env = "A", file = "hunter2" }
nkey = 2
"#;
    let error = load(text, &[("TIDEGATE_BROKERS__NATS__PASSWORD", "hunter2")]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    expect![[r#"
        error: a server address must not carry credentials
         --> tidegate.toml:4:12
          |
        4 | servers = ["nats://***@127.0.0.1:4222"]
          |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          = help: a secret is not written into the configuration: write `user` and `password = { env = "NAME" }`, or `token`

        error: a secret is not written into the configuration, where backups, logs and colleagues see it: write { env = "NAME" } or { file = "path" }
         --> tidegate.toml:5:9
          |
        5 | token = ***
          |         ^^^

        error: `user` is given without `password`
         --> tidegate.toml:6:8
          |
        6 | user = "me"
          |        ^^^^

        error: unknown key `pasword` in [brokers.nats]
         --> tidegate.toml:7:1
          |
        7 | pasword = ***
          | ^^^^^^^
          = help: did you mean `password`?

        error: expected either `env` or `file`, found both
         --> tidegate.toml:8:9
          |
        8 | creds = ***
          |         ^^^

        error: a secret is not written into the configuration, where backups, logs and colleagues see it: write { env = "NAME" } or { file = "path" }
         --> tidegate.toml:9:8
          |
        9 | nkey = ***
          |        ^

        error: a secret is not written into the configuration, where backups, logs and colleagues see it: write { env = "NAME" } or { file = "path" }
         --> environment variable TIDEGATE_BROKERS__NATS__PASSWORD"#]]
    .assert_eq(&error);
    let error = load("[brokers.n]\ntoken = \"hunter2\ntype=1", &[]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_secret_in_the_environment_is_named_by_its_variable() {
    let text = "[brokers.nats]\ntype = \"jetstream\"\nservers = [\"nats://127.0.0.1\"]\n";
    let config = good(text, &[("TIDEGATE_BROKERS__NATS__TOKEN", r#"{ env = "NATS_TOKEN" }"#)]);
    let BrokerConfig::JetStream(nats) = &config.brokers["nats"] else { panic!("not JetStream") };
    assert_eq!(nats.auth, Authentication::Token(SecretSource::Env("NATS_TOKEN".into())));
    let config = good(text, &[("TIDEGATE_BROKERS__NATS__TOKEN__FILE", "token.txt")]);
    let BrokerConfig::JetStream(nats) = &config.brokers["nats"] else { panic!("not JetStream") };
    assert_eq!(nats.auth, Authentication::Token(SecretSource::File("token.txt".into())));
}

#[test]
fn acknowledgements_are_confirmed_in_groups_unless_told_otherwise() {
    for (line, expected) in [("", Confirm::Groups), ("confirm = \"each\"", Confirm::Each)] {
        let config = good(&format!("[brokers.nats]\ntype = \"jetstream\"\nservers = [\"nats://a\"]\n{line}\n"), &[]);
        let BrokerConfig::JetStream(nats) = &config.brokers["nats"] else { panic!("not JetStream") };
        assert_eq!(nats.confirm, expected);
    }
}

#[test]
fn values_of_the_wrong_kind_say_what_is_wanted() {
    bad(
        r#"
[host]
name = 1
log = "debug"
drain_timeout = 25
[http]
listen = ["a"]
[brokers.a]
path = "x"
[brokers.b]
type = "embedded"
dedupe_max = 1.5
max_age = 1979-05-27
durability = "fast"
[brokers.c]
type = "embedded"
path = "tidegate-data/queue-b"
[brokers.d]
type = "jetstream"
replicas = 9
tls = { cert = "a.pem" }
dead_letter_stream = "a.b"
[handlers.h]
module = "h.wasm"
limits = { fuel = "none", outputs = 99999999999 }
[subscriptions.s]
broker = "b"
handler = "h"
stream = "S"
subjects = "a"
create = "yes"
retry = { preset = "quick", schedule = ["1s"], max_attempts = 3, max_deliveries = 2 }
"#,
        &[],
        &expect![[r#"
            error: expected text, found a whole number
             --> tidegate.toml:3:8
              |
            3 | name = 1
              |        ^

            error: expected a table, found text
             --> tidegate.toml:4:7
              |
            4 | log = "debug"
              |       ^^^^^^^

            error: the number 25 has no unit: write "25s", or another unit
             --> tidegate.toml:5:17
              |
            5 | drain_timeout = 25
              |                 ^^

            error: expected text, found a list
             --> tidegate.toml:7:10
              |
            7 | listen = ["a"]
              |          ^^^^^

            error: it has no `type`: one of embedded, jetstream
             --> tidegate.toml:8:1
              |
            8 | [brokers.a]
              | ^^^^^^^^^^^

            error: expected a whole number that is not negative, found a number with a fraction
              --> tidegate.toml:12:14
               |
            12 | dedupe_max = 1.5
               |              ^^^

            error: no setting is a date
              --> tidegate.toml:13:11
               |
            13 | max_age = 1979-05-27
               |           ^^^^^^^^^^

            error: expected one of fsync, relaxed
              --> tidegate.toml:14:14
               |
            14 | durability = "fast"
               |              ^^^^^^

            error: brokers `b` and `c` have the same `path`
              --> tidegate.toml:17:8
               |
            17 | path = "tidegate-data/queue-b"
               |        ^^^^^^^^^^^^^^^^^^^^^^^

            error: broker `d` has no `servers`
              --> tidegate.toml:18:10
               |
            18 | [brokers.d]
               |          ^
               = help: servers = ["nats://127.0.0.1:4222"]

            error: `replicas` must be from 1 to 5
              --> tidegate.toml:20:12
               |
            20 | replicas = 9
               |            ^

            error: `cert` is given without `key`
              --> tidegate.toml:21:7
               |
            21 | tls = { cert = "a.pem" }
               |       ^^^^^^^^^^^^^^^^^^

            error: `a.b` cannot be the name of a stream
              --> tidegate.toml:22:22
               |
            22 | dead_letter_stream = "a.b"
               |                      ^^^^^
               = help: NATS takes no spaces and none of . * > / \

            error: expected a whole number, or "unmetered"
              --> tidegate.toml:25:19
               |
            25 | limits = { fuel = "none", outputs = 99999999999 }
               |                   ^^^^^^

            error: expected a whole number from 0 to 4294967295
              --> tidegate.toml:25:37
               |
            25 | limits = { fuel = "none", outputs = 99999999999 }
               |                                     ^^^^^^^^^^^

            error: the embedded queue has one stream only
              --> tidegate.toml:29:10
               |
            29 | stream = "S"
               |          ^^^
               = help: remove `stream`; `subjects` alone choose the messages

            error: expected a list in brackets, such as ["a", "b"], found text
              --> tidegate.toml:30:12
               |
            30 | subjects = "a"
               |            ^^^

            error: expected true or false
              --> tidegate.toml:31:10
               |
            31 | create = "yes"
               |          ^^^^^

            error: `schedule` and `preset` are two ways to say when; keep one
              --> tidegate.toml:32:40
               |
            32 | retry = { preset = "quick", schedule = ["1s"], max_attempts = 3, max_deliveries = 2 }
               |                                        ^^^^^^

            error: `max_deliveries` is less than `max_attempts`
              --> tidegate.toml:32:83
               |
            32 | retry = { preset = "quick", schedule = ["1s"], max_attempts = 3, max_deliveries = 2 }
               |                                                                                   ^
               = help: every attempt is a delivery, so the attempts could never be used up"#]],
    );
}

#[test]
fn files_that_are_missing_are_found_apart_from_loading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.toml");
    let text = format!(
        "{SMALL}\n[brokers.nats]\ntype = \"jetstream\"\nservers = [\"nats://a\"]\n\
         token = {{ env = \"TIDEGATE_TEST_NO_SUCH_VARIABLE\" }}\ntls = {{ ca = \"ca.pem\" }}\n"
    );
    std::fs::write(&path, text).unwrap();
    let config = Config::from_text(&path, std::fs::read_to_string(&path).unwrap(), &[]).unwrap();
    let error = config.check_files().unwrap_err().to_string();
    let shown = error.replace(directory.path().to_str().unwrap(), "DIR");
    expect![[r#"
        error: could not open the module DIR/triage.wasm: No such file or directory (os error 2)
         --> DIR/tidegate.toml:6:10
          |
        6 | module = "triage.wasm"
          |          ^^^^^^^^^^^^^
          = help: build it first; the path is relative to the configuration file

        error: the environment variable `TIDEGATE_TEST_NO_SUCH_VARIABLE` is not set
          --> DIR/tidegate.toml:16:9
           |
        16 | token = ***
           |         ^^^

        error: could not open the ca DIR/ca.pem: No such file or directory (os error 2)
          --> DIR/tidegate.toml:17:14
           |
        17 | tls = { ca = "ca.pem" }
           |              ^^^^^^^^"#]]
    .assert_eq(&shown);
}

/// `check` called these fine, and the start, the first deploy or the machine's memory did not.
#[test]
fn what_a_host_would_refuse_later_is_told_at_once() {
    bad(
        &SMALL
            .replace(
                "type = \"embedded\"",
                "type = \"embedded\"\nmax_payload = \"3GiB\"\nmax_bytes = \"0B\"\nmax_messages = 0",
            )
            .replace("handler = \"triage\"", "handler = \"triage\"\nconcurrency = 1_000_000"),
        &[],
        &expect![[r#"
            error: `max_payload` must be at most 256MiB
             --> tidegate.toml:4:15
              |
            4 | max_payload = "3GiB"
              |               ^^^^^^
              = help: a message stands whole in a row of the store, and in the memory of who handles it

            error: `max_bytes` must not be zero
             --> tidegate.toml:5:13
              |
            5 | max_bytes = "0B"
              |             ^^^^

            error: `max_messages` must not be zero
             --> tidegate.toml:6:16
              |
            6 | max_messages = 0
              |                ^

            error: `concurrency` must be at most 256
              --> tidegate.toml:15:15
               |
            15 | concurrency = 1_000_000
               |               ^^^^^^^^^
               = help: a host runs so many messages at once; the others would wait for them"#]],
    );
    let folder = tempfile::tempdir().unwrap();
    let text = SMALL.replace("module = \"triage.wasm\"", "golden = \".\"");
    let config = Config::from_text(&folder.path().join("tidegate.toml"), text, &[]).unwrap();
    assert!(config.check_files().is_ok());
    std::fs::write(folder.path().join("a.jsonl"), "{\"subject\":\"a\",\"expect\":\"nonsense\"}\n").unwrap();
    let error = config.check_files().unwrap_err().to_string();
    assert!(error.contains("a.jsonl:1: `expect`: there is no outcome `nonsense`"), "{error}");
    assert!(error.contains("golden = \".\""), "{error}");
    // A host starts all the same: what runs has passed its golden messages before.
    assert!(config.check_files_at_start().is_ok());
}

#[test]
fn a_secret_of_a_handler_that_cannot_be_read_is_told_by_a_check_and_keeps_no_host_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let text = SMALL.replace("module = \"triage.wasm\"", "secrets.token = { file = \"token.txt\" }");
    let config = Config::from_text(&folder.path().join("tidegate.toml"), text, &[]).unwrap();
    for told in [config.check_files(), config.check_files_since(&config)] {
        let error = told.unwrap_err().to_string();
        assert!(error.contains("could not read the secret from") && error.contains("secrets.token"), "{error}");
    }
    assert!(config.check_files_at_start().is_ok(), "the handlers beside it run");
    std::fs::write(folder.path().join("token.txt"), "hunter2").unwrap();
    assert!(config.check_files().is_ok());
}

/// The keys beside a `type` that is not known were looked at only when that was mended.
#[test]
fn keys_beside_a_misspelt_type_are_told_in_the_same_run() {
    bad(
        "[brokers.a]\ntype = \"embeded\"\nmax_payloud = \"1MiB\"\n[brokers.b]\ntype = \"kafka\"\nservers = []\n",
        &[],
        &expect![[r#"
            error: expected one of embedded, jetstream; did you mean `embedded`?
             --> tidegate.toml:2:8
              |
            2 | type = "embeded"
              |        ^^^^^^^^^

            error: unknown key `max_payloud` in [brokers.a]
             --> tidegate.toml:3:1
              |
            3 | max_payloud = "1MiB"
              | ^^^^^^^^^^^
              = help: did you mean `max_payload`?

            error: expected one of embedded, jetstream
             --> tidegate.toml:5:8
              |
            5 | type = "kafka"
              |        ^^^^^^^"#]],
    );
}

/// A wrong path in `module` was applied as if nothing had been said: the registry had a version, and that ran on.
#[test]
fn a_module_that_is_named_anew_has_to_be_there_and_another_has_not() {
    let directory = tempfile::tempdir().unwrap();
    let config = |text: &str| Config::from_text(&directory.path().join("tidegate.toml"), text.to_owned(), &[]).unwrap();
    let before = config(SMALL);
    // Its file is gone since it was deployed, and nothing else is said of it.
    assert!(config(SMALL).check_files_since(&before).is_ok());
    let other = SMALL.replace("triage.wasm", "nofile.wasm");
    let error = config(&other).check_files_since(&before).unwrap_err().to_string();
    assert!(error.contains("could not open the module") && error.contains("module = \"nofile.wasm\""), "{error}");
    let nameless = SMALL.replace("module = \"triage.wasm\"", "");
    assert!(config(&nameless).check_files_since(&before).is_ok());
    let error = config(SMALL).check_files_since(&config(&nameless)).unwrap_err().to_string();
    assert!(error.contains("triage.wasm"), "{error}");
}

#[test]
fn the_schema_in_the_documentation_is_current() {
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    expect_file!["../../../docs/config.schema.json"].assert_eq(&schema);
}

#[test]
fn a_cluster_meets_on_a_jetstream_broker() {
    assert_eq!(good(SMALL, &[]).cluster, None);
    let nats = "[brokers.nats]\ntype = \"jetstream\"\nservers = [\"nats://a\"]\nreplicas = 3\n";
    let cluster = good(&format!("{nats}[cluster]\nbroker = \"nats\"\n"), &[]).cluster.unwrap();
    assert_eq!((cluster.name.as_str(), cluster.host, cluster.replicas), ("main", None, 3));
    let text = format!("{nats}[cluster]\nbroker = \"nats\"\nname = \"prod\"\nhost = \"web-1\"\nreplicas = 1\n");
    let config = good(&text, &[]);
    let cluster = config.cluster.clone().unwrap();
    assert_eq!((cluster.name.as_str(), cluster.host.as_deref(), cluster.replicas), ("prod", Some("web-1"), 1));
    assert_eq!(good(&config.dump(), &[]).cluster, config.cluster);
    bad(
        &format!("{SMALL}[cluster]\nbroker = \"local\"\nname = \"a.b\"\nhost = \"\"\nreplicas = 7\n"),
        &[],
        &expect![[r#"
            error: broker `local` is in this host alone
              --> tidegate.toml:13:10
               |
            13 | broker = "local"
               |          ^^^^^^^
               = help: hosts meet on a broker whose `type` is "jetstream"

            error: `a.b` cannot be the name of a cluster
              --> tidegate.toml:14:8
               |
            14 | name = "a.b"
               |        ^^^^^
               = help: use letters, digits, `-` and single `_`, at most 64 characters

            error: `` cannot be the name of a host
              --> tidegate.toml:15:8
               |
            15 | host = ""
               |        ^^
               = help: use letters, digits, `-` and single `_`, at most 64 characters

            error: `replicas` must be from 1 to 5
              --> tidegate.toml:16:12
               |
            16 | replicas = 7
               |            ^"#]],
    );
    bad(
        &format!("{nats}[cluster]\nbroker = \"nat\"\n"),
        &[],
        &expect![[r#"
            error: there is no broker `nat`
             --> tidegate.toml:6:10
              |
            6 | broker = "nat"
              |          ^^^^^
              = help: did you mean `nats`?"#]],
    );
    bad(
        "[cluster]\n",
        &[],
        &expect![[r#"
            error: the cluster has no `broker`
             --> tidegate.toml:1:1
              |
            1 | [cluster]
              | ^^^^^^^^^
              = help: name the JetStream broker that the hosts meet on"#]],
    );
}

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn elsewhere_than_on_loopback_is_listened_with_tokens_and_a_word_about_plaintext() {
    let token = format!("[http.tokens.ci]\nhash = \"{HASH}\"\nrole = \"deploy\"\nhandlers = [\"a\", \"b-*\"]\n");
    let config = good(&format!("[http]\nlisten = \"0.0.0.0:7171\"\ninsecure_plaintext = true\n{token}"), &[]);
    let ci = &config.http.tokens["ci"];
    assert_eq!((ci.hash.to_string().as_str(), ci.role, ci.expires), (HASH, crate::access::Role::Deploy, None));
    assert!(config.http.listen.ip().is_unspecified());
    bad(
        &format!("[http]\nlisten = \"0.0.0.0:7171\"\n{token}"),
        &[],
        &expect![[r#"
            error: `0.0.0.0:7171` can be reached from other machines, and tokens would cross the wire as text
             --> tidegate.toml:2:10
              |
            2 | listen = "0.0.0.0:7171"
              |          ^^^^^^^^^^^^^^
              = help: name a certificate and its key in [http.tls]; or let a proxy speak TLS in front, see to it that nobody else reaches this port, and say so with `insecure_plaintext = true` in [http]"#]],
    );
    bad(
        "[http]\nlisten = \"[::]:7171\"\ninsecure_plaintext = true\n",
        &[],
        &expect![[r#"
        error: `[::]:7171` can be reached from other machines, and nobody is asked who they are
         --> tidegate.toml:2:10
          |
        2 | listen = "[::]:7171"
          |          ^^^^^^^^^^^
          = help: `tidegate token new --role deploy --name NAME` makes a token and its lines for this file; or stay on loopback: "127.0.0.1:7171""#]],
    );
}

#[test]
fn what_is_wrong_with_a_token_is_shown_and_the_token_is_not() {
    let text = format!(
        "[http.tokens.ci]\nhash = \"tidegate_secret\"\nrole = \"admin\"\nexpires = \"soon\"\nhandlers = []\n\
         [http.tokens.\"a b\"]\nhash = \"{HASH}\"\nhandlers = [\"../x\"]\n\
         [http.tokens.c]\nhash = \"{HASH}\"\nrole = \"read\"\n[http.tokens.d]\nhash = \"{HASH}\"\nrole = \"read\"\n"
    );
    assert!(!load(&text, &[]).unwrap_err().to_string().contains("tidegate_secret"));
    bad(
        &text,
        &[],
        &expect![[r#"
        error: expected "sha256:" and 64 hexadecimal digits
         --> tidegate.toml:2:8
          |
        2 | hash = ***
          |        ^^^
          = help: `tidegate token new` makes a token and prints its hash; the token itself does not belong here

        error: expected one of read, operate, deploy
         --> tidegate.toml:3:8
          |
        3 | role = "admin"
          |        ^^^^^^^

        error: expected a day or a time in UTC: "2027-01-01" or "2027-01-01T12:00:00Z"
         --> tidegate.toml:4:11
          |
        4 | expires = "soon"
          |           ^^^^^^

        error: `handlers` is empty: it would allow no handler at all
         --> tidegate.toml:5:12
          |
        5 | handlers = []
          |            ^^
          = help: leave it out for all handlers

        error: `a b` cannot be the name of a token
         --> tidegate.toml:6:14
          |
        6 | [http.tokens."a b"]
          |              ^^^^^
          = help: use letters, digits, `-` and single `_`, at most 64 characters: the name becomes part of subjects, metrics and environment variables

        error: token `a b` has no `role`
         --> tidegate.toml:6:14
          |
        6 | [http.tokens."a b"]
          |              ^^^^^
          = help: one of read, operate, deploy

        error: `../x` is no handler's name, nor the beginning of one with `*` at its end
         --> tidegate.toml:8:12
          |
        8 | handlers = ["../x"]
          |            ^^^^^^^^

        error: tokens `c` and `d` have the same `hash`
          --> tidegate.toml:13:8
           |
        13 | hash = ***
           |        ^^^"#]],
    );
}

#[test]
fn keys_of_signatures_are_keys_and_each_is_there_once() {
    let key = "RWTkF1wLySnzuspbqsSutj3OxOD7dgfKgoTAYc2oI60aS5FOEKREYncv";
    let policy = good(&format!("[signatures]\nkeys.release = \"{key}\"\n"), &[]).signatures;
    assert!(policy.required() && policy.keys()["release"].id().to_string() == "BAF329C90B5C17E4");
    let policy = good(&format!("[signatures]\nrequired = false\nkeys.release = \"{key}\"\n"), &[]).signatures;
    assert!(!policy.required() && !policy.is_off());
    assert!(good("", &[]).signatures.is_off());
    bad(
        "[signatures]\nrequired = true\n",
        &[],
        &expect![[r#"
        error: signatures are required, and no key is trusted
         --> tidegate.toml:2:12
          |
        2 | required = true
          |            ^^^^
          = help: list one under [signatures.keys], by a name of your choice: the second line of the file that `minisign -G` writes as minisign.pub; it begins with RW"#]],
    );
    bad(
        &format!("[signatures.keys]\none = \"{key}\"\nsame = \"{key}\"\nwrong = \"RWQ\"\n"),
        &[],
        &expect![[r#"
        error: keys `one` and `same` are the same, BAF329C90B5C17E4
         --> tidegate.toml:3:8
          |
        3 | same = "RWTkF1wLySnzuspbqsSutj3OxOD7dgfKgoTAYc2oI60aS5FOEKREYncv"
          |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

        error: this is no public key of minisign
         --> tidegate.toml:4:9
          |
        4 | wrong = "RWQ"
          |         ^^^^^
          = help: the second line of the file that `minisign -G` writes as minisign.pub; it begins with RW"#]],
    );
}

#[test]
fn a_circuit_that_cannot_be_is_a_problem() {
    let circuit = |text: &str| load(&format!("{SMALL}circuit = {{ {text} }}\n"), &[]);
    assert_eq!(circuit("enabled = false").unwrap().subscriptions["webhooks"].circuit, None);
    let changed =
        circuit("failures_percent = 100, window = \"1m\"").unwrap().subscriptions["webhooks"].circuit.unwrap();
    let window = Duration::from_secs(60);
    assert_eq!(changed, CircuitPolicy { failures: 100, window, ..CircuitPolicy::standard() });
    let rows = [
        ("failures_percent = 101", "`failures_percent` must be at most 100"),
        ("failures_percent = 0", "`failures_percent` must not be zero"),
        ("messages = 0", "`messages` must not be zero"),
        ("window = \"10ms\"", "`window` must be at least 1s"),
        ("pause = \"1ms\"", "`pause` must be at least 100ms"),
        ("max_pause = \"1s\"", "`max_pause` is less than `pause`"),
        ("open = true", "unknown key `open`"),
    ];
    for (text, expected) in rows {
        let error = circuit(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
