use tidegate_sdk::{Message, handler};

struct Worker;

impl Worker {
    #[handler]
    fn work(&self, _: Message) {}
}

fn main() {}
