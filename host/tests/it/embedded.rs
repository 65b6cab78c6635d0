//! The embedded queue: the contract of all brokers, and what it alone promises.

use crate::broker_contract::{Place, broker_contract};
use tidegate::broker::embedded::{EmbeddedQueue, Options};

async fn place(_name: &'static str) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let broker = EmbeddedQueue::open(Options::new(directory.path())).await.unwrap();
    Place { broker, stream: None, prefix: "test".to_owned(), _keep: Box::new(directory) }
}

mod contract {
    use super::*;

    broker_contract!(super::place);
}
