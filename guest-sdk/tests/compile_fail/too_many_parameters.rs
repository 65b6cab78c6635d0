use tidegate_sdk::{Message, handler};

#[handler]
fn work(_: u32, _: &Message, _: u64) {}

fn main() {}
