//! Keys on a terminal, one by one, while the terminal goes on to do what it always does with Ctrl-C and with lines that
//! are written.
//!
//! Invariant: the terminal is as it was when this is dropped.

use std::io::{IsTerminal as _, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// How long the end of a session waits for the thread at the most.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Passes keys on until it is dropped.
pub(super) struct Keys {
    before: Termios,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Begins, where a person has a terminal before them; `None` where not. `pass` is called with each key, on a thread of its own.
    pub(super) fn listen(pass: impl Fn(char) + Send + 'static) -> anyhow::Result<Option<Self>> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(None);
        }
        // In the background the terminal is somebody else's: to read from it would stop this process.
        if tcgetpgrp(stdin()).ok() != Some(rustix::process::getpgrp()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin()).context("asking the terminal for its settings")?;
        let mut keys = Self { before, stop: Arc::default(), thread: None };
        tcsetattr(stdin(), OptionalActions::Drain, &single(&keys.before)).context("setting the terminal")?;
        let stop = Arc::clone(&keys.stop);
        let thread = std::thread::Builder::new().name("keys".to_owned());
        keys.thread = Some(thread.spawn(move || read(&stop, &pass)).context("starting a thread")?);
        Ok(Some(keys))
    }

    /// Takes the terminal over again whenever the process goes on after it was stopped; for as long as it is polled.
    pub(super) fn again(&self) -> impl Future<Output = ()> + Send + 'static {
        let settings = single(&self.before);
        async move {
            let Ok(mut continued) = signal(SignalKind::from_raw(Signal::CONT.as_raw())) else { return };
            while continued.recv().await.is_some() {
                let _ = tcsetattr(stdin(), OptionalActions::Drain, &settings);
            }
        }
    }
}

/// The same settings, with keys that come at once and are not shown.
fn single(before: &Termios) -> Termios {
    let mut settings = before.clone();
    settings.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    settings
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

fn read(stop: &AtomicBool, pass: &impl Fn(char)) {
    let mut bytes = [0; 16];
    while !stop.load(Ordering::Relaxed) {
        let input = stdin();
        let ready = poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&LOOK_EVERY));
        match ready {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let count = match rustix::io::read(&input, &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        for byte in bytes.iter().take(count).filter(|byte| byte.is_ascii()) {
            pass(char::from(*byte));
        }
    }
}
