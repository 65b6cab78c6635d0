//! What is kept of dead letters in memory says what reading them says, whatever became of the stream meanwhile.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tempfile::TempDir;
use tidegate::broker::jetstream::{JetStream, Options};
use tidegate::broker::{
    Broker as _, By, Counted, DeadLetterError, DeadLetterFilter, DeadLetterQuery, DeadLetters, Source, Tally,
};
use tidegate::message::Headers;
use tidegate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord};
use tokio::time::{interval, timeout};

use super::setup::api_ok;
use super::{connect, options, place_on};
use crate::broker_contract::{LONG_LEASE, eventually};
use crate::support::nats::NatsServer;
use crate::support::nats_cluster::NatsCluster;

/// A host that keeps dead letters in memory, and one beside it that reads them.
struct Both {
    here: Arc<JetStream>,
    plain: Arc<JetStream>,
    /// Receives what is sent back.
    _source: Arc<dyn Source>,
    _folders: [TempDir; 2],
}

impl Both {
    /// On a server, with segments of eight. What is read and not known is cut at once, so that a count that is not shows that it was
    /// made in memory.
    async fn on(server: &NatsServer, change: impl FnOnce(&mut Options)) -> Self {
        let mut reads = options(server);
        reads.dead_letters.catalog.rows_at_most = 0;
        let mut keeps = options(server);
        (keeps.dead_letters.catalog.segment, keeps.dead_letters.count_at_most) = (8, 1);
        change(&mut keeps);
        let ((here, one), (plain, other)) = (connect(keeps).await, connect(reads).await);
        let source = place_on(here.clone(), ()).subscribe("deep", &["a"], LONG_LEASE).await;
        Self { here, plain, _source: source, _folders: [one, other] }
    }

    /// Brings in dead letters of these numbers.
    async fn die(&self, numbers: std::ops::Range<u64>) {
        let letters = self.plain.dead_letters();
        let stored = numbers.map(|number| letters.restore(letter(number)));
        let stored: Vec<bool> = futures_util::stream::iter(stored).buffered(64).try_collect().await.unwrap();
        assert!(stored.iter().all(|is_new| *is_new));
    }

    /// The places in the stream of all that wait, the newest first.
    async fn sequences(&self) -> Vec<u64> {
        let all = DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() };
        let page = self.plain.dead_letters().list(&all).await.unwrap();
        page.letters.iter().map(|stored| stored.handle.0.split_once('@').unwrap().1.parse().unwrap()).collect()
    }

    /// Both say the same, and the one that keeps them in memory counts all.
    async fn agree(&self, when: &str) {
        self.agree_on_counts(when).await;
        for filter in filters() {
            self.agree_on_pages(when, &filter).await;
        }
    }

    async fn agree_on_counts(&self, when: &str) {
        let (here, plain) = (self.here.dead_letters(), self.plain.dead_letters());
        for filter in filters() {
            for by in [By::Fingerprint, By::Handler, By::Version, By::Reason, By::Subscription] {
                let (ours, theirs) = (counted(&*here, &filter, by).await, counted(&*plain, &filter, by).await);
                assert!(!ours.is_cut, "{when}: it was read: {filter:?}");
                assert_eq!(ours, theirs, "{when}: {filter:?}");
            }
        }
    }

    async fn agree_on_pages(&self, when: &str, filter: &DeadLetterFilter) {
        let (here, plain) = (self.here.dead_letters(), self.plain.dead_letters());
        for (oldest_first, include_redriven) in [(false, false), (true, false), (false, true), (true, true)] {
            let filter = DeadLetterFilter { include_redriven, ..filter.clone() };
            let mut query = DeadLetterQuery { filter, after: None, limit: 7, oldest_first };
            loop {
                let (ours, theirs) = (here.list(&query).await.unwrap(), plain.list(&query).await.unwrap());
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{when}: {query:?}");
                let Some(next) = ours.next else { break };
                query.after = Some(next);
            }
        }
    }

    async fn close(self) {
        self.here.close().await;
        self.plain.close().await;
    }
}

