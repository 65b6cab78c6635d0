//! Golden messages: what a handler is known to do with some messages, tried on a version before it runs. They are
//! [cases], as `tidegate test` runs them.
//!
//! Invariants:
//! - A run on a golden message has no effect: nothing is published, logged or measured.
//! - It depends on nothing but the module, its limits and the values it is given. Buckets are empty when it begins, as for
//!   `tidegate test`: a broker that is away stops no deploy, and no start.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::entry::Loaded;
use super::report::GoldenRun;
use crate::cases::{self, Bench, Checked, Difference, Found, Most};
use crate::outcome::FaultKind;
use crate::sandbox::Version;
use crate::settle::outputs::Grants;

/// More is a load test, and a deploy waits for it: a thousand runs of a millisecond are a second. All files together: a
/// thousand messages of 64 KiB.
const MOST: Most = Most { cases: 1_000, bytes: 64 << 20 };

/// Reads the golden messages of a folder, the files in the order of their names.
pub(super) fn read(folder: &Path) -> Result<Vec<Found>, String> {
    cases::read(folder, MOST)
}

/// Whether the golden messages of a folder can be tried.
///
/// # Errors
/// With the first that cannot be read, by its file and place.
pub fn check(folder: &Path) -> Result<(), String> {
    read(folder).map(|_messages| ())
}

/// Runs all of them on a version, and on the one before it when there is one.
pub(super) async fn run(golden: &[Found], version: &Loaded, before: Option<&Loaded>) -> Vec<GoldenRun> {
    let mut runs = Vec::with_capacity(golden.len());
    let (version, before) = (Tried::of(version), before.map(Tried::of));
    for Found { case, .. } in golden {
        let checked = case.check(&version.bench(), &BTreeSet::new()).await;
        let Checked { run, ran: _, differences, under_faults, stopped: _ } = checked;
        let old = match &before {
            Some(before) => Some(case.run(&before.bench()).await),
            None => None,
        };
        runs.push(GoldenRun {
            place: case.place.clone(),
            outcome: run.outcome.code().to_string(),
            fuel: run.usage.fuel,
            outcome_before: old.as_ref().map(|old| old.outcome.code().to_string()),
            fuel_before: old.as_ref().map(|old| old.usage.fuel),
            unexpected: differences.first().or(under_faults.first()).map(Difference::on_one_line),
        });
    }
    runs
}

/// Whether a run was stopped by the clock or by the host: on a machine under load one may be that does well elsewhere.
pub(super) fn was_stopped(run: &GoldenRun) -> bool {
    [FaultKind::Timeout, FaultKind::Interrupted].iter().any(|kind| run.outcome == kind.code().0)
}

/// A version as it is tried.
struct Tried<'a> {
    version: Arc<Version>,
    grants: &'a Grants,
}

impl<'a> Tried<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        Self { version: loaded.version.with_empty_buckets(), grants: &loaded.deployed.grants }
    }

    fn bench(&self) -> Bench<'_> {
        Bench { version: &self.version, grants: Some(self.grants), subscription: "golden", now: SystemTime::now() }
    }
}
