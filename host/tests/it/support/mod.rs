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

/// Writes a script that can be run at once. Another process writes it: a file that one of ours has open for writing while another
/// thread starts a program cannot be run for as long as that one has it too.
pub(crate) fn write_script(path: &Path, lines: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{lines}\n").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "{}", path.display());
}
