//! What is wrong with a configuration, shown the way a compiler shows it: the place, the line, what it must be.
//!
//! Invariant: no problem shows the value of a key that looks like a secret.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::tree::{Node, Origin, Path};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    place: Place,
    message: String,
    help: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The value at a path, or the innermost table on the way to it.
    Value(Path),
    /// The key at a path.
    Key(Path),
    /// Bytes of the file, before there is a tree.
    Bytes(Range<usize>),
    /// An environment variable.
    Variable(String),
}

impl Problem {
    /// A problem with the value at a path.
    pub(super) fn at(path: &[&str], message: impl Into<String>) -> Self {
        Self::of_value(path.iter().map(|&name| name.to_owned()).collect(), message)
    }

    /// A problem with the value at a path.
    pub(super) fn of_value(path: Path, message: impl Into<String>) -> Self {
        Self { place: Place::Value(path), message: message.into(), help: None }
    }

    /// A problem with a key rather than with its value.
    pub(super) fn of_key(path: Path, message: impl Into<String>) -> Self {
        Self { place: Place::Key(path), message: message.into(), help: None }
    }

    /// A problem with the text of the file.
    pub(super) fn of_text(bytes: Range<usize>, message: impl Into<String>) -> Self {
        Self { place: Place::Bytes(bytes), message: message.into(), help: None }
    }

    /// A problem with an environment variable.
    pub(super) fn of_variable(name: &str, message: impl Into<String>) -> Self {
        Self { place: Place::Variable(name.to_owned()), message: message.into(), help: None }
    }

    /// Adds what to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the nearest of some names, when one is near; otherwise which there are.
    pub(super) fn nearest<'a>(self, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        match nearest(name, known.iter().copied()) {
            Some(meant) => self.help(format!("did you mean `{meant}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("there is: {}", known.join(", "))),
        }
    }

    /// Whether it lies at a path or below.
    pub(super) fn is_under(&self, path: &[String]) -> bool {
        match &self.place {
            Place::Value(own) | Place::Key(own) => own.starts_with(path),
            Place::Bytes(_) | Place::Variable(_) => false,
        }
    }

    fn locate(&self, tree: &Node) -> Located {
        match &self.place {
            Place::Variable(name) => Located::Variable(name.clone()),
            Place::Bytes(bytes) => Located::File(bytes.clone()),
            Place::Key(path) => located(tree, path, true),
            Place::Value(path) => located(tree, path, false),
        }
    }
}

enum Located {
    File(Range<usize>),
    Variable(String),
}

fn located(tree: &Node, path: &[String], want_key: bool) -> Located {
    let (node, depth) = tree.nearest(path);
    match &node.origin {
        Origin::Environment(name) => Located::Variable(name.clone()),
        Origin::File { key, value } => {
            // What is missing is shown at the header or key of the table that lacks it.
            let show_key = (want_key || depth < path.len()) && !key.is_empty();
            Located::File(if show_key { key.clone() } else { value.clone() })
        }
    }
}

/// The name that is nearest to a misspelt one, when any is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // 0.8 of Jaro and Winkler's measure: one or two letters in a word of eight.
    const NEAR_ENOUGH: f64 = 0.8;
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// All that is wrong with a configuration, in the order of the file; shows the lines that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Told>);

/// One problem, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    /// As a compiler shows it.
    shown: String,
    listed: ProblemListed,
}

/// One problem, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ProblemListed {
    /// What is wrong.
    pub message: String,
    /// The file; nothing for a problem that lies in no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in the file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The character in the line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The environment variable that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Problems {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn render(problems: Vec<Problem>, tree: &Node, file: &str, text: &str) -> Self {
        let mut located: Vec<(usize, Located, Problem)> = problems
            .into_iter()
            .map(|problem| {
                let place = problem.locate(tree);
                let position = match &place {
                    Located::File(bytes) => bytes.start,
                    Located::Variable(_) => usize::MAX,
                };
                (position, place, problem)
            })
            .collect();
        located.sort_by_key(|(position, _, _)| *position);
        let told = |(_, place, problem): &(usize, Located, Problem)| Told {
            shown: render(place, problem, file, text),
            listed: list(place, problem, file, text),
        };
        let mut told: Vec<Told> = located.iter().map(told).collect();
        told.dedup_by(|one, other| one.shown == other.shown);
        Self(told)
    }

    /// Each of them, for programs.
    pub fn listed(&self) -> impl Iterator<Item = &ProblemListed> {
        self.0.iter().map(|told| &told.listed)
    }
}

