//! The checks for handler authors fail, with words, when the handler did something else.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidegate_sdk::testing::{Ran, TestMessage};
use tidegate_sdk::{Failure, Message, Output, handler, info};

#[handler]
fn act(message: &Message) -> Result<Vec<Output>, Failure> {
    info!("ran");
    match message.text()? {
        "retry" => Err(Failure::retry("busy").after(Duration::from_secs(3))),
        "defer" => Err(Failure::defer("closed", Duration::from_secs(4))),
        "reject" => Err(Failure::reject("wrong").detail("why")),
        "skip" => Err(Failure::skip("ping")),
        "two" => Ok(vec![Output::to("a"), Output::to("b")]),
        "panic" => panic!("as told"),
        _ => Ok(vec![]),
    }
}

fn ran(what: &str) -> Ran {
    TestMessage::text(what).run::<act>()
}

#[test]
fn each_check_accepts_its_own_outcome() {
    assert_eq!(ran("retry").retried("busy"), Some(Duration::from_secs(3)));
    assert_eq!(ran("defer").deferred("closed"), Duration::from_secs(4));
    assert_eq!(ran("reject").rejected("wrong"), "why");
    assert_eq!(ran("skip").skipped("ping"), "");
    assert_eq!(ran("two").outputs().len(), 2);
    assert!(ran("").outputs().is_empty());
}

#[track_caller]
fn refused<R: Debug>(check: impl FnOnce() -> R, expected: &str) {
    let payload = catch_unwind(AssertUnwindSafe(check)).unwrap_err();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), expected);
}

#[test]
fn each_check_refuses_the_others_and_says_what_happened() {
    refused(|| ran("").retried("busy"), "expected retry busy, and the handler is done with []");
    refused(|| ran("reject").retried("busy"), "expected retry busy, and the handler returned: reject wrong: why");
    refused(|| ran("reject").retried("wrong"), "expected retry wrong, and the handler returned: reject wrong: why");
    refused(|| ran("retry").deferred("busy"), "expected defer busy, and the handler returned: retry busy");
    refused(|| ran("retry").rejected("busy").len(), "expected reject busy, and the handler returned: retry busy");
    refused(|| ran("retry").skipped("busy").len(), "expected skip busy, and the handler returned: retry busy");
    refused(|| ran("skip").outputs().len(), "expected the handler to be done, and it returned: skip ping");
    refused(|| ran("").output().clone(), "expected one output, and there are 0: []");
    refused(|| ran("").failure().clone(), "expected a failure, and the handler is done with []");
}

#[test]
fn a_panic_of_one_run_leaves_nothing_for_the_next() {
    assert!(catch_unwind(|| ran("panic")).is_err());
    assert_eq!(ran("").logs().len(), 1);
}
