//! NATS JetStream, on a real server: the contract of all brokers, and what it alone promises.

use std::sync::Arc;

use tempfile::TempDir;
use tidegate::broker::done::{DoneRecord, Options as RecordOptions};
use tidegate::broker::jetstream::{JetStream, Options, StreamSettings};
use tidegate::broker::{Settle, Source};

use crate::broker_contract::{Place, ack, broker_contract, eventually};
use crate::support::nats::NatsServer;

mod buckets;
mod catalog;
pub(crate) mod cluster;
mod earlier;
mod edited;
mod letters;
mod login;
mod notes;
mod sent_back;
mod setup;
mod trouble;
mod unreadable;
mod warned;

pub(crate) use unreadable::publish_raw;

mod contract {
    use super::*;

    broker_contract!(super::place);
}

/// A place of its own on a server of its own.
async fn place(_name: &'static str) -> Place {
    let server = NatsServer::start().await;
    let (broker, folder) = connect(options(&server)).await;
    place_on(broker, (server, folder))
}

pub(crate) fn place_on(broker: Arc<JetStream>, keep: impl std::any::Any + Send + Sync) -> Place {
    Place { broker, stream: Some("TEST".to_owned()), prefix: "test".to_owned(), _keep: Box::new(keep) }
}

/// Options for a server, with a stream `TEST` on `test.>`.
pub(crate) fn options(server: &NatsServer) -> Options {
    let mut options = Options::new("test", vec![server.url()]);
    let settings = StreamSettings { subjects: vec!["test.>".to_owned()], ..StreamSettings::default() };
    options.streams.by_name.insert("TEST".to_owned(), settings);
    options
}

/// A broker with a record of its own.
pub(crate) async fn connect(options: Options) -> (Arc<JetStream>, TempDir) {
    let (record, folder) = record();
    (JetStream::connect(options, record).await.unwrap(), folder)
}

fn record() -> (Arc<DoneRecord>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (DoneRecord::open(&RecordOptions::at(folder.path().join("done.db"))).unwrap(), folder)
}

/// Acknowledges deliveries as one group; each must be confirmed.
async fn ack_all(source: &dyn Source, deliveries: &[tidegate::broker::Delivery]) {
    let group: Vec<Settle> = deliveries.iter().map(ack).collect();
    for result in source.settle(group).await {
        result.unwrap();
    }
}

/// Waits until all is settled and the server knows it.
async fn nothing_is_left(source: &dyn Source) {
    eventually("the server holds nothing more", || async {
        source.backlog().await.is_ok_and(|backlog| (backlog.ready, backlog.pending) == (0, 0))
    })
    .await;
}