fn list(place: &Located, problem: &Problem, file: &str, text: &str) -> ProblemListed {
    let mut listed =
        ProblemListed { message: problem.message.clone(), help: problem.help.clone(), ..ProblemListed::default() };
    match place {
        Located::Variable(name) => listed.variable = Some(name.clone()),
        Located::File(bytes) => {
            let at = line_at(text, bytes);
            listed.file = Some(file.to_owned());
            (listed.line, listed.column) = (Some(at.number), Some(at.column));
        }
    }
    listed
}

/// Where a place begins.
struct At {
    line_start: usize,
    number: usize,
    column: usize,
}

fn line_at(text: &str, bytes: &Range<usize>) -> At {
    let start = bytes.start.min(text.len());
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = text.get(line_start..start).unwrap_or_default().chars().count() + 1;
    At { line_start, number: before.matches('\n').count() + 1, column }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<&str> = self.0.iter().map(|told| told.shown.as_str()).collect();
        f.write_str(&shown.join("\n\n"))
    }
}

fn render(place: &Located, problem: &Problem, file: &str, text: &str) -> String {
    let mut shown = format!("error: {}", problem.message);
    let mut gutter = 1;
    match place {
        Located::Variable(name) => {
            let _ = write!(shown, "\n --> environment variable {name}");
        }
        Located::File(bytes) => gutter = show_line(&mut shown, file, text, bytes),
    }
    if let Some(help) = &problem.help {
        let _ = write!(shown, "\n{} = help: {help}", " ".repeat(gutter));
    }
    shown
}

/// Shows the line with the place marked; gives back the width of its number.
fn show_line(shown: &mut String, file: &str, text: &str, bytes: &Range<usize>) -> usize {
    let start = bytes.start.min(text.len());
    let At { line_start, number, column } = line_at(text, bytes);
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let width = number.to_string().len();
    let gutter = " ".repeat(width);
    let _ = write!(shown, "\n{gutter}--> {file}:{number}:{column}");
    if line.trim().is_empty() {
        return width;
    }
    let line = masked(line, is_of_secrets(text.get(..line_start).unwrap_or_default()));
    let length = text.get(start..bytes.end.min(text.len())).unwrap_or_default();
    let length = length.lines().next().unwrap_or_default().chars().count();
    let marks = "^".repeat(length.min(line.chars().count().saturating_sub(column - 1)).max(1));
    let _ = write!(shown, "\n{gutter} |\n{number} | {line}\n{gutter} | {}{marks}", " ".repeat(column - 1));
    width
}

/// Whether what comes after a text lies in a table of secrets, where every value is one; or may do: where an inline table
/// was opened over several lines, all up to the next header counts as in it.
fn is_of_secrets(before: &str) -> bool {
    let of_secrets = |line: &str| match line.strip_prefix('[') {
        Some(header) => Some(header.contains("secrets")),
        None => {
            let opened = line.split_once("secrets").and_then(|(_, rest)| rest.split_once('{'));
            opened.filter(|(_, inside)| !inside.contains('}')).map(|_opened| true)
        }
    };
    before.lines().rev().map(str::trim_start).find_map(of_secrets).unwrap_or(false)
}

/// The line without what may be a secret: behind a key that is, or is nearly, the name of one, or that lies in a table of
/// them.
fn masked(line: &str, of_secrets: bool) -> String {
    // A hash is none, but a token that was put in its place is.
    const SECRETS: [&str; 8] = ["password", "passwd", "token", "nkey", "creds", "secret", "seed", "hash"];
    let mut shown = line.replace('\t', " ");
    if let Some(at) = shown.find("://").map(|at| at + 3)
        && let Some(end) = shown.get(at..).and_then(|rest| rest.find('@'))
    {
        shown.replace_range(at..at + end, "***");
    }
    for (at, _) in line.match_indices('=') {
        let key = line.get(..at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
        let words = key.rsplit(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
        let words = words.collect::<Vec<_>>();
        // A table may be named on the way to the key: `secrets.api = `. What a bucket is named says nothing: `seen` is near `seed`.
        let in_table = |table: &str| words.iter().skip(1).any(|word| word == table);
        let word = words.first().map(String::as_str).filter(|_| !in_table("buckets")).unwrap_or_default();
        if of_secrets || in_table("secrets") || SECRETS.iter().any(|secret| strsim::jaro_winkler(word, secret) >= 0.85)
        {
            shown = format!("{}= ***", line.get(..at).unwrap_or_default().replace('\t', " "));
            break;
        }
    }
    shown
}
