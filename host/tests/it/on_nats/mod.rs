//! A whole host on a real nats-server that fails it: the process that a user runs, what it tells and what becomes of messages.

mod away;
mod earlier;
mod passed_on;
mod permitted;
mod refused;
mod shared;

use crate::command_line::Desk;
use crate::support::guests::guest;
use crate::support::nats::NatsServer;

/// A host whose handler does as the messages' subjects say; `login` goes into the broker's entry.
fn desk(server: &NatsServer, login: &str) -> Desk {
    let desk = Desk::new();
    std::fs::write(desk.path().join("behaviours.wasm"), guest("behaviours")).unwrap();
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let entry = "type = \"embedded\"\n";
    assert!(text.contains(entry), "{text}");
    // Short, so that what is refused without a word is tried again soon.
    let nats = format!("type = \"jetstream\"\nservers = [\"{}\"]\npublish_timeout = \"500ms\"\n{login}", server.url());
    let subscription = "[handlers.behave]\nmodule = \"behaviours.wasm\"\n[subscriptions.all]\nbroker = \"local\"\n\
                        subjects = [\"complete\", \"reject\"]\nhandler = \"behave\"\ncreate = true\n";
    desk.write("tidegate.toml", &(text.replace(entry, &nats) + subscription));
    desk
}
