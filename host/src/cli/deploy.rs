//! `tidegate deploy`: a module onto a host that runs, step by step.

use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;

use super::cluster::WaitArgument;
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::oci::{self, Pulled, Reference, RegistryArguments};
use super::{client, rollout, say, table};
use crate::config::{parse_duration, parse_size};
use crate::deploy::report::{Change, Done, Failed, GoldenRun, Line};
use crate::dispatch::Share;
use crate::registry::Digest;
use crate::sandbox::limits::Limits;
use crate::signature::{self, Signature};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(
        help = "The module: a file, or where it lies in a registry: oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]"
    )]
    #[arg(value_name = "MODULE")]
    module: Module,
    /// The handler, by its name in the host's configuration
    #[arg(long, value_name = "NAME")]
    handler: String,
    /// The module's signature, as `minisign -S` writes it [default: the file beside the module, FILE.minisig, when it is
    /// there; of one out of a registry what was pushed with it]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Try it on a share of the messages, such as 5%, beside the version that runs
    #[arg(long, value_name = "SHARE")]
    canary: Option<Share>,
    /// Make the canary the active version after so long, such as 10m, when nothing speaks against it [default: when
    /// `tidegate promote` says so]
    #[arg(long, value_name = "DURATION", requires = "canary", value_parser = duration)]
    promote_after: Option<String>,
    /// Let it see copies of the messages, or of a share of them, beside the version that runs: what it does has no effect, and
    /// `tidegate handlers show` has how it compares
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "100%", conflicts_with = "canary")]
    shadow: Option<Share>,
    /// End the shadow after so long, such as 10m [default: when `tidegate promote` or `tidegate abort` says so]
    #[arg(long = "for", value_name = "DURATION", requires = "shadow", value_parser = duration)]
    ends_after: Option<String>,
    /// The largest module to take out of a registry, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit: Option<u64>,
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    wait: WaitArgument,
    #[command(flatten)]
    host: HostArguments,
    /// Print how it ended as JSON
    #[arg(long)]
    json: bool,
}

/// Where a module is.
#[derive(Debug, Clone)]
enum Module {
    File(PathBuf),
    Oci(Reference),
}

impl FromStr for Module {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.starts_with("oci://") {
            true => text.parse().map(Self::Oci),
            false => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

/// A module that is at hand.
struct Found {
    bytes: Bytes,
    /// Where it came from, for people.
    source: String,
    /// Its digest, where that is known beforehand: the host then takes no other bytes.
    digest: Option<Digest>,
    signature: Option<Signature>,
}

enum Bytes {
    /// Read as it is sent.
    File(File),
    Memory(Vec<u8>),
}

fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

impl Arguments {
    /// What is asked of the deploy.
    fn query(&self, found: &Found) -> Vec<(&'static str, String)> {
        let mut query = vec![("source", found.source.clone())];
        query.extend(found.digest.as_ref().map(|digest| ("digest", digest.to_string())));
        query.extend(self.canary.map(|share| ("canary", share.to_string())));
        query.extend(self.promote_after.clone().map(|after| ("promote_after", after)));
        query.extend(self.shadow.map(|share| ("shadow", share.to_string())));
        query.extend(self.ends_after.clone().map(|after| ("for", after)));
        query
    }

