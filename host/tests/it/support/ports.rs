//! Ports for servers of a test, that nobody takes between two starts.
//!
//! The story: a port that the system gives on asking for any is one that it also gives to outgoing connections. A host
//! that was killed and started anew on its port found it taken by a client of another test. So ports are taken from
//! below those that systems give away (32768 on Linux, 49152 elsewhere), and no port twice.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port of 127.0.0.1 that nobody listens on, and that nobody else in this process is given.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + (begin + step) % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
