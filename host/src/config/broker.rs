//! The settings of the messaging systems.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::problem::Problem;
use super::raw::{RawBroker, RawConfirm, RawDurability, RawEmbedded, RawJetStream, RawStream, RawTls};
use super::raw_values::RawSecret;
use super::secret::SecretSource;
use crate::broker::bucket::DEFAULT_MAX_BYTES;
use crate::broker::jetstream::Confirm;
use crate::broker::{embedded, subject};

/// A publisher that tries again after an hour-long outage is still recognised.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(3600);
/// Ten round trips to a server that is busy taking over a stream.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// The stream of dead letters; one for all subscriptions, so that one place shows what was given up.
const DEAD_LETTER_STREAM: &str = "DLQ_tidegate";
/// The most replicas that a NATS server takes.
pub(super) const MAX_REPLICAS: u64 = 5;

/// The settings of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerConfig {
    /// The durable queue inside the host.
    Embedded(embedded::Options),
    /// NATS JetStream.
    JetStream(Box<JetStreamConfig>),
}

/// The settings of NATS JetStream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JetStreamConfig {
    /// Server addresses, without credentials; at least one.
    pub servers: Vec<String>,
    /// How the host shows who it is.
    pub auth: Authentication,
    /// TLS; `None` leaves it to the server address and the server.
    pub tls: Option<TlsConfig>,
    /// Replicas of streams that are created: 1 to 5.
    pub replicas: usize,
    /// How long a stream that is created remembers message ids.
    pub duplicate_window: Duration,
    /// The stream that keeps dead letters.
    pub dead_letter_stream: String,
    /// How long the confirmation of a publish is waited for.
    pub publish_timeout: Duration,
    /// How acknowledgements are confirmed.
    pub confirm: Confirm,
    /// The most bytes that a bucket keeps that the host creates.
    pub max_bucket_bytes: u64,
    /// Streams that the host may create, by name.
    pub streams: BTreeMap<String, StreamConfig>,
}

/// How the host shows a broker who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By a token.
    Token(SecretSource),
    /// By user name and password.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: SecretSource,
    },
    /// By the seed of an nkey.
    Nkey(SecretSource),
    /// By a credentials file's text.
    Credentials(SecretSource),
}

impl Authentication {
    /// The secret that it needs.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::None => None,
            Self::Token(secret) | Self::Nkey(secret) | Self::Credentials(secret) => Some(secret),
            Self::Password { password, .. } => Some(password),
        }
    }

    /// The key that the secret stands under.
    pub(super) const fn key(&self) -> &'static str {
        match self {
            Self::None => "servers",
            Self::Token(_) => "token",
            Self::Password { .. } => "password",
            Self::Nkey(_) => "nkey",
            Self::Credentials(_) => "creds",
        }
    }
}

/// TLS to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether a connection without TLS is refused.
    pub required: bool,
}

/// A stream that the host may create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// The subjects that it takes in; at least one.
    pub subjects: Vec<String>,
    /// The most bytes that it keeps; `None`: without end.
    pub max_bytes: Option<u64>,
    /// How long it keeps a message; `None`: without end.
    pub max_age: Option<Duration>,
}

impl BrokerConfig {
    pub(super) fn validate(name: &str, raw: RawBroker, data_dir: &std::path::Path, checker: &mut Checker) -> Self {
        checker.name("broker", "brokers", name);
        match raw {
            RawBroker::Embedded(raw) => Self::Embedded(embedded(name, raw, data_dir, checker)),
            RawBroker::JetStream(raw) => Self::JetStream(Box::new(jetstream(name, *raw, checker))),
        }
    }

    /// The word that chooses it: `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::JetStream(_) => "jetstream",
        }
    }
}

