//! The buckets of a cluster: who is second is told, what nobody names goes, and what the tools of NATS see is the same.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tidegate::broker::Broker as _;
use tidegate::broker::jetstream::{BucketError, Buckets, Held, Keys, SwapError};

use super::{connect, options};
use crate::support::nats::NatsServer;

const WAIT: Duration = Duration::from_secs(5);

async fn read(buckets: &Buckets, name: &str) -> Result<Vec<u8>, BucketError> {
    let (mut reader, mut bytes) = (buckets.read_module(name).await?, Vec::new());
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn value(text: &str) -> Option<bytes::Bytes> {
    Some(text.to_owned().into())
}

#[tokio::test]
async fn of_two_who_replace_a_key_the_second_is_told() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    buckets.ready(WAIT).await.unwrap();
    assert_eq!(buckets.desired("h").await.unwrap(), Held::default());
    let first = buckets.swap("h", value("one").unwrap(), 0).await.unwrap();
    assert_eq!(buckets.swap("h", value("other").unwrap(), 0).await, Err(SwapError::Conflict));
    assert_eq!(buckets.desired("h").await.unwrap(), Held { value: value("one"), revision: first });
    let second = buckets.swap("h", value("two").unwrap(), first).await.unwrap();
    assert_eq!(buckets.swap("h", value("late").unwrap(), first).await, Err(SwapError::Conflict));
    // Somebody removes it with a tool: it can be set again by whoever knows.
    let store = async_nats::jetstream::new(server.client().await).get_key_value("tidegate-x-desired").await.unwrap();
    assert_eq!(store.get("h").await.unwrap(), value("two"));
    store.delete("h").await.unwrap();
    let removed = buckets.desired("h").await.unwrap();
    assert!(removed.value.is_none() && removed.revision > second, "{removed:?}");
    assert_eq!(buckets.keys_of_desired().await.unwrap(), Vec::<String>::new());
    buckets.swap("h", value("again").unwrap(), removed.revision).await.unwrap();
    assert_eq!(buckets.keys_of_desired().await.unwrap(), ["h"]);
    let mut watch = buckets.watch(Keys::Desired).await.unwrap();
    let shown = watch.next().await.unwrap();
    assert_eq!((shown.key.as_str(), shown.value), ("h", value("again")));
    drop(broker);
}

#[tokio::test]
async fn what_nobody_names_is_removed_and_what_was_put_anew_stays() {
    let server = NatsServer::start().await;
    let (broker, _folder) = connect(options(&server)).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    let module: Vec<u8> = (0..1_000_003u32).map(|number| number as u8).collect();
    for name in ["named", "unnamed"] {
        buckets.put_module(name, &module).await.unwrap();
    }
    assert_eq!(read(&buckets, "named").await.unwrap(), module);
    assert_eq!(read(&buckets, "nothing").await, Err(BucketError::NoModule("nothing".to_owned())));
    // A host died while it put a module: pieces without a name.
    let client = server.client().await;
    let context = async_nats::jetstream::new(client.clone());
    context.publish("$O.tidegate-x-modules.C.PIECES", "half".into()).await.unwrap().await.unwrap();
    let stream = context.get_stream("OBJ_tidegate-x-modules").await.unwrap();
    let pieces = || async { stream.get_last_raw_message_by_subject("$O.tidegate-x-modules.C.PIECES").await.is_ok() };
    let named = BTreeSet::from(["named".to_owned()]);
    let put_at = buckets.module_put_at("unnamed").await.unwrap().unwrap();
    assert_eq!(buckets.collect_modules(&named, put_at).await.unwrap(), 0, "it is too young");
    assert!(pieces().await);
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(buckets.collect_modules(&named, later).await.unwrap(), 1);
    assert!(!pieces().await);
    assert_eq!(buckets.module_put_at("unnamed").await.unwrap(), None);
    assert_eq!(read(&buckets, "named").await.unwrap(), module);
    buckets.put_module("unnamed", &module).await.unwrap();
    assert_eq!(read(&buckets, "unnamed").await.unwrap(), module);
    drop(broker);
}

#[tokio::test]
async fn a_module_with_missing_pieces_is_not_waited_for() {
    let server = NatsServer::start().await;
    let mut options = options(&server);
    options.request_timeout = Duration::from_secs(1);
    let (broker, _folder) = connect(options).await;
    let buckets = broker.buckets("tidegate-x", 1).unwrap();
    buckets.put_module("m", &vec![1; 300_000]).await.unwrap();
    let stream = async_nats::jetstream::new(server.client().await).get_stream("OBJ_tidegate-x-modules").await.unwrap();
    stream.purge().filter("$O.tidegate-x-modules.C.*").await.unwrap();
    assert!(matches!(read(&buckets, "m").await, Err(BucketError::Away(_) | BucketError::Damaged { .. })));
    drop(broker);
}
