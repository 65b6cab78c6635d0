//! The body of a dead letter in an editor, before it is sent back.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::body;
use crate::admin::wire::DeadLetterView;

/// The editor where neither VISUAL nor EDITOR says one.
const EDITOR: &str = "vi";

/// A file that only this person can read, and that is gone afterwards: a body is payload.
struct Scratch(PathBuf);

impl Scratch {
    fn new(body: &[u8]) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("dead-letter-{:016x}.txt", fastrand::u64(..)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let scratch = Self(path);
        file.write_all(body)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Gone already, or the system's to clean up.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Lets a person edit a body; nothing when it was left as it was.
pub(super) fn edited(letter: &DeadLetterView) -> anyhow::Result<Option<Vec<u8>>> {
    let before = body::bytes(letter)?;
    if std::str::from_utf8(&before).is_err() {
        bail!(
            "the body is no text: write it to a file with `dlq show --body`, change it there, and give it with --body"
        );
    }
    let scratch = Scratch::new(&before).context("writing a file to edit")?;
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    // An editor may be said with its options, as a shell takes it.
    let ended = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&scratch.0).status();
    let ended = ended.with_context(|| format!("starting the editor, `{editor}`"))?;
    if !ended.success() {
        bail!("the editor, `{editor}`, ended with {ended}; nothing was sent back");
    }
    // An editor may put another file in the place.
    let after = std::fs::read(&scratch.0).context("reading the edited file")?;
    Ok((after != before).then_some(after))
}
