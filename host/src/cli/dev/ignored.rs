//! Which files of a project are not its sources: what builds write, what tools keep, and what `.gitignore` names. Pure.

use std::path::Path;

/// Folders that no source is in, wherever they stand. Those that begin with a dot are not looked into either.
const FOLDERS: [&str; 4] = ["target", "node_modules", "__pycache__", "tidegate-data"];
/// What editors write beside a file while it is saved.
const DRAFTS: [&str; 5] = ["*~", "*.swp", "*.swx", "*.tmp", "4913"];

/// The lines of a `.gitignore` that are understood: names and paths with `*` and `?`, a slash before or behind, and `!`.
/// A line with `**` is passed over, so that at worst a build too many is made.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    /// Its parts between slashes; one alone is a name at any depth, unless the line began with a slash.
    parts: Vec<String>,
    anchored: bool,
    folders_only: bool,
    ignores: bool,
}

impl Ignored {
    /// Reads the text of a `.gitignore`.
    pub(super) fn read(text: &str) -> Self {
        Self { lines: text.lines().filter_map(line).collect() }
    }

    /// Whether a file or folder, by its path from the project's folder, is none of its sources.
    pub(super) fn covers(&self, path: &Path, is_folder: bool) -> bool {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let Some(name) = parts.last() else { return false };
        if is_folder && (name.starts_with('.') || FOLDERS.contains(&name.as_ref())) {
            return true;
        }
        if !is_folder && DRAFTS.iter().any(|draft| fits(draft, name)) {
            return true;
        }
        // As git has it: the last line that says something of a path is right.
        let said = self.lines.iter().rev().find(|line| {
            let fits_all = |parts: &[std::borrow::Cow<'_, str>]| {
                parts.len() == line.parts.len() && line.parts.iter().zip(parts).all(|(line, part)| fits(line, part))
            };
            (is_folder || !line.folders_only)
                && if line.anchored {
                    fits_all(&parts)
                } else {
                    fits_all(parts.last_chunk::<1>().map_or(&[], |one| one))
                }
        });
        said.is_some_and(|line| line.ignores)
    }
}

fn line(text: &str) -> Option<Line> {
    let text = text.trim_end();
    let (text, ignores) = text.strip_prefix('!').map_or((text, true), |text| (text, false));
    let folders_only = text.ends_with('/');
    let inner = text.trim_end_matches('/');
    let anchored = inner.contains('/');
    let inner = inner.trim_start_matches('/');
    if inner.is_empty() || inner.starts_with('#') || inner.contains("**") {
        return None;
    }
    Some(Line { parts: inner.split('/').map(str::to_owned).collect(), anchored, folders_only, ignores })
}

/// Whether a name fits a pattern with `*` (any text) and `?` (one character).
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where to go on from when what follows the last star does not fit: the star, and how much it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(read) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&p) if p == '?' || p == c => {
                at += 1;
                read += 1;
            }
            Some(_) | None => {
                let Some((from, taken)) = star else { return false };
                star = Some((from, taken + 1));
                at = from + 1;
                read = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|p| *p == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_from_what_is_built() {
        let ignored = Ignored::read(
            "# built\n/handler.wasm\n/native-test\n*.log\n!keep.log\nout/\n/gen/*.c\na/**/b\n\n__pycache__\nsnap?\n",
        );
        let rows = [
            ("src/lib.rs", false, false),
            ("src", true, false),
            ("target", true, true),
            ("src/target", true, true),
            ("target.rs", false, false),
            (".git", true, true),
            (".gitignore", false, false),
            (".venv", true, true),
            ("node_modules", true, true),
            ("tidegate-data", true, true),
            ("handler.wasm", false, true),
            ("fixtures/handler.wasm", false, false),
            ("native-test", false, true),
            ("deep/er/build.log", false, true),
            ("keep.log", false, false),
            ("out", true, true),
            ("out", false, false),
            ("gen/x.c", false, true),
            ("gen/x.h", false, false),
            ("src/gen/x.c", false, false),
            ("src/lib.rs~", false, true),
            ("src/.lib.rs.swp", false, true),
            ("4913", false, true),
            ("snap1", false, true),
            ("snap12", false, false),
            ("tidegate.toml", false, false),
        ];
        for (path, is_folder, expected) in rows {
            assert_eq!(ignored.covers(Path::new(path), is_folder), expected, "{path}");
        }
    }

    #[test]
    fn stars_take_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*.swp", ".x.swp", true),
            ("?", "", false),
            ("ü?", "üß", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
