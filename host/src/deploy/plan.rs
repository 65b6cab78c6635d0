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

/// The version of a module that was deployed after the one that is active, so that somebody has decided about it since: it was
/// rolled back from or aborted, or it is tried. A file with the same bytes, as a build leaves it behind, brings it no further.
pub(super) fn decided<'a>(record: &'a HandlerRecord, module: &Digest) -> Option<&'a VersionRecord> {
    let active = record.active_version().filter(|active| active.digest != *module)?;
    record.versions.iter().find(|version| version.number > active.number && version.digest == *module)
}

/// Decides by what is recorded and by what the configuration says now. `module` is the digest of the file that it names;
/// `None`: it names none, or the file is gone.
pub(super) fn plan(record: &HandlerRecord, module: Option<&Digest>, settings: &Settings) -> Plan {
    let Some(active) = record.active_version() else {
        return if module.is_some() { Plan::DeployConfigured } else { Plan::Wait };
    };
    let last = record.configured.as_ref();
    let same_settings = active.settings == *settings;
    let other_module = module.is_some_and(|module| last.and_then(|last| last.module.as_ref()) != Some(module));
    if other_module && module.is_none_or(|module| decided(record, module).is_none()) {
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

    #[test]
    fn a_file_does_not_bring_back_what_was_decided_about() {
        let version = |number, module: &str| VersionRecord {
            number,
            digest: Digest::of(module.as_bytes()),
            ..record(None, Some(("", 1))).versions.swap_remove(0)
        };
        let rows = [
            // The file, the settings, what comes of it: 1 and 2 are older than the active 3, 4 was rolled back from.
            ("rolled-back", 1, Plan::Resume),
            ("rolled-back", 2, Plan::DeployActive),
            ("active", 1, Plan::Resume),
            ("active", 2, Plan::DeployConfigured),
            // Somebody put an older file there on purpose.
            ("older", 1, Plan::DeployConfigured),
            ("never seen", 1, Plan::DeployConfigured),
            // It ran before the active one, and was deployed once more after it.
            ("both", 1, Plan::Resume),
        ];
        let versions =
            [(5, "both"), (4, "rolled-back"), (3, "active"), (2, "both"), (1, "older")].map(|(n, m)| version(n, m));
        for (file, with, expected) in rows {
            let record = HandlerRecord { active: Some(3), versions: versions.to_vec(), ..record(Some("first"), None) };
            assert_eq!(plan(&record, Some(&Digest::of(file.as_bytes())), &settings(with)), expected, "{file} {with}");
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
            let planned = plan(&record(configured, active), module.as_ref(), &settings(with));
            assert_eq!(planned, expected, "{configured:?} {active:?} {file:?} {with}");
        }
    }
}
