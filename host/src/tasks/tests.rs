#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::broker::{
    Broker, DeadLetterError, DeadLetterFilter, DeadLetterPage, DeadLetterQuery, DeadLetters, NamedBroker, PublishError,
    Published, SendBack, Source, Status, SubscribeError, SubscriptionSpec, Traits,
};
use crate::message::{Headers, Publish};
use crate::settle::dead_letter::{DeadLetter, DeadLetterId, DeadLetterRecord, StoredDeadLetter};
use crate::telemetry::Ending;

/// Dead letters in memory, by the rules of the real stores.
#[derive(Default)]
struct Shelf {
    letters: Mutex<Vec<StoredDeadLetter>>,
    /// The ids of those that were sent back, in that order.
    sent: Mutex<Vec<String>>,
    /// Nothing can be sent back now.
    is_full: AtomicBool,
    /// So many more tries are refused.
    refused: AtomicUsize,
    /// What is sent back stays among the dead letters.
    stays: AtomicBool,
    /// Where the end of what is sent back is told at once, and how it ends.
    told: Mutex<Option<(Arc<Live>, Ending)>>,
}

fn letter(number: u64, died: SystemTime, redrives: u32) -> StoredDeadLetter {
    let id = DeadLetterId(format!("{number:04}"));
    let record = DeadLetterRecord {
        dead_at: died,
        redrives,
        message_id: format!("m-{number}"),
        ..DeadLetterRecord::bare(id.clone(), "timeout", "it took too long")
    };
    let letter = DeadLetter { record, headers: Headers::default(), body: "body".into() };
    StoredDeadLetter { letter, body_size: 4, redriven_at: None, handle: id }
}

fn shelf(count: u64) -> Arc<Shelf> {
    let died = SystemTime::now() - Duration::from_secs(60);
    let letters = (0..count).map(|number| letter(number, died, 0)).collect();
    Arc::new(Shelf { letters: Mutex::new(letters), ..Shelf::default() })
}

struct Named(Arc<Shelf>);

#[async_trait]
impl Broker for Named {
    async fn check(&self, _: &SubscriptionSpec) -> Result<(), SubscribeError> {
        Ok(())
    }

    async fn subscribe(&self, _: &SubscriptionSpec) -> Result<Arc<dyn Source>, SubscribeError> {
        Err(SubscribeError::Away { subscription: String::new(), detail: String::new() })
    }

    async fn publish(&self, _: Vec<Publish>) -> Vec<Result<Published, PublishError>> {
        Vec::new()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::clone(&self.0) as _
    }

    fn status(&self) -> Status {
        Status::Connected
    }

    async fn close(&self) {}
}

#[async_trait]
impl DeadLetters for Shelf {
    async fn list(&self, query: &DeadLetterQuery) -> Result<DeadLetterPage, DeadLetterError> {
        assert!(query.oldest_first);
        let all = self.letters.lock().unwrap();
        let behind = all.iter().filter(|stored| {
            query.after.as_ref().is_none_or(|after| stored.handle > *after)
                && query.filter.matches(&stored.letter.record, stored.redriven_at.is_some())
        });
        let mut letters: Vec<_> = behind.cloned().collect();
        let more = letters.len() > query.limit;
        letters.truncate(query.limit);
        let next = letters.last().filter(|_| more).map(|last| last.handle.clone());
        Ok(DeadLetterPage { letters, next })
    }

    async fn tally(&self, filter: &DeadLetterFilter, mut tally: Tally) -> Result<Tally, DeadLetterError> {
        for stored in self.letters.lock().unwrap().iter() {
            if filter.matches(&stored.letter.record, stored.redriven_at.is_some()) {
                tally.count(&Traits::of(&stored.letter.record));
            }
        }
        Ok(tally)
    }

    async fn get(&self, id: &DeadLetterId) -> Result<StoredDeadLetter, DeadLetterError> {
        Err(DeadLetterError::NotFound(id.to_string()))
    }

