use tidegate_sdk::handler;

#[handler]
fn work() {}

fn main() {}