fn letter(number: u64) -> DeadLetter {
    let is_rare = number.is_multiple_of(10);
    let reason = if number.is_multiple_of(3) { "timeout" } else { "handler-rejected" };
    let record = DeadLetterRecord {
        subscription: "deep".to_owned(),
        broker: "test".to_owned(),
        subject: "test.a".to_owned(),
        message_id: format!("message-{number}"),
        sequence: number + 1,
        fingerprint: if is_rare { "00000000000000aa" } else { "not sixteen digits" }.to_owned(),
        handler: if number.is_multiple_of(2) { "invoice" } else { "billing" }.to_owned(),
        digest: if number < 30 { "ab" } else { "cd" }.repeat(32),
        dead_at: SystemTime::now(),
        published_at: SystemTime::now(),
        ..DeadLetterRecord::bare(
            DeadLetterId(ulid::Ulid::generate().to_string()),
            reason,
            format!("no such customer {number}"),
        )
    };
    DeadLetter { record, headers: Headers::default(), body: format!("body {number}").into() }
}

fn filters() -> Vec<DeadLetterFilter> {
    let (none, text) = (DeadLetterFilter::default, |text: &str| Some(text.to_owned()));
    vec![
        none(),
        DeadLetterFilter { fingerprint: text("00000000000000aa"), ..none() },
        DeadLetterFilter { handler: text("invoice"), reason: text("timeout"), ..none() },
        DeadLetterFilter { digest: text("cdcdcdcdcdcd"), subscription: text("deep"), ..none() },
    ]
}

async fn counted(letters: &dyn DeadLetters, filter: &DeadLetterFilter, by: By) -> Counted {
    let tally = Tally::new(by, SystemTime::UNIX_EPOCH).at("test");
    letters.tally(filter, tally).await.unwrap().finish(10)
}

async fn all_counted(letters: &dyn DeadLetters) -> Counted {
    counted(letters, &DeadLetterFilter::default(), By::Reason).await
}

