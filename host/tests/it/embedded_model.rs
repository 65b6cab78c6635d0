//! The embedded queue beside a simple model of it: random operations, restarts among them, and the books balance.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::broker::embedded::{Durability, EmbeddedQueue, Options};
use tidegate::broker::{DeadLetterQuery, Delivery, SettleError, Settlement, Source};
use tidegate::message::Publish;
use tidegate::settle::dead_letter::DeadLetterId;

use crate::broker_contract::{LONG_LEASE, Place, ack, dead_letter, give_back, receive, settle, settle_one};

/// The two subscriptions, and what they want of the subjects.
const SUBSCRIPTIONS: [(&str, &[&str]); 2] = [("all", &["a.*", "b.*"]), ("some", &["a.*"])];
/// One that both want, one that one wants, one that nobody wants.
const SUBJECTS: [&str; 3] = ["a.x", "b.x", "c.x"];

#[derive(Debug, Clone)]
enum Step {
    Publish { subject: usize, id: Option<u8> },
    Receive { subscription: usize, most: usize },
    Ack { pick: usize, output: Option<usize> },
    Return { pick: usize, late: bool },
    DeadLetter { pick: usize },
    Redrive { pick: usize },
    SettleAgain { pick: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3usize, proptest::option::of(0..20u8)).prop_map(|(subject, id)| Step::Publish { subject, id }),
        5 => (0..2usize, 1..6usize).prop_map(|(subscription, most)| Step::Receive { subscription, most }),
        5 => (any::<usize>(), proptest::option::of(0..3usize)).prop_map(|(pick, output)| Step::Ack { pick, output }),
        3 => (any::<usize>(), proptest::bool::weighted(0.3)).prop_map(|(pick, late)| Step::Return { pick, late }),
        2 => any::<usize>().prop_map(|pick| Step::DeadLetter { pick }),
        2 => any::<usize>().prop_map(|pick| Step::Redrive { pick }),
        1 => any::<usize>().prop_map(|pick| Step::SettleAgain { pick }),
        1 => Just(Step::Restart),
    ]
}

/// What a subscription has to do with a message that it has not settled.
#[derive(Debug, Clone)]
struct Open {
    deliveries: u32,
    at: At,
}

#[derive(Debug, Clone, PartialEq)]
enum At {
    Fresh,
    Held,
    Due,
    Later,
}

#[derive(Default)]
struct Model {
    /// For each subscription, what it has yet to settle, by sequence.
    open: [BTreeMap<u64, Open>; 2],
    /// Messages that nobody wants.
    unwanted: u64,
    ids: BTreeMap<String, u64>,
    last_sequence: u64,
    dead: BTreeMap<String, usize>,
    published: u64,
    acknowledged: u64,
    given_up: u64,
}

impl Model {
    fn publish(&mut self, subject: usize, sequence: u64, target: Option<usize>) {
        assert!(sequence > self.last_sequence, "a sequence was used twice");
        self.last_sequence = sequence;
        let wanted: &[usize] = match (target, subject) {
            (Some(0), _) | (None, 1) => &[0],
            (Some(_), _) => &[1],
            (None, 0) => &[0, 1],
            (None, _) => &[],
        };
        for subscription in wanted {
            self.open[*subscription].insert(sequence, Open { deliveries: 0, at: At::Fresh });
        }
        self.unwanted += u64::from(wanted.is_empty());
        self.published += wanted.len() as u64;
    }

    fn kept(&self) -> u64 {
        let mut sequences: Vec<_> = self.open.iter().flat_map(BTreeMap::keys).collect();
        sequences.sort_unstable();
        sequences.dedup();
        sequences.len() as u64 + self.unwanted
    }

    fn count(&self, subscription: usize, wanted: &[At]) -> usize {
        self.open[subscription].values().filter(|open| wanted.contains(&open.at)).count()
    }
}

/// The queue and the model of it.
struct Pair {
    model: Model,
    place: Place,
    queue: Arc<EmbeddedQueue>,
    sources: Vec<Arc<dyn Source>>,
    held: Vec<(usize, Delivery)>,
    settled: Vec<(usize, Delivery)>,
}

