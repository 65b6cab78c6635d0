//! What every broker promises, as tests that run on each: see `broker_contract!` at the end.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tidegate::access::{HandlerPattern, Scope};
use tidegate::broker::{
    Broker, By, DeadLetterError, DeadLetterFilter, DeadLetterQuery, DeadLetters, Delivery, Demand, PublishError,
    SendBack, Settle, SettleError, Settlement, Source, Standing, SubscriptionSpec, Tally,
};
use tidegate::message::{Headers, Message, Publish, REDRIVE_COUNT_HEADER, REDRIVE_OF_HEADER};
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord};
use tidegate::settle::progress::{AttemptRecord, Progress};
use tokio::time::{Instant, timeout};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A lease that does not end during a test.
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(60);
/// The shortest lease that all brokers keep to.
const SHORT_LEASE: Duration = Duration::from_secs(2);

/// A broker to test on, with a stream of its own.
pub(crate) struct Place {
    pub(crate) broker: Arc<dyn Broker>,
    /// The stream, where the broker has named ones; it takes `<prefix>.>`.
    pub(crate) stream: Option<String>,
    /// What the subjects of this place begin with.
    pub(crate) prefix: String,
    /// What must live as long: a directory, a server.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

impl Place {
    pub(crate) fn subject(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    pub(crate) fn spec(&self, name: &str, filters: &[&str], ack_wait: Duration) -> SubscriptionSpec {
        SubscriptionSpec {
            name: name.to_owned(),
            stream: self.stream.clone(),
            subjects: filters.iter().map(|filter| self.subject(filter)).collect(),
            ack_wait,
            max_in_flight: 100,
            create: true,
        }
    }

    pub(crate) async fn subscribe(&self, name: &str, filters: &[&str], ack_wait: Duration) -> Arc<dyn Source> {
        self.broker.subscribe(&self.spec(name, filters, ack_wait)).await.unwrap()
    }

    pub(crate) fn message(&self, rest: &str, id: Option<&str>, body: &str) -> Publish {
        Publish {
            subject: self.subject(rest),
            id: id.map(str::to_owned),
            headers: Headers::default(),
            body: Bytes::from(body.to_owned()),
        }
    }

    pub(crate) async fn publish(&self, rest: &str, bodies: impl IntoIterator<Item = impl AsRef<str>>) {
        let messages = bodies.into_iter().map(|body| self.message(rest, None, body.as_ref())).collect();
        for published in self.broker.publish(messages).await {
            assert!(!published.unwrap().duplicate);
        }
    }
}

pub(crate) fn demand(messages: usize) -> Demand {
    Demand { messages, bytes: usize::MAX }
}

/// Receives until so many messages have come.
pub(crate) async fn receive(source: &dyn Source, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    let until = Instant::now() + PATIENCE;
    while all.len() < count {
        assert!(Instant::now() < until, "only {} of {count} messages came", all.len());
        let came = source.receive(demand(count - all.len())).await.unwrap();
        assert!(came.len() <= count - all.len(), "more came than was asked for");
        all.extend(came);
    }
    all
}

pub(crate) async fn receive_one(source: &dyn Source) -> Delivery {
    receive(source, 1).await.remove(0)
}

pub(crate) fn settle(delivery: &Delivery, settlement: Settlement) -> Settle {
    Settle { receipt: delivery.receipt.clone(), settlement, lease_ends_at: delivery.lease_ends_at }
}

pub(crate) fn ack(delivery: &Delivery) -> Settle {
    settle(delivery, Settlement::Ack { outputs: Vec::new() })
}

pub(crate) fn give_back(delivery: &Delivery, delay: Duration, progress: Progress) -> Settle {
    settle(delivery, Settlement::Return { delay, progress: Box::new(progress) })
}

pub(crate) async fn settle_one(source: &dyn Source, settle: Settle) -> Result<(), SettleError> {
    let mut answers = source.settle(vec![settle]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.message)).collect()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

/// A failed run, as the settle stage would note it.
pub(crate) fn failed(mut progress: Progress) -> Progress {
    let failure = AttemptRecord {
        attempt: progress.attempt(),
        at: SystemTime::now(),
        run_ms: 1,
        reason: "handler-retry".to_owned(),
        error: "not yet".to_owned(),
        fingerprint: Some(7),
        digest: "0123456789ab".to_owned(),
    };
    progress.record(failure);
    progress
}

pub(crate) fn dead(delivery: &Delivery, subscription: &str, redrives: u32) -> DeadLetter {
    let message = &delivery.message;
    let now = SystemTime::now();
    DeadLetter {
        record: DeadLetterRecord {
            id: DeadLetterId(ulid::Ulid::generate().to_string()),
            reason: "handler-rejected".to_owned(),
            error: "no such customer".to_owned(),
            fingerprint: "00000000000000ff".to_owned(),
            subscription: subscription.to_owned(),
            broker: "test".to_owned(),
            stream: None,
            subject: message.subject.clone(),
            sequence: message.sequence,
            published_at: message.published_at,
            message_id: message.id.clone(),
            attempts: delivery.progress.attempt(),
            max_attempts: Some(10),
            deliveries: delivery.progress.deliveries,
            defers: 0,
            timeouts: 0,
            first_seen: delivery.progress.first_seen,
            dead_at: now,
            handler: "test".to_owned(),
            digest: "0123456789ab".to_owned(),
            version: Some(7),
            host: "here".to_owned(),
            fuel_used: 1,
            fuel_limit: 2,
            memory_peak: 3,
            run_ms: 4,
            backtrace: vec!["frame".to_owned()],
            logs: vec!["warn it was late".to_owned()],
            history: Vec::new(),
            redrives,
            traceparent: None,
        },
        headers: message.headers.clone(),
        body: message.body.clone(),
    }
}

pub(crate) fn dead_letter(delivery: &Delivery, subscription: &str, redrives: u32) -> Settle {
    settle(delivery, Settlement::DeadLetter(Box::new(dead(delivery, subscription, redrives))))
}

/// Polls until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    while !check().await {
        assert!(Instant::now() < until, "never: {what}");
        pause.tick().await;
    }
}

