//! Makes an invoice of every order.

use serde::Deserialize;
use tidegate_sdk::{Failure, Output, handler, info};

#[derive(Deserialize)]
struct Order {
    id: u64,
    /// Not there until the order is priced.
    cents: Option<u64>,
}

#[handler]
fn invoice(order: Order) -> Result<Output, Failure> {
    match order.cents {
        None => Err(Failure::retry("not-priced-yet")),
        Some(0) => Err(Failure::reject("free-order").detail(format!("order {} costs nothing", order.id))),
        Some(cents) => {
            info!(cents = cents, "invoicing order {}", order.id);
            Ok(Output::to("invoices").text(format!("order {}: {cents} cents", order.id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::testing::TestMessage;

    use super::invoice;

    #[test]
    fn an_order() {
        let ran = TestMessage::text(include_str!("../order.json")).run::<invoice>();
        assert_eq!((ran.output().to(), ran.output().text()), ("invoices", "order 7: 1250 cents"));
        assert_eq!(ran.log_lines(), ["info invoicing order 7 cents=1250"]);
    }

    #[test]
    fn an_order_without_a_price() {
        assert_eq!(TestMessage::text(r#"{"id": 7}"#).run::<invoice>().retried("not-priced-yet"), None);
    }

    #[test]
    fn an_order_that_costs_nothing() {
        let ran = TestMessage::text(r#"{"id": 7, "cents": 0}"#).run::<invoice>();
        assert_eq!(ran.rejected("free-order"), "order 7 costs nothing");
    }
}
