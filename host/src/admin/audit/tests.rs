#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn action(target: &str) -> (Caller, String) {
    (Caller { name: "ci".into(), ..Caller::local() }, target.to_owned())
}

async fn begin(audit: &Audit, target: &str) -> Result<String, AuditError> {
    let (caller, target) = action(target);
    let from = "10.0.0.1:999".parse().unwrap();
    audit.begin(&Action { caller: &caller, from, action: "dead-letter.discard", target: &target }).await
}

#[tokio::test]
async fn actions_are_read_newest_first_with_their_results() {
    let directory = tempfile::tempdir().unwrap();
    let audit = Audit::new(directory.path().join("data"));
    assert_eq!(audit.page(None, 10).await.unwrap(), Page::default(), "nothing was done yet");
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(begin(&audit, &format!("/v1/dead-letters/{number}")).await.unwrap());
    }
    // They end in another order, and one does not.
    for index in [3, 0, 4, 2] {
        audit.end(ids[index].clone(), 204, None).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = audit.page(before, 2).await.unwrap();
        seen.extend(page.entries);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    ids.reverse();
    assert_eq!(seen.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(seen[0].result.as_ref().map(|result| result.status), Some(204));
    assert_eq!(seen[3].result, None, "it did not end");
    assert_eq!((seen[4].who.as_str(), seen[4].target.as_str()), ("ci", "/v1/dead-letters/0"));
    let mode = std::fs::metadata(directory.path().join("data/audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The disk filled in the middle of a line, or the host was killed there.
#[tokio::test]
async fn a_line_that_was_cut_off_spoils_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let audit = Audit::new(directory.path().to_owned());
    let first = begin(&audit, "a").await.unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"line\":\"begun\",\"id\":\"01");
    std::fs::write(&path, text).unwrap();
    let second = begin(&audit, "b").await.unwrap();
    let page = audit.page(None, 10).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), [second, first]);
}

#[tokio::test]
async fn full_files_are_put_aside_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(file::Files::small(directory.path().to_owned(), 200));
    let audit = Audit { files, reading: tokio::sync::Mutex::default() };
    // Each line is larger than half a file: two make a full one.
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(begin(&audit, &number.to_string()).await.unwrap());
    }
    let names = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(names, 16, "one is written to, fifteen are kept");
    let page = audit.page(None, 1000).await.unwrap();
    assert!(page.entries.len() < 40 && page.entries.len() >= 16, "{}", page.entries.len());
    ids.reverse();
    let seen: Vec<String> = page.entries.into_iter().map(|entry| entry.id).collect();
    assert_eq!(seen, ids[..seen.len()], "the newest are there, in their order");
}

#[tokio::test]
async fn what_cannot_be_written_down_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("data");
    std::fs::write(&in_the_way, "a file").unwrap();
    let audit = Audit::new(in_the_way);
    assert!(matches!(begin(&audit, "a").await, Err(AuditError::File { .. })));
}
