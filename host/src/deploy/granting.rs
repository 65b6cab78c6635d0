//! What a version is given of what its settings name: secrets are read, buckets opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::entry::Terms;
use super::{DeployError, Deployments};
use crate::broker::{Bucket, EmptyBucket};
use crate::config::{HandlerConfig, Secret, SecretGrant};
use crate::registry::{BucketGrant, Settings};
use crate::sandbox::Version;
use crate::sandbox::granted::{Granted, GrantedBucket, HostPattern, Hosts, Value, Values};

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
        let buckets = buckets(settings, |to| self.brokers.bucket(&to.broker, &to.bucket, to.access));
        if settings.secrets.is_empty() {
            return Ok(Granted { buckets, ..without_host(settings, &BTreeMap::new()) });
        }
        let (named, sources) = (settings.clone(), terms.secrets.clone());
        // A secret may be in a file.
        let given = tokio::task::spawn_blocking(move || without_host(&named, &sources)).await;
        let ungrantable = |what| DeployError::Ungrantable { handler: handler.to_owned(), what };
        let granted = given.map_err(|error| ungrantable(error.to_string()))?;
        match granted.values.missing() {
            Some(why) => Err(ungrantable(why)),
            None => Ok(Granted { buckets, ..granted }),
        }
    }
}

/// The versions that were given secrets, by their handlers, from when they are loaded until nobody has them any more.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<BTreeMap<String, Vec<Holder>>>);

#[derive(Debug)]
struct Holder {
    version: Weak<Version>,
    /// Where its secrets are read from, by their names.
    secrets: BTreeMap<String, String>,
}

impl Holders {
    fn add(&self, handler: &str, holder: Holder) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_handler = holders.entry(handler.to_owned()).or_default();
        of_handler.retain(|one| one.version.strong_count() > 0);
        of_handler.push(holder);
    }

    /// Those of a handler that are granted a secret from that very place.
    fn with(&self, handler: &str, name: &str, spelled: &str) -> Vec<Arc<Version>> {
        let holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_handler = holders.get(handler).into_iter().flatten();
        let has = of_handler.filter(|one| one.secrets.get(name).is_some_and(|place| place == spelled));
        has.filter_map(|one| one.version.upgrade()).collect()
    }
}

impl Deployments {
    /// Hands a version that was just loaded the secrets that were read anew while it was, and from here on those that are. It was
    /// given its own before it was compiled, and messages may not run on it before minutes from now.
    pub(super) async fn hand_secrets(&self, handler: &str, terms: &Terms, settings: &Settings, version: &Arc<Version>) {
        let secrets = settings.secrets.clone();
        if secrets.is_empty() {
            return;
        }
        // First, so that none is read anew between the two that it is not handed.
        self.holders.add(handler, Holder { version: Arc::downgrade(version), secrets: secrets.clone() });
        let sources = terms.secrets.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = secrets.into_iter().filter_map(|(name, spelled)| {
                let source = sources.get(&name).filter(|source| source.spelled == spelled)?;
                Some((name, source.source.read().ok()?))
            });
            read.collect::<Vec<_>>()
        });
        for (name, secret) in read.await.unwrap_or_default() {
            version.granted().values.renew(&name, &secret);
        }
    }
}

/// Secrets that have another value where they are read from than in the versions that are in memory.
#[derive(Debug, Default)]
pub struct Renewed(Vec<RenewedSecret>);

#[derive(Debug)]
struct RenewedSecret {
    handler: String,
    name: String,
    grant: SecretGrant,
    read: Secret,
}

impl Renewed {
    /// The handlers and the names of their secrets.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|one| (one.handler.as_str(), one.name.as_str()))
    }
}

