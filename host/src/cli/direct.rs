//! A host to speak to: the one that runs, or, when none does, one of our own for the time of the command. Either way the
//! rest of the command line speaks HTTP and knows no broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::client::{Client, NotMet};
use super::exit::Failure;
use super::host::{HostArguments, Target};
use super::{say, token};
use crate::admin::{self, Audit, Door, HostState, SubscriptionStatus, Subscriptions};
use crate::broker::{Directory, NamedBroker, Status};
use crate::config::Config;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// A broker that is away is waited for this long: a server that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// A host that can be asked.
pub(super) struct Reached {
    pub(super) client: Client,
    /// Closed when this is dropped.
    own: Option<Own>,
}

/// What a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receives {
    pub(super) name: String,
    pub(super) broker: String,
    pub(super) subjects: Vec<String>,
}

impl Reached {
    /// Whether it is this command's own, and ends with it.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// That no host runs, where none does, and how one is started.
    pub(super) fn nobody_runs(&self) -> Option<String> {
        let listen = self.own.as_ref()?.listen;
        Some(format!("no host answers at {listen} (`tidegate run` starts one)"))
    }

    /// What the subscriptions of the host receive, or those of the configuration where none runs; none where that is not known.
    pub(super) fn receives(&self) -> Vec<Receives> {
        if let Some(own) = &self.own {
            return own.receives.clone();
        }
        let subscriptions = self.client.status().map(|status| status.subscriptions).unwrap_or_default();
        let receives = subscriptions.into_iter();
        receives.map(|one| Receives { name: one.name, broker: one.broker, subjects: one.subjects }).collect()
    }

    /// The broker that is published to: the one that is named, or the one that the host takes when none is.
    pub(super) fn publishes_to(&self, named: Option<&str>) -> Option<String> {
        if let Some(named) = named {
            return Some(named.to_owned());
        }
        let brokers = self.client.status().ok()?.brokers;
        let embedded = || brokers.iter().filter(|broker| broker.kind == "embedded");
        let only = match (brokers.as_slice(), embedded().count()) {
            ([only], _) => Some(only),
            (_, 1) => embedded().next(),
            (_, _) => None,
        };
        only.map(|broker| broker.name.clone())
    }
}

/// Reaches the host that is meant. Where that is the one that the configuration describes, and it does not run, opens its
/// brokers, or the one that is named.
pub(super) fn reach(host: &HostArguments, broker: Option<&str>) -> Result<Reached, Failure> {
    let (config, token, tls) = match host.target()? {
        Target::Remote(profile) => {
            let client = Client::remote(&profile)?;
            client.reached().map_err(|why| why.at(&profile.url))?;
            return Ok(Reached { client, own: None });
        }
        Target::Local(config, token, tls) => (*config, token, tls),
        Target::Loopback(token) => {
            let client = Client::new(Target::LOOPBACK, token);
            // Without a host it takes brokers, and so a configuration: that there is none is then what is wrong.
            return if client.is_there() { Ok(Reached { client, own: None }) } else { Err(host.no_config()) };
        }
    };
    let config = &config;
    if let Some(name) = broker
        && !config.brokers.contains_key(name)
    {
        return Err(Failure::usage(anyhow!("{} has no broker `{name}`", config.path().display())));
    }
    let client = Client::local(&config.http, token, &tls)?;
    // Port 0 is any port: a host with it cannot be found.
    if config.http.listen.port() != 0 {
        match client.reached() {
            Ok(()) => return Ok(Reached { client, own: None }),
            Err(why @ NotMet::Unfit(_)) => return Err(why.at(client.base()).into()),
            // The port is somebody else's, or nobody's.
            Err(NotMet::Nobody(_) | NotMet::NoHost(_)) => {}
        }
    }
    if config.brokers.is_empty() {
        return Err(Failure::usage(anyhow!("{} has no broker", config.path().display())));
    }
    let own = Own::open(config, broker)?;
    Ok(Reached { client: Client::new(own.address, Some(own.token.clone())), own: Some(own) })
}

/// Brokers that this process has opened, and a listener before them.
struct Own {
    /// Where the host would answer that the configuration describes.
    listen: std::net::SocketAddr,
    /// What its subscriptions would receive.
    receives: Vec<Receives>,
    runtime: Option<Runtime>,
    address: std::net::SocketAddr,
    /// Only this process knows it, so nobody else on this machine gets in while the command runs.
    token: String,
    stop: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

/// This process runs no subscription.
struct NoSubscriptions;

impl Subscriptions for NoSubscriptions {
    fn list(&self) -> Vec<SubscriptionStatus> {
        Vec::new()
    }

    fn is_draining(&self) -> bool {
        false
    }
}

impl Own {
    fn open(config: &Config, only: Option<&str>) -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("starting the runtime")?;
        let wanted = config.brokers.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let brokers = runtime.block_on(async {
            let mut brokers = BTreeMap::new();
            for (name, settings) in wanted {
                let broker = crate::app::open::broker(name, settings, &config.host.data_dir).await?;
                let opened = NamedBroker { kind: settings.kind(), broker };
                wait_for(name, &opened).await;
                brokers.insert(name.clone(), opened);
            }
            anyhow::Ok(brokers)
        })?;
        let token = token::fresh()?;
        let any_port = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let listening = runtime.block_on(admin::listen(any_port, Door::only(&token)))?;
        let (address, stop) = (listening.address(), CancellationToken::new());
        let closing: Vec<_> = brokers.values().map(|named| Arc::clone(&named.broker)).collect();
        let (directory, metrics) = (Directory::new(brokers), Arc::new(Metrics::new()));
        let audit = Arc::new(Audit::new(config.host.data_dir.clone()));
        let state = HostState::new(
            config.host.name.clone(),
            Arc::clone(&directory),
            Arc::new(NoSubscriptions),
            Arc::clone(&metrics),
            config.http.max_publish_bytes,
            Arc::clone(&audit),
        );
        // What a host of before did not end is that host's to go on with: looking begins nothing.
        let folder = config.host.data_dir.join(crate::app::TASKS);
        let tasks = runtime.block_on(Tasks::open(folder, Arc::clone(&directory), None, Arc::clone(&metrics), audit))?;
        let state = state.with_tasks(Arc::clone(&tasks));
        let serve = listening.serve(Arc::new(state), stop.clone().cancelled_owned());
        let serving = runtime.spawn(async move {
            if let Err(error) = serve.await {
                say::talk(&format!("warning: the listener of this command broke: {error}"));
            }
            tasks.close().await;
            for broker in closing {
                broker.close().await;
            }
        });
        let receives = config.subscriptions.iter().map(|(name, one)| Receives {
            name: name.clone(),
            broker: one.broker.clone(),
            subjects: one.spec.subjects.clone(),
        });
        let (listen, receives) = (config.http.listen, receives.collect());
        Ok(Self { listen, receives, runtime: Some(runtime), address, token, stop, serving: Some(serving) })
    }
}

impl Drop for Own {
    /// Closes the brokers: an embedded queue writes out what it holds, NATS takes what was sent.
    fn drop(&mut self) {
        self.stop.cancel();
        if let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) {
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, serving).await });
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

async fn wait_for(name: &str, opened: &NamedBroker) {
    let deadline = Instant::now() + PATIENCE;
    while let Status::Away(why) = opened.broker.status() {
        if Instant::now() >= deadline {
            say::talk(&format!("warning: broker `{name}` is away: {why}"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