async fn remove(server: &NatsServer, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        api_ok(server, "STREAM.MSG.DELETE.DLQ_tidegate", &json!({ "seq": sequence, "no_erase": true })).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_memory_says_what_is_read_whoever_removed_something() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    let (here, plain) = (both.here.dead_letters(), both.plain.dead_letters());
    both.agree("nothing there").await;
    both.die(0..60).await;
    both.agree("the first").await;
    both.die(60..75).await;
    both.agree("more").await;
    let page = plain.list(&DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() }).await.unwrap().letters;
    for stored in page.iter().step_by(9) {
        here.redrive(&stored.handle, false).await.unwrap();
    }
    both.agree("sent back here").await;
    for stored in page.iter().skip(1).step_by(9) {
        here.discard(&stored.handle).await.unwrap();
    }
    both.agree("discarded here").await;
    for stored in page.iter().skip(2).step_by(9) {
        plain.redrive(&stored.handle, false).await.unwrap();
    }
    plain.discard(&page[3].handle).await.unwrap();
    both.agree("sent back and discarded by another host").await;
    remove(&server, both.sequences().await.into_iter().step_by(5)).await;
    both.agree("removed by a person, in all segments").await;
    remove(&server, both.sequences().await.into_iter().take(20)).await;
    both.die(75..80).await;
    both.agree("the newest removed, and others after them").await;
    api_ok(&server, "STREAM.PURGE.DLQ_tidegate", &json!({ "filter": "dlq.deep.timeout.>" })).await;
    both.agree("purged by a filter").await;
    api_ok(&server, "STREAM.PURGE.DLQ_tidegate", &json!({ "keep": 12 })).await;
    both.agree("purged but for the newest").await;
    api_ok(&server, "STREAM.PURGE.DLQ_tidegate", &json!({})).await;
    both.agree("all purged").await;
    both.die(100..120).await;
    both.agree("begun anew").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_another_one() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..30).await;
    both.agree("before").await;
    let js = async_nats::jetstream::new(server.client().await);
    js.delete_stream("DLQ_tidegate").await.unwrap();
    both.agree("without a stream").await;
    // As many as before, of which each has the sequence of another.
    let _source = place_on(both.here.clone(), ()).subscribe("deep", &["a"], LONG_LEASE).await;
    both.die(50..80).await;
    both.agree("made anew").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_among_dead_letters_is_as_when_it_is_read() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    let js = async_nats::jetstream::new(server.client().await);
    both.die(0..5).await;
    // No dead letter at all; one that does not say its handler; one whose id and time are not as ours.
    js.publish("dlq.some.body.else.1", "none".into()).await.unwrap().await.unwrap();
    js.publish("dlq.elsewhere", "none".into()).await.unwrap().await.unwrap();
    let of_ours = both.sequences().await[0];
    let of_ours = js.get_stream("DLQ_tidegate").await.unwrap().get_raw_message(of_ours).await.unwrap();
    for (place, (name, value)) in
        [("Dlq-Handler", ""), ("Dlq-Id", "some id"), ("Dlq-Dead-At", "1999-01-01T00:00:00Z")].into_iter().enumerate()
    {
        let mut headers = async_nats::HeaderMap::new();
        for (header, values) in of_ours.headers.iter().filter(|(header, _)| header.to_string().starts_with("Dlq-")) {
            let is_it = header.to_string() == name;
            values.iter().for_each(|kept| headers.append(header.clone(), if is_it { value } else { kept.as_str() }));
        }
        if value.is_empty() {
            let all: Vec<_> = headers.iter().filter(|(header, _)| header.to_string() != name).collect();
            headers = all.into_iter().map(|(header, values)| (header.clone(), values[0].clone())).collect();
        }
        let subject = format!("dlq.deep.timeout.X.{place}-0");
        js.publish_with_headers(subject, headers, "x".into()).await.unwrap().await.unwrap();
    }
    both.agree("with those of others").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_in_memory_is_told_to_be_left_out_and_is_read() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |options| {
        let catalog = &mut options.dead_letters.catalog;
        (catalog.rows_at_most, catalog.segment) = (20, 4);
    })
    .await;
    let (here, plain) = (both.here.dead_letters(), both.plain.dead_letters());
    // More come than there are at first, so that the oldest make room.
    for (numbers, all) in [(0..50, 50), (50..64, 64)] {
        both.die(numbers).await;
        let count = all_counted(&*here).await;
        assert!(count.is_cut && (17..=20).contains(&count.examined), "{count:?}");
        assert_eq!((count.examined + count.left_out, count.matched), (all, count.examined));
        let whole = async |letters: &dyn DeadLetters, filter: &DeadLetterFilter| {
            let tally = Tally::new(By::Handler, SystemTime::UNIX_EPOCH).at("test").whole();
            letters.tally(filter, tally).await.unwrap().finish(10)
        };
        for filter in filters() {
            assert_eq!(whole(&*here, &filter).await, whole(&*plain, &filter).await);
            for oldest_first in [false, true] {
                let mut pages = [Vec::new(), Vec::new()];
                for (letters, found) in [&here, &plain].into_iter().zip(&mut pages) {
                    let mut query = DeadLetterQuery { filter: filter.clone(), after: None, limit: 3, oldest_first };
                    loop {
                        let page = letters.list(&query).await.unwrap();
                        found.extend(page.letters.into_iter().map(|stored| stored.handle));
                        let Some(next) = page.next else { break };
                        query.after = Some(next);
                    }
                }
                assert!(!pages[0].is_empty());
                assert_eq!(pages[0], pages[1], "{filter:?}");
            }
        }
        // Of the oldest, which have no rows.
        remove(&server, both.sequences().await.into_iter().rev().skip(2).take(3)).await;
        let count = all_counted(&*here).await;
        assert_eq!(count.examined + count.left_out, all - 3);
        both.die(1_000 + all..1_003 + all).await;
    }
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_read_in_the_background_counts_are_cut_and_whole_ones_wait_for_it() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |options| options.dead_letters.catalog.read_at_once = 0).await;
    both.die(0..40).await;
    let here = both.here.dead_letters();
    // Cut, unless it is read already by then.
    let first = all_counted(&*here).await;
    assert!(first.examined + first.left_out == 40 && (!first.is_cut || first.examined == 1), "{first:?}");
    eventually("it is read in the background", || async { !all_counted(&*here).await.is_cut }).await;
    both.agree("read in the background").await;
    // New ones are read in the background too: a whole count waits for that.
    both.die(40..60).await;
    let tally = || Tally::new(By::Reason, SystemTime::UNIX_EPOCH).at("test").whole();
    let all = DeadLetterFilter::default();
    let (one, other) = tokio::join!(here.tally(&all, tally()), here.tally(&all, tally()));
    assert_eq!((one.unwrap().finish(1).matched, other.unwrap().finish(1).matched), (60, 60));
    both.agree("after whole counts").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_in_the_middle_leaves_it_as_it_should_be() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..700).await;
    let here = both.here.dead_letters();
    // Each is given up at another place: after so many steps of its own.
    for steps in 1..60 {
        let mut count = Box::pin(all_counted(&*here));
        for _ in 0..steps {
            if count.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(count);
        if steps % 20 == 0 {
            remove(&server, both.sequences().await.into_iter().step_by(150)).await;
        }
    }
    both.agree_on_counts("given up in the middle").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_beside_removals_of_this_host_is_of_one_moment() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..200).await;
    let here = both.here.dead_letters();
    assert_eq!(all_counted(&*here).await.matched, 200);
    let page = here.list(&DeadLetterQuery { limit: 1000, ..DeadLetterQuery::default() }).await.unwrap().letters;
    let removing = tokio::spawn({
        let here = here.clone();
        async move {
            let removed = page[..150].iter().map(|stored| here.discard(&stored.handle));
            let removed: Vec<_> = futures_util::stream::iter(removed.collect::<Vec<_>>()).buffered(8).collect().await;
            removed.into_iter().for_each(Result::unwrap);
        }
    });
    let mut last = 200;
    while !removing.is_finished() {
        let count = all_counted(&*here).await;
        assert!(!count.is_cut && (50..=last).contains(&count.matched), "{count:?} after {last}");
        last = count.matched;
    }
    removing.await.unwrap();
    both.agree("after them").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_and_came_back_with_less_and_with_more_is_believed() {
    let mut server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..40).await;
    both.agree("before").await;
    let kept = server.copy();
    // What is removed now is there again afterwards, and what comes now is not.
    remove(&server, both.sequences().await.into_iter().skip(10).step_by(4)).await;
    both.die(40..50).await;
    both.agree("in between").await;
    server.kill();
    let here = both.here.dead_letters();
    let away = here.tally(&DeadLetterFilter::default(), Tally::new(By::Reason, SystemTime::now())).await;
    assert!(matches!(away, Err(DeadLetterError::Store(_))), "{away:?}");
    server.put_back(&kept).await;
    eventually("both are connected again", || async {
        here.depth().await.is_ok() && both.plain.dead_letters().depth().await.is_ok()
    })
    .await;
    both.agree("came back").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_that_a_server_gave_twice_are_of_the_letters_that_have_them_now() {
    // The stream's server is not the one that the host is connected to: the connection stays.
    let mut cluster = NatsCluster::start().await;
    let config = json!({
        "name": "DLQ_tidegate", "subjects": ["dlq.>", "dlq-redriven.>", "dlq-body.>"], "retention": "limits",
        "storage": "file", "discard": "new", "discard_new_per_subject": true, "max_msgs_per_subject": 1,
        "num_replicas": 1, "allow_direct": true, "placement": { "tags": ["b"] },
    });
    api_ok(&cluster.servers[0], "STREAM.CREATE.DLQ_tidegate", &config).await;
    let both = Both::on(&cluster.servers[0], |_| {}).await;
    both.die(0..20).await;
    both.agree("before").await;
    let kept = cluster.servers[1].copy();
    both.die(20..30).await;
    both.agree("in between").await;
    cluster.servers[1].put_back(&kept).await;
    let letters = both.plain.dead_letters();
    eventually("the stream is there again", || async { letters.depth().await.is_ok_and(|depth| depth == 20) }).await;
    // More than were lost, before anybody asks again.
    both.die(40..53).await;
    both.agree("after it").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_memory_is_counted_listed_and_found_without_reading_and_given_back_when_nobody_asks() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |options| {
        let catalog = &mut options.dead_letters.catalog;
        (catalog.read_at_once, catalog.kept_for) = (0, Duration::from_secs(2));
    })
    .await;
    both.die(0..60).await;
    let here = both.here.dead_letters();
    let whole = async || {
        let tally = Tally::new(By::Reason, SystemTime::UNIX_EPOCH).whole();
        assert_eq!(here.tally(&DeadLetterFilter::default(), tally).await.unwrap().finish(1).matched, 60);
    };
    let client = server.client().await;
    let rare = DeadLetterFilter { fingerprint: Some("00000000000000aa".to_owned()), ..DeadLetterFilter::default() };
    let listed = both.plain.dead_letters().list(&DeadLetterQuery::default()).await.unwrap().letters;
    whole().await;
    let mut made = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.DLQ_tidegate.>").await.unwrap();
    client.flush().await.unwrap();
    // Whoever reads makes a consumer for that.
    assert_eq!(all_counted(&*here).await.matched, 60);
    let page = here.list(&DeadLetterQuery { filter: rare, ..DeadLetterQuery::default() }).await.unwrap();
    assert_eq!(page.letters.len(), 6);
    let id = &listed[30].letter.record.id;
    assert_eq!(here.get(id).await.unwrap().handle, listed[30].handle);
    let unknown = here.get(&DeadLetterId("01HF7YAT00000000000000000A".to_owned())).await;
    assert!(matches!(unknown, Err(DeadLetterError::NotFound(_))));
    let question = json!({ "stream_name": "DLQ_tidegate", "config": { "name": "last", "ack_policy": "none" } });
    api_ok(&server, "CONSUMER.CREATE.DLQ_tidegate.last", &question).await;
    let first = made.next().await.unwrap();
    assert!(first.subject.ends_with(".last"), "something was read: {}", first.subject);

    let mut pause = interval(Duration::from_secs(6));
    pause.tick().await;
    pause.tick().await;
    assert!(all_counted(&*here).await.is_cut, "it was kept though nobody asked");
    both.close().await;
}

