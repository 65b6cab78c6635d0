//! Every parameter and every return type that a handler may have.

use std::time::Duration;

use serde::Deserialize;
use tidegate_sdk::testing::{Ran, TestMessage};
use tidegate_sdk::{Failure, FailureKind, Handler, Message, Output, handler};

#[derive(Deserialize)]
struct Order {
    id: u64,
}

#[derive(Deserialize)]
struct Borrowed<'m> {
    name: &'m str,
}

// One handler a module, as there is one a crate.
macro_rules! handlers {
    ($($name:ident: $function:item)*) => { $(mod $name { use super::*; #[handler] $function })* };
}

handlers! {
    payload: pub(super) fn takes(order: Order) -> Output { Output::to("out").text(order.id.to_string()) }
    borrowed: pub(super) fn takes(order: Borrowed<'_>) -> Output { Output::to("out").text(order.name) }
    named_lifetime: pub(super) fn takes<'m>(order: Borrowed<'m>, _: &'m Message) -> Output {
        Output::to("out").text(order.name)
    }
    pattern: pub(super) fn takes(Order { id }: Order) -> Output { Output::to("out").text(id.to_string()) }
    by_value: pub(super) fn takes(message: Message) -> Output { Output::to("out").bytes(message.into_body()) }
    by_reference: pub(super) fn takes(message: &Message) -> Output { Output::to("out").text(message.subject()) }
    both: pub(super) fn takes(order: Order, message: &Message) -> Output {
        Output::to("out").text(format!("{} {}", message.subject(), order.id))
    }

    unit: pub(super) fn gives(_: &Message) {}
    one: pub(super) fn gives(_: &Message) -> Output { Output::to("a") }
    none: pub(super) fn gives(_: &Message) -> Option<Output> { None }
    some: pub(super) fn gives(_: &Message) -> Option<Output> { Some(Output::to("a")) }
    several: pub(super) fn gives(_: &Message) -> Vec<Output> { vec![Output::to("a"), Output::to("b")] }
    array: pub(super) fn gives(_: &Message) -> [Output; 2] { [Output::to("a"), Output::to("b")] }
    ok_unit: pub(super) fn gives(_: &Message) -> Result<(), Failure> { Ok(()) }
    ok_none: pub(super) fn gives(_: &Message) -> Result<Option<Output>, Failure> { Ok(None) }
    hidden: pub(super) fn gives(_: &Message) -> impl tidegate_sdk::IntoOutcome + use<> { Output::to("a") }
    fails: pub(super) fn gives(_: &Message) -> Result<Output, Failure> { Err(Failure::skip("ping")) }
    question_mark: pub(super) fn gives(message: &Message) -> Result<(), Failure> {
        let _: u32 = message.text()?.parse()?;
        Ok(())
    }
    foreign_error: pub(super) fn gives(message: Message) -> Result<(), std::string::FromUtf8Error> {
        String::from_utf8(message.into_body()).map(drop)
    }
}

#[track_caller]
fn says<H: Handler>(body: &str, expected: &str) {
    let ran = TestMessage::text(body).subject("orders.eu").run::<H>();
    assert_eq!(ran.output().text(), expected);
}

#[test]
fn every_parameter_is_made_from_the_message() {
    says::<payload::takes>(r#"{"id":7}"#, "7");
    says::<borrowed::takes>(r#"{"name":"Ada"}"#, "Ada");
    says::<named_lifetime::takes>(r#"{"name":"Ada"}"#, "Ada");
    says::<pattern::takes>(r#"{"id":7}"#, "7");
    says::<by_value::takes>("as it is", "as it is");
    says::<by_reference::takes>("", "orders.eu");
    says::<both::takes>(r#"{"id":7}"#, "orders.eu 7");
}

#[track_caller]
fn goes_to<H: Handler>(expected: &[&str]) {
    let ran = TestMessage::text("").run::<H>();
    let found: Vec<_> = ran.outputs().iter().map(|output| output.to()).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_return_type_is_outputs_in_their_order() {
    goes_to::<unit::gives>(&[]);
    goes_to::<one::gives>(&["a"]);
    goes_to::<none::gives>(&[]);
    goes_to::<some::gives>(&["a"]);
    goes_to::<several::gives>(&["a", "b"]);
    goes_to::<array::gives>(&["a", "b"]);
    goes_to::<ok_unit::gives>(&[]);
    goes_to::<ok_none::gives>(&[]);
    goes_to::<hidden::gives>(&["a"]);
}

fn ran<H: Handler>(body: impl Into<Vec<u8>>) -> Ran {
    TestMessage::bytes(body).run::<H>()
}

#[test]
fn a_payload_that_does_not_parse_is_rejected_with_the_parsers_words() {
    let words = "missing field `id` at line 1 column 2";
    assert_eq!(ran::<payload::takes>("{}").rejected("invalid-payload"), words);
    assert_eq!(ran::<both::takes>("{}").rejected("invalid-payload"), words);
    assert!(ran::<question_mark::gives>([0xff]).rejected("invalid-payload").contains("invalid utf-8"));
}

#[test]
fn an_error_that_nobody_classified_is_a_retry() {
    let failure = ran::<question_mark::gives>("seven");
    assert_eq!(failure.retried("error"), None);
    assert_eq!(failure.failure().detail_text(), Some("invalid digit found in string"));
    assert_eq!(ran::<foreign_error::gives>([0xff]).retried("error"), None);
    assert_eq!(ran::<fails::gives>("").skipped("ping"), "");
}

#[test]
fn an_errors_chain_is_told_once() {
    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);
    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }
    let chain = |layers: &[&'static str]| {
        let error = layers.iter().rev().fold(None, |inner, text| Some(Layer(text, inner.map(Box::new)))).unwrap();
        Failure::from(error).detail_text().unwrap().to_owned()
    };
    assert_eq!(chain(&["charging", "connecting", "refused"]), "charging: connecting: refused");
    assert_eq!(chain(&["charging: refused", "refused"]), "charging: refused");
}

#[test]
fn a_delay_belongs_to_what_comes_back() {
    let second = Duration::from_secs(1);
    assert_eq!(Failure::retry("a").after(second).kind(), FailureKind::Retry { after: Some(second) });
    assert_eq!(Failure::defer("a", Duration::ZERO).after(second).kind(), FailureKind::Defer { after: second });
    assert_eq!(Failure::reject("a").after(second).kind(), FailureKind::Reject);
    assert_eq!(Failure::skip("a").after(second).kind(), FailureKind::Skip);
}
