use tidegate_sdk::{Message, handler};

#[handler]
fn work(_: Message) -> u32 {
    1
}

fn main() {}
