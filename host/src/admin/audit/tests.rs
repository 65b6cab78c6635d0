#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn action(target: &str) -> (Caller, String) {
    (Caller { name: "ci".into(), ..Caller::local() }, target.to_owned())
}

async fn begin(audit: &Arc<Audit>, target: &str) -> Result<Begun, AuditError> {
    let (caller, target) = action(target);
    let from = "10.0.0.1:999".parse().unwrap();
    audit.begin(&Action { caller: &caller, from, action: "dead-letter.discard", target: &target }).await
}

#[tokio::test]
async fn actions_are_read_newest_first_with_their_results() {
    let directory = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(directory.path().join("data")));
    assert_eq!(audit.page(None, 10).await.unwrap(), Page::default(), "nothing was done yet");
    let mut begun = Vec::new();
    for number in 0..5 {
        begun.push(begin(&audit, &format!("/v1/dead-letters/{number}")).await.unwrap());
    }
    // They end in another order, and one does not.
    for index in [3, 0, 4, 2] {
        begun[index].clone().answered(204, None).await;
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
    let ids: Vec<String> = begun.into_iter().rev().map(|begun| begun.id).collect();
    assert_eq!(seen.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(seen[0].result.as_ref().map(|result| result.status), Some(Some(204)));
    assert_eq!(seen[3].result, None, "it did not end");
    assert_eq!((seen[4].who.as_str(), seen[4].target.as_str()), ("ci", "/v1/dead-letters/0"));
    let mode = std::fs::metadata(directory.path().join("data/audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The disk filled in the middle of a line, or the host was killed there.
#[tokio::test]
async fn a_line_that_was_cut_off_spoils_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(directory.path().to_owned()));
    let first = begin(&audit, "a").await.unwrap().id;
    let path = directory.path().join("audit.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"line\":\"begun\",\"id\":\"01");
    std::fs::write(&path, text).unwrap();
    let second = begin(&audit, "b").await.unwrap().id;
    let page = audit.page(None, 10).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), [second, first]);
}

#[tokio::test]
async fn full_files_are_put_aside_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(file::Files::small(directory.path().to_owned(), 200));
    let audit = Arc::new(Audit { files, reading: tokio::sync::Mutex::default() });
    // Each line is larger than half a file: two make a full one.
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(begin(&audit, &number.to_string()).await.unwrap().id);
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
    let audit = Arc::new(Audit::new(in_the_way));
    assert!(matches!(begin(&audit, "a").await, Err(AuditError::File { .. })));
}

/// Whatever ends a deploy, its end is written down once.
#[tokio::test]
async fn a_deploy_is_written_down_with_its_end() {
    use crate::deploy::Witness as _;
    use crate::deploy::report::Step;
    let directory = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(directory.path().to_owned()));
    let begun = async |target: &str| begin(&audit, target).await.unwrap();
    begun("live").await.ended(End::Live { version: 2 }, None).await;
    let why = "x".repeat(10_000);
    begun("failed").await.ended(End::Failed { step: Step::Golden, why }, Some("golden-failed".into())).await;
    begun("host ends").await.cut_off(Step::Compile);
    drop(begun("caller goes").await.until_answered());
    begun("answered").await.until_answered().answered();
    let results = async || {
        let entries = audit.page(None, 10).await.unwrap().entries.into_iter().rev();
        entries.map(|entry| entry.result).collect::<Vec<_>>()
    };
    // What is written behind a caller who went is waited for by nobody.
    let mut seen = results().await;
    while seen[3].is_none() {
        tokio::task::yield_now().await;
        seen = results().await;
    }
    let short: Vec<_> = seen
        .iter()
        .map(|result| result.as_ref().map(|result| (result.status, result.code.as_deref(), result.deploy.as_ref())))
        .collect();
    let failed = End::Failed { step: Step::Golden, why: "x".repeat(LONGEST_WHY) };
    let expected = [
        Some((Some(200), None, Some(&End::Live { version: 2 }))),
        Some((Some(200), Some("golden-failed"), Some(&failed))),
        Some((Some(200), Some("cut-off"), Some(&End::CutOff { step: Step::Compile }))),
        Some((None, Some("cut-off"), Some(&End::CutOff { step: Step::Upload }))),
        None,
    ];
    assert_eq!(short, expected);
}

