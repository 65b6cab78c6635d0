//! Which version of a handler is to run, by the registry and the configuration: at a start, and when the configuration is
//! applied to a host that runs. Pure.

use crate::registry::{Digest, HandlerRecord, Settings, VersionRecord};

/// What a configuration makes of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is no module anywhere: it waits for a deploy.
    Wait,
    /// The version that was active last runs, or runs on.
    Resume,
    /// The configuration names another module, or the first one: it becomes a version.
    DeployConfigured,
    /// The configuration gives other limits or grants: the active module becomes another version.
    DeployActive,
}

impl Plan {
    /// Whether another version comes of it.
    pub(super) const fn deploys(self) -> bool {
        match self {
            Self::DeployConfigured | Self::DeployActive => true,
            Self::Wait | Self::Resume => false,
        }
    }
}

/// The version of a module that was deployed since the configuration brought one, so that somebody has decided about it: it was
/// rolled back from, or was tried and not promoted, or is tried. A file with the same bytes, as a build leaves it behind, brings it
/// no further.
pub(super) fn decided<'a>(record: &'a HandlerRecord, module: &Digest) -> Option<&'a VersionRecord> {
    if record.active_version()?.digest == *module {
        return None;
    }
    let named = record.configured.as_ref().and_then(|configured| configured.module.as_ref());
    // Older than all that are kept where none of them is of it.
    let named =
        record.versions.iter().filter(|version| named == Some(&version.digest)).map(|version| version.number).max();
    record.versions.iter().find(|version| version.digest == *module && named.is_none_or(|named| version.number > named))
}

