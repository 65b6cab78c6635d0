//! Opens what a configuration names: brokers with their records and secrets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::broker::done::{self, DoneRecord};
use crate::broker::embedded::EmbeddedQueue;
use crate::broker::jetstream::{
    self, Auth, BucketOptions, DeadLetterOptions, JetStream, StreamDefaults, StreamSettings, Tls,
};
use crate::broker::{Broker, NamedBroker};
use crate::cluster::Cluster;
use crate::config::{Authentication, BrokerConfig, ClusterConfig, Config, JetStreamConfig, TlsConfig};

/// Opens a broker. One that is away is opened all the same and connects when it can.
///
/// # Errors
/// When a person has to act: a directory that cannot be used or that another host has, a secret that cannot be read, a
/// certificate that is none, a server that is too old.
pub async fn broker(name: &str, config: &BrokerConfig, data_dir: &Path) -> anyhow::Result<Arc<dyn Broker>> {
    match config {
        BrokerConfig::Embedded(config) => {
            let queue = EmbeddedQueue::open(config.clone()).await;
            Ok(queue.with_context(|| format!("could not open broker `{name}`"))?)
        }
        BrokerConfig::JetStream(config) => {
            let options = jetstream_options(name, config).with_context(|| format!("could not open broker `{name}`"))?;
            let path = data_dir.join(format!("done-{name}.sqlite"));
            let record = tokio::task::spawn_blocking(move || {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
                }
                anyhow::Ok(DoneRecord::open(&done::Options::at(path))?)
            });
            let record = record.await?.with_context(|| format!("could not open the done record of broker `{name}`"))?;
            let broker = JetStream::connect(options, record).await;
            Ok(broker.with_context(|| format!("could not open broker `{name}`"))?)
        }
    }
}

/// This host's end of its cluster.
///
/// # Errors
/// When the host has no name in it: its file in the data directory cannot be used.
pub fn cluster(
    config: &Config,
    cluster: &ClusterConfig,
    brokers: &BTreeMap<String, NamedBroker>,
    address: SocketAddr,
) -> anyhow::Result<Arc<Cluster>> {
    let broker = brokers.get(&cluster.broker);
    let broker = broker.with_context(|| format!("the cluster names broker `{}`, which is not open", cluster.broker))?;
    let (name, data_dir) = (&config.host.name, &config.host.data_dir);
    let opened = Cluster::open(cluster, name, data_dir, broker.broker.as_ref(), address.to_string())?;
    tracing::info!(cluster = cluster.name, host = opened.me().host, "this host is in a cluster");
    Ok(Arc::new(opened))
}

fn jetstream_options(name: &str, config: &JetStreamConfig) -> anyhow::Result<jetstream::Options> {
    let defaults = jetstream::Options::new(name, config.servers.clone());
    let by_name = config.streams.iter().map(|(stream, settings)| {
        let settings = StreamSettings {
            subjects: settings.subjects.clone(),
            max_bytes: settings.max_bytes,
            max_age: settings.max_age,
        };
        (stream.clone(), settings)
    });
    Ok(jetstream::Options {
        auth: auth(&config.auth)?,
        tls: config.tls.as_ref().map(tls).unwrap_or_default(),
        streams: StreamDefaults {
            replicas: config.replicas,
            duplicate_window: config.duplicate_window,
            by_name: by_name.collect(),
        },
        dead_letters: DeadLetterOptions {
            stream: config.dead_letter_stream.clone(),
            replicas: config.replicas,
            ..defaults.dead_letters.clone()
        },
        buckets: BucketOptions { replicas: config.replicas, max_bytes: config.max_bucket_bytes },
        request_timeout: config.publish_timeout,
        confirm: config.confirm,
        ..defaults
    })
}

fn auth(config: &Authentication) -> anyhow::Result<Auth> {
    Ok(match config {
        Authentication::None => Auth::None,
        Authentication::Token(secret) => Auth::Token(secret.read()?.expose().to_owned()),
        Authentication::Password { user, password } => {
            Auth::UserPassword { user: user.clone(), password: password.read()?.expose().to_owned() }
        }
        Authentication::Nkey(secret) => Auth::Nkey(secret.read()?.expose().to_owned()),
        Authentication::Credentials(secret) => Auth::Credentials(secret.read()?.expose().to_owned()),
    })
}

fn tls(config: &TlsConfig) -> Tls {
    let (cert, key) = config.client.clone().unzip();
    Tls { require: config.required, ca: config.ca.clone(), cert, key }
}
