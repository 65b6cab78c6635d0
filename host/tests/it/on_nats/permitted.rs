//! A login that may do what the page on permissions lists, and nothing else: all that a host and its commands do works with it.

use serde_json::json;
use tidegate::broker::Broker as _;
use tidegate::broker::jetstream::{Auth, Options};
use tokio::runtime::Runtime;

use crate::buckets::{bucket, keys, text};
use crate::chaos::ledger;
use crate::command_line::{Desk, Running, until};
use crate::jetstream::connect;
use crate::support::nats::NatsServer;

const PAGE: &str = include_str!("../../../../docs/nats-permissions.md");
const PASSWORD: &str = "change-me";

/// The block of the page in a language.
fn block(language: &str) -> &'static str {
    let (_, block) = PAGE.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0
}

/// A host with the page's configuration, on a server with these users.
fn start(runtime: &Runtime, users: &str) -> (NatsServer, Desk, Running) {
    let server = runtime.block_on(NatsServer::start_with(users));
    let desk = Desk::new();
    let entries = block("toml").replace("nats://127.0.0.1:4222", &server.url());
    desk.write("tidegate.toml", &format!("[http]\nlisten = \"{}\"\n{entries}", desk.address()));
    desk.write("nats-password", PASSWORD);
    std::fs::write(desk.path().join("billing.wasm"), ledger(1)).unwrap();
    std::fs::write(desk.path().join("candidate.wasm"), ledger(2)).unwrap();
    let host = desk.host_with_log();
    (server, desk, host)
}

/// Publishes the messages of these numbers; the handler does as the number says.
fn publish(desk: &Desk, numbers: std::ops::RangeInclusive<u32>) {
    let lines: String =
        numbers.map(|number| format!("{{\"subject\":\"orders.eu\",\"id\":\"m-{number}\"}}\n")).collect();
    desk.expect(&["publish", "--lines"], &lines, 0);
}

/// What the server wrote of the refusals.
fn refusals(server: &NatsServer) -> Vec<String> {
    let log = std::fs::read_to_string(server.folder().join("output.log")).unwrap();
    log.lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
}

#[test]
fn what_the_page_lists_is_enough_for_all_that_a_host_does() {
    let runtime = Runtime::new().unwrap();
    let (server, desk, _host) = start(&runtime, block("conf"));
    until("the host to be ready", || desk.ready().0 == 200);
    desk.expect(&["check"], "", 0);
    publish(&desk, 1..=20);
    let ended =
        |counts: &serde_json::Value| ["completed", "skipped", "dead_lettered"].map(|how| counts[how].as_u64().unwrap());
    until("each to end as its number says", || ended(&desk.counts()) == [18, 1, 1]);

    let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
    let id = letters[0]["id"].as_str().unwrap();
    assert!(desk.expect(&["dlq", "show", id], "", 0).contains("as-the-number-says"));
    assert!(desk.expect(&["dlq", "stats"], "", 0).contains("as-the-number-says"));
    desk.json(&["dlq", "replay", id, "--json"], "", 5);
    assert_eq!(desk.expect(&["dlq", "redrive", id], "", 0), "1 sent back\n");
    until("it to be dead again", || desk.json(&["dlq", "ls", "--json"], "", 0)[0]["redrives"] == json!(1));
    let nobody = desk.run(&["dlq", "redrive", "--all", "--to", "elsewhere"], "");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no stream takes that subject in"), "{nobody:?}");
    assert_eq!(desk.expect(&["dlq", "redrive", "--all", "--to", "orders.us"], "", 0), "1 sent back\n");
    until("it to be dead once more", || desk.json(&["dlq", "ls", "--json"], "", 0)[0]["redrives"] == json!(2));
    assert_eq!(desk.expect(&["dlq", "discard", "--all", "--count", "1"], "", 0), "1 removed\n");

    desk.json(&["replay", "--handler", "billing", "--with", "candidate.wasm", "--from", "1h", "--json"], "", 5);
    desk.expect(&["deploy", "candidate.wasm", "--handler", "billing"], "", 0);
    publish(&desk, 21..=30);
    until("the new version to run", || desk.counts()["completed"] == json!(28));
    desk.expect(&["rollback", "billing"], "", 0);
    let paused = desk.expect(&["pause", "billing", "--all-hosts"], "", 0);
    assert!(paused.contains("billing is paused on all hosts"), "{paused}");
    desk.expect(&["resume", "billing", "--all-hosts"], "", 0);

    runtime.block_on(async {
        let auth = Auth::UserPassword { user: "tidegate".to_owned(), password: PASSWORD.to_owned() };
        let (broker, _folder) = connect(Options { auth, ..Options::new("main", vec![server.url()]) }).await;
        let seen = bucket(&*broker, "seen");
        seen.set("a", "1".into()).await.unwrap();
        assert_eq!(seen.increment("n", 2).await, Ok(2));
        let found = seen.find("a").await.unwrap();
        assert_eq!(seen.swap("a", found.revision, "2".into()).await, Ok(true));
        assert_eq!(text(&*seen, "a").await.as_deref(), Some("2"));
        assert_eq!(keys(&*seen, 10).await, ["a", "n"]);
        seen.delete("a").await.unwrap();
        assert_eq!(seen.exists("a").await, Ok(false));
        broker.close().await;
    });

    // A host by itself does not look for what others noted, but may.
    runtime.block_on(async {
        let login = async_nats::ConnectOptions::with_user_and_password("tidegate".to_owned(), PASSWORD.to_owned());
        let client = login.connect(server.url()).await.unwrap();
        let question = r#"{"last_by_subj":"tidegate-note.>"}"#.into();
        let answer = client.request("$JS.API.STREAM.MSG.GET.NOTES_tidegate", question).await.unwrap();
        assert!(String::from_utf8_lossy(&answer.payload).contains("tidegate-note.ORDERS.billing."), "{answer:?}");
    });

    assert_eq!(refusals(&server), Vec::<String>::new());
    assert!(!desk.log().contains("Violation"), "{}", desk.log());
    let (status, said) = desk.ready();
    assert_eq!(status, 200, "{said}");
}

/// That nothing was refused above says something only if it would have been seen.
#[test]
fn what_is_missing_is_said_by_its_subject_and_the_message_waits() {
    let runtime = Runtime::new().unwrap();
    let missing = "          \"invoices.new\"\n";
    assert!(block("conf").contains(missing));
    let (mut server, desk, _host) = start(&runtime, &block("conf").replace(missing, ""));
    until("the host to be ready", || desk.ready().0 == 200);
    publish(&desk, 1..=1);
    until("the log to say what is missing", || desk.log().contains("invoices.new"));
    assert!(refusals(&server).iter().any(|line| line.contains("invoices.new")), "{:?}", refusals(&server));
    assert_eq!(desk.counts()["completed"], json!(0));
    server.configure(block("conf"));
    until("the message to be done once it may be", || desk.counts()["completed"] == json!(1));
}
