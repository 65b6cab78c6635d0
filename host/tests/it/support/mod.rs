//! What the tests share.

pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod exposition;
pub(crate) mod guests;
pub(crate) mod measured;
pub(crate) mod modules;
pub(crate) mod nats;
pub(crate) mod nats_cluster;
pub(crate) mod openapi;
pub(crate) mod ports;
pub(crate) mod receiver;
pub(crate) mod registry;
pub(crate) mod web;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Asks again and again until something holds.
pub(crate) fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "gave up after {patience:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Writes a program that can be run at once. This process never has the file open for writing: what another test starts at that
/// moment would have it open too until it runs its own program, and nobody could run this one meanwhile ("text file busy").
pub(crate) fn script(path: &Path, text: &str) {
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "writing {}", path.display());
}
