//! What the buckets of every broker promise, as tests that run on each.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use tidegate::broker::bucket::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use tidegate::broker::{Access, Broker, BucketError};

use super::{bucket, keys, text, value};
use crate::broker_contract::Place;

/// So long at the most a change is made once more when nobody answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key of each kind that some broker may not like.
const ODD: [&str; 14] = [
    " ",
    ".",
    "..",
    "a..b",
    ".a",
    "a.",
    "*",
    ">",
    "a b",
    "a=b",
    "=41",
    "gr\u{fc}n/\u{1f980}",
    "a\tb\r\n\u{0}",
    "order:17",
];

pub(super) async fn what_is_set_is_found_and_what_is_deleted_is_not(place: Place) {
    let seen = bucket(&*place.broker, "seen");
    seen.ready().await.unwrap();
    assert_eq!(text(&*seen, "a").await, None);
    assert_eq!(seen.exists("a").await, Ok(false));
    seen.delete("a").await.unwrap();
    seen.set("a", "one".into()).await.unwrap();
    assert_eq!(text(&*seen, "a").await.as_deref(), Some("one"));
    assert_eq!(seen.exists("a").await, Ok(true));
    seen.set("a", "two".into()).await.unwrap();
    seen.set("empty", value(0)).await.unwrap();
    assert_eq!(text(&*seen, "a").await.as_deref(), Some("two"));
    assert_eq!(text(&*seen, "empty").await.as_deref(), Some(""));
    // Another bucket is another one.
    let other = bucket(&*place.broker, "other");
    assert_eq!(text(&*other, "a").await, None);
    other.set("a", "elsewhere".into()).await.unwrap();
    seen.delete("a").await.unwrap();
    assert_eq!(text(&*seen, "a").await, None);
    assert_eq!(seen.exists("a").await, Ok(false));
    assert_eq!(text(&*other, "a").await.as_deref(), Some("elsewhere"));
    assert_eq!(keys(&*seen, 10).await, ["empty"]);
}

