//! Keeps one session with the broker: opens it, waits for its end, opens the next.
//!
//! Invariants:
//! - No trouble of the broker ends the process or this loop; only `close` does.
//! - Whoever asks gets a live session or the reason why there is none, in words for a person.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::auth;
use super::events::Events;
use super::options::{Confirm, Options};
use super::session::{OpenError, Session};
use crate::broker::Status;

/// The first and the longest wait between attempts to connect. Doubling from 50 ms reaches 5 s after seven attempts: a
/// restart of the server is bridged at once, and a long outage costs next to nothing.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why the broker cannot be used as it is configured. Trouble that passes is no error: it is connected in the
/// background.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No server, or an address that cannot be read.
    #[error("broker `{broker}` has an unusable server address: {detail}")]
    Address {
        /// The broker's name.
        broker: String,
        /// What is wrong.
        detail: String,
    },
    /// The server does not let us in, or a seed or credentials file cannot be used.
    #[error("broker `{broker}` does not accept us: {detail}")]
    Unauthorized {
        /// The broker's name.
        broker: String,
        /// What is wrong.
        detail: String,
    },
    /// A certificate cannot be read, or is not trusted.
    #[error("broker `{broker}` cannot be reached over TLS: {detail}")]
    Tls {
        /// The broker's name.
        broker: String,
        /// What is wrong.
        detail: String,
    },
    /// The server is too old.
    #[error("broker `{broker}` is too old: {detail}")]
    TooOld {
        /// The broker's name.
        broker: String,
        /// What is wrong.
        detail: String,
    },
}

/// The way to the broker.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    closing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    options: Arc<Options>,
    session: watch::Sender<Option<Arc<Session>>>,
    /// Why there is no session.
    trouble: Mutex<String>,
    reconnects: AtomicU64,
    opened: AtomicU64,
    events: Arc<Events>,
}

impl Link {
    /// Tries every server once. What a person has to mend is an error; when no server can be reached, it goes on trying
    /// in the background.
    pub(super) async fn connect(options: Arc<Options>) -> Result<Self, ConnectError> {
        check(&options)?;
        let shared = Arc::new(Shared {
            session: watch::Sender::new(None),
            trouble: Mutex::new("not connected yet".to_owned()),
            reconnects: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            events: Arc::new(Events::default()),
            options,
        });
        let broker = || shared.options.name.clone();
        match shared.open_any(&shared.options.servers).await {
            Ok(session) => shared.take_over(session),
            Err(OpenError::Away(detail)) => {
                tracing::warn!(broker = broker(), %detail, "the broker is away; connecting goes on in the background");
                shared.set_trouble(detail);
            }
            Err(OpenError::Unauthorized(detail)) => {
                return Err(ConnectError::Unauthorized { broker: broker(), detail });
            }
            Err(OpenError::Tls(detail)) => return Err(ConnectError::Tls { broker: broker(), detail }),
            Err(OpenError::TooOld(detail)) => return Err(ConnectError::TooOld { broker: broker(), detail }),
        }
        let closing = CancellationToken::new();
        let task = tokio::spawn(keep(Arc::clone(&shared), closing.clone()));
        Ok(Self { shared, closing, task: Mutex::new(Some(task)) })
    }

    /// The session, when there is a live one; else why not.
    pub(super) fn session(&self) -> Result<Arc<Session>, String> {
        let session = self.shared.session.borrow().clone();
        session.filter(|session| session.is_live()).ok_or_else(|| self.shared.trouble())
    }

    /// Waits for a live session, at most so long; else why there is none.
    pub(super) async fn wait(&self, limit: Duration) -> Result<Arc<Session>, String> {
        if let Ok(session) = self.session() {
            return Ok(session);
        }
        let mut sessions = self.shared.session.subscribe();
        let live = sessions.wait_for(|session| session.as_ref().is_some_and(|session| session.is_live()));
        match tokio::time::timeout(limit, live).await {
            Ok(Ok(_)) | Err(_) => self.session(),
            Ok(Err(_)) => Err("the broker is closed".to_owned()),
        }
    }

    /// How acknowledgements are confirmed.
    pub(super) fn confirm(&self) -> Confirm {
        self.shared.options.confirm
    }

    /// Whether there is a live session.
    pub(super) fn status(&self) -> Status {
        match self.session() {
            Ok(_) => Status::Connected,
            Err(detail) => Status::Away(detail),
        }
    }

    /// Sessions that were opened after another one had ended.
    pub(super) fn reconnects(&self) -> u64 {
        self.shared.reconnects.load(Ordering::Relaxed)
    }

