use tidegate_sdk::{Message, handler};

#[handler]
fn work(_: u32, _: Message) {}

fn main() {}