pub(super) async fn any_text_is_a_key_within_its_bounds(place: Place) {
    let seen = bucket(&*place.broker, "seen");
    let longest = ":".repeat(MAX_KEY_BYTES);
    let all: Vec<&str> = ODD.into_iter().chain([longest.as_str()]).collect();
    for (number, key) in all.iter().enumerate() {
        seen.set(key, number.to_string().into()).await.unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    for (number, key) in all.iter().enumerate() {
        assert_eq!(text(&*seen, key).await, Some(number.to_string()), "{key:?}");
    }
    let mut expected: Vec<String> = all.iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(keys(&*seen, 4).await, expected);
    for key in &all {
        seen.delete(key).await.unwrap();
    }
    assert_eq!(keys(&*seen, 4).await, Vec::<String>::new());
    for key in [String::new(), ":".repeat(MAX_KEY_BYTES + 1)] {
        let refused = BucketError::Key(key.len());
        assert_eq!(seen.find(&key).await.unwrap_err(), refused);
        assert_eq!(seen.exists(&key).await.unwrap_err(), refused);
        assert_eq!(seen.set(&key, value(1)).await.unwrap_err(), refused);
        assert_eq!(seen.delete(&key).await.unwrap_err(), refused);
        assert_eq!(seen.increment(&key, 1).await.unwrap_err(), refused);
        assert_eq!(seen.swap(&key, 0, value(1)).await.unwrap_err(), refused);
    }
}

pub(super) async fn the_largest_value_is_taken_and_no_larger_one(place: Place) {
    let seen = bucket(&*place.broker, "seen");
    seen.set("large", value(MAX_VALUE_BYTES)).await.unwrap();
    assert_eq!(seen.find("large").await.unwrap().value, Some(value(MAX_VALUE_BYTES)));
    let too_large = BucketError::TooLarge { size: MAX_VALUE_BYTES + 1, limit: MAX_VALUE_BYTES };
    assert_eq!(seen.set("large", value(MAX_VALUE_BYTES + 1)).await.unwrap_err(), too_large);
    assert_eq!(seen.swap("large", 0, value(MAX_VALUE_BYTES + 1)).await.unwrap_err(), too_large);
    assert_eq!(seen.increment("large", 1).await, Err(BucketError::NotANumber));
    assert_eq!(seen.find("large").await.unwrap().value, Some(value(MAX_VALUE_BYTES)));
}

pub(super) async fn a_swap_is_done_only_over_what_was_found(place: Place) {
    let seen = bucket(&*place.broker, "seen");
    let none = seen.find("a").await.unwrap();
    assert_eq!(none.value, None);
    assert_eq!(seen.swap("a", none.revision, "one".into()).await, Ok(true));
    assert_eq!(seen.swap("a", none.revision, "other".into()).await, Ok(false));
    let one = seen.find("a").await.unwrap();
    assert_eq!(seen.swap("a", one.revision, "two".into()).await, Ok(true));
    assert_eq!(seen.swap("a", one.revision, "late".into()).await, Ok(false));
    // The same value again is another state of it.
    let two = seen.find("a").await.unwrap();
    seen.set("a", "two".into()).await.unwrap();
    assert_eq!(seen.swap("a", two.revision, "late".into()).await, Ok(false));
    // And so is one that went and came again.
    let two = seen.find("a").await.unwrap();
    seen.delete("a").await.unwrap();
    assert_eq!(seen.swap("a", two.revision, "late".into()).await, Ok(false));
    let none = seen.find("a").await.unwrap();
    assert_eq!(none.value, None);
    seen.set("a", "two".into()).await.unwrap();
    assert_eq!(seen.swap("a", none.revision, "late".into()).await, Ok(false));
    assert_eq!(text(&*seen, "a").await.as_deref(), Some("two"));
    seen.delete("a").await.unwrap();
    let none = seen.find("a").await.unwrap();
    assert_eq!(seen.swap("a", none.revision, "again".into()).await, Ok(true));
    assert_eq!(text(&*seen, "a").await.as_deref(), Some("again"));
}

pub(super) async fn whoever_adds_at_once_is_counted(place: Place) {
    let counts = bucket(&*place.broker, "counts");
    assert_eq!(counts.increment("n", 5).await, Ok(5));
    assert_eq!(counts.increment("n", -7).await, Ok(-2));
    assert_eq!(text(&*counts, "n").await.as_deref(), Some("-2"));
    counts.set("n", "40".into()).await.unwrap();
    assert_eq!(counts.increment("n", 2).await, Ok(42));
    counts.set("full", i64::MAX.to_string().into()).await.unwrap();
    assert_eq!(counts.increment("full", 1).await, Err(BucketError::NotANumber));
    counts.set("word", "forty".into()).await.unwrap();
    assert_eq!(counts.increment("word", 1).await, Err(BucketError::NotANumber));
    assert_eq!(text(&*counts, "word").await.as_deref(), Some("forty"));
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let own = bucket(&*place.broker, "counts");
        adding.spawn(async move {
            let mut sums = Vec::new();
            for _ in 0..20 {
                sums.push(own.increment("together", 1).await.unwrap());
            }
            sums
        });
    }
    let mut sums: Vec<i64> = adding.join_all().await.concat();
    sums.sort_unstable();
    assert_eq!(sums, (1..=160).collect::<Vec<_>>(), "each saw a sum of its own");
}

/// Makes all of them, as many of them under way as a busy handler has. Three servers on one disk may take longer over one than an
/// answer is waited for: it is made once more then, as a handler's message comes again.
async fn at_once<F: Future<Output = Result<(), BucketError>>>(changes: impl Iterator<Item = impl Fn() -> F>) {
    let made = changes.map(async |change| {
        let begun = Instant::now();
        loop {
            match change().await {
                Err(BucketError::Unavailable(_)) if begun.elapsed() < PATIENCE => {}
                made => break made,
            }
        }
    });
    futures_util::stream::iter(made).buffer_unordered(64).try_collect::<()>().await.unwrap();
}

pub(super) async fn thousands_of_keys_are_listed_in_order_while_others_write(place: Place) {
    let many = bucket(&*place.broker, "many");
    let all: Vec<String> = (0..3000).map(|number| format!("key.{number:05}")).collect();
    at_once(all.iter().map(|key| || many.set(key, value(10)))).await;
    assert_eq!(keys(&*many, 1000).await, all);
    assert_eq!(keys(&*many, 3000).await, all);
    // Each key that is there all the time comes once, though all of them are written meanwhile.
    let (limit, mut seen) = (NonZeroU32::new(700).unwrap(), Vec::<String>::new());
    loop {
        let (page, ()) = tokio::join!(many.keys(seen.last().map(String::as_str), limit), async {
            for key in all.iter().step_by(7) {
                many.set(key, value(11)).await.unwrap();
            }
        });
        let page = page.unwrap();
        seen.extend(page.keys);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, all);
    at_once(all.iter().filter(|key| !key.ends_with('0')).map(|key| || many.delete(key))).await;
    assert_eq!(keys(&*many, 100).await, all.into_iter().filter(|key| key.ends_with('0')).collect::<Vec<_>>());
}

