//! A handler that runs for longer than its message is leased: the lease is kept, and the message runs once.

use serde_json::json;
use tokio::runtime::Runtime;

use crate::command_line::{Desk, until};
use crate::support::nats::NatsServer;

/// A lease of two seconds, and a handler that may sleep for longer.
fn desk(broker: &str) -> Desk {
    let desk = Desk::with_handler();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let text = text.replace("type = \"embedded\"", broker).replace("subjects = [\">\"]", "subjects = [\"probe.>\"]");
    let text = text.replace("module =", "limits.timeout = \"1m\"\nmodule =");
    desk.write("tidegate.toml", &(text + "ack_wait = \"2s\"\ncreate = true\n"));
    desk
}

/// What runs for three leases runs once; what is short needs no lease kept.
fn check(desk: &Desk, system: &str) {
    let _host = desk.host_with_log();
    until("the host to be ready", || desk.ready().0 == 200);
    let kept = |result: &str| {
        let result = format!("result=\"{result}\"");
        desk.metric("tidegate_lease_heartbeats_total", &["subscription=\"all\"", system, &result])
    };
    desk.expect(&["publish", "-s", "probe.state"], "", 0);
    until("the short one to be done", || desk.counts()["dead_lettered"] == json!(1));
    assert_eq!(kept("extended") + kept("unconfirmed"), 0, "a short run costs no heartbeat");

    desk.expect(&["publish", "-s", "probe.sleep"], "6000", 0);
    until("the long one to be done", || desk.counts()["dead_lettered"] == json!(2));
    // A lease that is extended ends two seconds later at the most, and was first extended in its second half.
    assert!(kept("extended") >= 3, "{} times in three leases", kept("extended"));
    let counts = desk.counts();
    assert_eq!((&counts["runs"], &counts["consumed"]), (&json!(2), &json!(2)), "it was handed over again: {counts}");
    assert_eq!(desk.metric("tidegate_lease_lost_total", &["subscription=\"all\""]), 0, "{}", desk.log());
    let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
    let long = &letters[0];
    assert_eq!((&long["error"], &long["attempts"]), (&json!("told: slept"), &json!(1)), "{long}");
}

#[test]
fn what_runs_for_longer_than_its_lease_runs_once_on_the_embedded_queue() {
    check(&desk("type = \"embedded\""), "messaging_system=\"embedded\"");
}

#[test]
fn what_runs_for_longer_than_its_lease_runs_once_on_jetstream() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let broker = format!("type = \"jetstream\"\nservers = [\"{}\"]", server.url());
    check(&desk(&broker), "messaging_system=\"jetstream\"");
    let redelivered = runtime.block_on(async {
        let js = async_nats::jetstream::new(server.client().await);
        js.get_stream("all").await.unwrap().consumer_info("all").await.unwrap().num_redelivered
    });
    assert_eq!(redelivered, 0);
}
