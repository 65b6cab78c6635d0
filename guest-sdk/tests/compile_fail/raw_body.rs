use tidegate_sdk::handler;

mod bytes {
    #[tidegate_sdk::handler]
    fn work(_: Vec<u8>) {}
}

mod text {
    #[tidegate_sdk::handler]
    fn work(_: &str) {}
}

#[handler]
fn work(_: std::string::String) {}

fn main() {}
