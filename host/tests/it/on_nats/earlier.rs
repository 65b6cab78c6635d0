//! The server comes back from an earlier copy of its store: the host runs what is new in the place of what it has done.

use serde_json::json;
use tokio::runtime::Runtime;

use super::desk;
use crate::command_line::until;
use crate::support::nats::NatsServer;

#[test]
fn what_is_new_after_a_server_came_back_from_a_copy_is_run_and_not_taken_for_done() {
    const COUNT: u64 = 50;
    let runtime = Runtime::new().unwrap();
    let mut server = runtime.block_on(NatsServer::start());
    let desk = desk(&server, "");
    let _host = desk.host_with_log();
    let publish = |kind: &str| {
        let lines = format!("{{\"subject\":\"{kind}\"}}\n").repeat(usize::try_from(COUNT).unwrap());
        desk.expect(&["publish", "--lines"], &lines, 0);
    };
    publish("complete");
    until("the first messages to be done", || desk.counts()["completed"] == json!(COUNT));
    let kept = server.copy();
    publish("complete");
    until("those that will be lost to be done", || desk.counts()["completed"] == json!(2 * COUNT));

    runtime.block_on(server.put_back(&kept));
    let reconnects = || desk.metric("tidegate_broker_reconnects_total", &["broker=\"local\""]);
    until("the host to connect again", || reconnects() == 1);
    until("the host to be ready", || desk.ready() == (200, json!({ "ready": true })));
    // At the sequences of the lost ones; each is rejected, and leaves a dead letter that tells.
    publish("reject");
    until("the new messages to be dead letters", || desk.counts()["dead_lettered"] == json!(COUNT));
    let counts = desk.counts();
    assert_eq!(counts["runs"], json!(3 * COUNT), "{counts}");
    let listed = desk.json(&["dlq", "ls", "--limit", "500", "--json"], "", 0);
    let subjects: Vec<_> =
        listed.as_array().unwrap().iter().map(|letter| letter["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, vec!["reject"; usize::try_from(COUNT).unwrap()]);
}
