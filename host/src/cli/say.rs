//! Talking: data to standard output, talk to standard error, questions on the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Context;
use serde::Serialize;

/// Writes data; ends it with a newline.
pub(super) fn data(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    write!(out, "{text}{end}").and_then(|()| out.flush()).context("writing to standard output")
}

/// Writes a value as JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    data(&serde_json::to_string_pretty(value).context("writing JSON")?)
}

/// Says something that is no data. That it cannot be said is no reason to fail.
pub(super) fn talk(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks for a word to confirm by. `None` when there is no terminal to ask on.
pub(super) fn confirmed(question: &str, word: &str) -> Option<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let mut error = io::stderr();
    let _ = write!(error, "{question} Type `{word}` to confirm: ");
    let _ = error.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim() == word)
}
