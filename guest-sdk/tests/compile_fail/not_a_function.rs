use tidegate_sdk::handler;

#[handler]
struct Worker;

fn main() {}
