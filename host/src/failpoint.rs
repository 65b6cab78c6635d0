//! Places where a test lets the host die, to see what it makes of it at the next start.
//!
//! They are compiled into builds with debug assertions alone; in a release build they are nothing.

/// Dies here, as by `kill -9`, when the environment says so.
pub(crate) fn reached(_place: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("TEST_TIDEGATE_DIES_AT").is_ok_and(|named| named == _place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
