//! Two hosts on one subscription: what a message costs does not depend on which of them it comes to.

use serde_json::json;
use tokio::runtime::Runtime;

use super::desk;
use crate::command_line::{Desk, until};
use crate::support::nats::NatsServer;

const MESSAGES: usize = 8;
const DELIVERIES: u32 = 6;

fn host(server: &NatsServer) -> Desk {
    let desk = desk(server, "");
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let subjects = "subjects = [\"complete\", \"reject\"]";
    assert!(text.contains(subjects), "{text}");
    let retry = format!("retry = {{ max_attempts = 1, max_deliveries = {DELIVERIES} }}\n");
    // With the patience of a host as it is shipped.
    let text = text.replace(subjects, "subjects = [\"defer\"]").replace("publish_timeout = \"500ms\"\n", "");
    desk.write("tidegate.toml", &(text + &retry));
    desk
}

/// Each host took the deferrals of the other for attempts, and gave the message up as one that had used them up.
#[test]
fn deferrals_cost_no_attempt_whichever_host_they_were_on() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let (one, two) = (host(&server), host(&server));
    let _hosts = (one.host_with_log(), two.host_with_log());
    for desk in [&one, &two] {
        until("both hosts to be ready", || desk.ready().0 == 200);
    }
    let lines: String = (0..MESSAGES).map(|id| format!("{{\"subject\":\"defer\",\"id\":\"{id}\"}}\n")).collect();
    one.expect(&["publish", "--lines"], &lines, 0);
    let mut letters = json!([]);
    until("all to have been handed over as often as they may be", || {
        letters = one.json(&["dlq", "ls", "--json"], "", 0);
        letters.as_array().unwrap().len() == MESSAGES
    });
    let reasons: Vec<&str> = letters.as_array().unwrap().iter().map(|each| each["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["deliveries-exhausted"; MESSAGES], "{letters}");
    let runs = [&one, &two].map(|desk| desk.counts()["runs"].as_u64().unwrap());
    assert!(runs.iter().all(|runs| *runs > 0), "both had some: {runs:?}");
    assert_eq!(runs.iter().sum::<u64>(), MESSAGES as u64 * u64::from(DELIVERIES));
}
