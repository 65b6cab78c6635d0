//! The start of a host: which version of each handler runs, by the registry and the configuration.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;

use super::entry::{Entry, Loaded};
use super::pipeline::{self, Uploaded};
use super::say::Say;
use super::{DeployError, Deployments, Provenance};
use crate::registry::{Configured, Digest, HandlerRecord, RegistryError, Settings};

/// Handlers that are started at once: each waits for the disk and for the compiler in turn.
const AT_ONCE: usize = 8;

/// Who deploys what the configuration names.
const CONFIGURATION: &str = "configuration";

/// What a start makes of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// There is no module anywhere: it waits for a deploy.
    Wait,
    /// The version that was active last runs again.
    Resume,
    /// The configuration names another module, or the first one: it becomes a version.
    DeployConfigured,
    /// The configuration gives other limits or grants: the active module becomes another version.
    DeployActive,
}

/// Decides by what is recorded and by what the configuration says now. `module` is the digest of the file that it names;
/// `None`: it names none, or the file is gone.
fn plan(record: &HandlerRecord, module: Option<&Digest>, settings: &Settings) -> Plan {
    let Some(active) = record.active_version() else {
        return if module.is_some() { Plan::DeployConfigured } else { Plan::Wait };
    };
    let last = record.configured.as_ref();
    let same_settings = active.settings == *settings;
    let other_module = module.is_some_and(|module| last.and_then(|last| last.module.as_ref()) != Some(module));
    if other_module {
        let runs_already = module == Some(&active.digest) && same_settings;
        return if runs_already { Plan::Resume } else { Plan::DeployConfigured };
    }
    let other_settings = last.is_none_or(|last| last.settings != settings.hash());
    if other_settings && !same_settings { Plan::DeployActive } else { Plan::Resume }
}

/// Starts all handlers.
pub(super) async fn start(deployments: &Deployments) -> Result<(), DeployError> {
    let records = deployments.registry.handlers().await?;
    let record = |name: &str| records.iter().find(|record| record.name == name).cloned();
    let starts = deployments.handlers.values().map(|entry| {
        let record = record(&entry.name);
        async move {
            let empty =
                || HandlerRecord { name: entry.name.clone(), active: None, configured: None, versions: Vec::new() };
            one(deployments, entry, record.unwrap_or_else(empty)).await
        }
    });
    let mut started = futures_util::stream::iter(starts).buffer_unordered(AT_ONCE);
    while let Some(one) = started.next().await {
        one?;
    }
    Ok(())
}

async fn one(deployments: &Deployments, entry: &Arc<Entry>, record: HandlerRecord) -> Result<(), DeployError> {
    let begun = Instant::now();
    let file = file(entry, record.active.is_some()).await?;
    let module = file.as_deref().map(Digest::of);
    let plan = plan(&record, module.as_ref(), &entry.settings);
    // A file that is gone, and comes back as it was, has not changed.
    let known = record.configured.as_ref().and_then(|configured| configured.module.clone());
    let configured = Configured { module: module.or(known), settings: entry.settings.hash() };
    match (plan, &file, record.active_version()) {
        (Plan::Wait, _, _) => tracing::warn!(handler = entry.name, "the handler has no version yet: deploy one"),
        (Plan::DeployConfigured, Some(bytes), _) => deploy(deployments, entry, bytes, configured.clone()).await?,
        (Plan::DeployActive, _, Some(active)) => match deployments.registry.read(&active.digest).await {
            Ok(bytes) => deploy(deployments, entry, &bytes, configured.clone()).await?,
            Err(error) => gone(entry, error)?,
        },
        (Plan::Resume, _, Some(active)) => {
            let bytes = file.filter(|bytes| Digest::of(bytes) == active.digest);
            resume(deployments, entry, &record, bytes).await?;
        }
        // The plan names what there is.
        (Plan::DeployConfigured | Plan::DeployActive | Plan::Resume, _, _) => {}
    }
    if record.configured.as_ref() != Some(&configured) && plan == Plan::Resume {
        deployments.registry.note_configured(&entry.name, configured).await?;
    }
    if let Some(loaded) = entry.active() {
        let (number, digest) = (loaded.deployed.number, loaded.deployed.handler.digest());
        tracing::info!(handler = entry.name, version = number, digest, took = ?begun.elapsed(), "the handler is loaded");
    }
    Ok(())
}

