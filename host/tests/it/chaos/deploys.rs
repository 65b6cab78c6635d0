//! The host dies at each step of a deploy: at its next start it runs the old or the new version, whole.

use std::io::Write as _;
use std::time::Duration;

use tidegate::deploy::report::Line;

use super::audit;
use super::books::Books;
use super::rig::Rig;
use super::swap::ledger;
use crate::support::until;

/// Where it dies, which version runs after that, and how many files without a name and modules it leaves until its next start.
const PLACES: [(&str, u64, (usize, usize)); 11] = [
    // Some of the bytes are there, in a file without a name.
    ("arriving", 1, (1, 1)),
    // All of them are.
    ("uploaded", 1, (1, 1)),
    // The module has its name, and the name is not synced yet.
    ("renamed", 1, (0, 2)),
    // The module is durable.
    ("kept", 1, (0, 2)),
    // It is compiled, and what it asks for is not looked at yet.
    ("compiled", 1, (0, 2)),
    // Its first instance is about to run.
    ("initializing", 1, (0, 2)),
    // It has run.
    ("initialized", 1, (0, 2)),
    // It has done with the golden messages what is known of it.
    ("tried", 1, (0, 2)),
    // It is ready for its first messages too.
    ("checked", 1, (0, 2)),
    // The version and the switch are recorded; what runs is still the old one.
    ("recorded", 2, (0, 2)),
    // It runs.
    ("switched", 2, (0, 2)),
];

fn files(rig: &Rig, folder: &str) -> usize {
    std::fs::read_dir(rig.path().join("tidegate-data/registry").join(folder)).unwrap().count()
}

/// A host with a handler of which it is known what it does with a message: that is tried before a switch.
pub(super) fn with_golden_messages() -> Rig {
    let rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.edit(|text| text.replace("module = \"ledger.wasm\"", "module = \"ledger.wasm\"\ngolden = \"golden\""));
    std::fs::create_dir(rig.path().join("golden")).unwrap();
    let golden = "{\"subject\": \"in.x\", \"id\": \"m-1\", \"body\": \"m-1\", \"expect\": \"completed\"}\n";
    std::fs::write(rig.path().join("golden/one.jsonl"), golden).unwrap();
    rig
}

/// Waits until so many messages were completed since the start.
fn until_completed(rig: &Rig, count: u64) {
    until("the messages are completed", Duration::from_secs(60), || {
        rig.status().is_some_and(|status| status.subscriptions[0].counts.completed == count)
    });
}

#[test]
fn killed_at_each_step_of_a_deploy_it_runs_one_version_whole() {
    for (place, expected, left) in PLACES {
        let mut rig = with_golden_messages();
        rig.start();
        rig.publisher().publish(&["m-0".to_owned()]);
        until_completed(&rig, 1);
        rig.drain();
        rig.dies_at = Some(place);
        rig.start();
        let answer = rig.deploy(&ledger(2));
        assert!(!matches!(answer, Some(Line::Failed(_))), "{place}: {answer:?}");
        rig.dead();
        assert_eq!((files(&rig, "incoming"), files(&rig, "modules")), left, "{place}: it died there");

        rig.dies_at = None;
        rig.start();
        let handler = rig.handler();
        assert_eq!(handler.active, Some(expected), "{place}: {handler:?}");
        assert_eq!(handler.versions.len() as u64, expected, "{place}: {handler:?}");
        // What the deploy left behind is gone, and what a version names is there.
        assert_eq!((files(&rig, "incoming"), files(&rig, "modules") as u64), (0, expected), "{place}");
        rig.publisher().publish(&["m-1".to_owned()]);
        until_completed(&rig, 1);
        // The same deploy again comes to its end.
        let Some(Line::Done(done)) = rig.deploy(&ledger(2)) else { panic!("{place}: the deploy after the kill") };
        assert_eq!((done.version, done.unchanged), (2, expected == 2), "{place}");
        rig.publisher().publish(&["m-2".to_owned()]);
        until_completed(&rig, 2);
        rig.drain();

        let mut books = Books::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(audit::read_embedded(&rig, &mut books));
        books.read_runs(&rig.log());
        assert_eq!(books.check("m", 3).extra_runs, 0, "{place}");
        let version = |number: u64| (format!("{number:06}"), format!("{number:06}"));
        for (message, number) in [("m-0", 1), ("m-1", expected), ("m-2", 2)] {
            assert_eq!(books.made_by[message], version(number), "{place}: {message}");
        }
    }
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing_behind_and_nobody_waiting() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    let module = ledger(2);
    let half = &module[..module.len() / 2];
    let mut stream = rig.connect();
    let head = format!(
        "POST /v1/handlers/ledger/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        module.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(half).unwrap();
    until("the upload is under way", Duration::from_secs(20), || rig.handler().deploying.is_some());
    assert_eq!(files(&rig, "incoming"), 1);
    drop(stream);
    until("the upload is given up", Duration::from_secs(20), || rig.handler().deploying.is_none());
    assert_eq!((files(&rig, "incoming"), files(&rig, "modules")), (0, 1));
    assert_eq!(rig.handler().active, Some(1));
    let Some(Line::Done(done)) = rig.deploy(&module) else { panic!("the whole upload") };
    assert_eq!(done.version, 2);
}
