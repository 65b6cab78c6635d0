//! A subscription whose handler hangs: wherever somebody looks, it says so, and it says when that is over.

use serde_json::{Value, json};

use crate::command_line::{Desk, until};
use crate::support::browser::Browser;

/// A handler may take an hour, two at once, and it is stalled after a second.
fn desk() -> Desk {
    let desk = Desk::with_handler();
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    let toml = toml.replace("module =", "limits.timeout = \"1h\"\nmodule =");
    desk.write("tidegate.toml", &(toml + "concurrency = 2\nstalled_after = \"1s\"\n"));
    desk
}

fn gauge(desk: &Desk) -> String {
    let (_, metrics) = desk.get("/metrics");
    let line = metrics.lines().find(|line| line.starts_with("tidegate_stalled{")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_handler_that_hangs_is_an_alarm_everywhere_and_the_host_stays_ready() {
    let desk = desk();
    let _host = desk.host_with_log();
    // One that hangs leaves room for another: that is no stall.
    desk.expect(&["publish", "--lines"], "{\"subject\":\"hostile.park\",\"id\":\"1\"}\n{\"subject\":\"skip\"}\n", 0);
    until("the other one is done", || {
        desk.json(&["status", "--json"], "", 0)["status"]["subscriptions"][0]["counts"]["skipped"] == 1
    });
    assert_eq!((desk.ready().0, gauge(&desk).as_str()), (200, "0"));
    desk.expect(&["publish", "--lines"], "{\"subject\":\"hostile.park\",\"id\":\"2\"}\n", 0);
    until("it is stalled", || desk.ready().1["stalled"] == json!(["all"]));
    let (status, said) = desk.ready();
    assert_eq!((status, &said["ready"]), (200, &json!(true)), "what is published is taken: {said}");
    until("the metric says so", || gauge(&desk) == "1");
    let whole = desk.json(&["status", "--json"], "", 0);
    let why = "2 messages held, as many as are handled at once, and none has come to its end for 1s; the oldest is \
               hostile.park #1";
    assert_eq!(whole["status"]["subscriptions"][0]["stall"]["why"], why, "{whole}");
    let shown = desk.expect(&["status"], "", 0);
    assert!(shown.contains(&format!("subscription all is stalled: {why}")), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("all ") && line.contains("stalled")), "{shown}");
    assert!(desk.log().contains("the subscription is stalled subscription=all"), "{}", desk.log());

    let browser = Browser::start(1300, 1000);
    browser.open(&format!("http://{}/", desk.address()));
    browser.sees("Stalled: messages are held, and none comes to its end.");
    assert!(!browser.text().contains("Everything runs"), "{}", browser.text());
    browser.picture("stalled");
    browser.press("all");
    browser.sees("Stalled since");
    browser.press("Subscriptions");
    browser.sees("none has come to its end for 1s; the oldest is hostile.park #1");
    assert_eq!(browser.complaints(), [] as [String; 0]);

    // What is no stall by a changed configuration is none any more.
    let toml = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &toml.replace("stalled_after = \"1s\"", "stalled_after = \"1h\""));
    desk.expect(&["apply", "--yes"], "", 0);
    until("it is over", || desk.ready().1["stalled"] == Value::Null);
    until("the metric says so too", || gauge(&desk) == "0");
    assert!(desk.log().contains("the subscription is stalled no more subscription=all"), "{}", desk.log());
}
