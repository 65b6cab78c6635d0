//! Subscriptions as a broker keeps them, whether or not somebody receives them.

use std::time::SystemTime;

/// A durable subscription: until it has settled a message, the message is kept for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSubscription {
    /// Its name.
    pub name: String,
    /// The subjects that it receives.
    pub subjects: Vec<String>,
    /// Messages that it was not yet handed, as counted along.
    pub ready: u64,
    /// Messages that wait for another delivery. Those that run for the first time are not among them.
    pub pending: u64,
    /// When it was last bound, or moved on.
    pub last_seen: SystemTime,
    /// Whether this host receives it. Without: its name went out of the configuration, or does not run yet.
    pub in_use: bool,
}

/// What becomes of the messages that a subscription alone wanted, when it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// They are kept until their age, for whoever wants them before that.
    Kept,
    /// They are removed for good.
    Removed,
}
