//! The chores of this repository: `cargo xtask <verb>`.
//!
//! Invariants: nothing here is needed to build the host or a guest with plain cargo; everything here that a machine can
//! lack is added or named in the error.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

mod bindings;
mod demo;
mod figures;
mod guests;
mod host;
mod http;
mod lint;
mod process;
mod reliability;
mod run;
mod servers;
mod soak;
mod templates;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the Tidegate repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the example guests to target/guests/, adding the wasm target when it is missing
    Guests,
    /// Run a feed of webhooks through a host on the embedded queue, and show what became of each
    Demo {
        /// Take the host and the handler that the tests have built, and build nothing
        #[arg(long)]
        built: bool,
    },
    /// Write the SDK's bindings anew from wit/
    Bindings,
    /// Get the servers that the tests run against, and print where they are
    Servers,
    /// Check what rustfmt and clippy do not: sizes, boundaries, reasons, documents, dependencies
    Tidy,
    /// Formatting, clippy, documentation and tidy
    Lint,
    /// Make a project of every template of `tidegate new`, build it with its language's tools, and run it
    Templates,
    /// Build the guests and run every test
    Test,
    /// The long form of the fault tests: hosts and servers killed again and again under load
    Reliability {
        /// How often each test kills
        #[arg(long, default_value_t = 50)]
        kills: u32,
        /// How many seeds the simulation runs
        #[arg(long, default_value_t = 20_000)]
        seeds: u32,
    },
    /// What an idle host takes of memory, and how soon a started one handles its first message
    Figures,
    /// A host at full load: is its memory flat, and does every message end as it should?
    Soak {
        /// On which broker
        #[arg(long, value_enum, default_value = "embedded")]
        broker: soak::Broker,
        /// For how long
        #[arg(long, default_value_t = 60.0)]
        minutes: f64,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Guests => guests::build().map(drop),
        Verb::Demo { built } => demo::demo(built),
        Verb::Bindings => bindings::write(),
        Verb::Servers => {
            let all = [
                servers::ensure_nats_server,
                servers::ensure_registry,
                servers::ensure_receiver,
                servers::ensure_browser,
                servers::ensure_rules,
                servers::ensure_prometheus,
            ];
            all.iter().try_for_each(|ensure| {
                println!("{}", ensure()?.display());
                Ok(())
            })
        }
        Verb::Tidy => tidy::check(),
        Verb::Lint => lint::lint(),
        Verb::Templates => templates::check(),
        Verb::Test => test::test(),
        Verb::Reliability { kills, seeds } => reliability::run(kills, seeds),
        Verb::Figures => figures::run(),
        Verb::Soak { broker, minutes } => soak::run(broker, minutes),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes, and no backtrace: what went wrong is another program's doing.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
