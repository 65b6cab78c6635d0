//! From an outcome to what is done to the broker: one pure decision, then its execution.

pub mod dead_letter;
pub mod policy;
pub mod progress;
