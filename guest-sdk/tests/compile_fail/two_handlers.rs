use tidegate_sdk::{Message, handler};

#[handler]
fn first(_: Message) {}

#[handler]
fn second(_: Message) {}

fn main() {}
