//! How to reach NATS and what to make there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::broker::bucket::DEFAULT_MAX_BYTES;

/// The oldest server that is accepted. Servers before it could lose a whole stream when they were killed, and those
/// before 2.10 silently ignore several filters and metadata.
pub const OLDEST_SERVER: (u64, u64, u64) = (2, 10, 23);

/// Everything about one NATS broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The broker's name in the configuration.
    pub name: String,
    /// Where it is: `nats://host:port` or `tls://host:port`, several for a cluster. No user or password in it.
    pub servers: Vec<String>,
    /// How to prove who we are.
    pub auth: Auth,
    /// Encryption, and the certificates for it.
    pub tls: Tls,
    /// The JetStream domain, where the server has one.
    pub domain: Option<String>,
    /// What a stream gets that is created.
    pub streams: StreamDefaults,
    /// Where dead letters go.
    pub dead_letters: DeadLetterOptions,
    /// What buckets of handlers get that are created.
    pub buckets: BucketOptions,
    /// How long a publish, an acknowledgement or a question may take before it counts as unconfirmed.
    pub request_timeout: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// Publishes that may be under way at once.
    pub max_publishes: usize,
    /// How acknowledgements are confirmed.
    pub confirm: Confirm,
}

/// How acknowledgements are confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Confirm {
    /// In groups: the answer to the last one vouches for those that went before it over the same connection.
    #[default]
    Groups,
    /// Each has an answer of its own. It costs about half of the rate, and helps where several hosts share a
    /// subscription on a replicated consumer: what a leader took in right before it was replaced may be lost although
    /// the next leader answered for the group. Such a message comes back, and only the host that settled it knows it.
    Each,
}

/// How to prove who we are. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An nkey: the seed, which starts with `SU`.
    Nkey(String),
    /// The text of a credentials file: a JWT and a seed.
    Credentials(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(...)"),
            Self::UserPassword { user, password: _ } => write!(f, "UserPassword({user}, ...)"),
            Self::Nkey(_) => f.write_str("Nkey(...)"),
            Self::Credentials(_) => f.write_str("Credentials(...)"),
        }
    }
}

/// Encryption. A server that requires it gets it in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Do not talk to a server without it.
    pub require: bool,
    /// Certificates of authorities to trust beside the system's, as PEM.
    pub ca: Option<PathBuf>,
    /// Our own certificate, as PEM; with `key`.
    pub cert: Option<PathBuf>,
    /// The key of our own certificate, as PEM.
    pub key: Option<PathBuf>,
}

/// What a stream gets that is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDefaults {
    /// Copies in the cluster: 1, 3 or 5.
    pub replicas: usize,
    /// How long the same message id is taken only once.
    pub duplicate_window: Duration,
    /// Further settings by the stream's name; one that is not here gets the subjects of the subscription that needs it,
    /// and no limits.
    pub by_name: BTreeMap<String, StreamSettings>,
}

/// Further settings of a stream that is created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamSettings {
    /// The subjects that it takes in.
    pub subjects: Vec<String>,
    /// The most bytes that it keeps; `None`: without end.
    pub max_bytes: Option<u64>,
    /// How long it keeps a message; `None`: without end.
    pub max_age: Option<Duration>,
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterOptions {
    /// The stream.
    pub stream: String,
    /// Whether it is created when it is missing.
    pub create: bool,
    /// Copies in the cluster, when it is created.
    pub replicas: usize,
    /// Dead letters that a count looks at which has to read them. The server has no way to count by a header, so that each is sent, with
    /// all of its headers: some two kilobytes. 200,000 take some seconds.
    pub count_at_most: u64,
    /// What is kept of them in memory.
    pub catalog: CatalogOptions,
}

