//! The settings of the host itself.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use super::check::Checker;
use super::problem::Problem;
use super::raw::{LogFormat, LogThreshold, RawDeadLetters, RawHost, RawRegistry};

/// Where data is kept, beside the file.
pub(super) const DATA_DIR: &str = "tidegate-data";
/// Four subscriptions that are full at their default of 64 MiB each.
const MAX_IN_FLIGHT_BYTES: usize = 256 << 20;
/// Kubernetes kills 30 s after SIGTERM: five seconds are left to give back what was not finished and to flush.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Two weeks of a deploy a working day. At 125 KB for Rust that is a megabyte or so, at 18 MB for Python 180 MB.
const KEEP_VERSIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// A month: whoever looks into last week's outage finds what was sent back, and disks do not fill with what is done.
const KEEP_REDRIVEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The settings of `[host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// The name of this host in logs and dead letters.
    pub name: String,
    /// Where queues and records are kept.
    pub data_dir: PathBuf,
    /// Where compiled modules are kept.
    pub cache_dir: PathBuf,
    /// The most bytes that compiling one module may take. `None`: as much as there is room for.
    pub compile_memory: Option<NonZeroU64>,
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

/// The settings of `[dead_letters]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLettersConfig {
    /// How long a dead letter is kept after it was sent back: at least a second.
    pub keep_redriven: Duration,
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
            compile_memory: checker.size_if_given(&["host", "compile_memory"], raw.compile_memory),
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

impl DeadLettersConfig {
    pub(super) fn validate(raw: &RawDeadLetters, checker: &mut Checker) -> Self {
        let (at, least) = (["dead_letters", "keep_redriven"], Duration::from_secs(1));
        Self { keep_redriven: checker.duration(&at, raw.keep_redriven, KEEP_REDRIVEN, least) }
    }
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
