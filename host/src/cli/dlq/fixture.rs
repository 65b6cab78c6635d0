//! `tidegate dlq export --as-fixture`: a case for `tidegate test` out of each dead letter.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::admin::wire::{DeadLetterLine, ExportLine};
use crate::cases::{Fixture, file_name};
use crate::cli::client::{Client, Wanted};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::say;
use crate::cli::table::number;

/// What was written.
#[derive(Debug, Default, Serialize)]
struct Written {
    written: u64,
    /// Those whose file was there, and is as it was: somebody may have changed what it expects.
    present: u64,
}

/// Writes them, each as it comes.
pub(super) fn write(client: &Client, wanted: &Wanted, folder: &Path, as_json: bool) -> Ended {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut sum = Written::default();
    client
        .export_dead_letters(wanted, |line| {
            // The end of an export is not passed on.
            if let ExportLine::Letter(letter) = serde_json::from_slice(line).context("reading the host's answer")? {
                let is_new = write_one(folder, *letter)?;
                *if is_new { &mut sum.written } else { &mut sum.present } += 1;
            }
            Ok(())
        })
        .map_err(|failure| Failure {
            error: failure.error.context(format!("{} were written before it ended", number(sum.written))),
            ..failure
        })?;
    if as_json {
        say::json(&sum)?;
    } else {
        let (written, folder) = (number(sum.written), folder.display());
        let mut text = format!("{written} written to {folder}");
        if sum.present > 0 {
            text += &format!(", {} were there and are as they were", number(sum.present));
        }
        say::data(&text)?;
        if sum.written > 0 {
            say::talk(&format!("they expect what the handler did then; run them: tidegate test {folder}"));
        }
    }
    Ok(Exit::Done)
}

/// False: there was a file of its name.
fn write_one(folder: &Path, letter: DeadLetterLine) -> anyhow::Result<bool> {
    let path = folder.join(file_name(&letter));
    let mut file = match File::create_new(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
    };
    let text = serde_json::to_string_pretty(&Fixture::new(letter)).context("writing JSON")?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
    if written.is_err() {
        // Half a case is none.
        let _ = fs::remove_file(&path);
    }
    written.with_context(|| format!("writing {}", path.display()))?;
    Ok(true)
}