/// What of the dead letters is kept in memory while somebody asks for them, so that they are counted and found without reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogOptions {
    /// Messages of their stream that are in it at the most, the newest; none at all, when it is zero.
    pub rows_at_most: u64,
    /// Sequences that are read anew together, where it is seen that messages went.
    pub segment: u32,
    /// Messages that are new to it and that a request reads before it answers. More are read in the background.
    pub read_at_once: u64,
    /// For how long it is kept when nobody asks.
    pub kept_for: Duration,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self {
            // Of 48 bytes: 96 MB, and as much as that is in use only where as many dead letters lie there, and somebody asks.
            rows_at_most: 2_000_000,
            // Less than a second to read; a million dead letters are sixty of them, so that six questions find one.
            segment: 16_384,
            // A tenth of a second, as they are read at some 20,000 a second.
            read_at_once: 2_000,
            // Whoever works on an incident asks again within that.
            kept_for: Duration::from_secs(15 * 60),
        }
    }
}

/// What buckets of handlers get that are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketOptions {
    /// Copies in the cluster: 1, 3 or 5.
    pub replicas: usize,
    /// The most bytes that one keeps.
    pub max_bytes: u64,
}

impl Options {
    /// The defaults, for a name and servers.
    #[must_use]
    pub fn new(name: impl Into<String>, servers: Vec<String>) -> Self {
        Self {
            name: name.into(),
            servers,
            auth: Auth::None,
            tls: Tls::default(),
            domain: None,
            streams: StreamDefaults {
                replicas: 1,
                // The server's own default.
                duplicate_window: Duration::from_secs(120),
                by_name: BTreeMap::new(),
            },
            dead_letters: DeadLetterOptions {
                stream: "DLQ_tidegate".to_owned(),
                create: true,
                replicas: 1,
                count_at_most: 200_000,
                catalog: CatalogOptions::default(),
            },
            buckets: BucketOptions { replicas: 1, max_bytes: DEFAULT_MAX_BYTES },
            // Three tries fit into the default lease of 30 s with room to spare.
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            // One at a time does 9,000 a second beside a server on the same machine, 1,000 at a time 260,000; 256 do
            // nearly as well and bound what a lost connection leaves unknown.
            max_publishes: 256,
            confirm: Confirm::Groups,
        }
    }
}

/// What is taken off a lease for our clock: 10 % and at least a second; of leases under 3 s 30 %, as a second would
/// leave nothing.
#[must_use]
pub fn lease_margin(ack_wait: Duration) -> Duration {
    if ack_wait < Duration::from_secs(3) {
        ack_wait.mul_f64(0.3)
    } else {
        ack_wait.mul_f64(0.1).max(Duration::from_secs(1))
    }
}

/// Reads a server's version: the first three numbers, whatever follows.
pub(super) fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = text.trim_start_matches('v').splitn(3, '.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    let rest = numbers.next()?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| rest.get(..end).unwrap_or(rest));
    Some((major, minor, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expected) in [
            ("2.10.23", Some((2, 10, 23))),
            ("v2.15.1", Some((2, 15, 1))),
            ("2.11.0-RC.3", Some((2, 11, 0))),
            ("2.10", None),
            ("", None),
            ("two.ten.one", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text:?}");
        }
        let accepted = |text| parse_version(text).is_some_and(|version| version >= OLDEST_SERVER);
        assert!(accepted("2.10.23") && accepted("2.11.0") && !accepted("2.10.22") && !accepted("2.9.99"));
    }

    #[test]
    fn the_margin_leaves_a_lease() {
        for (ack_wait_ms, margin_ms) in [(500, 150), (2_000, 600), (3_000, 1_000), (30_000, 3_000), (5_000, 1_000)] {
            assert_eq!(lease_margin(Duration::from_millis(ack_wait_ms)), Duration::from_millis(margin_ms));
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut options = Options::new("main", vec!["nats://127.0.0.1:4222".to_owned()]);
        for auth in [
            Auth::Token("hunter2".to_owned()),
            Auth::Nkey("hunter2".to_owned()),
            Auth::Credentials("hunter2".to_owned()),
            Auth::UserPassword { user: "ann".to_owned(), password: "hunter2".to_owned() },
        ] {
            options.auth = auth;
            assert!(!format!("{options:?}").contains("hunter2"));
        }
    }
}
