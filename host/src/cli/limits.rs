//! Limits of a run from the command line, over those of the configuration.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;

use crate::config::{parse_duration, parse_size};
use crate::sandbox::limits::Limits;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Fuel, or `unmetered`
    #[arg(long, value_name = "NUMBER", value_parser = fuel)]
    fuel: Option<Fuel>,
    /// Wall clock, such as 250ms
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Memory, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Fuel(Option<NonZeroU64>);

fn fuel(text: &str) -> Result<Fuel, String> {
    if text == "unmetered" {
        return Ok(Fuel(None));
    }
    let number = text.replace(['_', ','], "").parse::<NonZeroU64>();
    number.map(|number| Fuel(Some(number))).map_err(|_| "expected a whole number above zero, or `unmetered`".to_owned())
}

impl LimitArguments {
    #[cfg(test)]
    pub(super) fn with_fuel(fuel: Option<NonZeroU64>) -> Self {
        Self { fuel: Some(Fuel(fuel)), ..Self::default() }
    }

    /// Whether the fuel is said here.
    pub(super) const fn is_fuel_given(&self) -> bool {
        self.fuel.is_some()
    }

    pub(super) fn over(&self, mut limits: Limits) -> Limits {
        if let Some(Fuel(fuel)) = self.fuel {
            limits.fuel = fuel;
        }
        if let Some(timeout) = self.timeout {
            limits.timeout = timeout;
            limits.max_run = limits.max_run.max(timeout);
        }
        if let Some(memory) = self.memory {
            limits.memory = usize::try_from(memory).unwrap_or(usize::MAX);
        }
        limits
    }
}