/// A host that is newer than its log reads what an older one wrote.
#[tokio::test]
async fn lines_of_before_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let old = concat!(
        r#"{"line":"begun","id":"1","at":"t","who":"ci","role":"deploy","from":"f","action":"handler.deploy","target":"/"}"#,
        "\n",
        r#"{"line":"ended","id":"1","at":"u","status":200,"code":null}"#,
        "\n",
    );
    std::fs::write(directory.path().join("audit.jsonl"), old).unwrap();
    let page = Arc::new(Audit::new(directory.path().to_owned())).page(None, 10).await.unwrap();
    let result = AuditResult { at: "u".into(), status: Some(200), code: None, deploy: None };
    assert_eq!(page.entries[0].result, Some(result));
}

/// A canary that the host ended, and what the configuration deployed at a start, stood nowhere but in the history.
#[tokio::test]
async fn what_the_host_does_to_handlers_by_itself_is_written_down() {
    use crate::deploy::{OnRecord as _, Own, OwnAct};
    let directory = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(directory.path().to_owned()));
    let all = [Own::Deployed, Own::Promoted, Own::Aborted, Own::Ended];
    let act = |what| OwnAct { what, handler: "h".to_owned(), version: 7, why: "so it is".to_owned() };
    audit.did(&all.map(act)).await;
    let entries = audit.page(None, 10).await.unwrap().entries;
    let seen: Vec<&str> = entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(seen, ["handler.deploy", "handler.promote", "handler.abort", "handler.shadow.end"]);
    for entry in entries {
        assert_eq!((entry.who.as_str(), entry.from.as_str(), entry.target.as_str()), (HOST, HOST, "h@7: so it is"));
        assert_eq!(entry.result.and_then(|result| result.status), Some(DONE));
    }
}

#[tokio::test]
async fn what_a_signal_asks_for_is_written_down_before_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::new(directory.path().join("data")));
    let begun = async || audit.begin_on_signal("SIGHUP", "configuration.apply", "tidegate.toml").await;
    begun().await.unwrap().applied(None).await;
    begun().await.unwrap().applied(Some(&crate::apply::ApplyError::Changed)).await;
    begun().await.unwrap();
    let entries = audit.page(None, 10).await.unwrap().entries;
    let seen: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| entry.result.as_ref().map(|result| (result.status, result.code.as_deref())))
        .collect();
    assert_eq!(seen, [Some((Some(200), None)), Some((Some(409), Some("config-changed"))), None]);
    assert_eq!((entries[0].who.as_str(), entries[0].role, entries[0].from.as_str()), ("SIGHUP", Role::Deploy, SIGNAL));
}

/// The story: a long text to search for hid where the dead letters were sent to.
#[test]
fn nothing_that_was_said_hides_behind_a_long_part_of_it() {
    let said =
        |text: usize| format!("/v1/dead-letters/tasks?action=redrive&text={}&to=orders.manual", "x".repeat(text));
    assert_eq!(short(&said(20)), said(20));
    let cut = short(&said(5000));
    assert!(cut.len() <= LONGEST_TARGET && cut.len() > LONGEST_TARGET - 10, "{}", cut.len());
    assert!(
        cut.starts_with("/v1/dead-letters/tasks?action=redrive&text=xxx") && cut.ends_with("x&to=orders.manual"),
        "{cut}"
    );
    assert_eq!(short(&"é".repeat(600)), "é".repeat(LONGEST_TARGET));
    let hidden = "/v1/dead-letters/tasks?".to_owned() + &"&".repeat(5000) + "to=orders.manual";
    assert_eq!(short(&hidden), "/v1/dead-letters/tasks?&to=orders.manual");
}
