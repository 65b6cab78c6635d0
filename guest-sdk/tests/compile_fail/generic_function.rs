use tidegate_sdk::handler;

#[handler]
fn work<T: serde::de::DeserializeOwned>(_: T) {}

fn main() {}
