//! The configuration is changed while the host runs: under load nothing is lost or repeated, what cannot be applied
//! changes nothing, and a start after it gives the same.

use std::time::Duration;

use rustix::process::Signal;
use tidegate::apply::report::{How, Step};
use tidegate::deploy::report::Line;
use tidegate::registry::Digest;

use super::books::Books;
use super::rig::Rig;
use super::rollouts::begin;
use super::swap::ledger;
use super::{Feed, audit, on_jetstream, until_settled};
use crate::support::modules::{answer, handler};
use crate::support::nats::NatsServer;
use crate::support::ports::free_port;
use crate::support::until;

/// More than the twenty that are promised.
const CHANGES: u32 = 24;

const LAST_LINE: &str = "retry = { preset = \"quick\", max_attempts = 100 }";

/// A rig whose subscription `ledger` has a line that is changed.
fn rig(broker: &str, more: &str) -> Rig {
    let rig = Rig::new(broker, Duration::from_secs(30), more);
    rig.edit(|text| text.replace(LAST_LINE, &format!("{LAST_LINE}\nconcurrency = 16")));
    rig
}

/// Another handler with a subscription, as they stand at the end of the file.
const MORE: &str = "\n[handlers.more]\nmodule = \"ledger.wasm\"\noutputs.done = { broker = \"queue\", subject = \"out.more\" }\n\
                    [subscriptions.more]\nbroker = \"queue\"\nsubjects = [\"in.more\"]\nhandler = \"more\"\n";

fn concurrency(rig: &Rig, number: u32) {
    rig.edit(|text| {
        let line = text.lines().find(|line| line.starts_with("concurrency")).unwrap();
        text.replace(line, &format!("concurrency = {number}"))
    });
}

/// Changes everything that can be changed, under load; how many messages were published meanwhile.
fn change_under_load(rig: &Rig, create: &str) -> u64 {
    let feed = Feed::start(rig.publisher(), "m");
    feed.go_on_for(200);
    for change in 0..CHANGES {
        concurrency(rig, 1 + (change * 7) % 32);
        match change % 4 {
            1 => rig.edit(|text| format!("{text}{MORE}{create}")),
            3 => rig.edit(|text| text.replace(&format!("{MORE}{create}"), "")),
            _ => {}
        }
        if change % 6 == 5 {
            // Another limit: another version.
            let line = format!("[handlers.ledger]\nlimits.fuel = {}", 900_000_000 + change);
            rig.edit(|text| {
                let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("limits.fuel")).collect();
                without.join("\n").replace("[handlers.ledger]", &line) + "\n"
            });
        }
        if change == 7 || change == 15 {
            // Another way to be bound: it is stopped, and started again.
            rig.edit(|text| text.replacen(&format!("max_in_flight = {}", 40 + change - 8), "", 1));
            rig.edit(|text| text.replace(LAST_LINE, &format!("{LAST_LINE}\nmax_in_flight = {}", 40 + change)));
        }
        let applied = rig.apply().unwrap_or_else(|error| panic!("change {change}: {error:?}"));
        assert!(!applied.changes.is_empty() && applied.troubles.is_empty(), "{change}: {applied:?}");
        let how = |what: &str| applied.steps.iter().find(|step| step.what == what).map(|step| step.how);
        let restarted = change == 7 || change == 15;
        assert_eq!(how("subscription ledger"), Some(if restarted { How::Restarted } else { How::Tuned }), "{change}");
        let expected = [None, Some(How::Started), None, Some(How::Stopped)][change as usize % 4];
        assert_eq!(how("subscription more"), expected, "{change}: {applied:?}");
        feed.go_on_for(100);
    }
    feed.finish()
}

fn check(books: &mut Books, rig: &Rig, published: u64, what: &str) {
    books.read_runs(&rig.log());
    let balance = books.check("m", published);
    books.check_the_runs();
    assert_eq!(balance.extra_runs, 0, "a change made messages run again: {balance:?}");
    println!("{what}, changed {CHANGES} times: {balance:?}");
}

