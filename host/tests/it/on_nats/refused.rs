//! The stream of dead letters takes none: nothing is given up before it is there, somebody is told, and all of it arrives.

use std::collections::BTreeSet;

use async_nats::jetstream;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::desk;
use crate::command_line::{Desk, until};
use crate::support::nats::NatsServer;

const STREAM: &str = "DLQ_tidegate";
const LETTERS: u64 = 5;

/// A host on a server, with somebody beside it who may do everything there.
struct Ground {
    runtime: Runtime,
    server: NatsServer,
    desk: Desk,
    admin: jetstream::Context,
    _host: crate::command_line::Running,
}

impl Ground {
    fn new(server: &str, login: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(NatsServer::start_with(server));
        let desk = desk(&server, login);
        desk.write("password", "host");
        let host = desk.host_with_log();
        until("the host to be ready", || desk.ready().0 == 200);
        let admin = runtime.block_on(async {
            let admin = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
            jetstream::new(admin.connect(server.url()).await.unwrap())
        });
        Self { runtime, server, desk, admin, _host: host }
    }

    fn publish(&self, ids: impl Iterator<Item = u64>) {
        let lines: String = ids.map(|id| format!("{{\"subject\":\"reject\",\"id\":\"{id}\"}}\n")).collect();
        self.desk.expect(&["publish", "--lines"], &lines, 0);
    }

    /// Dead letters in their stream, and messages of the subscription that are not settled.
    fn stored(&self) -> (u64, u64) {
        self.runtime.block_on(async {
            let letters = self.admin.get_stream(STREAM).await.map(|stream| stream.cached_info().state.messages);
            let info = self.admin.get_stream("all").await.unwrap().consumer_info("all").await.unwrap();
            let open = info.num_pending + info.num_ack_pending as u64;
            (letters.unwrap_or_default(), open)
        })
    }

    /// While the stream takes none, after `before` that it took.
    fn check_refused(&self, before: u64, why: &str) {
        let (desk, failures) = (&self.desk, "tidegate_dlq_publish_failures_total");
        until("each to be refused", || desk.metric(failures, &["subscription=\"all\""]) >= LETTERS);
        let mut trouble = Value::Null;
        until("somebody to be told of all", || {
            let (status, said) = desk.ready();
            let all = said["troubles"].as_array().cloned().unwrap_or_default();
            let own = all.into_iter().find(|trouble| trouble["what"] == json!("subscription all"));
            trouble = own.unwrap_or_default()["why"].take();
            let count = format!("{LETTERS} dead letters are not taken, and are tried again: ");
            status == 503 && trouble.as_str().is_some_and(|told| told.starts_with(&count) && told.contains(why))
        });
        assert!(desk.expect(&["status"], "", 0).contains("dead letters are not taken"), "{trouble}");
        // A text in a field of the log has its quotes marked.
        let why = why.replace('"', "\\\"");
        let is_told = |line: &str| line.contains("settling fails, and is tried again") && line.contains(&why);
        until("the log to say so", || desk.log().lines().any(is_told));
        assert_eq!(self.stored(), (before, LETTERS), "none is given up");
        let counts = desk.counts();
        let expected = (json!(LETTERS + before), json!(before));
        assert_eq!((&counts["runs"], &counts["dead_lettered"]), (&expected.0, &expected.1), "held, and not run again");
    }

    /// When it takes them again: all are there, each once.
    fn check_taken(&self, before: u64) {
        let desk = &self.desk;
        let all = before + LETTERS;
        until("all to be given up", || desk.counts()["dead_lettered"] == json!(all));
        until("the host to be ready again", || desk.ready().0 == 200);
        assert_eq!(desk.counts()["runs"], json!(all), "the handler did not run again");
        until("the server to know that they are settled", || self.stored() == (all, 0));
        let letters = desk.json(&["dlq", "ls", "--json"], "", 0);
        let ids = letters.as_array().unwrap().iter().map(|letter| letter["message_id"].as_str().unwrap().to_owned());
        let ids: Vec<String> = ids.collect();
        let distinct: BTreeSet<&String> = ids.iter().collect();
        assert_eq!((ids.len() as u64, distinct.len() as u64), (all, all), "{ids:?}");
    }

    fn config(&self) -> jetstream::stream::Config {
        self.runtime.block_on(async { self.admin.get_stream(STREAM).await.unwrap().cached_info().config.clone() })
    }

    fn update(&self, config: &jetstream::stream::Config) {
        self.runtime.block_on(self.admin.update_stream(config)).unwrap();
    }
}

const LOGIN: &str = "user = \"host\"\npassword = { file = \"password\" }\n";

/// Both users; the host's may do everything but what is denied.
fn users(denied: &str) -> String {
    format!(
        "authorization {{ users: [{{ user: admin, password: admin }}, \
         {{ user: host, password: host, permissions: {{ publish: {{ deny: [{denied}] }}, subscribe: \">\" }} }}] }}"
    )
}

#[test]
fn dead_letters_that_find_their_stream_full_wait_and_arrive_once_there_is_room() {
    let ground = Ground::new(&users(""), LOGIN);
    ground.publish(100..101);
    until("the stream to have one", || ground.stored() == (1, 0));
    let config = ground.config();
    ground.update(&jetstream::stream::Config { max_messages: 1, ..config.clone() });
    ground.publish(0..LETTERS);
    ground.check_refused(1, "maximum messages exceeded");
    let (_, said) = ground.desk.ready();
    assert!(said.to_string().contains("is full: it has 1 messages of at most 1"), "{said}");
    ground.update(&config);
    ground.check_taken(1);
}

/// It has room by its own count, and not for any letter: only a try shows it.
#[test]
fn dead_letters_for_which_the_room_is_too_small_wait_and_arrive_once_there_is_more() {
    let ground = Ground::new(&users(""), LOGIN);
    let config = ground.config();
    ground.update(&jetstream::stream::Config { max_bytes: 10, ..config.clone() });
    ground.publish(0..LETTERS);
    ground.check_refused(0, "maximum bytes exceeded");
    ground.update(&config);
    ground.check_taken(0);
}

#[test]
fn dead_letters_whose_stream_was_deleted_wait_and_arrive_once_it_is_made() {
    let ground = Ground::new(&users(""), LOGIN);
    let config = ground.config();
    ground.runtime.block_on(ground.admin.delete_stream(STREAM)).unwrap();
    ground.publish(0..LETTERS);
    ground.check_refused(0, "no stream takes in the subject `dlq.all.");
    let (_, said) = ground.desk.ready();
    assert!(said.to_string().contains("nats stream add DLQ_tidegate --subjects="), "{said}");
    ground.runtime.block_on(ground.admin.create_stream(config)).unwrap();
    ground.check_taken(0);
}

#[test]
fn dead_letters_that_the_host_may_not_publish_wait_and_arrive_once_it_may() {
    let mut ground = Ground::new(&users("\"dlq.>\""), LOGIN);
    ground.publish(0..LETTERS);
    ground.check_refused(0, "the server does not permit it: Permissions Violation for Publish to \"dlq.all.");
    ground.server.configure(&users(""));
    ground.check_taken(0);
}