fn embedded(name: &str, raw: RawEmbedded, data_dir: &std::path::Path, checker: &mut Checker) -> embedded::Options {
    let at = |key| ["brokers", name, key];
    let path = raw.path.map_or_else(|| data_dir.join(format!("queue-{name}")), |path| checker.resolve(&path));
    let default = embedded::Options::new(path);
    if raw.max_messages == Some(0) {
        checker.problem(Problem::at(&at("max_messages"), "`max_messages` must not be zero"));
    }
    let max_payload = checker.memory_size(&at("max_payload"), raw.max_payload, default.max_payload);
    if max_payload > embedded::LARGEST_PAYLOAD {
        let most = embedded::LARGEST_PAYLOAD >> 20;
        let problem = Problem::at(&at("max_payload"), format!("`max_payload` must be at most {most}MiB"));
        checker
            .problem(problem.help("a message stands whole in a row of the store, and in the memory of who handles it"));
    }
    embedded::Options {
        // Zero in either turns de-duplication off.
        dedupe_window: raw.dedupe_window.map_or(default.dedupe_window, |text| text.0),
        dedupe_max: raw.dedupe_max.map_or(default.dedupe_max, |max| usize::try_from(max).unwrap_or(usize::MAX)),
        max_bytes: checker.size(&at("max_bytes"), raw.max_bytes, default.max_bytes),
        max_messages: raw.max_messages.unwrap_or(default.max_messages),
        max_age: checker.duration(&at("max_age"), raw.max_age, default.max_age, Duration::from_secs(1)),
        durability: match raw.durability.unwrap_or_default() {
            RawDurability::Fsync => embedded::Durability::Fsync,
            RawDurability::Relaxed => embedded::Durability::Relaxed,
        },
        max_payload,
        reserve_bytes: raw.reserve_bytes.map_or(default.reserve_bytes, |text| text.0),
        max_bucket_bytes: checker.size(&at("max_bucket_bytes"), raw.max_bucket_bytes, default.max_bucket_bytes),
        path: default.path,
    }
}

fn jetstream(name: &str, raw: RawJetStream, checker: &mut Checker) -> JetStreamConfig {
    let at = |key| ["brokers", name, key];
    let servers = raw.servers.clone().unwrap_or_default();
    if servers.is_empty() {
        let problem = Problem::at(&["brokers", name, "servers"], format!("broker `{name}` has no `servers`"));
        checker.problem(problem.help("servers = [\"nats://127.0.0.1:4222\"]"));
    }
    for (index, server) in servers.iter().enumerate() {
        check_server(&["brokers", name, "servers", &index.to_string()], server, checker);
    }
    let replicas = raw.replicas.unwrap_or(1);
    if !(1..=MAX_REPLICAS).contains(&replicas) {
        checker.problem(Problem::at(&at("replicas"), format!("`replicas` must be from 1 to {MAX_REPLICAS}")));
    }
    let dead_letter_stream = raw.dead_letter_stream.clone().unwrap_or_else(|| DEAD_LETTER_STREAM.to_owned());
    check_stream_name(&at("dead_letter_stream"), &dead_letter_stream, checker);
    let least = Duration::from_millis(100);
    let config = JetStreamConfig {
        servers,
        auth: authentication(name, &raw, checker),
        tls: raw.tls.map(|raw| tls(name, raw, checker)),
        replicas: usize::try_from(replicas).unwrap_or(1),
        duplicate_window: checker.duration(&at("duplicate_window"), raw.duplicate_window, DUPLICATE_WINDOW, least),
        dead_letter_stream,
        publish_timeout: checker.duration(&at("publish_timeout"), raw.publish_timeout, PUBLISH_TIMEOUT, least),
        confirm: match raw.confirm.unwrap_or_default() {
            RawConfirm::Groups => Confirm::Groups,
            RawConfirm::Each => Confirm::Each,
        },
        max_bucket_bytes: checker.size(&at("max_bucket_bytes"), raw.max_bucket_bytes, DEFAULT_MAX_BYTES),
        streams: raw.streams.into_iter().map(|(key, raw)| (key.clone(), stream(name, &key, raw, checker))).collect(),
    };
    if config.streams.contains_key(&config.dead_letter_stream) {
        let path = ["brokers", name, "streams", &config.dead_letter_stream];
        checker.problem(Problem::at(&path, "this name is taken by the stream of dead letters (`dead_letter_stream`)"));
    }
    config
}

