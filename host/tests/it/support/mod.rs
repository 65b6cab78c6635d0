//! What the tests share.

pub(crate) mod guests;
pub(crate) mod modules;
pub(crate) mod nats;
