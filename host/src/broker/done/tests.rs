#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use super::file::Changes;
use super::*;

fn identity(created: &str) -> SourceIdentity {
    SourceIdentity {
        stream: "ORDERS".to_owned(),
        stream_created: "2026-01-01T00:00:00Z".to_owned(),
        consumer: "billing".to_owned(),
        consumer_created: created.to_owned(),
    }
}

/// The record after the host was started anew.
async fn opened_anew(record: Arc<DoneRecord>, options: &Options) -> Arc<DoneRecord> {
    record.close().await;
    drop(record);
    DoneRecord::open(options).unwrap()
}

/// The message at a sequence that was stored in the first second after the epoch.
fn at(sequence: u64) -> MessageIdentity {
    MessageIdentity { sequence, stored_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1) }
}

/// The one that has the sequence after the server came back without the first.
fn later(sequence: u64) -> MessageIdentity {
    MessageIdentity { sequence, stored_at: SystemTime::UNIX_EPOCH + Duration::from_secs(2) }
}

fn known(record: &DoneRecord, source: SourceId, message: MessageIdentity) -> (bool, Option<Progress>) {
    record.look_up(source, std::iter::once(message)).remove(0)
}

fn done(record: &DoneRecord, source: SourceId, sequence: u64) -> bool {
    known(record, source, at(sequence)).0
}

fn note(record: &DoneRecord, source: SourceId, sequence: u64) -> Option<Progress> {
    known(record, source, at(sequence)).1
}

#[tokio::test]
async fn what_is_marked_is_there_after_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("done.db"));
    let record = DoneRecord::open(&options).unwrap();
    let source = record.source(&identity("a"));
    record.mark(source, &[1, 63, 64, 4095, 4096, u64::MAX].map(at), 0).await.unwrap();
    record.close().await;
    assert!(record.mark(source, &[at(2)], 0).await.is_err(), "a closed record took a mark");
    drop(record);

    let record = DoneRecord::open(&options).unwrap();
    let again = record.source(&identity("a"));
    assert_eq!(again, source);
    for sequence in [1, 63, 64, 4095, 4096, u64::MAX] {
        assert!(done(&record, again, sequence), "{sequence} was forgotten");
    }
    for sequence in [0, 2, 62, 65, 4094, 4097, u64::MAX - 1] {
        assert!(!done(&record, again, sequence), "{sequence} was never marked");
    }
    let other = record.source(&identity("b"));
    assert!(!done(&record, other, 1), "a consumer that was made anew starts empty");
    record.close().await;
}

#[tokio::test]
async fn a_note_lives_until_its_message_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("done.db"));
    let record = DoneRecord::open(&options).unwrap();
    let source = record.source(&identity("a"));
    let mut progress = Progress::first(SystemTime::UNIX_EPOCH);
    progress.uncounted = 3;
    record.note(source, vec![(at(7), progress.clone()), (at(8), progress.clone())]).await.unwrap();
    record.mark(source, &[at(8)], 0).await.unwrap();
    let record = opened_anew(record, &options).await;
    assert_eq!(note(&record, source, 7), Some(progress));
    assert_eq!(note(&record, source, 8), None);
    assert!(done(&record, source, 8) && !done(&record, source, 7));
    record.close().await;
}

#[tokio::test]
async fn another_message_at_the_same_sequence_is_not_known() {
    // The story: the power failed, the server came back without its newest messages, and gave their sequences to new
    // ones. The host acknowledged a new one without running it, as the one before it was done.
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("done.db"));
    let record = DoneRecord::open(&options).unwrap();
    let source = record.source(&identity("a"));
    record.mark(source, &[7, 8].map(at), 0).await.unwrap();
    record.note(source, vec![(at(9), Progress::first(SystemTime::UNIX_EPOCH))]).await.unwrap();
    // Another host had the new 7; this one only what is behind both.
    record.mark(source, &[8, 10].map(later), 0).await.unwrap();
    // A run of one that the server lost ended late.
    record.mark(source, &[at(10)], 0).await.unwrap();
    let record = opened_anew(record, &options).await;
    assert!(done(&record, source, 7) && !known(&record, source, later(7)).0);
    assert!(known(&record, source, later(8)).0 && !done(&record, source, 8), "the later one is the one that there is");
    assert!(note(&record, source, 9).is_some() && known(&record, source, later(9)).1.is_none());
    assert!(known(&record, source, later(10)).0 && !done(&record, source, 10));
    record.close().await;
}

