//! Runs every test: the host's on real brokers and real guests, the SDK's and the examples' natively.

use anyhow::Result;

use crate::run::{cargo, step};
use crate::{guests, servers};

/// Builds what the tests need, then runs them all.
pub(crate) fn test() -> Result<()> {
    let guests = guests::build()?;
    let server = servers::ensure_nats_server()?;
    let registry = servers::ensure_registry()?;
    let receiver = servers::ensure_receiver()?;
    let (browser, rules) = (servers::ensure_browser()?, servers::ensure_rules()?);
    let prometheus = servers::ensure_prometheus()?;
    // Two runs, and no `--workspace`: the generator of the SDK's bindings shares crates with wasmtime and wants other
    // features of them, which would compile wasmtime once more than a developer's `cargo test` does.
    let mut host = cargo(&["test", "--locked"]);
    step(
        "testing the host",
        host.env("TIDEGATE_GUESTS", guests)
            .env("TIDEGATE_NATS_SERVER", server)
            .env("TIDEGATE_OCI_REGISTRY", registry)
            .env("TIDEGATE_OTLP_RECEIVER", receiver)
            .env("TIDEGATE_CHROMEDRIVER", browser)
            .env("TIDEGATE_AXE", rules)
            .env("TIDEGATE_PROMETHEUS", prometheus),
    )?;
    step("testing the SDK and the examples", cargo(&["test", "--locked"]).args(guests::packages()))
}
