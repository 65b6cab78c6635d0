use tidegate_sdk::{Message, handler};

struct Order {
    _id: u64,
}

#[handler]
fn work(_: Order, _: &Message) {}

fn main() {}
