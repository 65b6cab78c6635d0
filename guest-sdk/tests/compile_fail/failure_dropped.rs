#![deny(unused_must_use)]

use tidegate_sdk::{Failure, Message, Output, handler};

#[handler]
fn work(_: Message) {
    Failure::reject("wrong");
    Output::to("a").text("never sent");
}

fn main() {}
