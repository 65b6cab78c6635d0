use tidegate_sdk::handler;

struct Order {
    _id: u64,
}

#[handler]
fn work(_: Order) {}

fn main() {}
