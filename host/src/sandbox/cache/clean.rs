//! What goes of the compiled code on disk: what nobody needs any more.
//!
//! Several processes may have one cache: a host, and the commands that run modules beside it, which have no versions. So what
//! no version names stays for as long as it is used, and a day beyond that.
//!
//! Invariants:
//! - Only what is named as this cache names things is touched.
//! - What goes costs whoever wanted it a compilation, and no error: a cache may be empty at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::check_private;

/// How long what no version names stays unused: who works on a module today does so tomorrow, and a host that was upgraded and
/// put back the same day finds the code of its former engine.
const UNUSED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is needed, by the sha256 of modules.
#[derive(Debug, Clone, Default)]
pub(in crate::sandbox) struct Needed {
    /// What versions name.
    pub(in crate::sandbox) named: BTreeSet<String>,
    /// What they named until now.
    pub(in crate::sandbox) forgotten: BTreeSet<String>,
}

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The digest of compiled code; before the code, so that it goes first.
    Digest,
    /// The code.
    Code,
    /// Either of them, until it is whole.
    Temporary,
}

/// What belongs together in a folder: an entry, or a temporary file.
#[derive(Debug)]
struct Whole {
    module: String,
    is_temporary: bool,
    /// When it was last used, or written.
    used_at: SystemTime,
    files: BTreeMap<Part, PathBuf>,
}

impl Whole {
    /// Whether it goes. `is_ours`: it was compiled by the engine that is in this program.
    fn goes(&self, needed: &Needed, is_ours: bool, now: SystemTime) -> bool {
        let is_old = now.duration_since(self.used_at).is_ok_and(|unused| unused >= UNUSED_KEPT);
        let is_named = needed.named.contains(&self.module);
        match (self.is_temporary, is_named) {
            (true, _) => is_old,
            (false, true) => !is_ours && is_old,
            (false, false) => is_old || needed.forgotten.contains(&self.module),
        }
    }
}

/// Removes from a cache what is not needed; `engine` is the version of the one in this program, whose folders are ours: which of
/// them it comes to need is known only once it has loaded what counts no fuel, too. Gives back how many entries went. What cannot be
/// looked at or removed is left to the next time.
pub(super) fn clean(dir: &Path, engine: &str, needed: &Needed, now: SystemTime) -> usize {
    let folders = paths(dir).filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_folder));
    let mut removed = 0;
    for folder in folders.filter(|folder| check_private(folder).is_ok()) {
        let name = folder.file_name().and_then(|name| name.to_str());
        let is_ours = name.and_then(|name| name.rsplit_once('-')).is_some_and(|(version, _)| version == engine);
        for whole in wholes(&folder).into_iter().filter(|whole| whole.goes(needed, is_ours, now)) {
            let all_went = whole.files.values().all(|path| fs::remove_file(path).is_ok());
            removed += usize::from(all_went && !whole.is_temporary);
        }
        if !is_ours {
            // One that is not empty stays.
            let _ = fs::remove_dir(&folder);
        }
    }
    removed
}

fn wholes(folder: &Path) -> Vec<Whole> {
    let mut all: BTreeMap<String, Whole> = BTreeMap::new();
    for path in paths(folder) {
        let Some((key, module, part)) = path.file_name().and_then(|name| parse(name.to_str()?)) else { continue };
        let Ok(used_at) = modified(&path) else { continue };
        let whole = all.entry(key).or_insert_with(|| Whole {
            module,
            is_temporary: part == Part::Temporary,
            used_at,
            files: BTreeMap::new(),
        });
        whole.used_at = whole.used_at.max(used_at);
        whole.files.insert(part, path);
    }
    all.into_values().collect()
}

