//! The command line: one file a verb. Data goes to standard output, talk to standard error.
//!
//! Invariants:
//! - What a program reads (`--json`, and tables) is on standard output alone.
//! - The exit code tells what became of it; the codes stand in [`exit`].

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, ConfigError, FILE_NAME};
use crate::sandbox::COMPILE_VERB;

mod apply;
mod audit;
mod build;
mod check;
mod client;
mod cluster;
mod compile;
mod completions;
mod deploy;
mod dev;
mod direct;
mod dlq;
mod exit;
mod flame;
mod grants;
mod handlers;
mod host;
mod invoke;
mod keys;
mod language;
mod limits;
mod login;
mod messages;
mod new;
mod oci;
mod pause;
mod profile;
mod publish;
mod pull;
mod push;
mod replay;
mod rollout;
mod run;
mod say;
mod status;
mod subscriptions;
mod table;
mod taken;
mod test;
mod token;
mod top;

use exit::{Ended, Failure};

/// Runs sandboxed WebAssembly message handlers on queues, and never loses a message.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a project for a handler in Rust, JavaScript, Python or C
    New(new::Arguments),
    /// Build the handler in a folder with its language's tools, and check the module
    Build(build::Arguments),
    /// Work on a handler: build on each save, run it on messages, and see what becomes of them
    Dev(dev::Arguments),
    /// Run a host: receive messages, hand them to handlers, settle them
    Run(run::Arguments),
    /// Publish messages from files, JSON lines or standard input
    Publish(publish::Arguments),
    /// Run a module on one message from a file, without any broker
    Invoke(invoke::Arguments),
    /// Run cases on a handler: messages, and how they must end
    Test(test::Arguments),
    /// Show where the fuel of a run goes, in a table and as a flame graph
    Profile(flame::Arguments),
    /// Run messages that went by on a candidate, and show what it would do otherwise
    Replay(replay::Arguments),
    /// Check a configuration and the modules that it names
    Check(check::Arguments),
    /// Show which subscriptions take messages, and whether the host is ready
    ///
    /// Shows of each subscription who paused it, why and until when, what is in flight, what waits, how many
    /// messages were dead-lettered since the host's start and how many it is done with a second; whether the
    /// host is ready, and what waits in its dead-letter queues.
    #[command(verbatim_doc_comment)]
    Status(status::Arguments),
    /// Show what brokers keep messages for, and forget what is gone for good
    Subscriptions(subscriptions::Arguments),
    /// See what a host does, live: rates, backlog, in flight, time and fuel of runs
    ///
    /// Shows again and again what each subscription is done with a second, what waits and for how long, what
    /// is in flight, how long runs take and what fuel they use. What is stalled, paused or in trouble stands
    /// first. `q` or Ctrl-C ends it, `h` turns from subscriptions to handlers and back. Where the output is no
    /// terminal, one table is printed.
    #[command(verbatim_doc_comment)]
    Top(top::Arguments),
    /// Take no messages for a subscription until it is resumed
    Pause(pause::Arguments),
    /// Take messages for a subscription again
    Resume(pause::Resume),
    /// Deploy a module to a host that runs
    Deploy(deploy::Arguments),
    /// Look at handlers and their versions
    Handlers(handlers::Arguments),
    /// Make a version of before the active one again
    ///
    /// The one that was active before the one that runs. Again, it goes further back, and not forth: to a version that was
    /// rolled back leads --to alone.
    Rollback(handlers::Rollback),
    /// Make the version that is tried the active one
    Promote(rollout::Arguments),
    /// End the trial of a version; the active one stays
    Abort(rollout::Arguments),
    /// Apply the changed configuration file to the host that runs by it
    ///
    /// Shows what the file changes against what runs, asks, and applies it: all of it or nothing. The host
    /// reads its own file; a host elsewhere has it elsewhere.
    #[command(verbatim_doc_comment)]
    Apply(apply::Arguments),
    /// Store a module in an OCI registry
    Push(push::Arguments),
    /// Get a module out of an OCI registry
    Pull(pull::Arguments),
    /// Look at dead letters, send them back, remove them
    Dlq(dlq::Arguments),
    /// Show who changed what on a host
    ///
    /// Shows what was changed over HTTP: who, when, from where, what, and what came of it.
    #[command(verbatim_doc_comment)]
    Audit(audit::Arguments),
    /// Come in to a host with a token, and keep that as a profile
    ///
    /// Asks for a token, tries it, and keeps it with the host's address as a profile: for all that is done on
    /// that host from here on.
    #[command(verbatim_doc_comment)]
    Login(login::Login),
    /// Forget a profile
    Logout(login::Logout),
    /// Show who a host takes you for
    Whoami(login::WhoamiArguments),
    /// Make tokens for the HTTP listener
    Token(token::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Compile one module for the host that started this
    #[command(name = COMPILE_VERB, hide = true)]
    CompileForHost,
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration; TIDEGATE_CONFIG in its place [default: tidegate.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgument {
    fn path(&self) -> PathBuf {
        let named = self.config.clone().or_else(|| std::env::var_os("TIDEGATE_CONFIG").map(PathBuf::from));
        named.unwrap_or_else(|| PathBuf::from(FILE_NAME))
    }

    fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.path()).map_err(|error| match self.is_missing_here(&error) {
            true => Failure::usage(anyhow::anyhow!(
                "there is no {FILE_NAME} in this folder: `tidegate new NAME` makes a project with one, --config FILE names one that is \
                 elsewhere"
            )),
            false => Failure::usage(error),
        })
    }

    /// Whether nobody named a file, and there is none where one is looked for.
    fn is_missing_here(&self, error: &ConfigError) -> bool {
        let is_missing = match error {
            ConfigError::Unreadable { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            ConfigError::Invalid(_) => false,
        };
        is_missing && self.path() == std::path::Path::new(FILE_NAME)
    }
}

/// Runs the program and gives back how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and end well; the rest is talk and ends with 2. Clap knows which is which.
            let _ = error.print();
            return if error.use_stderr() { exit::Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let ended = match cli.verb {
        Verb::New(arguments) => new::new(&arguments),
        Verb::Build(arguments) => build::build(&arguments),
        Verb::Dev(arguments) => dev::dev(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Publish(arguments) => publish::publish(&arguments),
        Verb::Invoke(arguments) => invoke::invoke(&arguments),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Profile(arguments) => flame::profile(&arguments),
        Verb::Replay(arguments) => replay::replay(&arguments),
        Verb::Check(arguments) => check::check(&arguments),
        Verb::Status(arguments) => status::status(&arguments),
        Verb::Subscriptions(arguments) => subscriptions::subscriptions(&arguments),
        Verb::Top(arguments) => top::top(&arguments),
        Verb::Pause(arguments) => pause::pause(&arguments),
        Verb::Resume(arguments) => pause::resume(&arguments),
        Verb::Deploy(arguments) => deploy::deploy(&arguments),
        Verb::Handlers(arguments) => handlers::handlers(&arguments),
        Verb::Rollback(arguments) => handlers::rollback(&arguments),
        Verb::Apply(arguments) => apply::apply(&arguments),
        Verb::Promote(arguments) => rollout::promote(&arguments),
        Verb::Abort(arguments) => rollout::abort(&arguments),
        Verb::Push(arguments) => push::push(&arguments),
        Verb::Pull(arguments) => pull::pull(&arguments),
        Verb::Dlq(arguments) => dlq::dlq(arguments),
        Verb::Audit(arguments) => audit::audit(&arguments),
        Verb::Login(arguments) => login::login(&arguments),
        Verb::Logout(arguments) => login::logout(&arguments),
        Verb::Whoami(arguments) => login::whoami(&arguments),
        Verb::Token(arguments) => token::token(arguments),
        Verb::Completions(arguments) => completions::completions(&arguments),
        Verb::CompileForHost => compile::compile(),
    };
    finish(ended)
}

fn finish(ended: Ended) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        // Whoever reads has gone (`| head`): nobody is left to be told.
        Err(failure) if is_broken_pipe(&failure.error) => ExitCode::SUCCESS,
        Err(failure) => {
            let shown = shown(&failure.error);
            let _ = writeln!(std::io::stderr(), "{shown}");
            failure.exit.into()
        }
    }
}

/// The error and its causes on one line; a configuration's problems have a form of their own.
fn shown(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if text.starts_with("error: ") { text } else { format!("error: {text}") }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    kinds.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// The definition of the command line, for completions and tests.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