/// How many readers were made on the stream of dead letters while something was done.
async fn readers_made(server: &NatsServer, done: impl Future<Output = ()>) -> usize {
    let client = server.client().await;
    let mut made = client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.DLQ_tidegate.>").await.unwrap();
    client.flush().await.unwrap();
    done.await;
    let question = json!({ "stream_name": "DLQ_tidegate", "config": { "name": "last", "ack_policy": "none" } });
    api_ok(server, "CONSUMER.CREATE.DLQ_tidegate.last", &question).await;
    let mut count = 0;
    while !made.next().await.unwrap().subject.ends_with(".last") {
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_kept_in_memory_a_count_reads_once_and_asks_for_nothing_more() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..10).await;
    let filter = DeadLetterFilter { reason: Some("timeout".to_owned()), ..DeadLetterFilter::default() };
    let made = readers_made(&server, async {
        assert_eq!(counted(&*both.plain.dead_letters(), &filter, By::Reason).await.matched, 4);
    })
    .await;
    assert_eq!(made, 1);
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_are_older_than_all_in_memory_are_counted_as_far_as_all_would_be_read() {
    // The story: a subscription had 50 dead letters, all older than what there is room for, and it was told that it had none of them.
    let server = NatsServer::start().await;
    let both = Both::on(&server, |options| {
        options.dead_letters.count_at_most = 25;
        let catalog = &mut options.dead_letters.catalog;
        (catalog.rows_at_most, catalog.segment) = (20, 4);
    })
    .await;
    for number in 1_000..1_010 {
        let mut old = letter(number);
        old.record.subscription = "old".to_owned();
        assert!(both.plain.dead_letters().restore(old).await.unwrap());
    }
    both.die(0..40).await;
    let here = both.here.dead_letters();
    let old = DeadLetterFilter { subscription: Some("old".to_owned()), ..DeadLetterFilter::default() };
    let count = counted(&*here, &old, By::Reason).await;
    assert_eq!((count.matched, count.is_cut, count.left_out), (10, false, 0), "{count:?}");
    // And of all no more than those.
    let count = all_counted(&*here).await;
    assert_eq!((count.examined, count.left_out, count.is_cut), (25, 25, true), "{count:?}");
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_host_sent_back_is_found_where_it_lies_now() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..20).await;
    let (here, plain) = (both.here.dead_letters(), both.plain.dead_letters());
    assert_eq!(all_counted(&*here).await.matched, 20);
    let page = plain.list(&DeadLetterQuery::default()).await.unwrap().letters;
    for stored in page.iter().step_by(4) {
        // As many messages as before, with a row more here.
        plain.redrive(&stored.handle, false).await.unwrap();
        let found = here.get(&stored.letter.record.id).await.unwrap();
        assert!(found.redriven_at.is_some(), "{found:?}");
    }
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_does_not_go_on_for_ever_through_what_is_none_of_ours() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    let js = async_nats::jetstream::new(server.client().await);
    let others = (0..1_100).map(|number| js.publish(format!("dlq.deep.timeout.X.{number}-0"), "none".into()));
    let confirmed: Vec<_> = futures_util::stream::iter(others).buffered(64).try_collect().await.unwrap();
    for confirmed in confirmed {
        confirmed.await.unwrap();
    }
    both.die(0..20).await;
    let filter = DeadLetterFilter { fingerprint: Some("00000000000000aa".to_owned()), ..DeadLetterFilter::default() };
    let here = both.here.dead_letters();
    assert!(!all_counted(&*here).await.is_cut);
    let mut query = DeadLetterQuery { filter, after: None, limit: 7, oldest_first: true };
    let first = here.list(&query).await.unwrap();
    assert_eq!((first.letters.len(), first.next.is_some()), (0, true));
    query.after = first.next;
    let second = here.list(&query).await.unwrap();
    assert_eq!((second.letters.len(), second.next), (2, None));
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_waits_for_reading_ends_when_the_broker_is_closed() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..20).await;
    // Each is closed at another moment of a count that waits until all is read.
    for steps in 1..40 {
        let mut keeps = options(&server);
        keeps.dead_letters.catalog.read_at_once = 0;
        let (broker, _folder) = connect(keeps).await;
        let letters = broker.dead_letters();
        let (all, tally) = (DeadLetterFilter::default(), Tally::new(By::Reason, SystemTime::UNIX_EPOCH).whole());
        let mut count = Box::pin(letters.tally(&all, tally));
        let mut is_done = false;
        for _ in 0..steps {
            is_done = count.as_mut().now_or_never().is_some();
            if is_done {
                break;
            }
            tokio::task::yield_now().await;
        }
        broker.close().await;
        if !is_done {
            let ended = timeout(Duration::from_secs(30), count).await;
            assert!(ended.is_ok(), "it waits for ever, closed after {steps} steps");
        }
    }
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discarding_what_another_one_discards_at_the_same_time_is_no_trouble() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..20).await;
    let (here, plain) = (both.here.dead_letters(), both.plain.dead_letters());
    for stored in here.list(&DeadLetterQuery::default()).await.unwrap().letters {
        let eight = (0..8).map(|number| if number % 2 == 0 { &here } else { &plain }.discard(&stored.handle));
        for discarded in futures_util::future::join_all(eight).await {
            assert!(matches!(discarded, Ok(()) | Err(DeadLetterError::NotFound(_))), "{discarded:?}");
        }
    }
    both.agree("all discarded").await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_a_host_whose_clock_is_far_ahead_are_found_by_when_they_died() {
    let server = NatsServer::start().await;
    let both = Both::on(&server, |_| {}).await;
    both.die(0..20).await;
    let hour = Duration::from_secs(3_600);
    let mut ahead = letter(1_000);
    (ahead.record.dead_at, ahead.record.fingerprint) = (SystemTime::now() + hour, "00000000000000bb".to_owned());
    assert!(both.plain.dead_letters().restore(ahead).await.unwrap());
    let here = both.here.dead_letters();
    let still = DeadLetterFilter { since: Some(SystemTime::now() + hour / 6), ..DeadLetterFilter::default() };
    let count = counted(&*here, &still, By::Reason).await;
    assert_eq!((count.matched, count.examined), (1, 1), "{count:?}");
    let filter = DeadLetterFilter { fingerprint: Some("00000000000000bb".to_owned()), ..still };
    for oldest_first in [false, true] {
        let query = DeadLetterQuery { filter: filter.clone(), after: None, limit: 7, oldest_first };
        assert_eq!(here.list(&query).await.unwrap().letters.len(), 1);
    }
    both.close().await;
}
