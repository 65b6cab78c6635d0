//! What a host does about what is to run. Pure.

use super::record::Desired;
use crate::registry::{Digest, Settings};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it runs.
    Runs,
    /// The version that is to run is taken.
    Take,
    /// The cluster knows nothing of the handler, and this host runs it: it brings what it runs.
    Bring,
    /// Nobody has a version.
    Wait,
}

/// Decides by what is to run and by what runs here: a version's number, module and settings.
#[must_use]
pub fn next(desired: Option<&Desired>, runs: Option<(u64, &Digest, &Settings)>) -> Next {
    let Some(desired) = desired else { return if runs.is_some() { Next::Bring } else { Next::Wait } };
    let wanted = desired.active_version().map(|version| (version.number, &version.digest, &version.settings));
    if wanted == runs { Next::Runs } else { Next::Take }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{deployed, new};
    use super::*;

    #[test]
    fn what_is_done_follows_from_what_is_to_run_and_what_runs() {
        let desired = deployed(Some(&deployed(None, "a")), "b");
        let (a, b) = (new("a"), new("b"));
        let mut other = b.settings.clone();
        other.limits.host_calls += 1;
        let rows = [
            (None, None, Next::Wait),
            (None, Some((1, &a.digest, &a.settings)), Next::Bring),
            (Some(&desired), None, Next::Take),
            (Some(&desired), Some((1, &a.digest, &a.settings)), Next::Take),
            (Some(&desired), Some((2, &b.digest, &b.settings)), Next::Runs),
            // A host that was by itself has versions under the same numbers: the cluster's count.
            (Some(&desired), Some((2, &a.digest, &a.settings)), Next::Take),
            (Some(&desired), Some((3, &b.digest, &b.settings)), Next::Take),
            (Some(&desired), Some((2, &b.digest, &other)), Next::Take),
        ];
        for (number, (desired, runs, expected)) in rows.into_iter().enumerate() {
            assert_eq!(next(desired, runs), expected, "row {number}");
        }
    }
}
