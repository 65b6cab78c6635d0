//! The host on a real nats-server: the host killed, the server killed and restarted, the host stopped for twice its
//! lease. A message whose settlement was confirmed never runs again, and an output stands there once.

use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::books::Books;
use super::rig::{Rig, pause};
use super::{Feed, audit, balance, kills};
use crate::support::nats::NatsServer;

struct Ground {
    runtime: Runtime,
    server: NatsServer,
    rig: Rig,
}

impl Ground {
    fn new(ack_wait: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(NatsServer::start());
        let broker = format!(
            "type = \"jetstream\"\nservers = [\"{}\"]\nstreams.IN = {{ subjects = [\"in.>\"] }}\n\
             streams.OUT = {{ subjects = [\"out.>\"] }}",
            server.url()
        );
        // The stream of the outputs is made because the configuration names it: nobody receives from it.
        let more = "create = true";
        let mut rig = Rig::new(&broker, ack_wait, more);
        rig.start();
        Self { runtime, server, rig }
    }

    /// Lets the host finish, and balances what stands on the server.
    fn balance(mut self, what: &str, published: u64) -> (Rig, Books) {
        let (runtime, server) = (&self.runtime, &self.server);
        let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_jetstream(rig, server, books));
        let (books, balance) = balance(&mut self.rig, published, read);
        println!("jetstream, {what}: {balance:?}");
        (self.rig, books)
    }
}

#[test]
fn the_host_killed_under_load_loses_nothing() {
    let mut ground = Ground::new(Duration::from_secs(3));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    for _ in 0..kills() {
        feed.go_on_for(rng.u64(1..8) * 100);
        pause(Duration::from_millis(rng.u64(0..120)));
        ground.rig.kill();
        ground.rig.start();
    }
    let published = feed.finish();
    ground.balance(&format!("host killed {} times", kills()), published);
}

#[test]
fn the_server_killed_and_restarted_under_load_costs_no_second_run() {
    let mut ground = Ground::new(Duration::from_secs(5));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    for round in 0..kills() {
        feed.go_on_for(rng.u64(1..8) * 100);
        pause(Duration::from_millis(rng.u64(0..120)));
        if round % 3 == 2 {
            ground.runtime.block_on(ground.server.restart_in_order());
        } else {
            ground.server.kill();
            ground.runtime.block_on(ground.server.restart());
        }
    }
    feed.go_on_for(500);
    let published = feed.finish();
    ground.balance(&format!("server killed or restarted {} times", kills()), published);
}

#[test]
fn a_host_that_was_stopped_for_twice_its_lease_does_not_settle_late() {
    let ack_wait = Duration::from_secs(2);
    let ground = Ground::new(ack_wait);
    let feed = Feed::start(ground.rig.publisher(), "m");
    for _ in 0..kills().div_ceil(5) {
        feed.go_on_for(300);
        ground.rig.signal(Signal::STOP);
        pause(ack_wait * 2);
        ground.rig.signal(Signal::CONT);
        feed.go_on_for(300);
    }
    let published = feed.finish();
    ground.balance("host stopped for twice its lease", published);
}
