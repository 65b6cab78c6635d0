use tidegate_sdk::{Message, handler};

#[handler]
fn work(_: Message) -> Result<(), String> {
    Err("no".to_owned())
}

fn main() {}
