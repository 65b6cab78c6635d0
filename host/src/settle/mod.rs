//! From an outcome to what is done to the broker: one pure decision, then the words in which the broker is told.
//!
//! Invariants:
//! - There is one `decide`, and it is pure; see [`decide`].
//! - Outputs carry ids that are the same on every run of the same message; see [`outputs`].

pub mod dead_letter;
pub mod decide;
pub mod fingerprint;
pub mod outputs;
pub mod policy;
pub mod progress;
pub mod recover;
pub mod verdict;