fn check_server(path: &[&str], server: &str, checker: &mut Checker) {
    let scheme = server.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| !matches!(scheme, "nats" | "tls" | "ws" | "wss")) || server.trim().is_empty() {
        checker.problem(Problem::at(path, "expected a server address").help("such as \"nats://127.0.0.1:4222\""));
    }
    if server.contains('@') {
        let problem = Problem::at(path, "a server address must not carry credentials");
        checker.problem(problem.help(
            "a secret is not written into the configuration: write `user` and `password = { env = \"NAME\" }`, or `token`",
        ));
    }
}

fn check_stream_name(path: &[&str], stream: &str, checker: &mut Checker) {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c);
    if stream.is_empty() || stream.len() > 255 || !stream.chars().all(fits) {
        let problem = Problem::at(path, format!("`{stream}` cannot be the name of a stream"));
        checker.problem(problem.help("NATS takes no spaces and none of . * > / \\"));
    }
}

fn stream(broker: &str, name: &str, raw: RawStream, checker: &mut Checker) -> StreamConfig {
    let path = ["brokers", broker, "streams", name];
    check_stream_name(&path, name, checker);
    let subjects = raw.subjects.unwrap_or_default();
    if subjects.is_empty() {
        checker.problem(Problem::at(&path, format!("stream `{name}` has no `subjects`")));
    }
    for (index, filter) in subjects.iter().enumerate() {
        if let Err(error) = subject::check_filter(filter) {
            let index = index.to_string();
            checker.problem(Problem::at(&["brokers", broker, "streams", name, "subjects", &index], error.to_string()));
        }
    }
    StreamConfig { subjects, max_bytes: raw.max_bytes.map(|text| text.0), max_age: raw.max_age.map(|text| text.0) }
}

fn tls(broker: &str, raw: RawTls, checker: &mut Checker) -> TlsConfig {
    let path = ["brokers", broker, "tls"];
    let client = match (raw.cert, raw.key) {
        (Some(cert), Some(key)) => Some((checker.resolve(&cert), checker.resolve(&key))),
        (None, None) => None,
        (Some(_), None) => {
            checker.problem(Problem::at(&path, "`cert` is given without `key`"));
            None
        }
        (None, Some(_)) => {
            checker.problem(Problem::at(&path, "`key` is given without `cert`"));
            None
        }
    };
    TlsConfig { ca: raw.ca.map(|path| checker.resolve(&path)), client, required: raw.required.unwrap_or(true) }
}

fn authentication(broker: &str, raw: &RawJetStream, checker: &mut Checker) -> Authentication {
    let source = |secret: &RawSecret| checker.secret(secret);
    let mut ways = Vec::new();
    if let Some(secret) = &raw.token {
        ways.push(("token", Authentication::Token(source(secret))));
    }
    if let Some(secret) = &raw.nkey {
        ways.push(("nkey", Authentication::Nkey(source(secret))));
    }
    if let Some(secret) = &raw.creds {
        ways.push(("creds", Authentication::Credentials(source(secret))));
    }
    let mut half = None;
    match (&raw.user, &raw.password) {
        (Some(user), Some(secret)) => {
            ways.push(("user", Authentication::Password { user: user.clone(), password: source(secret) }));
        }
        (Some(_), None) => half = Some(("user", "`user` is given without `password`")),
        (None, Some(_)) => half = Some(("password", "`password` is given without `user`")),
        (None, None) => {}
    }
    if let Some((key, message)) = half {
        checker.problem(Problem::at(&["brokers", broker, key], message));
    }
    let names: Vec<&str> = ways.iter().map(|(name, _)| *name).collect();
    if let [first, second, ..] = names.as_slice() {
        let message = format!("`{first}` and `{second}` are two ways to authenticate; keep one");
        checker.problem(Problem::at(&["brokers", broker, second], message));
    }
    ways.into_iter().next().map_or(Authentication::None, |(_, way)| way)
}
