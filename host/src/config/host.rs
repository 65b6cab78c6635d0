//! The settings of the host itself and of its HTTP listener.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::problem::Problem;
use super::raw::{LogFormat, LogThreshold, RawHost, RawHttp, RawRegistry};

/// Where data is kept, beside the file.
pub(super) const DATA_DIR: &str = "tidegate-data";
/// Four subscriptions that are full at their default of 64 MiB each.
const MAX_IN_FLIGHT_BYTES: usize = 256 << 20;
/// Kubernetes kills 30 s after SIGTERM: five seconds are left to give back what was not finished and to flush.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Two weeks of a deploy a working day. At 125 KB for Rust that is a megabyte or so, at 18 MB for Python 180 MB.
const KEEP_VERSIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// 7171 is registered for nothing that runs beside it; loopback, because there is no authentication yet.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7171);
/// The largest body that a handler takes by default, and a little for its JSON wrapping is not needed: raw bodies.
const MAX_PUBLISH_BYTES: usize = 8 << 20;

/// The settings of `[host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The name of this host in logs and dead letters.
    pub name: String,
    /// Where queues and records are kept.
    pub data_dir: PathBuf,
    /// Where compiled modules are kept.
    pub cache_dir: PathBuf,
    /// The most bytes of messages that are held at once, over all subscriptions.
    pub max_in_flight_bytes: usize,
    /// How long running handlers may finish in a drain.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// The settings of `[host.log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// The lowest level that is shown.
    pub level: LogThreshold,
    /// How lines are written.
    pub format: LogFormat,
}

/// The settings of `[registry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Where it is: in the data directory.
    pub dir: PathBuf,
    /// How many versions of each handler are kept, beside the active one.
    pub keep_versions: usize,
}

/// The settings of `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens; always a loopback address. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The largest message that is accepted for publishing, in bytes.
    pub max_publish_bytes: usize,
}

impl HostConfig {
    pub(super) fn validate(raw: RawHost, checker: &mut Checker) -> Self {
        let data_dir = checker.resolve(&raw.data_dir.unwrap_or_else(|| DATA_DIR.into()));
        let cache_dir = raw.cache_dir.map_or_else(|| data_dir.join("cache"), |path| checker.resolve(&path));
        if raw.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            checker.problem(Problem::at(&["host", "name"], "the name of the host is empty"));
        }
        Self {
            name: raw.name.unwrap_or_else(host_name),
            data_dir,
            cache_dir,
            max_in_flight_bytes: checker.memory_size(
                &["host", "max_in_flight_bytes"],
                raw.max_in_flight_bytes,
                MAX_IN_FLIGHT_BYTES,
            ),
            // Zero is allowed: interrupt at once and give everything back.
            drain_timeout: raw.drain_timeout.map_or(DRAIN_TIMEOUT, |text| text.0),
            log: LogConfig { level: raw.log.level.unwrap_or_default(), format: raw.log.format.unwrap_or_default() },
        }
    }
}

impl RegistryConfig {
    pub(super) fn validate(raw: &RawRegistry, host: &HostConfig, checker: &mut Checker) -> Self {
        let keep = checker.count(&["registry", "keep_versions"], raw.keep_versions, KEEP_VERSIONS);
        Self { dir: host.data_dir.join("registry"), keep_versions: usize::try_from(keep.get()).unwrap_or(usize::MAX) }
    }
}

impl HttpConfig {
    pub(super) fn validate(raw: &RawHttp, checker: &mut Checker) -> Self {
        Self {
            listen: raw.listen.as_deref().map_or(LISTEN, |text| listen(text, checker)),
            max_publish_bytes: checker.memory_size(
                &["http", "max_publish_bytes"],
                raw.max_publish_bytes,
                MAX_PUBLISH_BYTES,
            ),
        }
    }
}

fn listen(text: &str, checker: &mut Checker) -> SocketAddr {
    let path = ["http", "listen"];
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => return address,
        Ok(address) => {
            let problem = Problem::at(&path, format!("`{address}` can be reached from other machines"));
            checker.problem(problem.help(format!(
                "there is no authentication yet, so the listener stays on loopback: \"127.0.0.1:{}\"; to reach it from \
                 elsewhere, forward the port (ssh -L) or put a proxy that authenticates in front",
                address.port()
            )));
        }
        Err(_) => {
            let problem = Problem::at(&path, "expected an address and a port");
            checker.problem(problem.help("such as \"127.0.0.1:7171\" or \"[::1]:7171\""));
        }
    }
    LISTEN
}

/// The machine's name, as the kernel or the environment gives it.
fn host_name() -> String {
    let named = |name: String| {
        let name = name.trim().to_owned();
        (!name.is_empty()).then_some(name)
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(named);
    kernel.or_else(|| std::env::var("HOSTNAME").ok().and_then(named)).unwrap_or_else(|| "localhost".to_owned())
}
