//! Checks what rustfmt and clippy do not: sizes, boundaries, reasons, documents, dependencies.
//!
//! Invariants: a problem names the file, the line and what to do; all problems are found in one run. One line may be let
//! off by a comment on it or on the line before it, `// tidy-allow(rule): why`; without the why the comment is a problem.

mod dependencies;
mod documents;
mod mask;
mod rules;
mod sizes;
mod source;

use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::run::{command, output, root};
use source::Source;

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    /// Counted from 1; 0: the file as a whole.
    line: usize,
    rule: &'static str,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {} ({})", self.path, self.text, self.rule),
            line => write!(f, "{}:{line}: {} ({})", self.path, self.text, self.rule),
        }
    }
}

/// Checks the whole repository and prints what is not tidy.
pub(crate) fn check() -> Result<()> {
    eprintln!("==> tidy");
    let sources = read()?;
    let mut problems: Vec<Problem> = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.is_generated()) {
        problems.extend(sizes::check(source));
        problems.extend(rules::check(source));
    }
    problems.extend(rules::check_once(&sources));
    problems.extend(documents::check(&sources));
    problems.extend(dependencies::check()?);
    problems.retain(|problem| !is_let_off(&sources, problem));
    problems.sort();
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} things are not tidy", problems.len());
    }
    Ok(())
}

/// The text files of the repository, those that are not yet committed too.
fn read() -> Result<Vec<Source>> {
    let listed = output(&mut command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut sources = Vec::new();
    for path in listed.lines().filter(|path| [".rs", ".md", ".toml", ".wit"].iter().any(|end| path.ends_with(end))) {
        let file = root().join(path);
        // Listed and not there: deleted, and not yet committed.
        if file.is_file() {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {path}"))?;
            sources.push(Source::new(path, text));
        }
    }
    source::mark_test_modules(&mut sources);
    Ok(sources)
}

fn is_let_off(sources: &[Source], problem: &Problem) -> bool {
    let Some(source) = sources.iter().find(|source| source.path == problem.path) else { return false };
    let marker = format!("tidy-allow({}):", problem.rule);
    [problem.line, problem.line.saturating_sub(1)].iter().filter(|line| **line > 0).any(|line| {
        let text = source.text.lines().nth(line - 1).unwrap_or_default();
        text.split_once(&marker).is_some_and(|(_, why)| !why.trim().is_empty())
    })
}
