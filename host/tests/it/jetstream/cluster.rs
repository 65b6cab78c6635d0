//! Servers that are one cluster: the contract of all brokers with three copies of everything; and each with a part of the streams,
//! where some come back from an earlier state while the host's connection to another one goes on.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tidegate::broker::jetstream::Auth;
use tidegate::broker::{Broker as _, Settlement, Standing, Status};
use tidegate::message::{Headers, Publish};
use tokio::time::Instant;

use super::setup::api_ok;
use super::{ack_all, connect, nothing_is_left, options, place_on};
use crate::broker_contract::{Place, broker_contract, demand, receive, settle, settle_one};
use crate::support::nats_cluster::NatsCluster;

/// Longer than a pull without a sign of life is waited for, a lease, and a start of a server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LEASE: Duration = Duration::from_secs(3);

mod contract {
    use super::*;

    broker_contract!(super::place);
}

/// More than the contract has tests.
const ACCOUNTS: usize = 64;

/// A cluster that has an account for each test: nothing of one is seen by another.
struct Shared {
    cluster: NatsCluster,
    next: AtomicUsize,
}

/// The cluster of the tests that run now. Whoever comes when the last has gone starts another one.
async fn shared() -> Arc<Shared> {
    static RUNNING: tokio::sync::Mutex<Weak<Shared>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut running = RUNNING.lock().await;
    if let Some(shared) = running.upgrade() {
        return shared;
    }
    let mut accounts = "no_auth_user: first\naccounts {\n".to_owned();
    for number in 0..ACCOUNTS {
        let user = if number == 0 { "first".to_owned() } else { format!("test-{number}") };
        writeln!(accounts, "A{number} {{ jetstream: enabled, users: [{{ user: {user}, password: open }}] }}").unwrap();
    }
    accounts.push('}');
    let cluster = NatsCluster::start_with(&accounts).await;
    let shared = Arc::new(Shared { cluster, next: AtomicUsize::new(1) });
    *running = Arc::downgrade(&shared);
    shared
}

/// A place in an account of its own, with three copies of everything.
pub(crate) async fn place(_name: &'static str) -> Place {
    let shared = shared().await;
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    assert!(number < ACCOUNTS, "there are more tests than accounts");
    let mut options = options(&shared.cluster.servers[number % 3]);
    options.servers = shared.cluster.urls();
    options.auth = Auth::UserPassword { user: format!("test-{number}"), password: "open".to_owned() };
    (options.streams.replicas, options.dead_letters.replicas, options.buckets.replicas) = (3, 3, 3);
    let (broker, folder) = connect(options).await;
    place_on(broker, (shared, folder))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_beside_the_own_one_lost_is_noticed_though_it_comes_back_late() {
    // The story: the power failed where the stream and that of the outputs were, and not where the host was connected. The server of
    // the stream came back without the acknowledgement, and before the one that had lost the output.
    let mut cluster = NatsCluster::start().await;
    api_ok(
        &cluster.servers[0],
        "STREAM.CREATE.TEST",
        &json!({ "name": "TEST", "subjects": ["test.>"], "num_replicas": 1, "placement": { "tags": ["b"] } }),
    )
    .await;
    api_ok(
        &cluster.servers[0],
        "STREAM.CREATE.OUT",
        &json!({ "name": "OUT", "subjects": ["out"], "num_replicas": 1, "placement": { "tags": ["c"] } }),
    )
    .await;
    let (broker, _folder) = connect(options(&cluster.servers[0])).await;
    let place = place_on(broker.clone(), ());
    let source = place.subscribe("beside", &["a"], LEASE).await;
    place.publish("a", ["completed"]).await;
    let came = receive(&*source, 1).await;
    let (of_b, of_c) = (cluster.servers[1].copy(), cluster.servers[2].copy());
    let body = Bytes::from_static(b"output");
    let output = Publish { subject: "out".to_owned(), id: None, headers: Headers::default(), body };
    settle_one(&*source, settle(&came[0], Settlement::Ack { outputs: vec![output] })).await.unwrap();
    nothing_is_left(&*source).await;

    cluster.servers.iter_mut().skip(1).for_each(|server| server.kill());
    cluster.servers[1].put_back(&of_b).await;
    // By then the message has come again, more than once.
    let until = Instant::now() + LEASE * 8;
    while Instant::now() < until {
        let came = source.receive(demand(1)).await.unwrap_or_default();
        assert!(came.is_empty(), "nobody knows yet whether its output is there: {came:?}");
        assert!(matches!(broker.status(), Status::Connected), "the connection was to go on");
    }
    cluster.servers[2].put_back(&of_c).await;
    let until = Instant::now() + PATIENCE;
    let again = loop {
        assert!(Instant::now() < until, "it did not come again");
        match source.receive(demand(1)).await {
            Ok(came) if came.is_empty() => {}
            Ok(came) => break came,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(again[0].standing, Standing::Due, "nothing would be left of it");
    assert!(again[0].progress.deliveries > 2, "it did not come while its output's stream was away: {again:?}");
    ack_all(&*source, &again).await;
    nothing_is_left(&*source).await;
    broker.close().await;
}
