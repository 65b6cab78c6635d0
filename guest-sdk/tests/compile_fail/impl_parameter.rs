use tidegate_sdk::handler;

#[handler]
fn work(_: impl serde::de::DeserializeOwned) {}

fn main() {}
