//! `tidegate run`: a host, until it is told to stop.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::exit::{Ended, Exit, Failure};
use super::{ConfigArgument, say, table, taken};
use crate::app;
use crate::app::Report;
use crate::sandbox::CompileIn;
use crate::telemetry::logs;

/// How long the end of the process waits for threads that are blocked, when everything is settled.
const BLOCKED_AT_MOST: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> Ended {
    let config = arguments.config.load()?;
    config.check_files_at_start().map_err(Failure::usage)?;
    logs::set_up(config.host.log).map_err(anyhow::Error::from)?;
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from)?;
    let compile_in = CompileIn::own_program().context("looking which program this is")?;
    let http = config.http.clone();
    let ended = runtime.block_on(app::run(config, compile_in)).map_err(|error| taken::hinted(error, &http, ""));
    // What still blocks by now, as the lookup of a name by a resolver that is silent, has nothing to do with a message.
    runtime.shutdown_timeout(BLOCKED_AT_MOST);
    match ended? {
        app::Ended::Drained(reports) => {
            say::talk(&drained(&reports));
            Ok(Exit::Done)
        }
        app::Ended::Hurried => {
            say::talk("stopped at once; what was not settled stays with the brokers");
            Ok(Exit::Partly)
        }
    }
}

/// What every subscription did until the end.
pub(super) fn drained(reports: &[Report]) -> String {
    let mut table =
        table::table(&["SUBSCRIPTION", "COMPLETED", "SKIPPED", "RETRIED", "DEAD-LETTERED", "RETURNED", "LEFT"]);
    for Report { subscription, drained } in reports {
        let counts = &drained.counts;
        let left = u64::try_from(drained.left).unwrap_or(u64::MAX);
        let numbers = [counts.completed, counts.skipped, counts.retried, counts.dead_lettered, counts.returned, left];
        let cells = numbers.iter().map(|number| table::number(*number));
        table.add_row(std::iter::once(subscription.clone()).chain(cells).collect::<Vec<_>>());
    }
    table::rendered(&table)
}
