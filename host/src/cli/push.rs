//! `tidegate push`: a module into an OCI registry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit};
use super::oci::{self, Reference};
use super::say;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module
    module: PathBuf,
    #[arg(help = "Where to: oci://REGISTRY/REPOSITORY[:TAG]")]
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// Speak to the registry without TLS; so it is in any case with one on this machine
    #[arg(long)]
    plain_http: bool,
    /// Print what was stored as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Pushed {
    reference: String,
    digest: String,
    size: usize,
}

pub(super) fn push(arguments: &Arguments) -> Ended {
    let Arguments { module, reference, plain_http, json } = arguments;
    let shown = module.display();
    let bytes = std::fs::read(module).with_context(|| format!("reading the module {shown}"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let sandbox = Sandbox::new(SandboxOptions::default()).map_err(anyhow::Error::from)?;
    // What no host would run is not worth a name, and what it imports is written beside it.
    let version = runtime.block_on(sandbox.load(bytes.clone(), &shown.to_string(), &Limits::default()));
    let version = version.with_context(|| format!("no host would run {shown}"))?;
    let imports: Vec<String> = version.imports().map(str::to_owned).collect();
    let exports: Vec<String> = version.exports().map(str::to_owned).collect();
    let digest = oci::push(reference, *plain_http, &bytes, &imports, &exports)?;
    let pushed = Pushed { reference: reference.pinned(&digest), digest, size: bytes.len() };
    if *json {
        say::json(&pushed)?
    } else {
        say::data(&pushed.reference)?
    }
    Ok(Exit::Done)
}