pub(crate) async fn comes_whole_and_in_order(place: &Place) {
    let source = place.subscribe("whole", &[">"], LONG_LEASE).await;
    let mut headers = Headers::default();
    headers.push("Content-Type", "text/plain");
    headers.push("X-Twice", "one");
    headers.push("X-Twice", "two");
    let large = "x".repeat(100_000);
    let bodies = ["first", "", &large, "last"];
    let before = SystemTime::now() - Duration::from_secs(5);
    let messages = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| Publish { headers: headers.clone(), ..place.message("a.b", Some(&format!("id-{n}")), body) });
    let published = place.broker.publish(messages.collect()).await;
    let sequences: Vec<u64> = published.into_iter().map(|one| one.unwrap().sequence).collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let came = receive(&*source, 4).await;
    for (n, delivery) in came.iter().enumerate() {
        let message = &delivery.message;
        assert_eq!(message.subject, place.subject("a.b"));
        assert_eq!(message.id, format!("id-{n}"));
        assert_eq!(message.sequence, sequences[n]);
        assert!(message.body == bodies[n], "body {n}");
        assert!(message.published_at > before && message.published_at < SystemTime::now() + Duration::from_secs(5));
        let twice: Vec<_> = message.headers.iter().filter(|header| header.name == "X-Twice").collect();
        assert_eq!((twice[0].value.as_ref(), twice[1].value.as_ref()), (&b"one"[..], &b"two"[..]));
        assert_eq!(message.headers.text("content-type"), Some("text/plain"));
        assert_eq!(delivery.progress.deliveries, 1);
        assert_eq!(delivery.progress.attempt(), 1);
        assert!(delivery.lease_ends_at > Instant::now() && delivery.lease_ends_at < Instant::now() + LONG_LEASE);
        assert_eq!(delivery.standing, Standing::Due);
    }
}

pub(crate) async fn what_is_acknowledged_is_gone(place: &Place) {
    let source = place.subscribe("acks", &[">"], LONG_LEASE).await;
    place.publish("a", ["1", "2", "3"]).await;
    let came = receive(&*source, 3).await;
    let answers = source.settle(came.iter().map(ack).collect()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    eventually("nothing is left", || async {
        let backlog = source.backlog().await.unwrap();
        (backlog.ready, backlog.pending, backlog.oldest) == (0, 0, None)
    })
    .await;
    place.publish("a", ["4"]).await;
    assert_eq!(bodies(&receive(&*source, 1).await), ["4"]);
}

pub(crate) async fn a_backlog_is_counted(place: &Place) {
    let source = place.subscribe("counts", &["a.>"], LONG_LEASE).await;
    place.publish("a.x", ["1", "2", "3", "4", "5"]).await;
    place.publish("b.x", ["not for us"]).await;
    eventually("five are ready", || async { source.backlog().await.unwrap().ready == 5 }).await;
    let came = receive(&*source, 2).await;
    settle_one(&*source, give_back(&came[0], Duration::from_secs(600), came[0].progress.clone())).await.unwrap();
    eventually("three are ready, two pending", || async {
        let backlog = source.backlog().await.unwrap();
        (backlog.ready, backlog.pending) == (3, 2) && backlog.oldest == Some(came[0].message.published_at)
    })
    .await;
}

pub(crate) async fn a_return_waits_and_keeps_its_progress(place: &Place) {
    let source = place.subscribe("returns", &[">"], LONG_LEASE).await;
    place.publish("a", ["slow"]).await;
    let first = receive_one(&*source).await;
    let delay = Duration::from_millis(700);
    let returned = Instant::now();
    settle_one(&*source, give_back(&first, delay, failed(first.progress.clone()))).await.unwrap();
    // What comes after it is not held up by it.
    place.publish("a", ["quick"]).await;
    let quick = receive_one(&*source).await;
    assert_eq!(text(&quick.message), "quick");
    settle_one(&*source, ack(&quick)).await.unwrap();
    let again = receive_one(&*source).await;
    assert!(returned.elapsed() >= delay, "it came back after {:?}", returned.elapsed());
    assert_eq!(again.message, first.message);
    assert_eq!(again.progress.deliveries, 2);
    assert_eq!(again.progress.attempt(), 2);
    assert_eq!(again.progress.failures, 1);
    assert_eq!(again.progress.unexplained(), 0);
    assert_eq!(again.progress.previous_failure().as_deref(), Some("handler-retry: not yet"));
    settle_one(&*source, ack(&again)).await.unwrap();
}

pub(crate) async fn an_uncounted_return_costs_no_attempt(place: &Place) {
    let source = place.subscribe("uncounted", &[">"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    for round in 1..=4 {
        let delivery = receive_one(&*source).await;
        assert_eq!((delivery.progress.deliveries, delivery.progress.attempt()), (round, 1));
        let mut progress = delivery.progress.clone();
        progress.uncounted += 1;
        settle_one(&*source, give_back(&delivery, Duration::ZERO, progress)).await.unwrap();
    }
}

pub(crate) async fn a_dead_letter_is_kept_and_its_message_gone(place: &Place) {
    let source = place.subscribe("deaths", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    let mut message = place.message("a.b", Some("the-id"), "poison");
    message.headers.push("X-Kind", "order");
    place.broker.publish(vec![message]).await.remove(0).unwrap();
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "deaths", 0);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter.clone())))).await.unwrap();
    eventually("the source is empty", || async {
        let backlog = source.backlog().await.unwrap();
        (backlog.ready, backlog.pending) == (0, 0)
    })
    .await;
    assert_eq!(letters.depth().await.unwrap(), 1);
    let stored = letters.get(&id).await.unwrap();
    assert_eq!(stored.letter.record.message_id, "the-id");
    assert_eq!(stored.letter.record.reason, "handler-rejected");
    assert_eq!(stored.letter.record.error, "no such customer");
    assert_eq!(stored.letter.record.sequence, delivery.message.sequence);
    assert_eq!(stored.letter.body, "poison");
    assert_eq!(stored.letter.headers.text("x-kind"), Some("order"));
    assert_eq!((stored.body_size, stored.redriven_at), (6, None));
    let page = letters.list(&DeadLetterQuery::default()).await.unwrap();
    assert_eq!(page.letters.len(), 1);
    assert_eq!((page.letters[0].letter.body.len(), page.letters[0].body_size), (0, 6));
    letters.discard(&id).await.unwrap();
    assert!(matches!(letters.get(&id).await, Err(DeadLetterError::NotFound(_))));
    assert!(matches!(letters.discard(&id).await, Err(DeadLetterError::NotFound(_))));
    assert_eq!(letters.depth().await.unwrap(), 0);
}