#[test]
fn changes_under_load_lose_and_repeat_nothing() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    let published = change_under_load(&rig, "");
    until_settled(&rig);
    assert_eq!(rig.handler().active, Some(1 + u64::from(CHANGES / 6)));
    rig.drain();
    let mut books = Books::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(audit::read_embedded(&rig, &mut books));
    check(&mut books, &rig, published, "embedded queue");
}

#[test]
fn changes_under_load_on_jetstream_lose_and_repeat_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let mut rig = rig(&on_jetstream(&server), "create = true");
    rig.start();
    let published = change_under_load(&rig, "create = true\n");
    until_settled(&rig);
    rig.drain();
    let mut books = Books::default();
    runtime.block_on(audit::read_jetstream(&rig, &server, &mut books));
    check(&mut books, &rig, published, "jetstream");
}

/// What a host is: its subscriptions and its handlers, without what it counts.
fn state(rig: &Rig) -> (Vec<String>, Vec<String>, String) {
    let status = rig.status().unwrap();
    let subscriptions = status.subscriptions.into_iter();
    let subscriptions = subscriptions.map(|one| format!("{} {} {:?}", one.name, one.handler, one.trouble)).collect();
    let brokers = status.brokers.into_iter().map(|broker| broker.name).collect();
    let handlers: serde_json::Value = serde_json::from_str(&rig.get("/v1/handlers").unwrap()).unwrap();
    let names = handlers["handlers"].as_array().unwrap().iter();
    let handlers = names.map(|one| format!("{}@{} ", one["name"], one["active"]["number"])).collect();
    (subscriptions, brokers, handlers)
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let mut rig = rig("type = \"embedded\"", "");
    std::fs::write(
        rig.path().join("spin.wasm"),
        handler("(func $spin (loop $again (br $again))) (start $spin)", &answer("")),
    )
    .unwrap();
    std::fs::write(rig.path().join("text.wasm"), "no module").unwrap();
    std::fs::create_dir(rig.path().join("golden")).unwrap();
    let golden = r#"{"subject":"in.x","id":"m-1","body":"m-1","expect":"handler-rejected"}"#;
    std::fs::write(rig.path().join("golden/a.json"), golden).unwrap();
    rig.start();
    let before = state(&rig);
    let path = rig.path().join("tidegate.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let nobody = free_port();
    // Each beside changes that could be applied: the last of several steps is the one that fails.
    let fine = good.replace("concurrency = 16", "concurrency = 3") + MORE;
    let in_ledger = |line: &str| fine.replace("[handlers.ledger]", &format!("[handlers.ledger]\n{line}"));
    let new = |module: &str| {
        format!(
            "{fine}[handlers.z]\nmodule = \"{module}\"\nlimits.fuel = 1_000_000\n\
             [subscriptions.z]\nbroker = \"queue\"\nsubjects = [\"z\"]\nhandler = \"z\"\n"
        )
    };
    let rows: Vec<(&str, String, &str, &str)> = vec![
        ("no TOML", format!("{fine}\n[["), "config-invalid", "this is not TOML"),
        ("an unknown key", fine.replace("concurrency", "concurency"), "config-invalid", "did you mean `concurrency`"),
        (
            "a reference",
            fine.replace("handler = \"more\"", "handler = \"mere\""),
            "config-invalid",
            "there is no handler `mere`",
        ),
        (
            "a secret that is not there",
            format!(
                "{fine}[brokers.n]\ntype = \"jetstream\"\nservers = [\"nats://127.0.0.1:1\"]\ntoken = {{ env = \"NO_SUCH_SECRET\" }}\n"
            ),
            "config-invalid",
            "NO_SUCH_SECRET",
        ),
        (
            "the listener",
            fine.replace("listen = \"127.0.0.1:", "listen = \"127.0.0.2:"),
            "needs-restart",
            "http.listen",
        ),
        ("the name", fine.replace("name = \"chaos\"", "name = \"other\""), "needs-restart", "host.name"),
        ("the data", fine.replace("[host]", "[host]\ndata_dir = \"else\""), "needs-restart", "host.data_dir"),
        (
            "a broker that stays",
            fine.replace("type = \"embedded\"", "type = \"embedded\"\nmax_age = \"1d\""),
            "needs-restart",
            "brokers.queue.max_age",
        ),
        ("a module that is not there", new("nowhere.wasm"), "config-invalid", "nowhere.wasm"),
        (
            "a module that is not there, of a handler that runs",
            fine.replacen("module = \"ledger.wasm\"", "module = \"nofile.wasm\"", 1),
            "config-invalid",
            "could not open the module",
        ),
        ("a module that is none", new("text.wasm"), "module-refused", "text.wasm: this is text"),
        ("a module that does not start", new("spin.wasm"), "module-refused", "does not start"),
        ("too little memory", in_ledger("limits.memory = \"128KiB\""), "module-refused", "limits.memory"),
        (
            "golden messages",
            in_ledger("golden = \"golden\"\nlimits.fuel = 900_000_000"),
            "module-refused",
            "1 of 1 golden messages",
        ),
        (
            "a broker that cannot be opened",
            format!("{fine}[brokers.bad]\ntype = \"embedded\"\npath = \"text.wasm\"\n"),
            "broker-unusable",
            "`bad`",
        ),
        (
            "a broker that is away",
            format!("{fine}[brokers.far]\ntype = \"jetstream\"\nservers = [\"nats://127.0.0.1:{nobody}\"]\n"),
            "broker-unusable",
            "`far`",
        ),
    ];
    for (name, text, code, said) in rows {
        assert_ne!(text, fine, "{name}");
        std::fs::write(&path, text).unwrap();
        let error = rig.apply().err().unwrap_or_else(|| panic!("{name} was applied"));
        assert_eq!(error.code, code, "{name}: {error:?}");
        assert!(error.message.contains(said), "{name}: {error:?}");
        assert_eq!(state(&rig), before, "{name}");
        assert_eq!(rig.handler().versions.len(), 1, "{name}");
    }
    // What was shown is what is applied.
    std::fs::write(&path, &fine).unwrap();
    let shown = rig.changes().unwrap();
    concurrency(&rig, 5);
    assert_eq!(rig.apply_shown(&shown.digest).unwrap().unwrap_err().code, "config-changed");
    assert_eq!(state(&rig), before);
    std::fs::write(&path, &good).unwrap();
    assert!(rig.changes().unwrap().changes.is_empty(), "nothing of all that is left");
    std::fs::write(&path, &fine).unwrap();
    rig.apply().unwrap();
    assert_eq!(state(&rig).0.len(), 2);
}

#[test]
fn a_limit_makes_a_version_and_a_start_gives_what_was_applied() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    rig.edit(|text| {
        let text = text.replace("[handlers.ledger]", "[handlers.ledger]\nlimits.fuel = 900_000_000");
        text.replace("concurrency = 16", "concurrency = 3") + MORE
    });
    let shown = rig.changes().unwrap();
    let changed: Vec<&str> = shown.changes.iter().map(|change| change.what.as_str()).collect();
    assert!(changed.contains(&"handlers.ledger.limits.fuel") && changed.contains(&"subscriptions.ledger.concurrency"));
    let applied = rig.apply_shown(&shown.digest).unwrap().unwrap();
    let deployed: Vec<_> = applied.deployed.iter().map(|one| (one.handler.as_str(), one.version)).collect();
    assert_eq!(deployed, [("ledger", 2), ("more", 1)]);
    let handler = rig.handler();
    assert_eq!(handler.versions[0].digest, handler.versions[1].digest, "the same module");
    assert_eq!(handler.versions[0].settings.limits.fuel.unwrap().get(), 900_000_000);
    let before = state(&rig);
    rig.kill();
    rig.start();
    assert_eq!(state(&rig), before, "after kill -9");
    assert!(rig.changes().unwrap().changes.is_empty());
    assert_eq!(rig.rollback(1).to, 1);
    // What the configuration said was looked at: it does not come back by itself.
    assert!(rig.changes().unwrap().changes.is_empty());
    // A module whose file has changed is part of what is applied; SIGHUP applies too.
    std::fs::write(rig.path().join("ledger.wasm"), ledger(2)).unwrap();
    let changes = rig.changes().unwrap().changes;
    assert_eq!(changes.len(), 2, "both handlers run that file: {changes:?}");
    rig.signal(Signal::HUP);
    until("the file is applied", Duration::from_secs(60), || rig.handler().active == Some(3));
    rig.edit(|text| text.replace(MORE, ""));
    let applied = rig.apply().unwrap();
    assert!(applied.deployed.is_empty(), "{applied:?}");
    assert_eq!(state(&rig).0.len(), 1);
    rig.drain();
    assert!(rig.log().contains("the configuration was applied"));
}

