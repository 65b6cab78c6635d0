//! The host on three real nats-servers that are one cluster, with three copies of everything: servers of it killed and
//! restarted under load, one after the other and all at once.

use std::time::Duration;

use tidegate::deploy::report::Line;
use tokio::runtime::Runtime;

use super::books::Books;
use super::cluster::{PATIENCE, deploy, until_all_run};
use super::rig::Rig;
use super::{Feed, audit, balance, kills, ledger, on_servers};
use crate::support::nats_cluster::NatsCluster;
use crate::support::until;

struct Ground {
    runtime: Runtime,
    cluster: NatsCluster,
    rig: Rig,
}

impl Ground {
    fn new(ack_wait: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(NatsCluster::start());
        let broker = format!("{}\nreplicas = 3", on_servers(&cluster.urls()));
        let mut rig = Rig::new(&broker, ack_wait, "create = true");
        rig.start();
        Self { runtime, cluster, rig }
    }

    fn restart(&mut self, server: usize) {
        self.runtime.block_on(self.cluster.servers[server].restart());
    }

    /// Lets the feed and the host finish, and balances what stands on the servers. The host lived all the time.
    fn balance(mut self, feed: Feed, what: &str) {
        feed.go_on_for(500);
        let published = feed.finish();
        let (runtime, urls) = (&self.runtime, self.cluster.urls());
        let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_servers(rig, urls, books));
        let (books, balance) = balance(&mut self.rig, published, read);
        println!("jetstream of three servers, {what}: {balance:?}");
        books.check_extra_runs_of_one_life(&balance);
    }
}

#[test]
fn one_server_of_three_after_the_other_killed_or_restarted_under_load_loses_nothing() {
    let mut ground = Ground::new(Duration::from_secs(5));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    for round in 0..kills() {
        feed.go_on_for_a_while(&mut rng);
        let server = rng.usize(0..3);
        if round % 3 == 2 {
            ground.runtime.block_on(ground.cluster.servers[server].restart_in_order());
        } else {
            ground.cluster.servers[server].kill();
            // The two that are left go on.
            feed.go_on_for(200);
            ground.restart(server);
        }
    }
    ground.balance(feed, &format!("one killed or restarted {} times", kills()));
}

#[test]
fn one_server_of_three_after_the_other_stopped_where_it_stands_loses_nothing() {
    let ground = Ground::new(Duration::from_secs(5));
    let feed = Feed::start(ground.rig.publisher(), "m");
    let stops = kills().div_ceil(2);
    for round in 0..stops as usize {
        feed.go_on_for(300);
        // Whoever it leads for finds another leader, and it takes itself for one when it goes on.
        let server = &ground.cluster.servers[round % 3];
        server.freeze();
        feed.go_on_for(300);
        server.thaw();
    }
    ground.balance(feed, &format!("one stopped {stops} times"));
}

#[test]
fn leaders_that_step_down_under_load_lose_nothing() {
    let ground = Ground::new(Duration::from_secs(5));
    let feed = Feed::start(ground.rig.publisher(), "m");
    let steps = kills() * 4;
    let groups = ["CONSUMER.LEADER.STEPDOWN.IN.ledger", "STREAM.LEADER.STEPDOWN.IN", "STREAM.LEADER.STEPDOWN.OUT"];
    let client = ground.runtime.block_on(ground.cluster.servers[0].client());
    for group in groups.into_iter().cycle().take(steps as usize) {
        feed.go_on_for(100);
        // One that is just being elected cannot be asked, and that is as good.
        let asked = client.request(format!("$JS.API.{group}"), "".into());
        let _ = ground.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), asked).await });
    }
    ground.balance(feed, &format!("leaders stepped down {steps} times"));
}

#[test]
fn all_three_servers_killed_at_once_under_load_lose_nothing() {
    let mut ground = Ground::new(Duration::from_secs(5));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    let rounds = kills().div_ceil(5);
    for _ in 0..rounds {
        feed.go_on_for_a_while(&mut rng);
        ground.cluster.servers.iter_mut().for_each(|server| server.kill());
        (0..3).for_each(|server| ground.restart(server));
    }
    ground.balance(feed, &format!("all killed {rounds} times"));
}

/// The number of a version that a host took; `None`: it says that NATS is away, and nothing has changed.
fn taken(host: &Rig, module: u32) -> Option<u64> {
    let (_, answer) = host.try_deploy("", &ledger(module));
    match serde_json::from_value(answer) {
        Ok(Line::Done(done)) => Some(done.version),
        _ => None,
    }
}

#[test]
fn hosts_on_three_servers_run_the_same_whichever_server_is_away() {
    let runtime = Runtime::new().unwrap();
    let mut servers = runtime.block_on(NatsCluster::start());
    let broker = format!("{}\nreplicas = 3", on_servers(&servers.urls()));
    let [a, b, c] = ["a", "b", "c"].map(|name| {
        let more = format!("create = true\n[cluster]\nbroker = \"queue\"\nhost = \"{name}\"\n");
        let mut host = Rig::new(&broker, Duration::from_secs(30), &more);
        host.start();
        host
    });
    let all = [&a, &b, &c];
    until_all_run(&all, 1, 1);
    assert_eq!(deploy(&a, 2), 2);
    until_all_run(&all, 2, 2);
    // Two are left each time, and hosts that were connected to the third go over to them.
    for (round, host) in all.into_iter().enumerate() {
        let (server, number) = (round, round as u64 + 3);
        servers.servers[server].kill();
        // While the host looks for another server, and the servers for a leader.
        until("the host takes a deploy", PATIENCE, || taken(host, number as u32) == Some(number));
        until_all_run(&all, number, number as u32);
        runtime.block_on(servers.servers[server].restart());
    }
    assert_eq!(b.rollback(2).to, 2);
    until_all_run(&all, 2, 2);
}
