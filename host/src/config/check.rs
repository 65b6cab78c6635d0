//! What the validation of every section shares: gathering problems, resolving paths, reading numbers that may not be
//! zero.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::raw_values::RawSecret;
use super::secret::SecretSource;
use super::units::{DurationText, SizeText};

/// NATS recommends at most 32; the dead-letter subject carries it as one token, so there is room for twice that.
const LONGEST_NAME: usize = 64;

/// Gathers all that is wrong; nothing stops at the first problem.
pub(super) struct Checker {
    /// The directory of the configuration file: relative paths start there.
    directory: PathBuf,
    pub(super) problems: Vec<Problem>,
}

impl Checker {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, problems: Vec::new() }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A path of the configuration as a path for this process.
    pub(super) fn resolve(&self, path: &FilePath) -> PathBuf {
        self.directory.join(path)
    }

    /// A path for this process as it can be written in the configuration, wherever that lies.
    pub(super) fn relative<'p>(&self, path: &'p FilePath) -> &'p FilePath {
        path.strip_prefix(&self.directory).unwrap_or(path)
    }

    /// Where a secret is read from.
    pub(super) fn secret(&self, raw: &RawSecret) -> SecretSource {
        match raw {
            RawSecret::Env(name) => SecretSource::Env(name.clone()),
            RawSecret::File(path) => SecretSource::File(self.resolve(path)),
        }
    }

    /// A duration, its default where it is left out, and a problem when it is under the least that works.
    pub(super) fn duration(
        &mut self,
        path: &[&str],
        given: Option<DurationText>,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let value = given.map_or(default, |text| text.0);
        if value < least {
            let least = humantime::format_duration(least);
            self.problem(Problem::at(path, format!("`{}` must be at least {least}", last(path))));
        }
        value
    }

    /// A size that may not be zero.
    pub(super) fn size(&mut self, path: &[&str], given: Option<SizeText>, default: u64) -> u64 {
        let value = given.map_or(default, |text| text.0);
        self.not_zero(path, value);
        value
    }

    /// A size that may not be zero, and for which there is no fixed one in its place.
    pub(super) fn size_if_given(&mut self, path: &[&str], given: Option<SizeText>) -> Option<NonZeroU64> {
        let text = given?;
        self.not_zero(path, text.0);
        NonZeroU64::new(text.0)
    }

    /// A size in memory that may not be zero.
    pub(super) fn memory_size(&mut self, path: &[&str], given: Option<SizeText>, default: usize) -> usize {
        let Some(text) = given else { return default };
        self.not_zero(path, text.0);
        match usize::try_from(text.0) {
            Ok(value) => value,
            Err(_) => {
                self.problem(Problem::at(path, format!("`{}` is more than this machine can address", last(path))));
                default
            }
        }
    }

    /// A number that may not be zero.
    pub(super) fn count(&mut self, path: &[&str], given: Option<u32>, default: NonZeroU32) -> NonZeroU32 {
        let Some(number) = given else { return default };
        self.not_zero(path, u64::from(number));
        NonZeroU32::new(number).unwrap_or(default)
    }

    fn not_zero(&mut self, path: &[&str], value: u64) {
        if value == 0 {
            self.problem(Problem::at(path, format!("`{}` must not be zero", last(path))));
        }
    }

    /// Whether a name can be part of subjects, durable names, labels and variables.
    pub(super) fn is_name(name: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fits) && !name.contains("__")
    }

    /// Checks a name that a user chose: it becomes part of subjects, durable names, labels and variables.
    pub(super) fn name(&mut self, kind: &str, section: &str, name: &str) {
        self.name_at(kind, &[section], name);
    }

    /// The same for a name in a table below a section.
    pub(super) fn name_at(&mut self, kind: &str, section: &[&str], name: &str) {
        if !Self::is_name(name) {
            let path = section.iter().chain([&name]).map(|&level| level.to_owned()).collect();
            let message = format!("`{name}` cannot be the name of a {kind}");
            let help = format!(
                "use letters, digits, `-` and single `_`, at most {LONGEST_NAME} characters: the name becomes part of \
                 subjects, metrics and environment variables"
            );
            self.problem(Problem::of_key(path, message).help(help));
        }
    }
}

fn last<'a>(path: &[&'a str]) -> &'a str {
    path.last().copied().unwrap_or_default()
}

/// A number as a size in memory; what does not fit is cut to what does.
pub(super) fn in_memory(number: NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(number).unwrap_or(NonZeroUsize::MAX)
}
