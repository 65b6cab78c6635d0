use tidegate_sdk::{Message, handler};

#[handler(name = "work")]
fn work(_: Message) {}

fn main() {}