    async fn send_back(&self, id: &DeadLetterId, how: &SendBack) -> Result<Published, DeadLetterError> {
        let SendBack { force, to, .. } = how;
        if let Some(to) = to.clone().filter(|to| to == "nobody") {
            return Err(DeadLetterError::NobodyTakes { id: id.to_string(), to, why: "nobody is there".to_owned() });
        }
        let left = self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if self.is_full.load(Ordering::Relaxed) || left.is_ok() {
            return Err(DeadLetterError::Publish { id: id.to_string(), source: PublishError::Full("no room".into()) });
        }
        let mut all = self.letters.lock().unwrap();
        let stored = all.iter_mut().find(|stored| stored.handle == *id).unwrap();
        if stored.redriven_at.is_some() {
            return Err(DeadLetterError::AlreadyRedriven(id.to_string()));
        }
        match (stored.letter.record.redrives, *force) {
            (3.., false) => return Err(DeadLetterError::Loop { id: id.to_string(), count: 3 }),
            (9.., true) => {
                let source = PublishError::Invalid("a header of it".into());
                return Err(DeadLetterError::Publish { id: id.to_string(), source });
            }
            _ => {}
        }
        self.sent.lock().unwrap().push(id.0.clone());
        if self.stays.load(Ordering::Relaxed) {
            return Err(DeadLetterError::StillThere { id: id.to_string(), why: "no room for it".to_owned() });
        }
        stored.redriven_at = Some(SystemTime::now());
        if let Some((live, ending)) = &*self.told.lock().unwrap() {
            live.tell(&stored.letter.record.subscription, &stored.letter.record.message_id, *ending);
        }
        Ok(Published { sequence: 1, duplicate: false })
    }

    async fn discard(&self, id: &DeadLetterId) -> Result<(), DeadLetterError> {
        self.letters.lock().unwrap().retain(|stored| stored.handle != *id);
        Ok(())
    }

    async fn forget_redriven(&self, _before: SystemTime, _at_most: usize) -> Result<usize, DeadLetterError> {
        Ok(0)
    }

    async fn depth(&self) -> Result<u64, DeadLetterError> {
        Ok(0)
    }

    async fn oldest(&self) -> Result<Option<std::time::SystemTime>, DeadLetterError> {
        Ok(None)
    }

    async fn restore(&self, _: DeadLetter) -> Result<bool, DeadLetterError> {
        Ok(false)
    }

    async fn is_writable(&self) -> Result<(), DeadLetterError> {
        Ok(())
    }
}

struct Site {
    folder: tempfile::TempDir,
    brokers: Arc<Directory>,
    live: Option<Arc<Live>>,
    runs: Running,
    ends: Arc<Ended>,
}

/// The versions that run.
struct Runs(Running);

#[async_trait]
impl Versions for Runs {
    async fn running(&self) -> Result<Running, String> {
        Ok(self.0.clone())
    }
}

/// Ends that were told: the task's id and how it stood.
#[derive(Default)]
struct Ended(Mutex<Vec<(String, Standing)>>);

#[async_trait]
impl Ends for Ended {
    async fn ended(&self, task: &Record) {
        self.0.lock().unwrap().push((task.id.clone(), task.standing.clone()));
    }
}

impl Site {
    fn new(shelf: &Arc<Shelf>) -> Self {
        let named = NamedBroker { kind: "embedded", broker: Arc::new(Named(Arc::clone(shelf))) };
        let brokers = Directory::new(BTreeMap::from([("main".to_owned(), named)]));
        Self {
            folder: tempfile::tempdir().unwrap(),
            brokers,
            live: None,
            runs: Running::default(),
            ends: Arc::default(),
        }
    }

    /// A site whose host sees what becomes of messages.
    fn seeing(shelf: &Arc<Shelf>) -> (Self, Arc<Live>) {
        let live = Arc::new(Live::default());
        (Self { live: Some(Arc::clone(&live)), ..Self::new(shelf) }, live)
    }