#[test]
fn of_two_messages_at_a_sequence_the_later_counts_also_where_tags_come_round() {
    use blocks::is_later;
    assert!(is_later(1, 0) && is_later(2, 1) && is_later(5, u32::MAX - 5));
    assert!(!is_later(1, 1) && !is_later(1, 2) && !is_later(u32::MAX - 5, 5));
}

#[tokio::test]
async fn what_is_done_is_forgotten_when_outputs_of_it_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("done.db"));
    let record = DoneRecord::open(&options).unwrap();
    let source = record.source(&identity("a"));
    record.reached("OUT", 7, 0);
    record.reached("OUT", 5, 0);
    record.reached("DLQ", 1, 0);
    record.mark(source, &[1, 2].map(at), 0).await.unwrap();
    let record = opened_anew(record, &options).await;
    let mut furthest = record.furthest();
    furthest.sort();
    assert_eq!(furthest, [("DLQ".into(), 1), ("OUT".into(), 7)]);
    assert!(!record.forget_done(&[("OUT", 7), ("NONE", 1)], 0) && done(&record, source, 1), "it is as far as it was");
    assert!(record.forget_done(&[("OUT", 3)], 0));
    assert!(!record.forget_done(&[("OUT", 2)], 0), "somebody found it a moment ago");
    assert!(!done(&record, source, 1));
    // What was stored before is no reason to mark anything.
    record.mark(source, &[at(2)], 0).await.unwrap();
    record.mark(source, &[at(3)], record.forgotten()).await.unwrap();
    let record = opened_anew(record, &options).await;
    assert!(record.furthest().contains(&("OUT".into(), 3)));
    assert!(!done(&record, source, 1) && !done(&record, source, 2) && done(&record, source, 3));
    record.close().await;
}

#[tokio::test]
async fn it_is_bounded_and_what_goes_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { path: folder.path().join("done.db"), max_blocks: 4, max_notes: 2 };
    let record = DoneRecord::open(&options).unwrap();
    let source = record.source(&identity("a"));
    for block in 0..10 {
        record.mark(source, &[at(block * blocks::SEQUENCES)], 0).await.unwrap();
    }
    for sequence in 0..5 {
        record.note(source, vec![(at(sequence), Progress::first(SystemTime::UNIX_EPOCH))]).await.unwrap();
    }
    let counters = record.counters();
    assert_eq!((counters.blocks, counters.evicted_blocks), (4, 6));
    assert_eq!((counters.notes, counters.evicted_notes), (2, 3));
    assert!(!done(&record, source, 5 * blocks::SEQUENCES) && done(&record, source, 9 * blocks::SEQUENCES));
    let record = opened_anew(record, &options).await;
    assert_eq!((record.counters().blocks, record.counters().notes), (4, 2), "the file keeps what memory dropped");
    record.close().await;
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_one_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::at(folder.path().join("done.db"));
    std::fs::write(&options.path, vec![0x5a; 8192]).unwrap();
    let record = DoneRecord::open(&options).unwrap();
    assert!(folder.path().join("done.db.damaged").exists());
    let source = record.source(&identity("a"));
    record.mark(source, &[at(1)], 0).await.unwrap();
    let second = DoneRecord::open(&options);
    assert!(matches!(second, Err(DoneError::Locked(_))), "two processes shared it: {second:?}");
    record.close().await;
}

#[tokio::test]
async fn a_write_that_fails_is_told_and_made_up_for() {
    // The story: the disk was full for a minute; what was marked meanwhile must reach the file afterwards.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done.db");
    let (mut file, _) = File::open(&path).unwrap();
    let full = Changes {
        blocks: (0..100).map(|block| ((SourceId(1), block), Some(Box::new([u32::MAX; 128])))).collect(),
        ..Changes::default()
    };
    file.limit_pages_for_test(1);
    assert!(file.write(&full).is_err(), "a full disk took a write");
    let mut kept = Blocks::new(8, Vec::new());
    kept.insert_all(SourceId(1), &[at(5000)]);
    let taken = kept.take_dirty();
    assert!(kept.take_dirty().is_empty());
    kept.put_back(taken.into_iter().map(|(key, _)| key));
    assert_eq!(kept.take_dirty().len(), 1, "what could not be written is written with the next group");
}