    /// What the connections reported and is only counted.
    pub(super) fn events(&self) -> &Events {
        &self.shared.events
    }

    /// Whether `close` was called.
    pub(super) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Cancelled by `close`.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Sends what is on its way, ends the session and the loop.
    pub(super) async fn close(&self) {
        if let Ok(session) = self.session() {
            session.flush().await;
        }
        self.closing.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the task that keeps the connection ended badly");
        }
        self.shared.set_trouble("the broker is closed".to_owned());
        self.shared.session.send_replace(None);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Shared {
    fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, text: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn take_over(&self, session: Session) {
        self.set_trouble("the connection ended; connecting again".to_owned());
        tracing::info!(broker = self.options.name, session = session.number, "connected to NATS");
        self.session.send_replace(Some(Arc::new(session)));
    }

    /// Tries each server once, starting at another one each time so that hosts spread over a cluster. What a person has
    /// to mend goes before what passes by itself.
    async fn open_any(&self, servers: &[String]) -> Result<Session, OpenError> {
        let mut worst: Option<OpenError> = None;
        let start = fastrand::usize(..servers.len().max(1));
        for server in servers.iter().cycle().skip(start).take(servers.len()) {
            let number = self.opened.load(Ordering::Relaxed) + 1;
            match Session::open(&self.options, server, number, Arc::clone(&self.events)).await {
                Ok(session) => {
                    self.opened.store(number, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(error @ OpenError::Away(_)) => {
                    worst.get_or_insert(error);
                }
                Err(error @ (OpenError::Unauthorized(_) | OpenError::Tls(_) | OpenError::TooOld(_))) => {
                    worst = Some(error);
                }
            }
        }
        Err(worst.unwrap_or_else(|| OpenError::Away("no server is configured".to_owned())))
    }
}

/// The loop: wait for the end of the session, connect again, until closed.
async fn keep(shared: Arc<Shared>, closing: CancellationToken) {
    let mut servers = shared.options.servers.clone();
    loop {
        let current = shared.session.borrow().clone();
        if let Some(session) = current {
            for server in &session.discovered {
                // Bounded: a cluster names at most a few dozen, and only new ones are added.
                if !servers.contains(server) && servers.len() < 64 {
                    servers.push(server.clone());
                }
            }
            tokio::select! {
                () = session.ended() => {}
                () = closing.cancelled() => return,
            }
            shared.session.send_replace(None);
            tracing::warn!(broker = shared.options.name, session = session.number, "the connection to NATS ended");
        }
        tokio::select! {
            session = open_patiently(&shared, &servers) => {
                // The first session of all is no reconnect.
                if session.number > 1 {
                    shared.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                shared.take_over(session);
            }
            () = closing.cancelled() => return,
        }
    }
}

async fn open_patiently(shared: &Shared, servers: &[String]) -> Session {
    let mut wait = FIRST_WAIT;
    loop {
        match shared.open_any(servers).await {
            Ok(session) => return session,
            Err(
                OpenError::Away(detail)
                | OpenError::Unauthorized(detail)
                | OpenError::Tls(detail)
                | OpenError::TooOld(detail),
            ) => {
                tracing::debug!(broker = shared.options.name, %detail, "the broker is still away");
                shared.set_trouble(detail);
            }
        }
        // Spread over half to one and a half, so that hosts that were sent away together do not come back together.
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Checks what can be checked without a server.
fn check(options: &Options) -> Result<(), ConnectError> {
    let broker = || options.name.clone();
    let address = |detail| Err(ConnectError::Address { broker: broker(), detail });
    if options.servers.is_empty() {
        return address("no server is named".to_owned());
    }
    for server in &options.servers {
        match server.parse::<async_nats::ServerAddr>() {
            Err(error) => return address(format!("`{server}`: {error}")),
            Ok(parsed) if parsed.has_user_pass() => {
                // Not repeated here: it holds a secret.
                return address("a server address holds a user; give user and password on their own".to_owned());
            }
            Ok(_) => {}
        }
    }
    auth::check(&options.auth).map_err(|detail| ConnectError::Unauthorized { broker: broker(), detail })?;
    let tls = |detail| Err(ConnectError::Tls { broker: broker(), detail });
    for file in [&options.tls.ca, &options.tls.cert, &options.tls.key].into_iter().flatten() {
        if let Err(error) = std::fs::File::open(file) {
            return tls(format!("could not read `{}`: {error}", file.display()));
        }
    }
    if options.tls.cert.is_some() != options.tls.key.is_some() {
        return tls("a certificate and its key are given together or not at all".to_owned());
    }
    Ok(())
}
