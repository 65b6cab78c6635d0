//! Modules in OCI registries, as the ecosystem ships components: an image manifest with a wasm config and one layer.
//!
//! Invariants:
//! - Nothing is given back whose digest is not the one that was asked for, or that the manifest says.
//! - Nothing is read beyond its limit, whatever a registry says of sizes.
//! - A secret is sent to the registry and to the token service that it names, over TLS where the registry has it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::exit::Failure;
use crate::signature::Signature;

mod answer;
mod authorize;
mod keychain;
mod layout;
mod reference;
mod registry;

pub(super) use reference::Reference;

use layout::{Descriptor, Listed, Manifest};
use registry::Registry;

/// A manifest is a page of JSON; the specification lets registries refuse more.
const LARGEST_MANIFEST: usize = 4 << 20;

/// How long a registry may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// To begin an answer. A registry that stores a large layer on slow storage answers when it is done.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// How a registry is spoken to.
#[derive(Debug, Args)]
pub(super) struct RegistryArguments {
    /// Speak to the registry without TLS; so it is with one on this machine, unless --registry-ca is given
    #[arg(long)]
    plain_http: bool,
    /// Trust the authorities in this PEM file too when a registry shows its certificate, beside those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    registry_ca: Option<PathBuf>,
}

/// A module as it was pulled.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) module: Vec<u8>,
    /// The manifest's digest: what names this very module for ever.
    pub(super) digest: String,
    /// The signature that was pushed with it.
    pub(super) signature: Option<Signature>,
}

/// A module that is to be stored, with what is written beside it.
#[derive(Debug)]
pub(super) struct ToPush<'a> {
    pub(super) module: &'a [u8],
    pub(super) imports: &'a [String],
    pub(super) exports: &'a [String],
    pub(super) signature: Option<&'a Signature>,
}

/// Gets a module, and checks every digest on the way.
pub(super) fn pull(reference: &Reference, with: &RegistryArguments, largest: usize) -> Result<Pulled, Failure> {
    let mut registry = Registry::new(reference, with, "pull")?;
    let (bytes, kind) = registry.manifest(reference.version())?;
    let digest = layout::digest(&bytes);
    if let Some(wanted) = reference.digest()
        && wanted != digest
    {
        return Err(anyhow::anyhow!(
            "the registry gave another manifest than {wanted} for {reference}: its digest is {digest}; \
             nothing was written"
        )
        .into());
    }
    let listed = layout::module_of(&bytes, kind.as_deref());
    let Listed { module: layer, signature } = listed.with_context(|| format!("{reference} is no module"))?;
    let size = usize::try_from(layer.size).unwrap_or(usize::MAX);
    if size > largest {
        return Err(
            anyhow::anyhow!("the module has {size} bytes and the limit is {largest}: raise it with --limit").into()
        );
    }
    let module = registry.blob(&layer.digest, size)?;
    verified(&layer, &module)?;
    Ok(Pulled { module, digest, signature })
}

fn verified(layer: &Descriptor, module: &[u8]) -> anyhow::Result<()> {
    let (found, wanted) = (layout::digest(module), &layer.digest);
    ensure!(
        *wanted == found,
        "the registry gave other bytes than the manifest says ({} bytes with the digest {found} in place of {} with \
         {wanted}); nothing was written",
        module.len(),
        layer.size
    );
    Ok(())
}

/// Stores a module with what it imports and exports and its signature, and gives back the manifest's digest.
pub(super) fn push(reference: &Reference, with: &RegistryArguments, pushed: &ToPush<'_>) -> Result<String, Failure> {
    let ToPush { module, imports, exports, signature } = *pushed;
    if reference.digest().is_some() {
        return Err(Failure::usage(anyhow::anyhow!("push to a tag: the digest follows from what is pushed")));
    }
    let layer = Descriptor::of(layout::MODULE, module);
    let config = layout::config(&layer.digest, imports, exports, SystemTime::now())?;
    let manifest = Manifest::of(Descriptor::of(layout::CONFIG, &config), layer, signature).bytes()?;
    let mut registry = Registry::new(reference, with, "pull,push")?;
    registry.store(module)?;
    registry.store(&config)?;
    registry.tag(reference.version(), &manifest)?;
    Ok(layout::digest(&manifest))
}

/// Refuses an address that is no `http` or `https`, or that leaves TLS behind.
fn checked_address(address: &str, from: &str) -> anyhow::Result<()> {
    if from.starts_with("https:") && !address.starts_with("https:") {
        bail!("the registry speaks TLS and sends us on to `{address}`, which does not; nothing was sent there");
    }
    ensure!(address.starts_with("http:") || address.starts_with("https:"), "`{address}` is no address of a registry");
    Ok(())
}
