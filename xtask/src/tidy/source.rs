//! A file of the repository, with its code apart from its comments, and its tests apart from the rest.

use std::ops::Range;

use super::Problem;
use super::mask::mask;

/// A file of the repository.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository, with slashes.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and literals blanked out, place for place.
    pub(super) code: String,
    /// True when all of it is test code.
    is_test_file: bool,
    /// Where modules under `#[cfg(test)]` are.
    test_modules: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let code = if path.ends_with(".rs") { mask(&text) } else { String::new() };
        let is_test_file = path.split('/').any(|part| ["tests", "tests.rs", "benches", "fuzz"].contains(&part));
        let test_modules = test_modules(&code);
        Self { path: path.to_owned(), text, code, is_test_file, test_modules }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_generated(&self) -> bool {
        self.text.starts_with("// @generated")
    }

    /// True when the place is in test code.
    pub(super) fn is_test(&self, place: usize) -> bool {
        self.is_test_file || self.test_modules.iter().any(|module| module.contains(&place))
    }

    /// The line of a place, counted from 1.
    pub(super) fn line(&self, place: usize) -> usize {
        self.code.get(..place).unwrap_or_default().matches('\n').count() + 1
    }

    /// A problem at a place in the code.
    pub(super) fn problem(&self, place: usize, rule: &'static str, text: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line: self.line(place), rule, text: text.into() }
    }

    /// A problem of the file as a whole.
    pub(super) fn whole(&self, rule: &'static str, text: impl Into<String>) -> Problem {
        Problem { path: self.path.clone(), line: 0, rule, text: text.into() }
    }

    /// The places of a word or a path in the code: not where it is a part of a longer name.
    pub(super) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_name = |character: char| character.is_alphanumeric() || character == '_';
        self.code.match_indices(word).map(|(place, _)| place).filter(move |place| {
            let before = self.code.get(..*place).and_then(|text| text.chars().next_back());
            let after = self.code.get(place + word.len()..).and_then(|text| text.chars().next());
            let starts = !word.starts_with(is_name) || !before.is_some_and(is_name);
            let ends = !word.ends_with(is_name) || !after.is_some_and(is_name);
            starts && ends
        })
    }

    /// From a bracket in the code to behind the bracket that closes it.
    pub(super) fn group(&self, open: usize) -> Range<usize> {
        open..closing(&self.code, open)
    }

    /// Names and places of the functions that stand under a test attribute.
    pub(super) fn test_functions(&self) -> Vec<(&str, Range<usize>)> {
        self.functions().into_iter().filter(|(_, range)| self.is_under_test_attribute(range.start)).collect()
    }

    fn is_under_test_attribute(&self, function: usize) -> bool {
        let before = self.code.get(..function).unwrap_or_default();
        // The attributes stand between the end of the item before and this one.
        let start = before.rfind(['}', ';', '{']).map_or(0, |end| end + 1);
        let attributes = before.get(start..).unwrap_or_default();
        attributes.contains("#[test]") || attributes.contains("::test")
    }

    /// Names and places, from `fn` to the closing brace, of the functions that have a body.
    pub(super) fn functions(&self) -> Vec<(&str, Range<usize>)> {
        self.words("fn").filter_map(|place| self.function(place)).collect()
    }

    fn function(&self, place: usize) -> Option<(&str, Range<usize>)> {
        let behind = self.code.get(place + 2..)?;
        let name = behind.trim_start();
        let length = name.find(|character: char| !character.is_alphanumeric() && character != '_')?;
        if length == 0 {
            // A type, such as `fn(u8)`.
            return None;
        }
        let mut at = place + 2 + (behind.len() - name.len()) + length;
        loop {
            match self.code.as_bytes().get(at)? {
                b'{' => return Some((name.get(..length)?, place..closing(&self.code, at))),
                b';' => return None,
                b'(' | b'[' => at = closing(&self.code, at),
                _ => at += 1,
            }
        }
    }
}

