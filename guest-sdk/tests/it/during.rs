//! What a handler can ask and tell in mid-run.

use std::time::{Duration, UNIX_EPOCH};

use tidegate_sdk::delivery::ExtendError;
use tidegate_sdk::testing::TestMessage;
use tidegate_sdk::{Failure, Message, Output, delivery, handler, metrics, span};

mod message {
    use super::*;

    #[handler]
    pub(super) fn describe(message: &Message) -> Output {
        let headers: Vec<_> = message.headers().map(|(name, value)| (name, value.len())).collect();
        Output::to("out").text(format!(
            "{} {} {} {:?} {:?} {}/{:?} last={} seq={:?} at={:?} redriven={} trace={:?} tenant={:?} {headers:?}",
            message.id(),
            message.subscription(),
            message.subject(),
            message.key(),
            message.content_type(),
            message.attempt(),
            message.max_attempts(),
            message.last_chance(),
            message.sequence(),
            message.published_at().map(|at| at.duration_since(UNIX_EPOCH).unwrap()),
            message.redriven(),
            message.traceparent(),
            message.header("TENANT"),
        ))
    }
}

#[test]
fn the_message_says_everything_that_the_host_knows() {
    let ran = TestMessage::text("")
        .id("m-1")
        .subscription("orders")
        .subject("orders.eu")
        .key("k")
        .content_type("text/plain")
        .header("Tenant", "acme")
        .header("Raw", [0xff, 0xfe])
        .attempt(3)
        .max_attempts(Some(3))
        .sequence(9)
        .published_at(UNIX_EPOCH + Duration::from_millis(1500))
        .redriven()
        .traceparent("00-01-02-03")
        .run::<message::describe>();
    assert_eq!(
        ran.output().text(),
        "m-1 orders orders.eu Some([107]) Some(\"text/plain\") 3/Some(3) last=true seq=Some(9) at=Some(1.5s) \
         redriven=true trace=Some(\"00-01-02-03\") tenant=Some(\"acme\") [(\"Tenant\", 4), (\"Raw\", 2)]"
    );
}

#[test]
fn the_last_chance_is_the_last_attempt_and_never_comes_without_a_limit() {
    let last = |attempt, limit| TestMessage::text("").attempt(attempt).max_attempts(limit).build().last_chance();
    assert!(!last(4, Some(5)));
    assert!(last(5, Some(5)));
    assert!(last(6, Some(5)), "the limit was lowered while the message waited");
    assert!(!last(1000, None));
}

mod output {
    use super::*;

    #[handler]
    pub(super) fn pass_on(message: Message) -> Output {
        message.into_output("copies").subject("copies.a").id("copy-1").header("Via", "test")
    }
}

#[test]
fn a_message_is_passed_on_with_what_belongs_to_it() {
    let message = TestMessage::text("body").key("k").content_type("text/plain").header("Tenant", "acme");
    let ran = message.run::<output::pass_on>();
    let output = ran.output();
    assert_eq!((output.to(), output.subject(), output.id()), ("copies", Some("copies.a"), Some("copy-1")));
    assert_eq!((output.text(), output.key(), output.content_type()), ("body", Some(&b"k"[..]), Some("text/plain")));
    assert_eq!((output.header("tenant"), output.header("via")), (Some("acme"), Some("test")));
}

mod log {
    use super::*;

    #[handler]
    pub(super) fn talk(message: &Message) {
        let attempt = message.attempt();
        tidegate_sdk::trace!("plain");
        tidegate_sdk::debug!("formatted {attempt} {}", 2);
        tidegate_sdk::info!(attempt, "shorthand");
        tidegate_sdk::warn!(cents = 10 + 5, reply = ?Some("no"), "values {attempt}");
        tidegate_sdk::error!("trailing comma {}", 1,);
        metrics::count("orders", 2, &[("country", "NO"), ("kind", "new")]);
        metrics::record("cents", 1.5, &[]);
    }
}

#[test]
fn lines_and_measurements_arrive_in_their_order() {
    let ran = TestMessage::text("").run::<log::talk>();
    assert_eq!(
        ran.log_lines(),
        [
            "trace plain",
            "debug formatted 1 2",
            "info shorthand attempt=1",
            "warn values 1 cents=15 reply=Some(\"no\")",
            "error trailing comma 1",
        ]
    );
    assert_eq!(ran.metric_lines(), [r#"orders{country="NO",kind="new"} +2"#, "cents 1.5"]);
}

mod spans {
    use super::*;

    #[handler]
    pub(super) fn steps(message: &Message) -> Result<(), Failure> {
        let card = "visa";
        let _order = span!("order", id = message.id(), messaging.system = "ours", card, reply = ?Some(1),);
        span!("parse").run(|| message.text().map(str::len))?;
        {
            let _price = span!("price");
            std::mem::forget(span!("rate", country = "NO"));
        }
        let _last = span!(message.id(), step = 1 + 1);
        span!("charge").fail(Failure::retry("gateway-busy"));
        let store = span!("store");
        let stored = store.run(|| Err(Failure::reject("no-room").detail("the shelf is full")));
        std::mem::forget(span!("after"));
        stored
    }
}

#[test]
fn spans_nest_as_their_guards_do_and_say_how_they_ended() {
    let ran = TestMessage::text("").id("m-1").run::<spans::steps>();
    ran.rejected("no-room");
    assert_eq!(
        ran.span_lines(),
        [
            "order id=m-1 messaging.system=ours card=visa reply=Some(1)",
            "  parse",
            "  price",
            "    rate country=NO: left open",
            "  m-1 step=2",
            "    charge: failed: retry gateway-busy",
            "    store: failed: reject no-room: the shelf is full",
            "    after: left open",
        ]
    );
    let rate = &ran.spans()[3];
    assert_eq!((rate.name.as_str(), rate.depth, rate.left_open, &rate.failure), ("rate", 2, true, &None));
    assert!(TestMessage::text("").run::<log::talk>().spans().is_empty(), "each run has its own");
    // Without a run there is nobody to tell, and nothing to trip over.
    drop(span!("nowhere"));
}

mod time {
    use super::*;

    #[handler]
    pub(super) fn extend(message: &Message) -> Result<Output, ExtendError> {
        let before = delivery::remaining();
        let after = delivery::extend(Duration::from_secs(message.text().unwrap().parse().unwrap()))?;
        let why = delivery::previous_failure();
        Ok(Output::to("out").text(format!("{before:?} {after:?} {why:?}")))
    }
}

#[test]
fn time_is_extended_up_to_the_limit_and_under_a_lease() {
    let ask = |seconds| TestMessage::text(seconds).remaining(Duration::from_secs(2)).extendable(Duration::from_secs(9));
    let ran = ask("9").previous_failure("timeout: 10s").run::<time::extend>();
    assert_eq!(ran.output().text(), r#"2s 11s Some("timeout: 10s")"#);
    let over = ask("10").run::<time::extend>();
    assert_eq!(over.retried("error"), None);
    assert_eq!(over.failure().detail_text(), Some("asked for more time than max_run allows"));
    let lost = ask("1").lease_lost().run::<time::extend>();
    assert_eq!(lost.failure().detail_text(), Some("the lease on the message is over"));
}