/// Decides by what is recorded and by what the configuration says now. `module` is the digest of the file that it names;
/// `None`: it names none, or the file is gone. `is_down`: what is recorded as active does not run, and whatever the file has is
/// better than nothing.
pub(super) fn plan(record: &HandlerRecord, module: Option<&Digest>, settings: &Settings, is_down: bool) -> Plan {
    let Some(active) = record.active_version() else {
        return if module.is_some() { Plan::DeployConfigured } else { Plan::Wait };
    };
    let last = record.configured.as_ref();
    let same_settings = active.settings == *settings;
    let other_module = module.is_some_and(|module| last.and_then(|last| last.module.as_ref()) != Some(module));
    let is_decided = !is_down && module.is_some_and(|module| decided(record, module).is_some());
    if other_module && !is_decided {
        let runs_already = module == Some(&active.digest) && same_settings;
        return if runs_already { Plan::Resume } else { Plan::DeployConfigured };
    }
    let other_settings = last.is_none_or(|last| last.settings != settings.hash());
    if other_settings && !same_settings { Plan::DeployActive } else { Plan::Resume }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::registry::{Configured, VersionRecord};
    use crate::sandbox::limits::Limits;

    fn settings(host_calls: u32) -> Settings {
        Settings { limits: Limits { host_calls, ..Limits::default() }, ..Settings::default() }
    }

    /// A handler whose configuration named `configured` with settings 1, and which runs `active`.
    fn record(configured: Option<&str>, active: Option<(&str, u32)>) -> HandlerRecord {
        let version = |(module, with): (&str, u32)| VersionRecord {
            number: 1,
            digest: Digest::of(module.as_bytes()),
            settings: settings(with),
            size: 1,
            contract: String::new(),
            source: String::new(),
            deployed_by: String::new(),
            deployed_at: SystemTime::UNIX_EPOCH,
            activated_at: None,
            replaced: None,
        };
        let module = configured.map(|module| Digest::of(module.as_bytes()));
        HandlerRecord {
            name: "h".to_owned(),
            active: active.map(|_| 1),
            rollout: None,
            configured: Some(Configured { module, settings: settings(1).hash() }),
            versions: active.map(version).into_iter().collect(),
        }
    }

    /// The versions, the active one, what the configuration named last, the file now, the settings; what comes of it.
    type Row<'a> = (&'a [(u64, &'a str)], u64, &'a str, &'a str, u32, Plan);

    #[test]
    fn a_file_does_not_bring_back_what_was_decided_about() {
        let version = |number, module: &str| VersionRecord {
            number,
            digest: Digest::of(module.as_bytes()),
            ..record(None, Some(("", 1))).versions.swap_remove(0)
        };
        let kept =
            |versions: &[(u64, &str)]| versions.iter().map(|(number, module)| version(*number, module)).collect();
        let deployed = [(4, "late"), (3, "hotfix"), (2, "back"), (1, "first")];
        let configured = [(4, "back"), (3, "first"), (2, "second"), (1, "first")];
        let rows: [Row<'_>; 11] = [
            (&deployed[2..], 1, "first", "back", 1, Plan::Resume),
            (&deployed[2..], 1, "first", "back", 2, Plan::DeployActive),
            (&deployed[2..], 1, "first", "never seen", 1, Plan::DeployConfigured),
            // Another one came after the way back.
            (&deployed[1..], 3, "first", "back", 1, Plan::Resume),
            (&deployed[1..], 3, "first", "hotfix", 1, Plan::Resume),
            (&deployed[1..], 3, "first", "hotfix", 2, Plan::DeployConfigured),
            (&deployed, 3, "first", "late", 1, Plan::Resume),
            // The version that the configuration named is not kept any more.
            (&deployed[..2], 3, "gone", "late", 1, Plan::Resume),
            // A file that was put back, and brought again, is what somebody wants.
            (&configured[2..], 2, "second", "first", 1, Plan::DeployConfigured),
            (&configured[1..], 3, "first", "second", 1, Plan::DeployConfigured),
            (&configured, 3, "first", "back", 1, Plan::Resume),
        ];
        for (versions, active, named, file, with, expected) in rows {
            let record = HandlerRecord { active: Some(active), versions: kept(versions), ..record(Some(named), None) };
            let planned = |is_down| plan(&record, Some(&Digest::of(file.as_bytes())), &settings(with), is_down);
            assert_eq!(planned(false), expected, "{versions:?} {active} {named} {file} {with}");
            if record.active_version().is_some_and(|active| active.digest != Digest::of(file.as_bytes())) {
                assert_eq!(planned(true), Plan::DeployConfigured, "{versions:?} {active} {named} {file} {with}");
            }
        }
    }

    #[test]
    fn the_configuration_deploys_what_it_changes_and_else_the_registry_wins() {
        let rows = [
            // What the configuration named, what runs, what the file has now, the settings now.
            (None, None, None, 1, Plan::Wait),
            (None, None, Some("a"), 1, Plan::DeployConfigured),
            (Some("a"), Some(("a", 1)), Some("a"), 1, Plan::Resume),
            (Some("a"), Some(("deployed", 1)), Some("a"), 1, Plan::Resume),
            (Some("a"), Some(("deployed", 1)), Some("b"), 1, Plan::DeployConfigured),
            (Some("a"), Some(("deployed", 1)), Some("b"), 2, Plan::DeployConfigured),
            (Some("a"), Some(("deployed", 1)), Some("a"), 2, Plan::DeployActive),
            (Some("a"), Some(("deployed", 1)), None, 1, Plan::Resume),
            (Some("a"), Some(("deployed", 1)), None, 2, Plan::DeployActive),
            (None, Some(("deployed", 1)), Some("deployed"), 1, Plan::Resume),
            (None, Some(("deployed", 1)), Some("a"), 1, Plan::DeployConfigured),
            // After a rollback to a version with other settings, an unchanged configuration changes nothing.
            (Some("a"), Some(("deployed", 3)), Some("a"), 1, Plan::Resume),
            (Some("a"), Some(("deployed", 2)), Some("a"), 2, Plan::Resume),
        ];
        for (configured, active, file, with, expected) in rows {
            let module = file.map(|file: &str| Digest::of(file.as_bytes()));
            let planned = plan(&record(configured, active), module.as_ref(), &settings(with), false);
            assert_eq!(planned, expected, "{configured:?} {active:?} {file:?} {with}");
        }
    }
}