    fn find(&self) -> Result<Found, Failure> {
        let given = self.signature.as_deref();
        match &self.module {
            Module::File(path) => {
                let file = File::open(path).with_context(|| format!("opening the module {}", path.display()));
                let bytes = Bytes::File(file.map_err(Failure::usage)?);
                let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let signature = signature::given_or_beside(given, path).map_err(Failure::usage)?;
                Ok(Found { bytes, source, digest: None, signature })
            }
            Module::Oci(reference) => {
                let limit = self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
                let largest = limit.unwrap_or_else(|| Limits::default().module_size);
                let given = given.map(signature::read).transpose().map_err(Failure::usage)?;
                let Pulled { module, digest, signature } = oci::pull(reference, &self.registry, largest)?;
                let source = reference.pinned(&digest);
                say::talk(&format!("pulled {source} ({})", table::size(module.len() as u64)));
                let digest = Some(Digest::of(&module));
                Ok(Found { bytes: Bytes::Memory(module), source, digest, signature: given.or(signature) })
            }
        }
    }
}

pub(super) fn deploy(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let found = arguments.find()?;
    let (query, signature) = (arguments.query(&found), found.signature.as_ref());
    let mut last = None;
    let each = |line| match line {
        Line::Step(step) => {
            let took = table::duration(Duration::from_secs_f64(step.ms.max(0.0) / 1e3));
            say::talk(format!("{:<9} {took:>9}  {}", step.name.name(), step.detail).trim_end());
        }
        end @ (Line::Done(_) | Line::Failed(_)) => last = Some(end),
    };
    match &found.bytes {
        Bytes::File(file) => client.deploy(&arguments.handler, file, signature, &query, each)?,
        Bytes::Memory(bytes) => client.deploy(&arguments.handler, bytes, signature, &query, each)?,
    }
    match last {
        Some(Line::Done(done)) => {
            if arguments.json {
                say::json(&done)?
            } else {
                say::data(&for_people(&done))?
            }
            match done.rollout {
                Some(_) => arguments.wait.all_try(&client, &arguments.handler, done.version),
                None => arguments.wait.all_run(&client, &arguments.handler, done.version),
            }
        }
        Some(Line::Failed(failed)) => {
            if arguments.json {
                say::json(&failed)?;
            } else {
                say::talk(&refused(&failed));
            }
            Ok(Exit::Refused)
        }
        Some(Line::Step(_)) | None => Err(Failure::from(anyhow!("the host did not say how it ended"))),
    }
}

fn for_people(done: &Done) -> String {
    let version = format!("{}@{} sha256:{}", done.handler, done.version, done.digest);
    if done.unchanged {
        return format!("{version} runs already, with these very settings; nothing was changed");
    }
    let took = table::duration(Duration::from_secs_f64(done.ms.max(0.0) / 1e3));
    let mut text = match &done.rollout {
        None => format!("{version} runs, after {took}\n"),
        Some(plan) => format!("{version} {}, after {took}\n", rollout::in_words(plan)),
    };
    for change in &done.changes {
        text += &format!("  {}\n", changed(change));
    }
    text + &golden(&done.golden)
}

pub(super) fn changed(Change { what, before, after }: &Change) -> String {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => format!("{what}: + {after}"),
        (false, true) => format!("{what}: - {before}"),
        (false, false) => format!("{what}: {before} -> {after}"),
    }
}

/// The golden messages, with their fuel beside that of the version before.
pub(super) fn golden(runs: &[GoldenRun]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let mut shown = table::table(&["GOLDEN", "OUTCOME", "BEFORE", "FUEL", "BEFORE", ""]);
    for run in runs {
        shown.add_row(vec![
            run.place.clone(),
            run.outcome.clone(),
            run.outcome_before.clone().unwrap_or_default(),
            table::number(run.fuel),
            run.fuel_before.map(table::number).unwrap_or_default(),
            table::cut(run.unexpected.as_deref().unwrap_or_default(), 120),
        ]);
    }
    table::rendered(&shown)
}

pub(super) fn refused(failed: &Failed) -> String {
    let mut text = format!("error: {} failed: {}", failed.step.name(), table::harmless(&failed.message));
    // What was sent to a cluster and not confirmed, or not recorded here, says itself what became of it.
    if !matches!(failed.code.as_str(), "unconfirmed" | "not-recorded") {
        text.push_str("\nnothing was changed");
    }
    let golden = golden(&failed.golden);
    if golden.is_empty() { text } else { format!("{golden}{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::report::{Kind, Plan};

    #[test]
    fn what_changed_is_told_beside_the_digest() {
        let change = |what: &str, before: &str, after: &str| Change {
            what: what.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        let run = GoldenRun {
            place: "a.json:1".to_owned(),
            outcome: "completed".to_owned(),
            fuel: 8123,
            outcome_before: Some("skipped".to_owned()),
            fuel_before: Some(9000),
            unexpected: None,
        };
        let mut done = Done {
            handler: "triage".to_owned(),
            version: 7,
            rollout: None,
            digest: Digest::of(b""),
            unchanged: false,
            changes: vec![change("size", "10", "12"), change("import", "", "x"), change("import", "y", "")],
            golden: vec![run],
            ms: 81.5,
        };
        expect_test::expect![[r#"
            triage@7 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 runs, after 81.50 ms
              size: 10 -> 12
              import: + x
              import: - y
            GOLDEN    OUTCOME    BEFORE   FUEL   BEFORE
            a.json:1  completed  skipped  8,123  9,000
        "#]]
        .assert_eq(&for_people(&done));
        let share = Share::from_hundredths(25).unwrap_or(Share::ALL);
        let mut plan = Plan { kind: Kind::Canary, share, promote_after_seconds: None, ends_after_seconds: None };
        (done.rollout, done.changes, done.golden) = (Some(plan.clone()), Vec::new(), Vec::new());
        let told = for_people(&done);
        assert!(told.ends_with(" gets 0.25% of the messages as a canary, after 81.50 ms\n"), "{told}");
        (plan.kind, plan.ends_after_seconds) = (Kind::Shadow, Some(600.0));
        done.rollout = Some(plan);
        let told = for_people(&done);
        let expected = " sees copies of 0.25% of the messages as a shadow, with no effect; ends by itself after 10m, after 81.50 ms\n";
        assert!(told.ends_with(expected), "{told}");
    }
}