async fn open(directory: &Path) -> (Place, Arc<EmbeddedQueue>, Vec<Arc<dyn Source>>) {
    // A kill of the process is what is tried here, and it takes nothing that was written.
    let options = Options { durability: Durability::Relaxed, ..Options::new(directory) };
    let (place, queue) = crate::embedded::open(options).await;
    let mut sources = Vec::new();
    for (name, filters) in SUBSCRIPTIONS {
        sources.push(place.subscribe(name, filters, LONG_LEASE).await);
    }
    (place, queue, sources)
}

impl Pair {
    async fn publish(&mut self, subject: usize, id: Option<u8>) {
        let message = self.message(subject, id);
        let published = self.place.broker.publish(vec![message.clone()]).await.remove(0).unwrap();
        self.note(subject, message, published.sequence, published.duplicate);
    }

    fn message(&self, subject: usize, id: Option<u8>) -> Publish {
        self.place.message(SUBJECTS[subject], id.map(|id| format!("id-{id}")).as_deref(), "body")
    }

    fn note(&mut self, subject: usize, message: Publish, sequence: u64, duplicate: bool) {
        let known = message.id.as_ref().and_then(|id| self.model.ids.get(id).copied());
        assert_eq!(duplicate, known.is_some(), "{:?}", message.id);
        match known {
            Some(known) => assert_eq!(sequence, known),
            None => {
                self.model.publish(subject, sequence, None);
                message.id.map(|id| self.model.ids.insert(id, sequence));
            }
        }
    }

    async fn receive(&mut self, subscription: usize, most: usize) {
        let available = self.model.count(subscription, &[At::Fresh, At::Due]).min(most);
        if available == 0 {
            return;
        }
        let came = receive(&*self.sources[subscription], available).await;
        let fresh: Vec<u64> = came.iter().filter(|one| one.progress.deliveries == 1).map(sequence).collect();
        assert!(fresh.is_sorted(), "{fresh:?}");
        for delivery in came {
            let open = self.model.open[subscription].get_mut(&sequence(&delivery)).expect("it was settled before");
            assert!(open.at == At::Fresh || open.at == At::Due, "handed out while {:?}", open.at);
            open.deliveries += 1;
            open.at = At::Held;
            assert_eq!(delivery.progress.deliveries, open.deliveries);
            self.held.push((subscription, delivery));
        }
    }

    async fn ack(&mut self, pick: usize, output: Option<usize>) {
        let Some((subscription, delivery)) = self.pick_held(pick) else { return };
        // An output with the id of its message's run: the second time it is known.
        let output = output.map(|subject| (subject, self.message(subject, Some(u8::try_from(subject).unwrap()))));
        let outputs = output.iter().map(|(_, message)| message.clone()).collect();
        let answer = settle(&delivery, Settlement::Ack { outputs });
        settle_one(&*self.sources[subscription], answer).await.unwrap();
        if let Some((subject, message)) = output {
            let known = message.id.as_ref().is_some_and(|id| self.model.ids.contains_key(id));
            if !known {
                let sequence = self.model.last_sequence + 1;
                self.note(subject, message, sequence, false);
            }
        }
        self.model.open[subscription].remove(&sequence(&delivery));
        self.model.acknowledged += 1;
        self.settled.push((subscription, delivery));
    }

    async fn give_back(&mut self, pick: usize, late: bool) {
        let Some((subscription, delivery)) = self.pick_held(pick) else { return };
        let delay = if late { LONG_LEASE * 60 } else { Duration::ZERO };
        let answer = give_back(&delivery, delay, delivery.progress.clone());
        settle_one(&*self.sources[subscription], answer).await.unwrap();
        let open = self.model.open[subscription].get_mut(&sequence(&delivery)).unwrap();
        open.at = if late { At::Later } else { At::Due };
        self.settled.push((subscription, delivery));
    }

    async fn give_up(&mut self, pick: usize) {
        let Some((subscription, delivery)) = self.pick_held(pick) else { return };
        let answer = dead_letter(&delivery, SUBSCRIPTIONS[subscription].0, delivery.message.redrives());
        let Settlement::DeadLetter(letter) = &answer.settlement else { unreachable!() };
        let id = letter.record.id.0.clone();
        settle_one(&*self.sources[subscription], answer).await.unwrap();
        self.model.open[subscription].remove(&sequence(&delivery));
        self.model.dead.insert(id, subscription);
        self.model.given_up += 1;
        self.settled.push((subscription, delivery));
    }

