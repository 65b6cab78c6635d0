//! What a version is given of what its settings name: secrets are read, buckets opened.

use std::collections::BTreeMap;

use super::entry::Terms;
use super::{DeployError, Deployments};
use crate::config::SecretGrant;
use crate::registry::Settings;
use crate::sandbox::granted::{Granted, HostPattern, Hosts, Value, Values};

impl Deployments {
    /// What a version with these settings is given on this host, where a configuration says `terms` of its handler.
    ///
    /// # Errors
    /// When a secret cannot be read.
    pub(super) async fn granted(
        &self,
        handler: &str,
        terms: &Terms,
        settings: &Settings,
    ) -> Result<Granted, DeployError> {
        let (settings, sources) = (settings.clone(), terms.secrets.clone());
        // A secret may be in a file.
        let given = tokio::task::spawn_blocking(move || without_host(&settings, &sources)).await;
        let ungrantable = |what| DeployError::Ungrantable { handler: handler.to_owned(), what };
        let granted = given.map_err(|error| ungrantable(error.to_string()))?;
        match granted.values.missing() {
            Some(why) => Err(ungrantable(why.to_owned())),
            None => Ok(granted),
        }
    }
}

/// The same beside a host, on the command line: a secret that cannot be read is one that the guest cannot read either.
#[must_use]
pub fn without_host(settings: &Settings, sources: &BTreeMap<String, SecretGrant>) -> Granted {
    let plain = settings.config.iter().map(|(name, value)| (name.clone(), Value::Plain(value.clone())));
    let secrets = settings.secrets.iter().map(|(name, spelled)| {
        let source = sources.get(name).filter(|source| source.spelled == *spelled);
        (name.clone(), secret(name, source))
    });
    Granted {
        values: plain.chain(secrets).collect::<Values>(),
        hosts: settings.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect::<Hosts>(),
        ..Granted::default()
    }
}

fn secret(name: &str, source: Option<&SecretGrant>) -> Value {
    let Some(source) = source else {
        return Value::Missing(format!("the secret `{name}` is read on its host alone"));
    };
    match source.source.read() {
        Ok(secret) => Value::Secret(secret),
        Err(error) => Value::Missing(format!("the secret `{name}` could not be read: {}", error.chain())),
    }
}
