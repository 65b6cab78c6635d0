//! What a version is given of what its settings name: secrets are read, buckets opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::entry::Terms;
use super::{DeployError, Deployments};
use crate::broker::{Bucket, EmptyBucket};
use crate::config::{HandlerConfig, Secret, SecretGrant, SecretSource};
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
    handing: Arc<Mutex<()>>,
}

/// A version that may be handed its secrets anew.
struct Given {
    version: Arc<Version>,
    /// Held by whoever reads a secret and hands it over, so that nobody hands over what was read before another read it.
    handing: Arc<Mutex<()>>,
}

impl Given {
    /// Reads a secret and hands it over; what was read `before`, where it cannot be read just now. The file may keep one waiting.
    fn hand(&self, name: &str, source: &SecretSource, before: Option<&Secret>) {
        let _handing = self.handing.lock().unwrap_or_else(PoisonError::into_inner);
        let read = source.read().ok();
        if let Some(secret) = read.as_ref().or(before) {
            self.version.granted().values.renew(name, secret);
        }
    }
}

impl Holders {
    fn add(&self, handler: &str, holder: Holder) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_handler = holders.entry(handler.to_owned()).or_default();
        of_handler.retain(|one| one.version.strong_count() > 0);
        of_handler.push(holder);
    }

    /// Those of a handler that are granted a secret from that very place.
    fn with(&self, handler: &str, name: &str, spelled: &str) -> Vec<Given> {
        let holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_handler = holders.get(handler).into_iter().flatten();
        let has = of_handler.filter(|one| one.secrets.get(name).is_some_and(|place| place == spelled));
        let given = |one: &Holder| Some(Given { version: one.version.upgrade()?, handing: Arc::clone(&one.handing) });
        has.filter_map(given).collect()
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
        let given = Given { version: Arc::clone(version), handing: Arc::default() };
        let (version, handing) = (Arc::downgrade(version), Arc::clone(&given.handing));
        self.holders.add(handler, Holder { version, secrets: secrets.clone(), handing });
        let sources = terms.secrets.clone();
        let handed = tokio::task::spawn_blocking(move || {
            for (name, spelled) in &secrets {
                if let Some(grant) = sources.get(name).filter(|grant| grant.spelled == *spelled) {
                    given.hand(name, &grant.source, None);
                }
            }
        });
        // It has the ones that it was loaded with.
        let _panicked = handed.await;
    }
}

/// Secrets that have another value where they are read from than in the versions that are in memory.
#[derive(Debug, Default)]
pub struct Renewed(Vec<RenewedSecret>);

#[derive(Debug, Clone)]
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
        let differs = |one: &RenewedSecret| self.versions_with(one).iter().any(|given| one.differs(&given.version));
        Renewed(read.into_iter().filter(differs).collect())
    }

    /// Hands secrets that have changed to the versions that are in memory: their next look finds them. They are read once more for
    /// that: since it was found that they have changed, minutes may have passed, and a version been loaded with later ones.
    pub async fn renew_secrets(&self, renewed: &Renewed) {
        let all: Vec<_> = renewed.0.iter().map(|one| (one.clone(), self.versions_with(one))).collect();
        let handed = tokio::task::spawn_blocking(move || {
            for (one, versions) in &all {
                versions.iter().for_each(|given| given.hand(&one.name, &one.grant.source, Some(&one.read)));
                tracing::info!(handler = one.handler, secret = one.name, "the secret was read anew");
            }
        });
        if let Err(error) = handed.await {
            tracing::error!(%error, "secrets that were read anew could not be handed over");
        }
    }

    /// The versions that are granted the secret from that very place, and are in memory or on their way there.
    fn versions_with(&self, one: &RenewedSecret) -> Vec<Given> {
        self.holders.with(&one.handler, &one.name, &one.grant.spelled)
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
