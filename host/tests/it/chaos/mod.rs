//! Faults that are really injected: the host is killed with -9, stopped and started under load, the server too; at the
//! end the books must balance by what stands in the broker.
//!
//! `TIDEGATE_KILLS=50 cargo test --test it chaos -- --nocapture` runs the long form (`cargo xtask reliability` does).

mod all_hosts;
mod apply;
mod audit;
mod books;
mod called;
mod circuits;
mod cluster;
mod cluster_command_line;
mod cluster_grants;
mod cluster_late;
mod cluster_rollouts;
mod cluster_shadows;
mod cluster_superseded;
mod cluster_trouble;
mod compiling;
mod deploys;
mod embedded;
mod forgotten;
mod fsync;
mod jetstream;
mod pauses;
mod redrives;
mod rig;
mod rollouts;
mod servers;
mod shadows;
mod swap;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use books::{Balance, Books};
use rig::Publisher;
pub(crate) use rig::{Rig, pause};

use crate::support::exposition::series;
use crate::support::nats::NatsServer;
use crate::support::until;
pub(crate) use swap::ledger;

/// How often things are killed: few in the everyday tests, many in the long form.
fn kills() -> u32 {
    std::env::var("TIDEGATE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The broker's entry of a host on this server, with streams for what comes in and what goes out.
pub(crate) fn on_jetstream(server: &NatsServer) -> String {
    on_servers(&[server.url()])
}

/// The same on servers that are one cluster.
fn on_servers(urls: &[String]) -> String {
    format!(
        "type = \"jetstream\"\nservers = {urls:?}\nstreams.IN = {{ subjects = [\"in.>\"] }}\n\
         streams.OUT = {{ subjects = [\"out.>\"] }}"
    )
}

/// Lets the host finish, and balances what it did by what stands in the broker.
fn balance(rig: &mut Rig, published: u64, read: impl FnOnce(&Rig, &mut Books)) -> (Books, Balance) {
    until_settled(rig);
    let mut books = Books::default();
    books.leases_lost = leases_lost(rig);
    rig.drain();
    books.read_runs(&rig.log());
    read(rig, &mut books);
    let balance = books.check("m", published);
    books.check_the_runs();
    (books, balance)
}

/// How many leases this life of the host has lost, by its metric.
fn leases_lost(rig: &Rig) -> u64 {
    series::<u64>(&rig.metrics(), "tidegate_lease_lost_total", &[]).iter().sum()
}

/// Publishes without end until it is stopped, group after group, each confirmed.
struct Feed {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    const GROUP: u64 = 100;

    fn start(publisher: Publisher, prefix: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let confirmed = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, confirmed) = (Arc::clone(&stop), Arc::clone(&confirmed));
            std::thread::spawn(move || {
                let mut next = 0;
                while !stop.load(Ordering::Acquire) {
                    let ids: Vec<String> =
                        (next..next + Self::GROUP).map(|number| format!("{prefix}-{number}")).collect();
                    publisher.publish(&ids);
                    next += Self::GROUP;
                    confirmed.store(next, Ordering::Release);
                }
            })
        };
        Self { stop, confirmed, thread: Some(thread) }
    }

    /// Waits until so many more are confirmed.
    fn go_on_for(&self, more: u64) {
        let goal = self.confirmed.load(Ordering::Acquire) + more;
        until("the feed goes on", Duration::from_secs(120), || self.confirmed.load(Ordering::Acquire) >= goal);
    }

    /// Waits until some hundred more are confirmed, and a moment: so that what comes next comes at any time.
    fn go_on_for_a_while(&self, rng: &mut fastrand::Rng) {
        self.go_on_for(rng.u64(1..8) * 100);
        pause(Duration::from_millis(rng.u64(0..120)));
    }

    /// Stops, and says how many messages are confirmed.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.confirmed.load(Ordering::Acquire)
    }
}

/// The backlog is looked at every two seconds, and may show what was before the last fault: nothing is left to do when
/// three looks in a row say so.
pub(crate) const QUIET: Duration = Duration::from_secs(7);

/// Waits until the host has nothing left to do.
fn until_settled(rig: &Rig) {
    let mut quiet_since = None;
    until("everything is settled", Duration::from_secs(300), || {
        let status = rig.status();
        let quiet = status.as_ref().and_then(|status| status.subscriptions.first()).is_some_and(|one| {
            let counts = &one.counts;
            let nothing_waits = counts.ready == 0 && counts.pending == 0 && counts.in_flight == 0;
            nothing_waits && one.trouble.is_none() && counts.consumed > 0
        });
        quiet_since = if quiet { quiet_since.or_else(|| Some(Instant::now())) } else { None };
        quiet_since.is_some_and(|since| since.elapsed() >= QUIET)
    });
}
