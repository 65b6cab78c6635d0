//! What an error says when a version was to run on a host: something about the version there, or about the moment. Pure.

use super::DeployError;
use crate::outcome::FaultKind;
use crate::sandbox::LoadError;

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The version cannot run on this host, whenever it is tried.
    Against,
    /// The machine had too much to do: the same may go well later.
    Load,
    /// Something that the host needs is away: the cluster, room on the disk, a secret.
    Away,
    /// Somebody else changes the handler just now.
    Taken,
    /// Nothing of the version, and nothing that passes by itself.
    Nothing,
}

impl Verdict {
    /// Whether it is worth trying the same again.
    pub(super) const fn passes(self) -> bool {
        match self {
            Self::Load | Self::Away | Self::Taken => true,
            Self::Against | Self::Nothing => false,
        }
    }
}

/// What an error says.
pub(super) fn verdict(error: &DeployError) -> Verdict {
    match error {
        DeployError::Refused(error) | DeployError::Unloadable { source: error, .. } => of_load(error),
        DeployError::Init { kind, .. } => of_fault(*kind),
        DeployError::Unexpected { stopped: true, .. } => Verdict::Load,
        DeployError::Unexpected { stopped: false, .. }
        | DeployError::Signature(_)
        | DeployError::Golden(_)
        | DeployError::NotGranted { .. } => Verdict::Against,
        DeployError::Busy { .. } => Verdict::Taken,
        DeployError::Cluster(error) if error.passes() => Verdict::Away,
        DeployError::Registry(_) | DeployError::Ungrantable { .. } => Verdict::Away,
        // What the configuration of this host names is another version than the one that is to run.
        DeployError::Configured { source, .. } => match verdict(source) {
            Verdict::Against => Verdict::Nothing,
            other @ (Verdict::Load | Verdict::Away | Verdict::Taken | Verdict::Nothing) => other,
        },
        DeployError::Cluster(_)
        | DeployError::NoHandler { .. }
        | DeployError::Overtaken { .. }
        | DeployError::NoVersion { .. }
        | DeployError::NotKept { .. }
        | DeployError::AlreadyActive { .. }
        | DeployError::RolloutOn { .. }
        | DeployError::NoRollout { .. }
        | DeployError::OtherTried { .. }
        | DeployError::NothingBeside { .. }
        | DeployError::WholeCanary
        | DeployError::Unreadable { .. } => Verdict::Nothing,
    }
}

const fn of_load(error: &LoadError) -> Verdict {
    match error {
        LoadError::CompileTimeout { .. }
        | LoadError::CompilerBusy { .. }
        | LoadError::CompilerKilled
        | LoadError::CompilerProcess { .. }
        | LoadError::Stopped
        | LoadError::Sandbox(_) => Verdict::Load,
        // A compiler that crashes over a module does so each time.
        LoadError::CompileMemory { .. }
        | LoadError::CompilerCrash { .. }
        | LoadError::Compiler { .. }
        | LoadError::TooLarge { .. }
        | LoadError::Empty
        | LoadError::Text { .. }
        | LoadError::NotWasm { .. }
        | LoadError::CompiledCode
        | LoadError::CoreModule
        | LoadError::Wrap { .. }
        | LoadError::UnknownVersion { .. }
        | LoadError::Truncated { .. }
        | LoadError::Invalid { .. }
        | LoadError::MissingExport { .. }
        | LoadError::MissingFunction { .. }
        | LoadError::OtherVersion { .. }
        | LoadError::WrongExport { .. }
        | LoadError::UngrantedImport { .. }
        | LoadError::Link { .. }
        | LoadError::Memory { .. } => Verdict::Against,
    }
}

/// The fault of a start. What has run out of its time has done well on the host that deployed it.
const fn of_fault(kind: FaultKind) -> Verdict {
    match kind {
        FaultKind::Timeout | FaultKind::Interrupted | FaultKind::NoHandler => Verdict::Load,
        FaultKind::Trap(_)
        | FaultKind::OutOfFuel
        | FaultKind::MemoryLimit
        | FaultKind::OutputLimit
        | FaultKind::InvalidResult
        | FaultKind::Denied
        | FaultKind::InvalidMessage => Verdict::Against,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::ClusterError;
    use crate::outcome::TrapCode;
    use crate::registry::RegistryError;

    #[test]
    fn what_passes_by_itself_says_nothing_against_a_version() {
        let (handler, by, limit) = (|| "h".to_owned(), || "ann".to_owned(), Duration::from_secs(60));
        let init = |kind| DeployError::Init { kind, detail: String::new() };
        let unexpected = |stopped| DeployError::Unexpected { failed: 1, count: 1, first: String::new(), stopped };
        let removed = || DeployError::from(ClusterError::Removed { handler: handler() });
        let configured = |source| DeployError::Configured {
            handler: handler(),
            what: "its module".to_owned(),
            source: Box::new(source),
        };
        let full = || DeployError::from(RegistryError::TooLarge { limit: 1 });
        let rows = [
            (DeployError::Refused(LoadError::CompilerBusy { limit }), Verdict::Load),
            (DeployError::Refused(LoadError::CompileTimeout { limit }), Verdict::Load),
            (DeployError::Refused(LoadError::Stopped), Verdict::Load),
            (DeployError::Unloadable { number: 1, source: LoadError::CompilerBusy { limit } }, Verdict::Load),
            (DeployError::Refused(LoadError::Empty), Verdict::Against),
            (DeployError::Refused(LoadError::UngrantedImport { imports: by() }), Verdict::Against),
            (DeployError::Unloadable { number: 1, source: LoadError::CoreModule }, Verdict::Against),
            (init(FaultKind::Interrupted), Verdict::Load),
            (init(FaultKind::Timeout), Verdict::Load),
            (init(FaultKind::OutOfFuel), Verdict::Against),
            (init(FaultKind::MemoryLimit), Verdict::Against),
            (init(FaultKind::Trap(TrapCode::Unreachable)), Verdict::Against),
            (unexpected(true), Verdict::Load),
            (unexpected(false), Verdict::Against),
            (DeployError::Golden(String::new()), Verdict::Against),
            (DeployError::NotGranted { handler: handler(), number: 1, grants: String::new() }, Verdict::Against),
            (DeployError::Busy { handler: handler(), by: by(), since: String::new() }, Verdict::Taken),
            (removed(), Verdict::Away),
            (ClusterError::NotCurrent { handler: handler(), number: 1 }.into(), Verdict::Nothing),
            (full(), Verdict::Away),
            (DeployError::Ungrantable { handler: handler(), what: String::new() }, Verdict::Away),
            (configured(DeployError::Refused(LoadError::CompilerBusy { limit })), Verdict::Load),
            (configured(DeployError::Ungrantable { handler: handler(), what: String::new() }), Verdict::Away),
            (configured(DeployError::Refused(LoadError::Empty)), Verdict::Nothing),
            (DeployError::NoRollout { handler: handler() }, Verdict::Nothing),
        ];
        for (error, expected) in rows {
            assert_eq!(verdict(&error), expected, "{error:?}");
        }
    }
}