/// A changed limit ended a canary, and what was shown had the limit alone.
#[test]
fn a_version_that_is_tried_ends_with_another_and_that_is_shown_before() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    begin(&rig, "canary=5%25", &ledger(2));
    let ends = |steps: &[Step]| -> Vec<String> {
        steps.iter().filter(|step| step.how == How::Ended).map(|step| step.what.clone()).collect()
    };
    // What makes no version does not end it.
    concurrency(&rig, 3);
    assert_eq!(ends(&rig.apply().unwrap().steps), Vec::<String>::new());
    assert!(rig.handler().rollout.is_some());
    rig.edit(|text| text.replace("[handlers.ledger]", "[handlers.ledger]\nlimits.fuel = 900_000_000"));
    let shown = rig.changes().unwrap();
    assert_eq!(ends(&shown.steps), ["canary of version 2 of handler ledger"]);
    // Ended and begun anew, it is another one than was shown.
    assert_eq!(rig.post("abort").unwrap().0, 200);
    begin(&rig, "canary=5%25", &ledger(3));
    assert_eq!(rig.apply_shown(&shown.digest).unwrap().unwrap_err().code, "config-changed");
    let applied = rig.apply().unwrap();
    assert_eq!(ends(&applied.steps), ["canary of version 3 of handler ledger"]);
    let handler = rig.handler();
    assert_eq!((handler.active, handler.rollout), (Some(4), None));
}