/// What belongs together has one key; and the module's digest.
fn parse(name: &str) -> Option<(String, String, Part)> {
    let module = name.get(..64).filter(|module| module.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let (stem, end) = name.rsplit_once('.')?;
    let (key, part) = match end {
        "sha256" => (stem, Part::Digest),
        "cwasm" => (stem, Part::Code),
        "tmp" => (name, Part::Temporary),
        _ => return None,
    };
    Some((key.to_owned(), module.to_owned(), part))
}

/// Whether a folder is named for an engine: `48.0.8-` and 16 hex digits.
fn is_folder(name: &str) -> bool {
    let Some((version, settings)) = name.rsplit_once('-') else { return false };
    let is_version = version.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_version && settings.len() == 16 && settings.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    let found = fs::symlink_metadata(path)?;
    if found.is_file() { found.modified() } else { Err(io::Error::other("it is not a file")) }
}

fn paths(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::DirBuilderExt as _;

    use super::*;

    const OURS: &str = "48.0.8-0123456789abcdef";
    const OTHER: &str = "47.0.1-0123456789abcdef";

    fn module(letter: char) -> String {
        letter.to_string().repeat(64)
    }

    fn write(path: &Path, unused: Duration, now: SystemTime) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        let file = fs::File::create(path).unwrap();
        file.set_modified(now - unused).unwrap();
    }

    fn left(dir: &Path) -> Vec<String> {
        let inside = |path: PathBuf| if path.is_dir() { paths(&path).collect() } else { vec![path] };
        let mut left: Vec<String> = paths(dir)
            .flat_map(inside)
            .map(|path| path.strip_prefix(dir).unwrap().to_str().unwrap().replace(&"0".repeat(63), ""))
            .collect();
        left.sort();
        left
    }

    #[test]
    fn what_nobody_needs_goes_and_what_is_used_or_none_of_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (now, day, hour) = (SystemTime::now(), Duration::from_secs(86_400), Duration::from_secs(3600));
        let (named, forgotten, unnamed) = (module('a'), module('b'), module('c'));
        // A folder, a file, how long it was not used, and whether it stays.
        let rows = [
            (OURS, format!("{named}.cwasm"), day * 90, true),
            (OURS, format!("{named}.sha256"), day * 90, true),
            (OURS, format!("{named}-0.254.2.cwasm"), day * 90, true),
            (OURS, format!("{forgotten}.cwasm"), hour, false),
            (OURS, format!("{forgotten}.sha256"), Duration::ZERO, false),
            (OURS, format!("{forgotten}-0.254.2.cwasm"), hour, false),
            // Its digest says when it was used.
            (OURS, format!("{unnamed}.cwasm"), day * 2, true),
            (OURS, format!("{unnamed}.sha256"), hour, true),
            (OURS, format!("{unnamed}-0.254.2.cwasm"), day, false),
            (OURS, format!("{unnamed}-0.254.2.sha256"), day, false),
            (OURS, format!("{named}.77-0.tmp"), day, false),
            (OURS, format!("{named}.77-1.tmp"), hour, true),
            (OURS, format!("{named}.txt"), day * 90, true),
            (OURS, "notes.cwasm".to_owned(), day * 90, true),
            // With other settings, as what counts no fuel has.
            ("48.0.8-fedcba9876543210", format!("{named}.cwasm"), day * 90, true),
            // Of another engine: whatever was not used for a day.
            (OTHER, format!("{named}.cwasm"), hour, true),
            (OTHER, format!("{unnamed}.cwasm"), day, false),
            ("46.0.0-0123456789abcdef", format!("{named}.cwasm"), day, false),
            ("46.0.0-0123456789abcdef", format!("{named}.sha256"), day, false),
            ("pictures-0123456789abcdef", format!("{named}.cwasm"), day * 90, true),
            ("48.0.8-0123", format!("{named}.cwasm"), day * 90, true),
        ];
        for (folder, name, unused, _) in &rows {
            write(&dir.path().join(folder).join(name), *unused, now);
        }
        let needed = Needed { named: [named].into(), forgotten: [forgotten].into() };
        let removed = clean(dir.path(), "48.0.8", &needed, now);
        let mut expected: Vec<String> =
            rows.iter().filter(|row| row.3).map(|(folder, name, ..)| format!("{folder}/{name}")).collect();
        expected.sort();
        assert_eq!((left(dir.path()), removed), (expected, 5));
        assert!(!dir.path().join("46.0.0-0123456789abcdef").exists(), "an empty folder of another engine goes");
        assert!(dir.path().join(OTHER).exists());
    }

    #[test]
    fn a_folder_that_others_may_enter_and_a_link_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
        let elsewhere = dir.path().join("elsewhere");
        let file = elsewhere.join(format!("{}.cwasm", module('a')));
        write(&file, day, now);
        std::os::unix::fs::symlink(&elsewhere, dir.path().join(OTHER)).unwrap();
        std::os::unix::fs::symlink(&file, elsewhere.join(format!("{}.cwasm", module('b')))).unwrap();
        assert_eq!(clean(dir.path(), "", &Needed::default(), now), 0);
        fs::rename(&elsewhere, dir.path().join(OURS)).unwrap();
        assert_eq!(clean(dir.path(), "", &Needed::default(), now), 1, "the link is no file of ours");
        assert_eq!(clean(&dir.path().join("none"), "", &Needed::default(), now), 0);
    }
}
