//! The host on a real nats-server: the host killed, the server killed and restarted, the host stopped for twice its
//! lease. A message whose settlement was confirmed never runs again, and an output stands there once.

use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::books::{Balance, Books};
use super::rig::{HELD_AT_ONCE, Rig, pause};
use super::witness::Witness;
use super::{Feed, audit, balance, kills, on_jetstream};
use crate::support::nats::NatsServer;

struct Ground {
    runtime: Runtime,
    server: NatsServer,
    rig: Rig,
    witness: Witness,
}

impl Ground {
    fn new(ack_wait: Duration) -> Self {
        Self::dying_at(None, ack_wait)
    }

    /// With a host that is to die at a place.
    fn dying_at(place: Option<&'static str>, ack_wait: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(NatsServer::start());
        // The stream of the outputs is made because the configuration names it: nobody receives from it.
        let mut rig = Rig::new(&on_jetstream(&server), ack_wait, "create = true");
        rig.dies_at = place;
        rig.start();
        let witness = Witness::of(&server, &runtime);
        Self { runtime, server, rig, witness }
    }

    /// Lets the host finish, and balances what stands on the server and what was published there; also how many outputs were
    /// published more than once.
    fn balance(mut self, what: &str, published: u64) -> (Books, Balance, usize) {
        let (runtime, server) = (&self.runtime, &self.server);
        let read = |rig: &Rig, books: &mut Books| runtime.block_on(audit::read_jetstream(rig, server, books));
        let (books, balance) = balance(&mut self.rig, published, read);
        let again = books.check_published_ids(&self.witness.seen(runtime));
        println!("jetstream, {what}: {balance:?}, {again} outputs published again under the same id");
        (books, balance, again)
    }
}

#[test]
fn the_host_killed_under_load_loses_nothing() {
    let mut ground = Ground::new(Duration::from_secs(3));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    for _ in 0..kills() {
        feed.go_on_for_a_while(&mut rng);
        ground.rig.kill();
        ground.rig.start();
    }
    let published = feed.finish();
    let (books, balance, _) = ground.balance(&format!("host killed {} times", kills()), published);
    books.check_extra_runs_after_kills(&balance, kills());
}

#[test]
fn the_server_killed_and_restarted_under_load_costs_no_second_run() {
    let mut ground = Ground::new(Duration::from_secs(5));
    let mut rng = fastrand::Rng::new();
    let feed = Feed::start(ground.rig.publisher(), "m");
    for round in 0..kills() {
        feed.go_on_for_a_while(&mut rng);
        if round % 3 == 2 {
            ground.runtime.block_on(ground.server.restart_in_order());
        } else {
            ground.server.kill();
            ground.runtime.block_on(ground.server.restart());
        }
    }
    feed.go_on_for(500);
    let published = feed.finish();
    let (books, balance, _) = ground.balance(&format!("server killed or restarted {} times", kills()), published);
    books.check_extra_runs_of_one_life(&balance);
}

#[test]
fn a_host_that_was_stopped_for_twice_its_lease_does_not_settle_late() {
    let ack_wait = Duration::from_secs(2);
    let ground = Ground::new(ack_wait);
    let stops = kills().div_ceil(5);
    let feed = Feed::start(ground.rig.publisher(), "m");
    for _ in 0..stops {
        feed.go_on_for(300);
        ground.rig.signal(Signal::STOP);
        pause(ack_wait * 2);
        ground.rig.signal(Signal::CONT);
        feed.go_on_for(300);
    }
    let published = feed.finish();
    let (books, balance, _) = ground.balance("host stopped for twice its lease", published);
    books.check_extra_runs_of_one_life(&balance);
    assert!(balance.extra_runs <= HELD_AT_ONCE * u64::from(stops), "{balance:?} with {stops} stops");
}

/// The host dies at a place in the middle of the settlement of one message.
fn killed_at(place: &'static str) -> (Books, Balance, usize) {
    let mut ground = Ground::dying_at(Some(place), Duration::from_secs(3));
    let publisher = ground.rig.publisher();
    // The host may die before it has answered; then the next one is asked.
    let publishing = std::thread::spawn(move || publisher.publish(&["m-0".to_owned()]));
    ground.rig.dead();
    ground.rig.dies_at = None;
    ground.rig.start();
    publishing.join().unwrap();
    let (books, balance, again) = ground.balance(&format!("host killed at `{place}`"), 1);
    books.check_extra_runs_after_kills(&balance, 1);
    (books, balance, again)
}

#[test]
fn killed_before_the_outcome_is_on_record_a_message_runs_again_and_its_output_has_the_same_id() {
    let (_, balance, again) = killed_at("outputs-stored");
    assert_eq!((balance.extra_runs, again), (1, 1), "{balance:?}");
}

#[test]
fn killed_after_the_outcome_is_on_record_a_message_does_not_run_again() {
    let (books, balance, again) = killed_at("done-recorded");
    // The server was told of nothing, and hands it over again.
    assert_eq!((books.already_done, balance.extra_runs, again), (1, 0, 0), "{balance:?}");
}
