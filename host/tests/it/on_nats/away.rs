//! The server is away: at the start of the host, in the middle, at its end.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::runtime::Runtime;

use super::desk;
use crate::command_line::{Desk, until};
use crate::support::nats::NatsServer;

/// Waits until `/ready` says that the broker is away, and which server it is that cannot be reached; gives back why.
fn until_away(desk: &Desk, address: &str) -> String {
    let mut why = String::new();
    until("the host to say that the broker is away", || {
        let (status, said) = desk.ready();
        let troubles = said["troubles"].as_array().cloned().unwrap_or_default();
        let broker = troubles.iter().find(|trouble| trouble["what"] == json!("broker local"));
        if let Some(broker) = broker {
            assert_eq!((status, &said["ready"]), (503, &json!(false)), "{said}");
            why = broker["why"].as_str().unwrap().to_owned();
        }
        why.contains(address)
    });
    why
}

fn until_ready(desk: &Desk) {
    until("the host to be ready", || desk.ready() == (200, json!({ "ready": true })));
}

#[test]
fn a_host_starts_without_its_server_outlives_it_and_works_whenever_it_is_there() {
    let runtime = Runtime::new().unwrap();
    let mut server = NatsServer::not_started();
    let address = server.url();
    let desk = desk(&server, "");
    let mut host = desk.host_with_log();
    // It runs, and says what is wrong wherever somebody looks.
    assert_eq!(desk.get("/live"), (200, "live\n".to_owned()));
    let why = until_away(&desk, &address);
    assert!(why.contains("refused"), "{why}");
    let (_, said) = desk.ready();
    let subscription = &said["troubles"][1];
    assert_eq!(subscription["what"], json!("subscription all"), "{said}");
    assert!(subscription["why"].as_str().unwrap().contains(&address), "{said}");
    let log = desk.log();
    assert!(
        log.contains("the broker is away; connecting goes on in the background") && log.contains(&address),
        "{log}"
    );
    assert!(log.contains("the host runs without this subscription and goes on trying"), "{log}");
    let shown = desk.expect(&["status"], "", 0);
    assert!(shown.contains(&address), "{shown}");
    let publish = desk.run(&["publish", "-s", "complete"], "x");
    let told = String::from_utf8_lossy(&publish.stderr);
    assert!(!publish.status.success() && told.contains(&address), "{told}");

    runtime.block_on(server.restart());
    until_ready(&desk);
    for (life, id) in ["first", "second"].into_iter().enumerate() {
        let line = format!("{{\"subject\":\"complete\",\"id\":\"{id}\"}}\n");
        desk.expect(&["publish", "--lines"], &line, 0);
        until("the message to be done", || desk.counts()["completed"] == json!(life + 1));
        server.kill();
        until_away(&desk, &address);
        runtime.block_on(server.restart());
        until_ready(&desk);
    }
    let reconnects = || desk.metric("tidegate_broker_reconnects_total", &["broker=\"local\""]);
    until("the metric to say how often it came back", || reconnects() == 2);
    assert_eq!(desk.counts()["runs"], json!(2), "nothing ran twice");

    // A server that is away holds no drain up.
    server.kill();
    until_away(&desk, &address);
    kill_process(Pid::from_child(&host.0), Signal::TERM).unwrap();
    assert_eq!(host.0.wait().unwrap().code(), Some(0), "{}", desk.log());
}
