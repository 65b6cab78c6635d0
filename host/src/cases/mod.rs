//! Cases: a message, how it is handed over, and how its run must end. What `tidegate test` runs, and a deploy tries as golden
//! messages.
//!
//! ```text
//! files --read--> Case --check (in a sandbox, with no effect)--> Checked: the run, and how it is not as expected
//!                   ^                                                   |
//!                   '----------------- update: expect what came --------'
//! ```
//!
//! Invariants:
//! - A run on a case has no effect: nothing is published, logged or measured.
//! - A case can lower a limit of its handler and raise none: what is tried is what will run.
//! - What is wrong with a file is told with the file, the case and the key, before anything runs.

mod check;
mod difference;
mod expect;
mod fixture;
mod keys;
mod parse;
mod read;
mod tightened;
mod update;

pub use check::{Bench, Checked, DEFAULT_TIME, Injected};
pub use difference::Difference;
pub use expect::Expectation;
pub use fixture::{Fixture, file_name};
pub use parse::Case;
pub use read::{Found, Most, read};
pub use tightened::Stopped;
pub use update::{Rewritten, rewrite};
