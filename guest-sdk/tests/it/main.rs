//! What `#[handler]` makes of a function, seen as the host sees it, and what people get wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects by failing"
)]

mod during;
mod mistakes;
mod shapes;
mod testing;