pub(crate) async fn dead_letters_are_listed_newest_first_by_page(place: &Place) {
    let source = place.subscribe("pages", &[">"], LONG_LEASE).await;
    let other = place.subscribe("other", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.publish("a", ["1", "2", "3", "4", "5"]).await;
    for delivery in receive(&*source, 5).await {
        settle_one(&*source, dead_letter(&delivery, "pages", 0)).await.unwrap();
    }
    let delivery = receive_one(&*other).await;
    settle_one(&*other, dead_letter(&delivery, "other", 0)).await.unwrap();
    let filter = DeadLetterFilter { subscription: Some("pages".to_owned()), ..DeadLetterFilter::default() };
    let mut query = DeadLetterQuery { filter, limit: 2, ..DeadLetterQuery::default() };
    let mut ids = Vec::new();
    loop {
        let page = letters.list(&query).await.unwrap();
        assert!(page.letters.len() <= 2);
        ids.extend(page.letters.iter().map(|stored| stored.letter.record.id.clone()));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5, "one came twice: {ids:?}");
    assert_eq!(ids.len(), 5);
    // The first ten characters are the millisecond of death; within one the rest is chance, and so may the order be.
    assert!(ids.is_sorted_by(|a, b| a.0[..10] >= b.0[..10]), "{ids:?}");
    let by_reason = DeadLetterFilter { reason: Some("timeout".to_owned()), ..DeadLetterFilter::default() };
    assert_eq!(found(&*letters, by_reason).await, [0; 0]);
}

/// The sequences of what a filter finds, page by page.
async fn found(letters: &dyn DeadLetters, filter: DeadLetterFilter) -> Vec<u64> {
    let mut query = DeadLetterQuery { filter, limit: 2, ..DeadLetterQuery::default() };
    let mut sequences = Vec::new();
    loop {
        let page = letters.list(&query).await.unwrap();
        sequences.extend(page.letters.iter().map(|stored| stored.letter.record.sequence));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    sequences.sort_unstable();
    sequences
}

pub(crate) async fn dead_letters_are_found_and_counted_by_what_they_have_in_common(place: &Place) {
    let source = place.subscribe("traits", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.publish("a", ["1", "2", "3", "4", "5", "6"]).await;
    let start = SystemTime::now();
    let mut sequences = Vec::new();
    let mut newest = DeadLetterId(String::new());
    for (delivery, number) in receive(&*source, 6).await.into_iter().zip(1u64..) {
        let mut letter = dead(&delivery, "traits", 0);
        // An hour apart, so that no clock decides.
        letter.record.dead_at = start + Duration::from_secs(number * 3600) - Duration::from_secs(6 * 3600);
        let millis = letter.record.dead_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        letter.record.id =
            DeadLetterId(ulid::Ulid::from_parts(u64::try_from(millis).unwrap(), u128::from(number)).to_string());
        letter.record.handler = if number <= 4 { "invoice" } else { "billing-eu" }.to_owned();
        letter.record.fingerprint = if number <= 3 { "00000000000000aa" } else { "00000000000000bb" }.to_owned();
        letter.record.digest = if number == 2 { "cd" } else { "ab" }.repeat(32);
        letter.record.error = format!("No such order {number}");
        letter.record.reason = if number == 6 { "timeout" } else { "handler-rejected" }.to_owned();
        newest = letter.record.id.clone();
        sequences.push(delivery.message.sequence);
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    let at = |number: u64| Some(start + Duration::from_secs(number * 3600) - Duration::from_secs(6 * 3600));
    let none = DeadLetterFilter::default;
    let only = Scope::Only([HandlerPattern::new("billing-*").unwrap()].into());
    let rows: [(DeadLetterFilter, &[usize]); 11] = [
        (none(), &[1, 2, 3, 4, 5, 6]),
        (DeadLetterFilter { handler: text("invoice"), ..none() }, &[1, 2, 3, 4]),
        (DeadLetterFilter { fingerprint: text("00000000000000bb"), ..none() }, &[4, 5, 6]),
        (DeadLetterFilter { digest: text("cdcdcdcdcdcd"), ..none() }, &[2]),
        (DeadLetterFilter { reason: text("timeout"), handler: text("invoice"), ..none() }, &[]),
        (DeadLetterFilter { reason: text("timeout"), handler: text("billing-eu"), ..none() }, &[6]),
        (DeadLetterFilter { text: text("ORDER 3"), ..none() }, &[3]),
        (DeadLetterFilter { since: at(3), ..none() }, &[3, 4, 5, 6]),
        (DeadLetterFilter { since: at(2), until: at(5), handler: text("invoice"), ..none() }, &[2, 3, 4]),
        (DeadLetterFilter { scope: only, ..none() }, &[5, 6]),
        (DeadLetterFilter { include_redriven: true, digest: text("cdcdcdcdcdcd"), ..none() }, &[2]),
    ];
    for (filter, expected) in rows {
        let expected: Vec<u64> = expected.iter().map(|number| sequences[number - 1]).collect();
        assert_eq!(found(&*letters, filter.clone()).await, expected, "{filter:?}");
        let tally = Tally::new(By::Fingerprint, start).at("here");
        let counted = letters.tally(&filter, tally).await.unwrap().finish(10);
        assert_eq!(counted.matched, expected.len() as u64, "{filter:?}");
    }
    let tally = Tally::new(By::Fingerprint, start).at("here");
    let counted = letters.tally(&none(), tally).await.unwrap().finish(1);
    let largest = &counted.groups[0];
    assert_eq!(
        (largest.key.as_str(), largest.letters, counted.others, counted.is_cut),
        ("00000000000000aa", 3, 3, false)
    );
    let deaths = counted.deaths.as_ref().unwrap();
    assert_eq!((deaths.counts.iter().sum::<u64>(), deaths.counts.len() > 6), (6, true), "five hours: {deaths:?}");
    let sample = letters.get(&largest.newest).await.unwrap().letter.record;
    assert_eq!(sample.error, "No such order 3");
    let counted = letters.tally(&none(), Tally::new(By::Age, start)).await.unwrap().finish(10);
    let ages: Vec<_> = counted.groups.iter().map(|group| (group.key.as_str(), group.letters)).collect();
    assert_eq!(ages, [("under 1h", 1), ("1h to 6h", 5)]);
    assert_eq!(letters.get(&newest).await.unwrap().letter.record.logs, ["warn it was late"]);
    assert_eq!(letters.depth().await.unwrap(), 6, "looking changes nothing");
}

pub(crate) async fn what_is_counted_by_a_moment_is_what_is_listed_by_it(place: &Place) {
    // The story: a store counts by the microsecond and lists by the nanosecond, so that what died within the last
    // microsecond was counted and not removed.
    let source = place.subscribe("moments", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.publish("a", ["1", "2", "3", "4"]).await;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let start = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(since).unwrap());
    for (delivery, nanos) in receive(&*source, 4).await.into_iter().zip([0, 400, 999, 1000]) {
        let mut letter = dead(&delivery, "moments", 0);
        letter.record.dead_at = start + Duration::from_nanos(nanos);
        let millis = u64::try_from(since / 1000).unwrap();
        letter.record.id = DeadLetterId(ulid::Ulid::from_parts(millis, u128::from(nanos)).to_string());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    for (nanos, expected) in [(500, 0), (1000, 3), (1900, 3), (2000, 4)] {
        let filter = DeadLetterFilter::default().by(start + Duration::from_nanos(nanos));
        let tally = Tally::new(By::Reason, start);
        let counted = letters.tally(&filter, tally).await.unwrap().finish(1).matched;
        assert_eq!((counted, found(&*letters, filter).await.len()), (expected, expected as usize), "by {nanos} ns");
    }
}

pub(crate) async fn dead_letters_go_through_the_oldest_first_and_come_back_as_they_were(place: &Place) {
    let source = place.subscribe("carried", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    assert_eq!(letters.oldest().await.unwrap(), None);
    place.publish("a", ["1", "2", "3"]).await;
    for (delivery, number) in receive(&*source, 3).await.into_iter().zip(1u128..) {
        let mut letter = dead(&delivery, "carried", 0);
        letter.record.id = DeadLetterId(ulid::Ulid::from_parts(1_700_000_000_000, number).to_string());
        settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    }
    let mut query = DeadLetterQuery { limit: 2, oldest_first: true, ..DeadLetterQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = letters.list(&query).await.unwrap();
        all.extend(page.letters);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert!(all.len() == 3 && all.is_sorted_by_key(|stored| stored.letter.record.id.clone()), "{all:?}");
    let oldest = letters.oldest().await.unwrap().unwrap();
    let apart = oldest.duration_since(all[0].letter.record.dead_at).unwrap_or_else(|before| before.duration());
    assert!(apart < Duration::from_millis(1), "the oldest died at {oldest:?}: {all:?}");
    let whole = letters.get(&all[1].handle).await.unwrap();
    assert!(!letters.restore(whole.letter.clone()).await.unwrap(), "it is there");
    letters.discard(&all[1].handle).await.unwrap();
    assert_eq!(letters.depth().await.unwrap(), 2);
    assert!(letters.restore(whole.letter.clone()).await.unwrap());
    assert_eq!(letters.get(&whole.letter.record.id).await.unwrap().letter, whole.letter);
    // From another place, whose messages had the same sequences.
    let mut foreign = whole.letter.clone();
    foreign.record.id = DeadLetterId(ulid::Ulid::from_parts(1_700_000_000_000, 9).to_string());
    foreign.record.message_id = "of another queue".to_owned();
    foreign.record.published_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    assert!(letters.restore(foreign.clone()).await.unwrap());
    assert_eq!(letters.get(&foreign.record.id).await.unwrap().letter, foreign);
    assert_eq!(letters.depth().await.unwrap(), 4);
    letters.redrive(&foreign.record.id, false).await.unwrap();
    assert_eq!(receive_one(&*source).await.message.id, "of another queue");
}

pub(crate) async fn a_message_is_not_lost_to_a_dead_letter_from_another_queue(place: &Place) {
    // The story: a dead letter was brought in that had died of the same subscription's message 2, in another queue. When
    // message 2 of this one died, its place was found taken, that was taken for its own dead letter, and it was gone.
    let source = place.subscribe("imports", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.publish("a", ["1", "2"]).await;
    let delivered = receive(&*source, 2).await;
    let mut foreign = dead(&delivered[1], "imports", 0);
    foreign.record.message_id = "of another queue".to_owned();
    foreign.record.published_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    foreign.body = "foreign".into();
    assert!(letters.restore(foreign).await.unwrap());
    settle_one(&*source, dead_letter(&delivered[0], "imports", 0)).await.unwrap();
    settle_one(&*source, dead_letter(&delivered[1], "imports", 0)).await.unwrap();
    let mut bodies = Vec::new();
    for stored in letters.list(&DeadLetterQuery::default()).await.unwrap().letters {
        bodies.push(letters.get(&stored.handle).await.unwrap().letter.body);
    }
    bodies.sort_unstable();
    assert_eq!(bodies, ["1", "2", "foreign"]);
    assert_eq!(letters.depth().await.unwrap(), 3);
}

pub(crate) async fn a_redrive_comes_back_with_its_identity(place: &Place) {
    let source = place.subscribe("redrives", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.broker.publish(vec![place.message("a.b", Some("me"), "again")]).await.remove(0).unwrap();
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "redrives", 0);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    letters.redrive(&id, false).await.unwrap();
    let again = receive_one(&*source).await;
    assert_eq!((again.message.id.as_str(), text(&again.message).as_str()), ("me", "again"));
    assert_eq!(again.message.subject, place.subject("a.b"));
    assert_eq!(again.message.headers.text(REDRIVE_COUNT_HEADER), Some("1"));
    assert_eq!((again.message.redrives(), again.progress.attempt(), again.progress.failures), (1, 1, 0));
    assert!(matches!(letters.redrive(&id, true).await, Err(DeadLetterError::AlreadyRedriven(_))));
    assert_eq!(letters.depth().await.unwrap(), 0);
    let sent_back = letters.get(&id).await.unwrap();
    assert!(sent_back.redriven_at.is_some());
    // A copy that was kept elsewhere would run it a second time.
    assert!(!letters.restore(sent_back.letter).await.unwrap(), "it was sent back");
    assert_eq!(letters.depth().await.unwrap(), 0);
    assert_eq!(letters.list(&DeadLetterQuery::default()).await.unwrap().letters.len(), 0);
    let all = DeadLetterFilter { include_redriven: true, ..DeadLetterFilter::default() };
    assert_eq!(found(&*letters, all).await.len(), 1);
    let tally = Tally::new(By::Reason, SystemTime::now());
    let counted = letters.tally(&DeadLetterFilter::default(), tally).await.unwrap().finish(10);
    assert_eq!(counted.matched, 0, "what was sent back is not counted");
    // It dies once more: a dead letter of its own.
    settle_one(&*source, dead_letter(&again, "redrives", 1)).await.unwrap();
    assert_eq!(letters.depth().await.unwrap(), 1);
    // What was sent back goes at its age, and nothing else.
    let sent_back_at = letters.get(&id).await.unwrap().redriven_at.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(letters.forget_redriven(sent_back_at - hour, 10).await.unwrap(), 0);
    assert_eq!(letters.forget_redriven(SystemTime::now() + hour, 10).await.unwrap(), 1);
    assert!(matches!(letters.get(&id).await, Err(DeadLetterError::NotFound(_))));
    assert_eq!(letters.depth().await.unwrap(), 1);
}

pub(crate) async fn a_redrive_to_another_subject_is_for_all_that_receive_it(place: &Place) {
    let failing = place.subscribe("failing", &["a"], LONG_LEASE).await;
    let manual = place.subscribe("manual", &["b"], LONG_LEASE).await;
    let audit = place.subscribe("audit", &["b"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    place.broker.publish(vec![place.message("a", Some("me"), "poison")]).await.remove(0).unwrap();
    let delivery = receive_one(&*failing).await;
    let letter = dead(&delivery, "failing", 0);
    let id = letter.record.id.clone();
    settle_one(&*failing, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    let to = |subject: &str| SendBack { to: Some(subject.to_owned()), ..SendBack::default() };
    let refused = letters.send_back(&id, &to("of.nobody")).await;
    assert!(matches!(&refused, Err(DeadLetterError::NobodyTakes { to, .. }) if to == "of.nobody"), "{refused:?}");
    assert_eq!(letters.depth().await.unwrap(), 1, "it stays");

    letters.send_back(&id, &to(&place.subject("b"))).await.unwrap();
    for source in [&manual, &audit] {
        let came = receive_one(&**source).await;
        assert_eq!((came.message.id.as_str(), text(&came.message).as_str()), ("me", "poison"));
        assert_eq!((came.message.subject.clone(), came.message.redrives()), (place.subject("b"), 1));
        assert_eq!(came.message.headers.text(REDRIVE_OF_HEADER), Some(id.0.as_str()));
        assert!(matches!(came.standing, Standing::Due), "{:?}", came.standing);
    }
    assert_eq!(letters.depth().await.unwrap(), 0);
    let again = letters.send_back(&id, &to(&place.subject("b"))).await;
    assert!(matches!(again, Err(DeadLetterError::AlreadyRedriven(_))), "{again:?}");
    place.publish("a", ["the next one"]).await;
    assert_eq!(text(&receive_one(&*failing).await.message), "the next one", "it did not come back here");
}

pub(crate) async fn a_redrive_loop_needs_force(place: &Place) {
    let source = place.subscribe("loops", &[">"], LONG_LEASE).await;
    let letters = place.broker.dead_letters();
    let mut message = place.message("a", None, "again and again");
    message.headers.set(REDRIVE_COUNT_HEADER, "3");
    place.broker.publish(vec![message]).await.remove(0).unwrap();
    let delivery = receive_one(&*source).await;
    let letter = dead(&delivery, "loops", 3);
    let id = letter.record.id.clone();
    settle_one(&*source, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    let refused = letters.redrive(&id, false).await;
    assert!(matches!(refused, Err(DeadLetterError::Loop { count: 3, .. })), "{refused:?}");
    letters.redrive(&id, true).await.unwrap();
    assert_eq!(receive_one(&*source).await.message.redrives(), 4);
}

pub(crate) async fn a_redrive_is_for_the_subscription_that_gave_the_message_up(place: &Place) {
    // The story: two subscriptions received one subject. One of them gave a message up; its dead letter was sent back,
    // and the other one, which had been done with the message long before, ran it a second time.
    let failing = place.subscribe("failing", &[">"], LONG_LEASE).await;
    let content = place.subscribe("content", &[">"], LONG_LEASE).await;
    place.publish("a", ["fails in one"]).await;
    settle_one(&*content, ack(&receive_one(&*content).await)).await.unwrap();
    let delivery = receive_one(&*failing).await;
    let letter = dead(&delivery, "failing", 0);
    let id = letter.record.id.clone();
    settle_one(&*failing, settle(&delivery, Settlement::DeadLetter(Box::new(letter)))).await.unwrap();
    place.broker.dead_letters().redrive(&id, false).await.unwrap();
    place.publish("a", ["the next one"]).await;

    let came = receive(&*failing, 2).await;
    assert_eq!(bodies(&came), ["fails in one", "the next one"]);
    assert!(came.iter().all(|delivery| delivery.standing == Standing::Due), "it would not run again");
    // A broker that cannot keep it from the other one says so.
    let mut due = Vec::new();
    while due.is_empty() {
        for delivery in receive(&*content, 1).await {
            match delivery.standing {
                Standing::Due => due.push(text(&delivery.message)),
                Standing::ForAnother => settle_one(&*content, ack(&delivery)).await.unwrap(),
                Standing::Done | Standing::Unreadable(_) | Standing::Exhausted => panic!("{delivery:?}"),
            }
        }
    }
    assert_eq!(due, ["the next one"]);

    // What a handler publishes with the headers of its message reaches everybody.
    let copy = Publish { headers: came[0].message.headers.clone(), ..place.message("a", None, "an output") };
    let copy = Publish { headers: without_reserved(copy.headers.clone()), ..copy };
    for published in place.broker.publish(vec![copy]).await {
        published.unwrap();
    }
    let output = receive_one(&*content).await;
    assert_eq!((text(&output.message), output.standing), ("an output".to_owned(), Standing::Due));
}

fn without_reserved(mut headers: Headers) -> Headers {
    headers.0.retain(|header| !header.name.starts_with("Nats-"));
    headers
}

pub(crate) async fn a_lease_that_ends_gives_the_message_back(place: &Place) {
    let source = place.subscribe("leases", &[">"], SHORT_LEASE).await;
    place.publish("a", ["1"]).await;
    let first = receive_one(&*source).await;
    let again = receive_one(&*source).await;
    assert!(Instant::now() >= first.lease_ends_at, "it came back before its lease was over");
    assert_eq!(again.message, first.message);
    assert_eq!((again.progress.deliveries, again.progress.attempt(), again.progress.unexplained()), (2, 2, 1));
    settle_one(&*source, ack(&again)).await.unwrap();
}

pub(crate) async fn an_extended_lease_holds(place: &Place) {
    let source = place.subscribe("extends", &[">"], SHORT_LEASE).await;
    place.publish("a", ["held"]).await;
    let mut held = receive_one(&*source).await;
    let started = Instant::now();
    let mut beat = tokio::time::interval(SHORT_LEASE / 4);
    while started.elapsed() < 2 * SHORT_LEASE {
        beat.tick().await;
        let ends = source.extend(std::slice::from_ref(&held.receipt)).await[0].expect("the lease is held");
        assert!(ends >= held.lease_ends_at);
        held.lease_ends_at = ends;
    }
    place.publish("a", ["next"]).await;
    let next = receive_one(&*source).await;
    assert_eq!(text(&next.message), "next", "the one that is held came again");
    settle_one(&*source, ack(&held)).await.unwrap();
}

pub(crate) async fn nothing_is_settled_after_the_lease(place: &Place) {
    let source = place.subscribe("late", &[">"], SHORT_LEASE).await;
    place.publish("a", ["1"]).await;
    let mut delivery = receive_one(&*source).await;
    // The caller's own clock says that it is over, whatever the broker thinks.
    delivery.lease_ends_at = Instant::now();
    let late = settle_one(&*source, ack(&delivery)).await;
    assert!(matches!(late, Err(SettleError::LeaseLost)), "{late:?}");
    let again = receive_one(&*source).await;
    settle_one(&*source, ack(&again)).await.unwrap();
}

pub(crate) async fn an_id_is_taken_once(place: &Place) {
    let source = place.subscribe("ids", &[">"], LONG_LEASE).await;
    let first = place.broker.publish(vec![place.message("a", Some("x"), "1")]).await.remove(0).unwrap();
    assert!(!first.duplicate);
    let group = vec![
        place.message("a", Some("x"), "again"),
        place.message("a", Some("y"), "2"),
        place.message("b", Some("y"), "again"),
        place.message("a", None, "3"),
        place.message("a", None, "3"),
    ];
    let answers: Vec<_> = place.broker.publish(group).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().map(|one| one.duplicate).collect::<Vec<_>>(), [true, false, true, false, false]);
    assert_eq!(answers[0].sequence, first.sequence);
    assert_eq!(answers[2].sequence, answers[1].sequence);
    let came = receive(&*source, 4).await;
    assert_eq!(bodies(&came), ["1", "2", "3", "3"]);
    assert_ne!(came[2].message.id, came[3].message.id, "what came without an id is told apart");
    for delivery in &came {
        settle_one(&*source, ack(delivery)).await.unwrap();
    }
    let after = place.broker.publish(vec![place.message("a", Some("x"), "still known")]).await.remove(0).unwrap();
    assert!(after.duplicate, "an id is known after its message was acknowledged");
}

pub(crate) async fn each_subscription_gets_every_message(place: &Place) {
    let one = place.subscribe("one", &[">"], LONG_LEASE).await;
    let two = place.subscribe("two", &[">"], LONG_LEASE).await;
    place.publish("a", ["1", "2", "3"]).await;
    let came = receive(&*one, 3).await;
    for delivery in &came {
        settle_one(&*one, ack(delivery)).await.unwrap();
    }
    let came = receive(&*two, 3).await;
    assert_eq!(bodies(&came), ["1", "2", "3"]);
    settle_one(&*two, give_back(&came[1], Duration::ZERO, came[1].progress.clone())).await.unwrap();
    assert_eq!(bodies(&receive(&*two, 1).await), ["2"], "another's acknowledgement is none of ours");
}

pub(crate) async fn a_later_subscription_starts_from_the_oldest(place: &Place) {
    let first = place.subscribe("first", &["a"], LONG_LEASE).await;
    place.publish("a", ["1"]).await;
    place.publish("b", ["2", "3"]).await;
    let held = receive_one(&*first).await;
    let later = place.subscribe("later", &[">"], LONG_LEASE).await;
    assert_eq!(bodies(&receive(&*later, 3).await), ["1", "2", "3"]);
    settle_one(&*first, ack(&held)).await.unwrap();
}

pub(crate) async fn filters_choose(place: &Place) {
    let star = place.subscribe("star", &["orders.*.paid"], LONG_LEASE).await;
    let rest = place.subscribe("rest", &["orders.eu.>"], LONG_LEASE).await;
    let both = place.subscribe("both", &["orders.us.paid", "users.*"], LONG_LEASE).await;
    for subject in ["orders.eu.paid", "orders.us.paid", "orders.eu.sent.late", "users.new", "orders.eu", "end.all"] {
        place.publish(subject, [subject]).await;
    }
    assert_eq!(bodies(&receive(&*star, 2).await), ["orders.eu.paid", "orders.us.paid"]);
    assert_eq!(bodies(&receive(&*rest, 2).await), ["orders.eu.paid", "orders.eu.sent.late"]);
    assert_eq!(bodies(&receive(&*both, 2).await), ["orders.us.paid", "users.new"]);
    for source in [star, rest, both] {
        eventually("nothing more is ready", || async { source.backlog().await.unwrap().ready == 0 }).await;
    }
}

pub(crate) async fn no_more_than_was_asked_for(place: &Place) {
    let source = place.subscribe("demand", &[">"], LONG_LEASE).await;
    place.publish("a", (0..20).map(|n| format!("{n:1000}"))).await;
    let mut seen = BTreeSet::new();
    // Three fit the bytes, with their subjects and ids; then one at a time, though none fits.
    for (bytes, most) in [(3_600, 3), (100, 1), (100, 1)] {
        let came = timeout(PATIENCE, source.receive(Demand { messages: 10, bytes })).await.unwrap().unwrap();
        assert!(!came.is_empty() && came.len() <= most, "{} came for {bytes} bytes", came.len());
        seen.extend(came.iter().map(|delivery| delivery.message.sequence));
    }
    let came = timeout(PATIENCE, source.receive(demand(4))).await.unwrap().unwrap();
    assert!(!came.is_empty() && came.len() <= 4);
    seen.extend(came.iter().map(|delivery| delivery.message.sequence));
    let rest = 20 - seen.len();
    seen.extend(receive(&*source, rest).await.iter().map(|delivery| delivery.message.sequence));
    assert_eq!(seen.len(), 20, "each came once");
}

pub(crate) async fn a_publish_wakes_who_waits(place: &Place) {
    let source = place.subscribe("waits", &[">"], LONG_LEASE).await;
    let waiting = tokio::spawn(async move { receive_one(&*source).await });
    tokio::task::yield_now().await;
    place.publish("a", ["now"]).await;
    let came = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(text(&came.message), "now");
}

pub(crate) async fn outputs_are_published_with_the_ack(place: &Place) {
    let source = place.subscribe("inputs", &["in"], LONG_LEASE).await;
    let results = place.subscribe("results", &["out"], LONG_LEASE).await;
    place.publish("in", ["1", "2"]).await;
    let came = receive(&*source, 2).await;
    let outputs = vec![place.message("out", Some("o-1"), "a"), place.message("out", Some("o-2"), "b")];
    settle_one(&*source, settle(&came[0], Settlement::Ack { outputs: outputs.clone() })).await.unwrap();
    assert_eq!(source.take_duplicates(), 0);
    // The same outputs again, as after a run that was repeated: known by their ids.
    settle_one(&*source, settle(&came[1], Settlement::Ack { outputs })).await.unwrap();
    assert_eq!((source.take_duplicates(), source.take_duplicates()), (2, 0), "each is told once");
    place.publish("out", ["end"]).await;
    assert_eq!(bodies(&receive(&*results, 3).await), ["a", "b", "end"]);
}

pub(crate) async fn an_output_that_is_refused_keeps_the_message(place: &Place) {
    let source = place.subscribe("keeps", &["in"], LONG_LEASE).await;
    place.publish("in", ["1"]).await;
    let delivery = receive_one(&*source).await;
    let outputs = vec![place.message("out.*", None, "no subject")];
    let refused = settle_one(&*source, settle(&delivery, Settlement::Ack { outputs })).await;
    assert!(matches!(refused, Err(SettleError::Output(PublishError::Invalid(_)))), "{refused:?}");
    // The lease is still ours: it can be settled another way.
    settle_one(&*source, dead_letter(&delivery, "keeps", 0)).await.unwrap();
}

pub(crate) async fn bad_publishes_are_refused_one_by_one(place: &Place) {
    let source = place.subscribe("bad", &[">"], LONG_LEASE).await;
    let group = vec![
        place.message("a", None, "good"),
        Publish { subject: place.subject("a.>"), ..place.message("a", None, "a filter") },
        Publish { body: Bytes::from(vec![b'x'; 100 << 20]), ..place.message("a", None, "") },
        place.message("a", None, "good too"),
    ];
    let answers = place.broker.publish(group).await;
    assert!(answers[0].is_ok() && answers[3].is_ok(), "{answers:?}");
    assert!(matches!(answers[1], Err(PublishError::Invalid(_))), "{answers:?}");
    assert!(matches!(answers[2], Err(PublishError::TooLarge { .. })), "{answers:?}");
    assert_eq!(bodies(&receive(&*source, 2).await), ["good", "good too"]);
}

pub(crate) async fn a_receive_that_is_dropped_loses_nothing(place: &Place) {
    let source = place.subscribe("dropped", &[">"], SHORT_LEASE).await;
    let mut seen = BTreeSet::new();
    for round in 0..10 {
        place.publish("a", [format!("{round}")]).await;
        // Given up on at once, or nearly so.
        let given_up = timeout(Duration::from_micros(100 * round), source.receive(demand(10))).await;
        for delivery in given_up.map(Result::unwrap).unwrap_or_default() {
            settle_one(&*source, ack(&delivery)).await.unwrap();
            seen.insert(text(&delivery.message));
        }
    }
    let rest = 10 - seen.len();
    for delivery in receive(&*source, rest).await {
        seen.insert(text(&delivery.message));
    }
    assert_eq!(seen.len(), 10);
}

/// Makes a test of each case, on the places that a function makes by name. A macro, so that a case that is added above
/// and here runs on every broker, under its own name.
macro_rules! broker_contract {
    ($place:path) => {
        $crate::broker_contract::broker_contract! { @cases $place =>
            comes_whole_and_in_order
            what_is_acknowledged_is_gone
            a_backlog_is_counted
            a_return_waits_and_keeps_its_progress
            an_uncounted_return_costs_no_attempt
            a_dead_letter_is_kept_and_its_message_gone
            dead_letters_are_listed_newest_first_by_page
            dead_letters_are_found_and_counted_by_what_they_have_in_common
            dead_letters_go_through_the_oldest_first_and_come_back_as_they_were
            a_message_is_not_lost_to_a_dead_letter_from_another_queue
            a_redrive_comes_back_with_its_identity
            what_is_counted_by_a_moment_is_what_is_listed_by_it
            a_redrive_to_another_subject_is_for_all_that_receive_it
            a_redrive_loop_needs_force
            a_redrive_is_for_the_subscription_that_gave_the_message_up
            a_lease_that_ends_gives_the_message_back
            an_extended_lease_holds
            nothing_is_settled_after_the_lease
            an_id_is_taken_once
            each_subscription_gets_every_message
            a_later_subscription_starts_from_the_oldest
            filters_choose
            no_more_than_was_asked_for
            a_publish_wakes_who_waits
            outputs_are_published_with_the_ack
            an_output_that_is_refused_keeps_the_message
            bad_publishes_are_refused_one_by_one
            a_receive_that_is_dropped_loses_nothing
        }
    };
    (@cases $place:path => $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let place = $place(stringify!($case)).await;
                $crate::broker_contract::$case(&place).await;
                place.broker.close().await;
            }
        )*
    };
}
pub(crate) use broker_contract;