pub(super) async fn what_is_granted_for_reading_is_not_written(place: Place) {
    let written = bucket(&*place.broker, "seen");
    written.set("a", "1".into()).await.unwrap();
    let read = place.broker.bucket("seen", Access::Read).unwrap();
    read.ready().await.unwrap();
    assert_eq!(text(&*read, "a").await.as_deref(), Some("1"));
    assert_eq!(keys(&*read, 10).await, ["a"]);
    for refused in [
        read.set("a", "2".into()).await.unwrap_err(),
        read.delete("a").await.unwrap_err(),
        read.increment("a", 1).await.unwrap_err(),
        read.swap("a", 0, "2".into()).await.unwrap_err(),
    ] {
        assert!(matches!(&refused, BucketError::Refused(why) if why.contains("reading alone")), "{refused}");
    }
    assert_eq!(text(&*written, "a").await.as_deref(), Some("1"));
}

pub(super) async fn a_name_that_is_none_is_refused(place: Place) {
    for name in ["", "a.b", "../a", "tidegate-main-desired"] {
        let refused = place.broker.bucket(name, Access::ReadWrite).unwrap_err();
        assert!(matches!(refused, BucketError::Refused(_)), "{name}: {refused}");
    }
}

pub(super) async fn whoever_goes_away_in_the_middle_leaves_the_bucket_whole(place: Place) {
    let counts = bucket(&*place.broker, "counts");
    counts.ready().await.unwrap();
    // Dropped at their first wait, and some later.
    for polls in 0..20 {
        let mut adding = Box::pin(counts.increment("n", 1));
        for _ in 0..polls {
            if futures_util::poll!(adding.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let before = counts.increment("n", 0).await.unwrap();
    assert!((0..=20).contains(&before), "{before}");
    assert_eq!(counts.increment("n", 1).await, Ok(before + 1));
}

/// The tests of the contract on a broker, each in a place of its own.
macro_rules! bucket_contract {
    ($place:path: $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let place = $place(stringify!($promise)).await;
                $crate::buckets::contract::$promise(place).await;
            }
        )*
    };
    ($place:path) => {
        $crate::buckets::contract::bucket_contract!($place:
            what_is_set_is_found_and_what_is_deleted_is_not
            any_text_is_a_key_within_its_bounds
            the_largest_value_is_taken_and_no_larger_one
            a_swap_is_done_only_over_what_was_found
            whoever_adds_at_once_is_counted
            thousands_of_keys_are_listed_in_order_while_others_write
            what_is_granted_for_reading_is_not_written
            a_name_that_is_none_is_refused
            whoever_goes_away_in_the_middle_leaves_the_bucket_whole
        );
    };
}
pub(super) use bucket_contract;

/// Fills a bucket until it refuses, and looks whether what it says is so; gives back how many values of 10,000 bytes it took.
pub(super) async fn fill(broker: &Arc<dyn Broker>, name: &str) -> usize {
    let full = bucket(&**broker, name);
    let mut taken = 0;
    loop {
        match full.set(&format!("key-{taken}"), value(10_000)).await {
            Ok(()) => taken += 1,
            Err(BucketError::Full(_)) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(taken < 100_000, "it never filled up");
    }
    assert!(taken > 10, "{taken}");
    assert!(matches!(full.set("another", value(10_000)).await, Err(BucketError::Full(_))));
    // What stands there is still read, made smaller and removed; and then there is room again.
    assert_eq!(full.find("key-0").await.unwrap().value, Some(value(10_000)));
    assert_eq!(keys(&*full, 1000).await.len(), taken);
    full.set("key-0", value(10)).await.unwrap();
    for number in 1..5 {
        full.delete(&format!("key-{number}")).await.unwrap();
    }
    full.set("another", value(10_000)).await.unwrap();
    assert_eq!(full.increment("count", 1).await, Ok(1));
    taken
}
