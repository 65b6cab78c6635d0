//! `tidegate pull`: a module out of an OCI registry.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit, Failure};
use super::oci::{self, Reference, RegistryArguments};
use super::{say, table};
use crate::config::parse_size;
use crate::sandbox::limits::Limits;
use crate::signature;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(help = "Where from: oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]")]
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The file to write [default: the repository's last part and .wasm]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// The largest module to take, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit: Option<u64>,
    #[command(flatten)]
    registry: RegistryArguments,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    reference: String,
    digest: String,
    size: usize,
    /// Where its signature was written, when it was pushed with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

pub(super) fn pull(arguments: &Arguments) -> Ended {
    let Arguments { reference, output, force, limit, registry, json } = arguments;
    let file = output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", reference.name())));
    let signature_file = signature::file_beside(&file);
    // A signature that lies there already would be taken for one of the module that comes.
    if let Some(there) = [&file, &signature_file].into_iter().find(|file| file.exists())
        && !force
    {
        return Err(Failure::usage(anyhow!(
            "{} is there already: name another with --output, or --force",
            there.display()
        )));
    }
    let largest = limit.map_or(Limits::default().module_size, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let pulled = oci::pull(reference, registry, largest)?;
    write(&file, &pulled.module).with_context(|| format!("writing {}", file.display()))?;
    let signature = match &pulled.signature {
        Some(signature) => {
            let written = write(&signature_file, signature.as_str().as_bytes());
            written.with_context(|| format!("writing {}", signature_file.display()))?;
            Some(signature_file.display().to_string())
        }
        None => {
            remove(&signature_file).with_context(|| format!("removing {}", signature_file.display()))?;
            None
        }
    };
    let shown = Shown {
        file: file.display().to_string(),
        reference: reference.pinned(&pulled.digest),
        digest: pulled.digest,
        size: pulled.module.len(),
        signature,
    };
    if *json {
        say::json(&shown)?;
    } else {
        let size = table::size(shown.size as u64);
        say::data(&format!("{} ({size}) from {}", shown.file, shown.reference))?;
        if let Some(signature) = &shown.signature {
            say::talk(&format!("its signature is {signature}; the host that runs the module checks it"));
        }
    }
    Ok(Exit::Done)
}

/// Of the module that was here before; it fits no other.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// In two steps, so that a host that reads the file never sees half of it.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut half = file.as_os_str().to_owned();
    half.push(format!(".new-{}", std::process::id()));
    let written = fs::write(&half, bytes).and_then(|()| fs::rename(&half, file));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}