impl Deployments {
    /// Reads the secrets that a configuration names, and gives those that have changed since versions were loaded. One that
    /// cannot be read is left as it is: the check of the configuration tells of it.
    pub async fn renewed_secrets(&self, handlers: &BTreeMap<String, HandlerConfig>) -> Renewed {
        let sources: Vec<(String, BTreeMap<String, SecretGrant>)> = handlers
            .iter()
            .filter(|(_, config)| !config.secrets.is_empty())
            .map(|(name, config)| (name.clone(), config.secrets.clone()))
            .collect();
        let read = move || {
            let all = sources.into_iter().flat_map(|(handler, secrets)| {
                secrets.into_iter().map(move |(name, grant)| (handler.clone(), name, grant))
            });
            let read = |(handler, name, grant): (String, String, SecretGrant)| {
                let read = grant.source.read().ok()?;
                Some(RenewedSecret { handler, name, grant, read })
            };
            all.filter_map(read).collect::<Vec<_>>()
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        Renewed(read.into_iter().filter(|one| self.versions_with(one).any(|version| one.differs(&version))).collect())
    }

    /// Hands secrets that were read anew to the versions that are in memory: their next look finds them.
    pub fn renew_secrets(&self, renewed: &Renewed) {
        for one in &renewed.0 {
            self.versions_with(one).for_each(|version| version.granted().values.renew(&one.name, &one.read));
            tracing::info!(handler = one.handler, secret = one.name, "the secret was read anew");
        }
    }

    /// The versions that are granted the secret from that very place, and are in memory or on their way there.
    fn versions_with(&self, one: &RenewedSecret) -> impl Iterator<Item = Arc<Version>> + use<> {
        self.holders.with(&one.handler, &one.name, &one.grant.spelled).into_iter()
    }
}

impl RenewedSecret {
    fn differs(&self, version: &Version) -> bool {
        version.granted().values.has_other_secret(&self.name, &self.read)
    }
}

/// What a handler of a configuration is given beside a host.
#[must_use]
pub fn beside_host(handler: &HandlerConfig) -> Granted {
    without_host(&Settings::of(handler), &handler.secrets)
}

/// The same beside a host, on the command line: a secret that cannot be read is one that the guest cannot read either, and
/// its buckets begin empty.
#[must_use]
pub fn without_host(settings: &Settings, sources: &BTreeMap<String, SecretGrant>) -> Granted {
    let plain = settings.config.iter().map(|(name, value)| (name.clone(), Value::Plain(value.clone())));
    let secrets = settings.secrets.iter().map(|(name, spelled)| {
        let source = sources.get(name).filter(|source| source.spelled == *spelled);
        (name.clone(), secret(name, source))
    });
    Granted {
        values: plain.chain(secrets).collect::<Values>(),
        buckets: buckets(settings, |_to| Arc::new(EmptyBucket)),
        hosts: settings.hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect::<Hosts>(),
        ..Granted::default()
    }
}

/// What a version is granted and has on its host alone, so that a difference is not taken for the handler's.
#[must_use]
pub fn lacking(settings: &Settings) -> Option<String> {
    let names = |names: Vec<&str>| names.join(", ");
    let secrets = names(settings.secrets.keys().map(String::as_str).collect());
    let buckets = names(settings.buckets.keys().map(String::as_str).collect());
    let secrets = (!secrets.is_empty()).then(|| format!("without its secrets ({secrets})"));
    let buckets = (!buckets.is_empty()).then(|| format!("with empty buckets ({buckets})"));
    let hosts = (!settings.hosts.is_empty()).then(|| "no host is asked".to_owned());
    let all: Vec<String> = secrets.into_iter().chain(buckets).collect();
    let beside = (!all.is_empty()).then(|| format!("it runs {}: they are on the host", all.join(" and ")));
    let all: Vec<String> = beside.into_iter().chain(hosts).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn buckets(settings: &Settings, open: impl Fn(&BucketGrant) -> Arc<dyn Bucket>) -> BTreeMap<String, GrantedBucket> {
    let granted = |to: &BucketGrant| GrantedBucket { bucket: open(to), access: to.access };
    settings.buckets.iter().map(|(name, to)| (name.clone(), granted(to))).collect()
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
