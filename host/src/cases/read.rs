//! Cases out of files: JSON objects, one or many a file, the files of a folder in the order of their names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::parse::Case;

/// How many there may be, and how large all files together.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Cases.
    pub cases: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Where a case stands, to expect something else there.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: Arc<Path>,
    /// The whole file, as it was read.
    pub(super) text: Arc<str>,
    /// The object, from its brace to its brace.
    pub(super) object: Range<usize>,
    /// The value of `expect` in it.
    pub(super) expect: Option<Range<usize>>,
}

/// A case, and where it stands.
#[derive(Debug, Clone)]
pub struct Found {
    /// The case.
    pub case: Case,
    pub(super) source: Source,
}

/// Reads the cases of a file, or those of a folder: of its files that end in `.json`, `.jsonl` or `.ndjson`, in the order of
/// their names; what lies in folders below is not read.
///
/// # Errors
/// When something cannot be read, is no case, or is more than there may be; with the file and the case's number.
pub fn read(path: &Path, most: Most) -> Result<Vec<Found>, String> {
    let could_not = |error: std::io::Error| format!("could not read {}: {error}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(could_not)?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|file| is_of_cases(file)));
        files.sort();
    } else {
        path.metadata().map_err(could_not)?;
        files.push(path.to_owned());
    }
    let mut all = Vec::new();
    let mut left = most.bytes;
    for file in files {
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        left = left
            .checked_sub(size)
            .ok_or_else(|| format!("{} has more than {} bytes of cases", path.display(), most.bytes))?;
        let text = std::fs::read(&file).map_err(|error| format!("could not read {}: {error}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8(text).map_err(|_| format!("{name}: it is not text (UTF-8)"))?;
        read_text(&file, &name, text.into(), &mut left, &mut all)?;
        if all.len() > most.cases {
            return Err(format!("{} has more than {} cases", path.display(), most.cases));
        }
    }
    Ok(all)
}

fn is_of_cases(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|end| end == "json" || end == "jsonl" || end == "ndjson")
}

/// Reads the objects of one file. `left` is what bodies in files of their own may take yet.
fn read_text(file: &Path, name: &str, text: Arc<str>, left: &mut u64, all: &mut Vec<Found>) -> Result<(), String> {
    let folder: PathBuf = file.parent().map(Path::to_owned).unwrap_or_default();
    let file: Arc<Path> = file.into();
    let mut objects = serde_json::Deserializer::from_str(&text).into_iter::<BTreeMap<String, &RawValue>>();
    let (mut number, mut start) = (0, 0);
    while let Some(object) = objects.next() {
        number += 1;
        let place = format!("{name}:{number}");
        let told = |error: String| format!("{place}: {error}");
        let object = object.map_err(|error| told(error.to_string()))?;
        let end = objects.byte_offset();
        let before = text.get(start..end).unwrap_or_default();
        let begin = start + (before.len() - before.trim_ascii_start().len());
        start = end;
        let expect = object.get("expect").and_then(|value| range_in(&text, value.get()));
        let case = Case::parse(&place, object, &folder, *left).map_err(told)?;
        *left = left.saturating_sub(case.body.len() as u64);
        let source = Source { file: Arc::clone(&file), text: Arc::clone(&text), object: begin..end, expect };
        all.push(Found { case, source });
    }
    Ok(())
}

/// Where a part of a text lies in it.
fn range_in(text: &str, part: &str) -> Option<Range<usize>> {
    let begin = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let range = begin..begin.checked_add(part.len())?;
    (text.get(range.clone()) == Some(part)).then_some(range)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    const MOST: Most = Most { cases: 10, bytes: 1000 };

    #[test]
    fn a_folder_is_read_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.jsonl", "{\"subject\":\"b\",\"body\":\"1\"}\n{\"subject\":\"c\",\"expect\":\"completed\"}\n");
        write("a.json", "{\n  \"subject\": \"a\",\n  \"json\": {\"n\": 1.10},\n  \"id\": \"7\"\n}\n");
        write("README.md", "not one of them");
        std::fs::create_dir(folder.path().join("bodies.json")).unwrap();
        let found = read(folder.path(), MOST).unwrap();
        let places: Vec<&str> = found.iter().map(|one| one.case.place.as_str()).collect();
        assert_eq!(places, ["a.json:1", "b.jsonl:1", "b.jsonl:2"]);
        let first = &found[0].case;
        assert_eq!((first.id.as_deref(), first.body.as_ref()), (Some("7"), b"{\"n\": 1.10}".as_slice()));
        assert!(found[1].case.expect.is_none() && found[2].case.expect.is_some());
        let Source { text, object, expect, .. } = &found[2].source;
        assert_eq!(&text[object.clone()], "{\"subject\":\"c\",\"expect\":\"completed\"}");
        assert_eq!(expect.clone().map(|range| &text[range]), Some("\"completed\""));
        let one = read(&folder.path().join("a.json"), MOST).unwrap();
        assert_eq!(one.len(), 1, "a file by itself");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        for (text, expected) in [
            ("{\"subject\":\"a\",\"expect\":\"compleated\"}", "c.json:1: `expect`: there is no outcome `compleated`"),
            ("{\"subject\":\"a b\"}", "c.json:1: `a b` is not a subject"),
            ("{\"subject\":", "c.json:1: EOF"),
            ("{\"subject\":\"a\"}\n{\"subjct\":\"a\"}", "c.json:2: unknown key `subjct`: did you mean `subject`?"),
            ("[]", "c.json:1: invalid type: sequence, expected a map at line 1 column 0"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(folder.path(), MOST).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read(folder.path(), MOST).unwrap_err(), "c.json: it is not text (UTF-8)");
        std::fs::write(&path, "{\"subject\":\"a\"}".repeat(11)).unwrap();
        assert!(read(folder.path(), MOST).unwrap_err().ends_with("has more than 10 cases"));
        std::fs::write(&path, " ".repeat(1001)).unwrap();
        assert!(read(folder.path(), MOST).unwrap_err().ends_with("has more than 1000 bytes of cases"));
        assert!(read(&folder.path().join("gone"), MOST).unwrap_err().contains("could not read"));
    }
}
