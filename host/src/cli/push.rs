//! `tidegate push`: a module into an OCI registry.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::exit::{Ended, Exit, Failure};
use super::oci::{self, Reference, RegistryArguments, ToPush};
use super::say;
use crate::sandbox::granted::Granted;
use crate::sandbox::limits::Limits;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::signature;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module
    module: PathBuf,
    #[arg(help = "Where to: oci://REGISTRY/REPOSITORY[:TAG]")]
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// The module's signature, as `minisign -S` writes it: it is stored with the module, and comes back with it [default:
    /// the file beside the module, FILE.minisig, when it is there]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArguments,
    /// Print what was stored as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Pushed {
    reference: String,
    digest: String,
    size: usize,
    /// The key of the signature that was stored with it, as the signature says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_with: Option<String>,
}

pub(super) fn push(arguments: &Arguments) -> Ended {
    let Arguments { module, reference, signature, registry, json } = arguments;
    let shown = module.display();
    let signature = signature::given_or_beside(signature.as_deref(), module).map_err(Failure::usage)?;
    let bytes = std::fs::read(module).with_context(|| format!("reading the module {shown}"))?;
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let sandbox = Sandbox::new(SandboxOptions::default()).map_err(anyhow::Error::from)?;
    // What no host would run is not worth a name, and what it imports is written beside it: whoever deploys it grants that.
    let (name, limits, granted) = (shown.to_string(), Limits::default(), Granted::anything());
    let loading = sandbox.load_granted(bytes.clone(), &name, &limits, granted);
    let version = runtime.block_on(loading);
    let version = version.with_context(|| format!("no host would run {shown}"))?;
    let imports: Vec<String> = version.imports().map(str::to_owned).collect();
    let exports: Vec<String> = version.exports().map(str::to_owned).collect();
    let to_push = ToPush { module: &bytes, imports: &imports, exports: &exports, signature: signature.as_ref() };
    let digest = oci::push(reference, registry, &to_push)?;
    let signed_with = signature.map(|signature| signature.key().to_string());
    if let Some(key) = &signed_with {
        say::talk(&format!("its signature, with the key {key}, is stored with it"));
    }
    let pushed = Pushed { reference: reference.pinned(&digest), digest, size: bytes.len(), signed_with };
    if *json {
        say::json(&pushed)?
    } else {
        say::data(&pushed.reference)?
    }
    Ok(Exit::Done)
}