/// The bytes of the file that the configuration names. One that is gone is no error when the registry has a version.
async fn file(entry: &Entry, has_version: bool) -> Result<Option<Vec<u8>>, DeployError> {
    let Some(path) = &entry.module else { return Ok(None) };
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if has_version && error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(handler = entry.name, path = %path.display(), "the module's file is gone; the registry has it");
            Ok(None)
        }
        Err(source) => {
            let (handler, path) = (entry.name.clone(), path.display().to_string());
            Err(DeployError::Unreadable { handler, path, source })
        }
    }
}

async fn deploy(
    deployments: &Deployments,
    entry: &Arc<Entry>,
    bytes: &[u8],
    configured: Configured,
) -> Result<(), DeployError> {
    let begun = Instant::now();
    let path = entry.module.as_ref().map_or_else(|| "the registry".to_owned(), |path| path.display().to_string());
    let refused =
        |error| DeployError::Configured { handler: entry.name.clone(), path: path.clone(), source: Box::new(error) };
    let kept = super::keep(&deployments.registry, bytes).await.map_err(refused)?;
    let provenance = Provenance { by: CONFIGURATION.to_owned(), source: path.clone() };
    let uploaded = Uploaded { kept, took: begun.elapsed(), provenance };
    let settings = entry.settings.clone();
    let deployed = pipeline::deploy(deployments, entry, &uploaded, settings, Some(configured), &Say::nothing()).await;
    deployed.map(drop).map_err(|stopped| refused(stopped.error))
}

/// Loads the active version; `bytes`, when the configuration's file is that very module.
async fn resume(
    deployments: &Deployments,
    entry: &Arc<Entry>,
    record: &HandlerRecord,
    bytes: Option<Vec<u8>>,
) -> Result<(), DeployError> {
    let Some(active) = record.active_version() else { return Ok(()) };
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => match deployments.registry.read(&active.digest).await {
            Ok(bytes) => bytes,
            Err(error) => return gone(entry, error),
        },
    };
    let version = deployments.sandbox.load(bytes, &entry.name, &active.settings.limits).await;
    match version {
        Ok(version) => entry.switch(Loaded::new(active.number, version, &active.settings, &deployments.metrics)),
        // It ran on this host before: a later host refuses what an earlier one took. Another deploy mends that too.
        Err(source) => {
            let error = DeployError::Unloadable { number: active.number, source };
            tracing::error!(handler = entry.name, error = error.chain(), "the handler has no version that runs");
            entry.set_trouble(error.chain());
        }
    }
    Ok(())
}

/// A module that is gone or damaged leaves its handler without a version, so that the host runs and a deploy can mend it.
fn gone(entry: &Entry, error: RegistryError) -> Result<(), DeployError> {
    match &error {
        RegistryError::NoModule { .. } | RegistryError::Damaged { .. } => {
            tracing::error!(handler = entry.name, %error, "the handler has no version that runs");
            entry.set_trouble(error.to_string());
            Ok(())
        }
        RegistryError::Full { .. }
        | RegistryError::Io { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::WrongDigest { .. }
        | RegistryError::NoVersion { .. }
        | RegistryError::InUse { .. }
        | RegistryError::Layout { .. }
        | RegistryError::Records { .. }
        | RegistryError::Stopped { .. } => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::registry::VersionRecord;
    use crate::sandbox::limits::Limits;

    fn settings(host_calls: u32) -> Settings {
        Settings { limits: Limits { host_calls, ..Limits::default() }, outputs: BTreeMap::new() }
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
        };
        let module = configured.map(|module| Digest::of(module.as_bytes()));
        HandlerRecord {
            name: "h".to_owned(),
            active: active.map(|_| 1),
            configured: Some(Configured { module, settings: settings(1).hash() }),
            versions: active.map(version).into_iter().collect(),
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