/// While the question waited for its answer, a colleague deployed: the answer replaced that version, and nobody was told.
#[test]
fn a_version_that_came_after_the_changes_were_shown_is_not_replaced() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    std::fs::write(rig.path().join("ledger.wasm"), ledger(2)).unwrap();
    let shown = rig.changes().unwrap();
    assert!(matches!(rig.deploy(&ledger(3)), Some(Line::Done(_))));
    assert_eq!(rig.apply_shown(&shown.digest).unwrap().unwrap_err().code, "config-changed");
    let handler = rig.handler();
    assert_eq!((handler.active, handler.versions.len()), (Some(2), 2), "the colleague's, and nothing after it");
    // Whoever looks again sees what is replaced; and what replaces nothing asks for no such look.
    let shown = rig.changes().unwrap();
    assert_eq!(shown.changes[0].before, Digest::of(&ledger(3)).to_string());
    assert_eq!(rig.apply_shown(&shown.digest).unwrap().unwrap().deployed[0].version, 3);
    concurrency(&rig, 3);
    let shown = rig.changes().unwrap();
    assert!(matches!(rig.deploy(&ledger(4)), Some(Line::Done(_))));
    assert!(rig.apply_shown(&shown.digest).unwrap().unwrap().deployed.is_empty());
    assert_eq!(rig.handler().active, Some(4));
}

#[test]
fn killed_in_the_middle_of_an_apply_the_next_start_is_whole() {
    for place in ["apply-checked", "apply-recorded", "apply-stopped"] {
        let mut rig = rig("type = \"embedded\"", "");
        rig.dies_at = Some(place);
        rig.start();
        rig.edit(|text| {
            let text = text.replace("[handlers.ledger]", "[handlers.ledger]\nlimits.fuel = 900_000_000");
            text.replace(LAST_LINE, &format!("{LAST_LINE}\nmax_in_flight = 50")) + MORE
        });
        let shown = rig.changes().unwrap();
        assert!(rig.apply_shown(&shown.digest).is_none(), "{place}: it died");
        rig.dead();
        rig.dies_at = None;
        rig.start();
        assert_eq!(rig.handler().active, Some(2), "{place}");
        assert_eq!(rig.handler().versions.len(), 2, "{place}");
        assert!(rig.changes().unwrap().changes.is_empty(), "{place}");
        rig.publisher().publish(&["m-0".to_owned()]);
        until("the message is completed", Duration::from_secs(60), || {
            rig.status().is_some_and(|status| status.subscriptions[0].counts.completed == 1)
        });
        rig.drain();
    }
}

