//! Charges a card at a gateway that is sometimes down: retry what may pass, reject what never will.
//!
//! The one thing to decide about a failure is whether time can mend it.

mod gateway;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_sdk::{Failure, Message, Output, handler, info, warn};

use gateway::{Refusal, charge};

#[derive(Deserialize)]
struct Payment {
    order: u64,
    card: String,
    cents: u64,
}

#[derive(Serialize)]
struct Receipt {
    order: u64,
    cents: u64,
    reference: String,
}

#[handler]
fn pay(payment: Payment, message: &Message) -> Result<Output, Failure> {
    if payment.cents == 0 {
        return Err(Failure::skip("nothing-to-pay"));
    }
    // The message's id is the same on every attempt: with it as the key the gateway charges once, however often we ask.
    let reference = charge(&payment.card, message.id(), message.attempt()).map_err(|refusal| match refusal {
        // Time mends it, and the gateway said when. On the last attempt a retry would end in the dead-letter queue as
        // `attempts-exhausted`; we can say more.
        Refusal::Down { retry_after } if message.last_chance() => Failure::reject("gateway-down")
            .detail(format!("down for {} attempts, {retry_after:?} to go", message.attempt())),
        Refusal::Down { retry_after } => {
            warn!(order = payment.order, attempt = message.attempt(), "the gateway is down");
            Failure::retry("gateway-down").after(retry_after)
        }
        // Our own fault, and nobody else's message: it costs no attempt.
        Refusal::TooManyRequests => Failure::defer("rate-limited", Duration::from_secs(1)),
        // Time mends nothing.
        Refusal::Declined { why } => Failure::reject("card-declined").detail(why),
    })?;
    info!(order = payment.order, cents = payment.cents, "charged");
    Output::to("receipts").json(&Receipt { order: payment.order, cents: payment.cents, reference })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_sdk::testing::{Ran, TestMessage};

    use super::*;

    fn attempt(card: &str, attempt: u32) -> Ran {
        let payment = json!({"order": 7, "card": card, "cents": 1999});
        TestMessage::json(&payment).id("p-7").attempt(attempt).run::<pay>()
    }

    #[test]
    fn a_good_card_is_charged_once_whatever_the_attempt() {
        let receipt = |attempted: u32| attempt("4242424242424242", attempted).output().json::<Value>();
        assert_eq!(receipt(1), json!({"order": 7, "cents": 1999, "reference": "charge-p-7"}));
        assert_eq!(receipt(1), receipt(2));
    }

    #[test]
    fn a_gateway_that_is_down_is_asked_again_when_it_says() {
        let card = "4000000000000341";
        assert_eq!(attempt(card, 1).retried("gateway-down"), Some(Duration::from_millis(250)));
        assert_eq!(attempt(card, 2).retried("gateway-down"), Some(Duration::from_millis(500)));
        assert_eq!(attempt(card, 3).log_lines(), ["info charged order=7 cents=1999"]);
    }

    #[test]
    fn a_gateway_that_stays_down_is_told_from_used_up_attempts() {
        let card = "4000000000000119";
        assert_eq!(attempt(card, 4).retried("gateway-down"), Some(Duration::from_secs(2)));
        assert_eq!(attempt(card, 5).rejected("gateway-down"), "down for 5 attempts, 4s to go");
    }

    #[test]
    fn what_time_cannot_mend_is_given_up_at_once() {
        assert_eq!(attempt("4000000000000002", 1).rejected("card-declined"), "insufficient funds");
        assert_eq!(attempt("4000000000000069", 1).rejected("card-declined"), "expired");
    }

    #[test]
    fn a_rate_limit_costs_no_attempt() {
        assert_eq!(attempt("4000000000000429", 1).deferred("rate-limited"), Duration::from_secs(1));
    }

    #[test]
    fn nothing_to_pay_is_skipped() {
        let payment = json!({"order": 7, "card": "4242424242424242", "cents": 0});
        TestMessage::json(&payment).run::<pay>().skipped("nothing-to-pay");
    }
}
