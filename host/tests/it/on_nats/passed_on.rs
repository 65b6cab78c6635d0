//! A message that a handler passes on, with all the headers that it sees.

use async_nats::{HeaderMap, jetstream};
use tokio::runtime::Runtime;

use super::desk;
use crate::command_line::until;
use crate::support::nats::NatsServer;

#[test]
fn a_message_that_was_published_with_an_id_is_passed_on_with_its_headers() {
    // The story: a handler passed on what it was given, as the guest library offers. Messages that were published with an id
    // had it in a header of the server's, outputs may not have such, and each was refused.
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let desk = desk(&server, "");
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let module = "module = \"behaviours.wasm\"\n";
    let granted = format!("{module}outputs.echo = {{ broker = \"local\", subject = \"all\" }}\n");
    let toml = toml.replace(module, &granted).replace("\"complete\", \"reject\"", "\"echo\"");
    desk.write("tidegate.toml", &toml);
    let _host = desk.host();
    until("the host to be ready", || desk.ready().0 == 200);

    let js = runtime.block_on(async { jetstream::new(server.client().await) });
    let mut headers = HeaderMap::new();
    let own = [
        ("Nats-Msg-Id", "order-7"),
        ("Nats-Expected-Stream", "all"),
        ("Dlq-Redrive-Count", "2"),
        ("Dlq-Redrive-Of", "01M8KN7C7DCX5G18JW1K3H7BRV"),
    ];
    for (name, value) in [("Customer", "7")].iter().chain(&own) {
        headers.insert(*name, *value);
    }
    runtime.block_on(async { js.publish_with_headers("echo", headers, "x".into()).await.unwrap().await.unwrap() });
    until("the message to end", || desk.counts()["completed"] == 1);
    let output = runtime.block_on(async {
        let stream = js.stream_by_subject("all").await.unwrap();
        js.get_stream(stream).await.unwrap().get_last_raw_message_by_subject("all").await.unwrap()
    });
    let has = |name: &str| output.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!((output.payload, has("Customer")), ("x".into(), Some("7".to_owned())));
    assert_eq!(has("Nats-Msg-Id").as_deref(), Some("order-7"), "the handler gave it this id");
    for (name, _) in &own[1..] {
        assert_eq!(has(name), None, "of the message that it came of");
    }
}
