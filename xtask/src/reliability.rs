//! The long form of the fault tests: what `docs/reliability.md` reports.

use anyhow::Result;

use crate::run::{cargo, step};
use crate::{guests, servers};

/// Kills hosts and servers so many times a test, and runs so many seeds of the simulation.
pub(crate) fn run(kills: u32, seeds: u32) -> Result<()> {
    let guests = guests::build()?;
    let server = servers::ensure_nats_server()?;
    let test = |name: &str, variable: &str, count: u32| {
        let mut run = cargo(&["test", "--locked", "--package", "tidegate", "--test", "it", name]);
        run.args(["--", "--nocapture", "--test-threads", "1"]).env(variable, count.to_string());
        run.env("TIDEGATE_GUESTS", &guests).env("TIDEGATE_NATS_SERVER", &server);
        run
    };
    step(&format!("simulating {seeds} seeds"), &mut test("simulation::", "TIDEGATE_SEEDS", seeds))?;
    step(&format!("killing {kills} times a test"), &mut test("chaos::", "TIDEGATE_KILLS", kills))
}
