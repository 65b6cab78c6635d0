use tidegate_sdk::{Message, handler};

#[handler]
async fn work(_: Message) {}

fn main() {}