    async fn redrive(&mut self, pick: usize) {
        let count = self.model.dead.len();
        let Some((id, target)) = self.model.dead.iter().nth(pick % count.max(1)) else { return };
        let (id, target) = (id.clone(), *target);
        let letters = self.place.broker.dead_letters();
        let published = letters.redrive(&DeadLetterId(id.clone()), true).await.unwrap();
        self.model.dead.remove(&id);
        let subject = 0;
        self.model.publish(subject, published.sequence, Some(target));
        // Its id is known from now on with its new place, if it came with one: what `publish` says of it is that.
        let stored = letters.get(&DeadLetterId(id)).await.unwrap().letter.record.message_id;
        self.model.ids.insert(stored, published.sequence);
    }

    async fn settle_again(&mut self, pick: usize) {
        if self.settled.is_empty() {
            return;
        }
        let (subscription, delivery) = &self.settled[pick % self.settled.len()];
        let answer = settle_one(&*self.sources[*subscription], ack(delivery)).await;
        assert!(matches!(answer, Err(SettleError::LeaseLost)), "{answer:?}");
    }

    /// As after a kill: what was held is available again, its deliveries counted.
    async fn restart(self, directory: &Path) -> Self {
        let Self { mut model, place, queue, sources, held, settled } = self;
        drop((place, queue, sources));
        for open in model.open.iter_mut().flat_map(BTreeMap::values_mut) {
            if open.at == At::Held {
                open.at = At::Due;
            }
        }
        let (place, queue, sources) = open(directory).await;
        Self { model, place, queue, sources, held: Vec::new(), settled: [settled, held].concat() }
    }

    fn pick_held(&mut self, pick: usize) -> Option<(usize, Delivery)> {
        if self.held.is_empty() {
            return None;
        }
        Some(self.held.remove(pick % self.held.len()))
    }

    async fn check(&self) {
        let stats = self.queue.stats();
        assert_eq!(stats.messages, self.model.kept());
        assert_eq!(stats.dead_letters, self.model.dead.len() as u64);
        let mut there = 0;
        for (n, source) in self.sources.iter().enumerate() {
            let backlog = source.backlog().await.unwrap();
            let ready = self.model.count(n, &[At::Fresh]) as u64;
            let pending = self.model.count(n, &[At::Held, At::Due, At::Later]) as u64;
            assert_eq!((backlog.ready, backlog.pending), (ready, pending), "backlog of {}", SUBSCRIPTIONS[n].0);
            assert_eq!(backlog.oldest.is_some(), ready + pending > 0);
            there += ready + pending;
        }
        // Nothing is lost: what was published to someone was acknowledged, given up, or is there.
        assert_eq!(self.model.published, self.model.acknowledged + self.model.given_up + there);
    }
}

fn sequence(delivery: &Delivery) -> u64 {
    delivery.message.sequence
}

async fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let (place, queue, sources) = open(directory.path()).await;
    let model = Model::default();
    let mut pair = Pair { model, place, queue, sources, held: Vec::new(), settled: Vec::new() };
    for step in steps {
        match step {
            Step::Publish { subject, id } => pair.publish(subject, id).await,
            Step::Receive { subscription, most } => pair.receive(subscription, most).await,
            Step::Ack { pick, output } => pair.ack(pick, output).await,
            Step::Return { pick, late } => pair.give_back(pick, late).await,
            Step::DeadLetter { pick } => pair.give_up(pick).await,
            Step::Redrive { pick } => pair.redrive(pick).await,
            Step::SettleAgain { pick } => pair.settle_again(pick).await,
            Step::Restart => pair = pair.restart(directory.path()).await,
        }
        pair.check().await;
    }
    // At the end, after one more restart: exactly what the model has is handed out.
    let mut pair = pair.restart(directory.path()).await;
    for n in 0..pair.sources.len() {
        pair.receive(n, usize::MAX).await;
    }
    pair.check().await;
    let all = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
    let letters = pair.place.broker.dead_letters().list(&all).await.unwrap().letters;
    let ids: Vec<_> = letters.iter().rev().map(|stored| stored.letter.record.id.0.clone()).collect();
    assert_eq!(ids, pair.model.dead.keys().cloned().collect::<Vec<_>>());
}

proptest! {
    // Each case is some hundreds of commits; the failing one is printed, and shrunk.
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