/// Behind the bracket that closes the one at this place.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (place, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return place + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Where the items under `#[cfg(test)]` are that have a body.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    let attributes = code.match_indices("#[cfg(test)]");
    attributes
        .filter_map(|(start, attribute)| {
            let behind = start + attribute.len();
            let end = behind + code.get(behind..)?.find(['{', ';'])?;
            (code.as_bytes().get(end) == Some(&b'{')).then(|| start..closing(code, end))
        })
        .collect()
}

/// Marks the files that are named by `#[cfg(test)] mod name;`.
pub(super) fn mark_test_modules(sources: &mut [Source]) {
    let named: Vec<String> = sources.iter().filter(|source| source.is_rust()).flat_map(named_test_modules).collect();
    for source in sources {
        let base = source.path.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
        source.is_test_file |= named.iter().any(|module| base == *module || base.starts_with(&format!("{module}/")));
    }
}

/// The paths, without their ends, of the modules that a file names under `#[cfg(test)]`.
fn named_test_modules(source: &Source) -> Vec<String> {
    let base = source.path.trim_end_matches(".rs");
    let (directory, _) = base.rsplit_once('/').unwrap_or_default();
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    let attributes = source.code.match_indices("#[cfg(test)]");
    attributes
        .filter_map(|(start, attribute)| {
            let behind = start + attribute.len();
            let end = behind + source.code.get(behind..)?.find(['{', ';'])?;
            let (_, name) = source.code.get(behind..end)?.split_once("mod ")?;
            let path =
                source.text.get(behind..end)?.split_once("#[path = \"").and_then(|(_, path)| path.split_once(".rs\"]"));
            Some(path.map_or_else(|| format!("{folder}/{}", name.trim()), |(path, _)| format!("{directory}/{path}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, usize, usize)> {
        let source = Source::new("a.rs", text.to_owned());
        let functions = source.functions();
        functions
            .iter()
            .map(|(name, range)| ((*name).to_owned(), source.line(range.start), source.line(range.end)))
            .collect()
    }

    #[test]
    fn a_function_goes_from_its_word_to_its_closing_brace() {
        let found = names("fn a() {}\nfn b(x: [u8; { 3 }])\n    -> fn(u8) -> u8\n{\n  { '}' }\n}\ntrait T { fn c(); }");
        assert_eq!(found, [("a".to_owned(), 1, 1), ("b".to_owned(), 2, 6)]);
    }

    #[test]
    fn tests_are_told_from_the_rest() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() {}\n    fn c() {}\n}\nfn d() {}\n";
        let source = Source::new("a.rs", text.to_owned());
        let found: Vec<_> = source.functions().into_iter().map(|(name, at)| (name, source.is_test(at.start))).collect();
        assert_eq!(found, [("a", false), ("b", true), ("c", true), ("d", false)]);
        assert_eq!(source.test_functions().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_file_that_a_test_module_names_is_test_code() {
        let mut sources = vec![
            Source::new("host/src/a/mod.rs", "#[cfg(test)]\nmod model;\nmod real;".to_owned()),
            Source::new("host/src/a/b.rs", "#[cfg(test)]\n#[path = \"b_rows.rs\"]\nmod rows;".to_owned()),
            Source::new("host/src/a/b_rows.rs", "fn r() {}".to_owned()),
            Source::new("host/src/a/model.rs", "fn m() {}".to_owned()),
            Source::new("host/src/a/real.rs", "fn r() {}".to_owned()),
        ];
        mark_test_modules(&mut sources);
        assert_eq!(
            sources.iter().map(|source| source.is_test(0)).collect::<Vec<_>>(),
            [false, false, true, true, false]
        );
    }

    #[test]
    fn a_word_is_not_a_part_of_a_name() {
        let source = Source::new("a.rs", "wasmtime::x; my_wasmtime::y; wasmtime_wasi::z; \"wasmtime\"".to_owned());
        assert_eq!(source.words("wasmtime").collect::<Vec<_>>(), [0]);
    }
}