#[test]
fn one_applies_at_a_time() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    // The host waits some seconds for a broker that is away, and then refuses.
    let far = format!("[brokers.far]\ntype = \"jetstream\"\nservers = [\"nats://127.0.0.1:{}\"]\n", free_port());
    rig.edit(|text| format!("{text}\n{far}"));
    let digest = rig.changes().unwrap().digest;
    let apply = || rig.apply_shown(&digest).unwrap().unwrap_err();
    let mut ended = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(apply), scope.spawn(apply));
        [one.join().unwrap(), two.join().unwrap()]
    });
    ended.sort_by(|one, other| one.code.cmp(&other.code));
    let [told, refused] = ended;
    assert_eq!((told.code.as_str(), refused.code.as_str()), ("apply-in-progress", "broker-unusable"));
    assert!(told.message.contains("`local` applies a configuration since"), "{told:?}");
}

/// Publishes a message and waits until it is completed.
fn complete(rig: &Rig, number: u64) {
    let completed = || rig.status().map_or(0, |status| status.subscriptions[0].counts.completed);
    let before = completed();
    rig.publisher().publish(&[format!("m-{number}")]);
    until("the message is completed", Duration::from_secs(60), || completed() > before);
}

#[test]
fn a_broker_comes_and_goes_with_what_is_sent_to_it() {
    let mut rig = rig("type = \"embedded\"", "");
    rig.start();
    let path = rig.path().join("tidegate.toml");
    let alone = std::fs::read_to_string(&path).unwrap();
    let to_side =
        alone.replace("broker = \"queue\", subject = \"out.done\"", "broker = \"side\", subject = \"out.done\"");
    let both = format!("{to_side}\n[brokers.side]\ntype = \"embedded\"\n");
    for (round, text) in [&both, &alone, &both].into_iter().enumerate() {
        std::fs::write(&path, text).unwrap();
        let applied = rig.apply().unwrap();
        let how = |what: &str| applied.steps.iter().find(|step| step.what == what).map(|step| step.how);
        let (broker, subscription) = match round {
            1 => (How::Stopped, Some(How::Restarted)),
            _ => (How::Started, None),
        };
        assert_eq!((how("broker side"), how("subscription ledger")), (Some(broker), subscription), "{round}");
        complete(&rig, round as u64);
    }
    // The versions of the queue alone may not be gone back to while they send where nothing is granted any more.
    assert_eq!(rig.handler().active, Some(4));
    rig.drain();
    // Each was bound as often as the plan said: what is not changed is not touched.
    assert_eq!(rig.log().matches("subscription bound").count(), 2);
}

#[test]
fn a_subscription_that_would_be_refused_changes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = runtime.block_on(NatsServer::start());
    let mut rig = rig(&format!("type = \"jetstream\"\nservers = [\"{}\"]", server.url()), "create = true");
    rig.start();
    let before = state(&rig);
    rig.edit(|text| text.replace("concurrency = 16", "concurrency = 3") + &MORE.replace("in.more", "elsewhere"));
    let error = rig.apply().unwrap_err();
    assert_eq!(error.code, "subscription-refused", "{error:?}");
    assert!(error.message.contains("no stream takes in its subjects"), "{error:?}");
    server.kill();
    let error = rig.apply().unwrap_err();
    assert!(error.message.contains("could not reach the broker"), "{error:?}");
    runtime.block_on(server.restart());
    until("the broker is there again", Duration::from_secs(60), || state(&rig) == before);
    rig.edit(|text| format!("{text}create = true\n"));
    rig.apply().unwrap();
    assert_eq!(state(&rig).0.len(), 2);
}
