//! `tidegate new`: a project to start a handler from.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::exit::{Ended, Exit, Failure};
use super::language::Language;
use super::say;

#[cfg(test)]
mod listing;
mod name;
mod sdk;
mod templates;

pub(super) use templates::sample;

/// Where the SDK for Rust is put in a project.
const VENDORED: &str = "vendor/tidegate-sdk";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder to make; its name is the handler's
    folder: PathBuf,
    /// The language to write the handler in
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Rust: build against the SDK in this folder, in place of a copy of it in vendor/
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

pub(super) fn new(arguments: &Arguments) -> Ended {
    let Arguments { folder, lang, sdk } = arguments;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name::check(&name).map_err(Failure::usage)?;
    let sdk = sdk.as_deref().map(|path| own_sdk(path, *lang)).transpose()?;
    refuse_what_is_there(folder)?;
    let files = files(&name, *lang, sdk.as_deref())?;
    write(folder, &files)?;
    say::talk(&told(folder, &name, *lang));
    Ok(Exit::Done)
}

/// The SDK that was asked for: its full path, which does not depend on where the project lies.
fn own_sdk(path: &Path, language: Language) -> Result<String, Failure> {
    if language != Language::Rust {
        return Err(Failure::usage(anyhow!("--sdk names the SDK for Rust, and {} has none", language.name())));
    }
    let full = fs::canonicalize(path).with_context(|| format!("looking for the SDK at {}", path.display()));
    let full = full.map_err(Failure::usage)?;
    if !sdk::is_sdk(&full) {
        return Err(Failure::usage(anyhow!("{} is not the folder of `tidegate-sdk`", path.display())));
    }
    // It stands between quotes in a manifest.
    let text = full.to_str().filter(|text| !text.contains(['"', '\\']) && !text.contains(char::is_control));
    let text = text.ok_or_else(|| anyhow!("the path {} cannot stand in a manifest", full.display()));
    text.map(str::to_owned).map_err(Failure::usage)
}

/// An empty folder is as good as none; nothing that is there is written over.
fn refuse_what_is_there(folder: &Path) -> Result<(), Failure> {
    let is_free = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound && !folder.is_symlink(),
    };
    if is_free {
        return Ok(());
    }
    Err(Failure::usage(anyhow!("{} is there already: choose another name, or remove it", folder.display())))
}

/// Every file of the project, by its path in it.
fn files(name: &str, language: Language, sdk: Option<&str>) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let names = templates::Names { name, sdk: sdk.unwrap_or(VENDORED) };
    let templates = templates::files(language, &names).into_iter();
    let mut files: Vec<_> = templates.map(|(path, bytes)| (path.to_owned(), bytes)).collect();
    if language == Language::Rust && sdk.is_none() {
        let sources = sdk::files()?.into_iter();
        files.extend(sources.map(|(path, text)| (format!("{VENDORED}/{path}"), text.into_bytes())));
    }
    Ok(files)
}

/// Writes the files beside the folder and puts them in its place whole: what fails half-way leaves nothing behind.
fn write(folder: &Path, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let draft = draft_in(parent);
    let written = files.iter().try_for_each(|(path, bytes)| {
        let path = draft.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, bytes)
    });
    let put = written.and_then(|()| fs::rename(&draft, folder));
    if put.is_err() {
        // Only what this call made, and nothing is lost when it stays.
        let _ = fs::remove_dir_all(&draft);
    }
    put.with_context(|| format!("writing {}", folder.display()))
}

/// A name that nobody else has.
fn draft_in(parent: &Path) -> PathBuf {
    parent.join(format!(".tidegate-new-{}", std::process::id()))
}

/// What was made, what is missing on this machine, and what to do next.
fn told(folder: &Path, name: &str, language: Language) -> String {
    let (tool, how) = language.tool();
    let missing = if super::build::is_there(tool) { String::new() } else { format!("\nIt needs `{tool}`: {how}\n") };
    let (folder, sample) = (folder.display(), templates::sample(language));
    format!(
        "{folder} is a handler in {}; its README.md says more.\n{missing}\n\
         cd {folder}\n\
         tidegate dev                # builds on each save, and shows what becomes of each message\n\
         tidegate build\n\
         tidegate invoke --handler {name} {sample}",
        language.name()
    )
}
