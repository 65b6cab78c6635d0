use serde::Serialize;
use tidegate_sdk::handler;

#[derive(Serialize)]
struct Order {
    id: u64,
}

#[handler]
fn work(order: Order) {
    let _ = order.id;
}

fn main() {}