    /// What would be found on the disk if the host were killed now.
    fn killed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tasks")).unwrap();
        for entry in std::fs::read_dir(self.folder.path().join("tasks")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join("tasks").join(entry.file_name())).unwrap();
        }
        let (brokers, live, runs) = (Arc::clone(&self.brokers), self.live.clone(), self.runs.clone());
        Self { folder, brokers, live, runs, ends: Arc::default() }
    }

    async fn tasks(&self) -> Arc<Tasks> {
        let (folder, ends) = (self.folder.path().join("tasks"), Arc::clone(&self.ends));
        let versions = || Arc::new(Runs(self.runs.clone())) as _;
        let here = self.live.clone().map(|live| Here { live, versions: versions() });
        Tasks::open(folder, Arc::clone(&self.brokers), here, Arc::default(), ends).await.unwrap()
    }
}

fn order(act: Act) -> Order {
    let filter = DeadLetterFilter::default();
    Order { act, filter, brokers: vec!["main".to_owned()], rate: None, by: "me".to_owned() }
}

fn redrive(force: bool) -> Order {
    order(Act::Redrive(Redrive { force, ..Redrive::default() }))
}

/// Waits until a task is as it should be.
async fn until(tasks: &Tasks, id: &str, right: impl Fn(&Record) -> bool) -> Record {
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    let looking = async {
        loop {
            looks.tick().await;
            let record = tasks.get(id).unwrap();
            if right(&record) {
                return record;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(600), looking).await.unwrap()
}

fn has_ended(record: &Record) -> bool {
    record.has_ended()
}

#[tokio::test]
async fn all_that_had_died_are_gone_through_the_oldest_first() {
    let shelf = shelf(600);
    {
        let mut letters = shelf.letters.lock().unwrap();
        letters[10].letter.record.redrives = 3;
        letters[20].letter.record.redrives = 9;
        letters.push(letter(9000, SystemTime::now() + Duration::from_secs(3600), 0));
    }
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(redrive(false), None).await.unwrap();
    assert_eq!(begun.counts.total, Some(600), "what dies later is not meant");
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((&ended.standing, ended.counts.done, ended.counts.held_back), (&Standing::Done, 598, 2));
    assert_eq!(shelf.sent.lock().unwrap().len(), 598);

    let forced = tasks.begin(redrive(true), None).await.unwrap();
    let ended = until(&tasks, &forced.id, has_ended).await;
    assert_eq!((ended.counts.done, ended.counts.failed), (1, 1));
    assert_eq!(ended.counts.failures[0].id, "0020");
    assert_eq!(tasks.list().len(), 2);
    assert_eq!(tasks.list()[0].id, forced.id, "the newest first");
    assert_eq!(*site.ends.0.lock().unwrap(), [(begun.id, Standing::Done), (forced.id, Standing::Done)]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_full_is_waited_for_and_nothing_is_sent_twice() {
    let shelf = shelf(40);
    shelf.refused.store(100, Ordering::Relaxed);
    shelf.is_full.store(true, Ordering::Relaxed);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(redrive(false), None).await.unwrap();
    let waits = until(&tasks, &begun.id, |record| record.waits_for.is_some()).await;
    assert!(waits.waits_for.unwrap().contains("no room"));
    shelf.is_full.store(false, Ordering::Relaxed);
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done, ended.counts.failed), (Standing::Done, 40, 0));
    assert_eq!(ended.waits_for, None);
    let mut sent = shelf.sent.lock().unwrap().clone();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 40);
}

#[tokio::test]
async fn a_discard_removes_as_many_as_were_confirmed_or_none() {
    let shelf = shelf(7);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    for wrong in [None, Some(6), Some(8)] {
        let refused = tasks.begin(order(Act::Discard), wrong).await;
        assert!(matches!(refused, Err(TaskError::OtherCount { total: 7, .. })), "{wrong:?}: {refused:?}");
    }
    assert_eq!((shelf.letters.lock().unwrap().len(), tasks.list().len()), (7, 0));
    let begun = tasks.begin(order(Act::Discard), Some(7)).await.unwrap();
    assert_eq!(until(&tasks, &begun.id, has_ended).await.counts.done, 7);
    assert!(shelf.letters.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_keeps_to_its_rate_and_ends_when_it_is_told_to() {
    let shelf = shelf(21);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun_at = Instant::now();
    let begun = tasks.begin(Order { rate: Some(2.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |record| record.counts.done >= 20).await;
    assert!(begun_at.elapsed() >= Duration::from_millis(9500), "{:?}", begun_at.elapsed());
    let cancelled = tasks.cancel(&begun.id).await.unwrap();
    assert_eq!(cancelled.standing, Standing::Cancelled);
    tasks.close().await;
    assert_eq!(*site.ends.0.lock().unwrap(), [(begun.id.clone(), Standing::Cancelled)]);
    let there = site.tasks().await.get(&begun.id).unwrap();
    assert_eq!(there.standing, Standing::Cancelled, "it stands so on the disk, and does not go on");
    assert!(matches!(tasks.cancel("none").await, Err(TaskError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_where_it_was_when_the_host_comes_back() {
    let shelf = shelf(30);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(100.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    tasks.close().await;
    assert!(tasks.get(&begun.id).unwrap().is_running());
    let sent = shelf.sent.lock().unwrap().len();
    assert!(sent < 30, "it was stopped in the middle");
    assert!(site.ends.0.lock().unwrap().is_empty(), "the host ended, and not the task");

    let tasks = site.tasks().await;
    tasks.go_on();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done, ended.counts.total), (Standing::Done, 30, Some(30)));
    assert_eq!(shelf.sent.lock().unwrap().len(), 30, "none twice");
    assert_eq!(*site.ends.0.lock().unwrap(), [(begun.id, Standing::Done)]);
}

#[tokio::test]
async fn what_cannot_be_done_as_ordered_is_not_begun() {
    let shelf = shelf(3);
    shelf.is_full.store(true, Ordering::Relaxed);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let canary = Canary { letters: 1, abort_above: 10.0, patience: Duration::from_secs(1) };
    let refused = tasks.begin(order(Act::Redrive(Redrive { canary: Some(canary), ..Redrive::default() })), None).await;
    assert!(matches!(refused, Err(TaskError::NobodyRuns)), "{refused:?}");
    let refused = tasks.begin(order(Act::Redrive(of_other_versions())), None).await;
    assert!(matches!(refused, Err(TaskError::NoVersions)), "{refused:?}");
    let refused = tasks.begin(Order { brokers: vec!["none".to_owned()], ..redrive(false) }, None).await;
    assert!(matches!(refused, Err(TaskError::NoBroker(_))), "{refused:?}");
    for _ in 0..MOST_RUNNING {
        tasks.begin(redrive(false), None).await.unwrap();
    }
    assert!(matches!(tasks.begin(redrive(false), None).await, Err(TaskError::TooMany)));
    tasks.close().await;
}

fn of_other_versions() -> Redrive {
    Redrive { only_if_version_changed: true, ..Redrive::default() }
}

/// Ten letters of a handler: the first four failed in the version that still runs.
fn of_two_versions() -> (Arc<Shelf>, Site, Arc<Live>) {
    let shelf = shelf(10);
    for (number, letter) in shelf.letters.lock().unwrap().iter_mut().enumerate() {
        letter.letter.record.handler = "invoice".to_owned();
        letter.letter.record.digest = if number < 4 { "aa" } else { "bb" }.repeat(32);
    }
    let (mut site, live) = Site::seeing(&shelf);
    site.runs.add("invoice", &"aa".repeat(32), None);
    (shelf, site, live)
}

#[tokio::test]
async fn what_failed_in_a_version_that_still_runs_is_told_of_and_passed_over_when_that_is_ordered() {
    let (shelf, site, _) = of_two_versions();
    let tasks = site.tasks().await;
    let begun = tasks.begin(order(Act::Redrive(of_other_versions())), None).await.unwrap();
    assert_eq!((begun.counts.total, begun.counts.same_version), (Some(10), Some(4)));
    let ended = until(&tasks, &begun.id, has_ended).await;
    let counts = &ended.counts;
    assert_eq!((&ended.standing, counts.done, counts.passed_over, counts.failed), (&Standing::Done, 6, 4, 0));
    let begun = tasks.begin(redrive(false), None).await.unwrap();
    assert_eq!(begun.counts.same_version, Some(4), "it is warned of, and goes on");
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.counts.done, ended.counts.passed_over), (4, 0));
    assert_eq!(shelf.sent.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn a_canary_is_of_those_that_are_not_passed_over() {
    let (shelf, site, live) = of_two_versions();
    *shelf.told.lock().unwrap() = Some((live, Ending::Completed));
    let tasks = site.tasks().await;
    let canary = Canary { letters: 2, abort_above: 10.0, patience: Duration::from_secs(60) };
    let ordered = order(Act::Redrive(Redrive { canary: Some(canary), ..of_other_versions() }));
    let begun = tasks.begin(ordered, None).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    let counts = &ended.counts;
    assert_eq!((&ended.standing, counts.done, counts.passed_over), (&Standing::Done, 6, 4), "{ended:?}");
    assert_eq!(counts.canary.unwrap().sent, 2);
}

fn canary_of(letters: usize) -> Order {
    let canary = Canary { letters, abort_above: 10.0, patience: Duration::from_secs(60) };
    order(Act::Redrive(Redrive { canary: Some(canary), ..Redrive::default() }))
}

/// The oldest are the likeliest to have come back too often: a canary that stopped at them let all others go unjudged.
#[tokio::test]
async fn a_canary_takes_the_next_ones_for_those_that_cannot_be_sent() {
    for (ending, standing, done) in [(Ending::DeadLettered, "aborted", 3), (Ending::Completed, "done", 25)] {
        let shelf = shelf(30);
        for held in &mut shelf.letters.lock().unwrap()[..5] {
            held.letter.record.redrives = 3;
        }
        let (site, live) = Site::seeing(&shelf);
        *shelf.told.lock().unwrap() = Some((live, ending));
        let tasks = site.tasks().await;
        let begun = tasks.begin(canary_of(3), None).await.unwrap();
        let ended = until(&tasks, &begun.id, has_ended).await;
        let counts = &ended.counts;
        let stands = if matches!(ended.standing, Standing::Aborted(_)) { "aborted" } else { "done" };
        assert_eq!((stands, counts.done, counts.held_back), (standing, done, 5), "{ended:?}");
        assert_eq!(counts.canary.unwrap().sent, 3);
        let mut sent = shelf.sent.lock().unwrap().clone();
        sent.truncate(3);
        sent.sort_unstable();
        assert_eq!(sent, ["0005", "0006", "0007"]);
    }
}

#[tokio::test]
async fn a_canary_of_which_none_can_be_sent_counts_them_and_is_done() {
    let shelf = shelf(7);
    for held in shelf.letters.lock().unwrap().iter_mut() {
        held.letter.record.redrives = 3;
    }
    let (site, _) = Site::seeing(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(canary_of(2), None).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.held_back, ended.counts.canary), (Standing::Done, 7, None));
}

/// Killed after two of four were sent, and before that was written down.
#[tokio::test(start_paused = true)]
async fn a_canary_goes_on_after_a_kill_with_as_many_as_were_ordered_and_judges_them_all() {
    let shelf = shelf(30);
    let (site, live) = Site::seeing(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(1.0), ..canary_of(4) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() == 2).await;
    let next = site.killed();
    tasks.cancel(&begun.id).await.unwrap();
    tasks.close().await;
    assert_eq!(shelf.sent.lock().unwrap().len(), 2);

    let tasks = next.tasks().await;
    tasks.go_on();
    let sent_first = |record: &Record| record.counts.canary.map_or(0, |canary| canary.sent);
    until(&tasks, &begun.id, |record| sent_first(record) == 4).await;
    for (number, well) in [(2, 1), (3, 2), (0, 3)] {
        live.tell("", &format!("m-{number}"), Ending::Completed);
        let judged = |record: &Record| record.counts.canary.is_some_and(|canary| canary.well == well);
        assert!(until(&tasks, &begun.id, judged).await.is_running());
    }
    assert_eq!(shelf.sent.lock().unwrap().len(), 4, "no more go before the verdict");
    live.tell("", "m-1", Ending::Completed);
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done), (Standing::Done, 30));
    assert_eq!(shelf.sent.lock().unwrap().len(), 30, "none twice");
}

#[tokio::test(start_paused = true)]
async fn a_canary_whose_ends_were_missed_while_the_host_was_away_is_aborted_and_says_so() {
    let shelf = shelf(30);
    let (site, _) = Site::seeing(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(canary_of(4), None).await.unwrap();
    until(&tasks, &begun.id, |record| record.counts.canary.is_some_and(|canary| canary.sent == 4)).await;
    tasks.close().await;
    let tasks = site.tasks().await;
    tasks.go_on();
    let ended = until(&tasks, &begun.id, has_ended).await;
    let Standing::Aborted(why) = ended.standing else { panic!("{ended:?}") };
    assert!(why.contains("only 0 of the 4") && why.contains("started again in between"), "{why}");
    assert_eq!((ended.counts.done, shelf.sent.lock().unwrap().len()), (4, 4), "no other canary was sent");
}

/// What others removed while the host was down was told as sent back.
#[tokio::test(start_paused = true)]
async fn what_went_while_the_host_was_killed_is_told_as_unknown_and_not_as_done() {
    let shelf = shelf(30);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(100.0), ..redrive(false) }, None).await.unwrap();
    let next = site.killed();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    tasks.close().await;
    let sent = shelf.sent.lock().unwrap().len() as u64;
    // The last ones, so that the task does not meet them again.
    shelf.letters.lock().unwrap().truncate(26);
    assert!(sent <= 26, "it was stopped in the middle: {sent}");

    let tasks = next.tasks().await;
    tasks.go_on();
    let ended = until(&tasks, &begun.id, has_ended).await;
    let counts = &ended.counts;
    assert_eq!((counts.done, counts.unknown, counts.total), (26 - sent, 4 + sent, Some(30)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_peaceful_end_nothing_is_unknown() {
    let shelf = shelf(30);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(100.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    tasks.close().await;
    shelf.letters.lock().unwrap().truncate(26);
    let tasks = site.tasks().await;
    tasks.go_on();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.counts.done, ended.counts.unknown), (26, 0), "others removed four: {ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_held_does_nothing_until_it_is_told_to_go_on() {
    let shelf = shelf(30);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(10.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    let held = tasks.pause(&begun.id, "ops").await.unwrap();
    assert_eq!(held.standing, Standing::Paused { by: "ops".to_owned() });
    let sent = shelf.sent.lock().unwrap().len();
    assert_eq!(tasks.pause(&begun.id, "dev").await.unwrap().standing, held.standing, "it stays as it was held");
    // As long as all of it would take, and more.
    tokio::time::advance(Duration::from_secs(60)).await;
    until(&tasks, &begun.id, |record| record.counts.done == sent as u64).await;
    assert_eq!(shelf.sent.lock().unwrap().len(), sent, "nothing was begun with");
    assert!(tasks.resume(&begun.id).await.unwrap().is_running());
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done, ended.counts.unknown), (Standing::Done, 30, 0));
    assert_eq!(shelf.sent.lock().unwrap().len(), 30, "none twice");
    for over in [tasks.pause(&begun.id, "ops").await, tasks.resume(&begun.id).await] {
        assert!(matches!(over, Err(TaskError::HasEnded(_))), "{over:?}");
    }
    assert!(matches!(tasks.pause("none", "ops").await, Err(TaskError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_held_stays_so_after_a_kill_and_goes_on_where_it_was() {
    let shelf = shelf(30);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(100.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    tasks.pause(&begun.id, "ops").await.unwrap();
    let sent = shelf.sent.lock().unwrap().len();
    let file = site.folder.path().join(format!("tasks/{}.json", begun.id));
    until(&tasks, &begun.id, |_| std::fs::read_to_string(&file).unwrap().contains("\"rests\": true")).await;
    let (next, other) = (site.killed(), site.killed());
    tasks.close().await;
    assert!(sent < 30, "it was held in the middle");

    let tasks = next.tasks().await;
    tasks.go_on();
    until(&tasks, &begun.id, |record| record.rests).await;
    assert_eq!(tasks.get(&begun.id).unwrap().standing, Standing::Paused { by: "ops".to_owned() });
    assert_eq!(shelf.sent.lock().unwrap().len(), sent);
    tasks.resume(&begun.id).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done, ended.counts.unknown), (Standing::Done, 30, 0), "all are counted");
    assert_eq!(shelf.sent.lock().unwrap().len(), 30, "none twice");

    let tasks = other.tasks().await;
    tasks.go_on();
    assert_eq!(tasks.cancel(&begun.id).await.unwrap().standing, Standing::Cancelled, "it can be ended as it is held");
    tasks.close().await;
    assert_eq!(other.ends.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_becomes_of_a_canary_is_seen_while_the_task_is_held() {
    let shelf = shelf(10);
    let (site, live) = Site::seeing(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(canary_of(2), None).await.unwrap();
    until(&tasks, &begun.id, |record| record.counts.canary.is_some_and(|canary| canary.sent == 2)).await;
    tasks.pause(&begun.id, "ops").await.unwrap();
    for number in 0..2 {
        live.tell("", &format!("m-{number}"), Ending::Completed);
    }
    until(&tasks, &begun.id, |record| record.is_past_canary && record.rests).await;
    assert_eq!(shelf.sent.lock().unwrap().len(), 2, "the others wait");
    tasks.resume(&begun.id).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done), (Standing::Done, 10));
}

/// The story: after a restart nobody looked until the task went on, and it was ended since nobody had seen how they did.
#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_canary_is_seen_while_the_task_is_held_after_a_restart_too() {
    let shelf = shelf(10);
    let (site, live) = Site::seeing(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(canary_of(2), None).await.unwrap();
    let canary = |record: &Record| record.counts.canary.unwrap_or_default();
    until(&tasks, &begun.id, |record| canary(record).sent == 2).await;
    tasks.pause(&begun.id, "ops").await.unwrap();
    tasks.close().await;

    let tasks = site.tasks().await;
    tasks.go_on();
    // It is told until somebody looks.
    let seen = |record: &Record| {
        (0..2).for_each(|number| live.tell("", &format!("m-{number}"), Ending::Completed));
        canary(record).well == 2
    };
    let held = until(&tasks, &begun.id, seen).await;
    assert_eq!((held.standing, held.counts.done), (Standing::Paused { by: "ops".to_owned() }, 2));
    tasks.resume(&begun.id).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((ended.standing, ended.counts.done), (Standing::Done, 10));
}

/// The story: sent and confirmed, and its mark failed; the page was cut short by a pause, listed again, and sent again.
#[tokio::test(start_paused = true)]
async fn what_was_sent_and_is_still_there_is_not_sent_again_by_the_same_task() {
    let shelf = shelf(10);
    shelf.stays.store(true, Ordering::Relaxed);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(Order { rate: Some(10.0), ..redrive(false) }, None).await.unwrap();
    until(&tasks, &begun.id, |_| shelf.sent.lock().unwrap().len() >= 3).await;
    tasks.pause(&begun.id, "ops").await.unwrap();
    until(&tasks, &begun.id, |record| record.rests).await;
    let sent = shelf.sent.lock().unwrap().len();
    assert!(sent < 10, "it was held in the middle of its page");
    tasks.close().await;
    shelf.stays.store(false, Ordering::Relaxed);

    let tasks = site.tasks().await;
    tasks.go_on();
    tasks.resume(&begun.id).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    assert_eq!((&ended.standing, ended.counts.done, ended.counts.failed), (&Standing::Done, 10, 0));
    assert_eq!(shelf.sent.lock().unwrap().len(), 10, "none twice");
    let told: Vec<_> = ended.counts.failures.iter().map(|named| named.why.contains("discard it")).collect();
    assert_eq!(told, vec![true; sent], "{ended:?}");
    assert!(ended.still_there.is_empty());
}

/// Two are told that it is held, and the first of them could not write it down: the second one is told so too.
#[tokio::test]
async fn a_pause_that_was_asked_for_before_is_answered_when_it_is_on_the_disk() {
    let shelf = shelf(3);
    shelf.is_full.store(true, Ordering::Relaxed);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let begun = tasks.begin(redrive(false), None).await.unwrap();
    until(&tasks, &begun.id, |record| record.waits_for.is_some()).await;
    let folder = site.folder.path().join("tasks");
    std::fs::rename(&folder, site.folder.path().join("aside")).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    // The first one is at the disk when the second one comes.
    let both = tokio::join!(tasks.pause(&begun.id, "ops"), tasks.pause(&begun.id, "dev"));
    assert!(matches!(both, (Err(TaskError::Disk(_)), Err(TaskError::Disk(_)))), "{both:?}");
    assert!(tasks.get(&begun.id).unwrap().is_running());
    std::fs::remove_file(&folder).unwrap();
    let (_, second) = tokio::join!(tasks.pause(&begun.id, "ops"), tasks.pause(&begun.id, "dev"));
    assert_eq!(second.unwrap().standing, Standing::Paused { by: "ops".to_owned() });
    assert!(std::fs::read_to_string(folder.join(format!("{}.json", begun.id))).unwrap().contains("\"paused\""));
    tasks.close().await;
}

#[tokio::test]
async fn a_task_that_is_held_makes_room_for_another_and_waits_for_room_itself() {
    let shelf = shelf(3);
    shelf.is_full.store(true, Ordering::Relaxed);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let mut first = None;
    for _ in 0..MOST_RUNNING {
        first = Some(tasks.begin(redrive(false), None).await.unwrap().id);
    }
    let first = first.unwrap();
    tasks.pause(&first, "ops").await.unwrap();
    let other = tasks.begin(redrive(false), None).await.unwrap();
    assert!(matches!(tasks.resume(&first).await, Err(TaskError::TooMany)));
    tasks.cancel(&other.id).await.unwrap();
    assert!(tasks.resume(&first).await.unwrap().is_running());
    tasks.close().await;
}

#[tokio::test]
async fn a_redrive_to_where_nobody_takes_it_ends_before_it_begins_and_loses_nothing() {
    let shelf = shelf(600);
    let site = Site::new(&shelf);
    let tasks = site.tasks().await;
    let to = |to: &str| order(Act::Redrive(Redrive { to: Some(to.to_owned()), ..Redrive::default() }));
    let begun = tasks.begin(to("nobody"), None).await.unwrap();
    let ended = until(&tasks, &begun.id, has_ended).await;
    let Standing::Aborted(why) = &ended.standing else { panic!("{ended:?}") };
    assert!(why.contains("`nobody`: nobody is there"), "{why}");
    assert_eq!((ended.counts.done, ended.counts.failed, shelf.sent.lock().unwrap().len()), (0, 0, 0));
    let begun = tasks.begin(to("somebody"), None).await.unwrap();
    assert_eq!(until(&tasks, &begun.id, has_ended).await.counts.done, 600);
}
