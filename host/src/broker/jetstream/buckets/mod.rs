//! The buckets through which the hosts of a cluster share what they run, as `nats kv` and `nats object` know them:
//!
//! ```text
//! <prefix>-desired   key-value: what is to run, a key a handler; written by compare-and-set
//! <prefix>-pauses    key-value: what is paused on all hosts, under one key; written by compare-and-set
//! <prefix>-hosts     key-value: what each host says of itself, a key a host; forgotten after a day of silence
//! <prefix>-modules   objects: modules, by their sha256
//! ```
//!
//! Invariants:
//! - A key of what is to run, and what is paused, is replaced only by whoever knows what stands there.
//! - What is read of them is read from the leader of its stream: never older than what was confirmed.
//! - Nothing waits without an end: each step has the time of a request, or ends with the connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{self, UpdateErrorKind};
use async_nats::jetstream::object_store;
use bytes::Bytes;

use super::link::Link;
use super::raw;
use super::session::{RequestError, Session, Unanswered};
use super::setup::stream_info;
use super::wire::ApiError;

mod modules;
mod watch;

pub use modules::ModuleReader;
use modules::Modules;
pub use watch::{Changed, Keys, Watch};

/// How long a host is remembered after its last word.
pub const HOST_REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Values of before that are kept for people (`nats kv history`); the hosts read the last one alone.
const HISTORY: i64 = 16;
/// Waiting for a connection that was just lost: as long as a server takes to hand over.
const WAIT_FOR_SESSION: Duration = Duration::from_secs(1);

/// A server does not answer what it does not permit: this is what whoever waits in vain is told.
const PERMISSION: &str = "when NATS is there, look whether the credentials permit it";

/// The buckets of one cluster.
#[derive(Debug)]
pub struct Buckets {
    link: Arc<Link>,
    prefix: String,
    replicas: usize,
    /// Those that were opened over the session of this number.
    opened: tokio::sync::Mutex<Option<(u64, Stores)>>,
    /// The one of pauses, by itself: a login that may not use it is kept from pausing all hosts, and from nothing else.
    opened_pauses: tokio::sync::Mutex<Option<(u64, kv::Store)>>,
}

#[derive(Clone)]
struct Stores {
    desired: kv::Store,
    hosts: kv::Store,
    modules: Modules,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stores")
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The value; `None`: there is none, or it was removed.
    pub value: Option<Bytes>,
    /// What a replacement has to name; 0: nothing ever stood there.
    pub revision: u64,
}

/// Why a bucket was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The server cannot be reached, or does not answer in time.
    #[error("NATS cannot be reached: {0}")]
    Away(String),
    /// The server says no.
    #[error("NATS refuses: {0}")]
    Refused(String),
    /// There is no such object.
    #[error("the bucket has no module {0}")]
    NoModule(String),
    /// An object is not whole, or not what it says.
    #[error("the module {name} in the bucket is damaged: {detail}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Why a key was not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// Something else stands there by now.
    #[error("somebody else was first")]
    Conflict,
    /// The answer did not come: it may have been done.
    #[error("NATS did not confirm it: {0}")]
    Unconfirmed(String),
    /// It was not done.
    #[error(transparent)]
    NotDone(#[from] BucketError),
}

impl From<ApiError> for BucketError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Away(RequestError::Unanswered(Unanswered::TimedOut(_))) => {
                Self::Away(format!("{error}; {PERMISSION}"))
            }
            ApiError::Away(_) | ApiError::Unreadable(_) => Self::Away(error.to_string()),
            ApiError::Refused(refusal) if refusal.code >= 500 => Self::Away(refusal.description),
            ApiError::Refused(refusal) => {
                Self::Refused(format!("{} (error {})", refusal.description, refusal.err_code))
            }
        }
    }
}

impl Buckets {
    pub(super) fn new(link: Arc<Link>, prefix: &str, replicas: usize) -> Self {
        Self {
            link,
            prefix: prefix.to_owned(),
            replicas,
            opened: tokio::sync::Mutex::default(),
            opened_pauses: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until the buckets can be used, at most so long. Those that are missing are made.
    ///
    /// # Errors
    /// When the server is away for so long, or refuses.
    pub async fn ready(&self, limit: Duration) -> Result<(), BucketError> {
        let session = self.link.wait(limit).await.map_err(BucketError::Away)?;
        Box::pin(self.stores_of(&session)).await.map(|_| ())
    }

    /// What stands under a key.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn get(&self, keys: Keys, key: &str) -> Result<Held, BucketError> {
        let (session, store) = self.store(keys).await?;
        let found = raw::last(&session, &store.stream_name, &format!("{}{key}", store.prefix)).await;
        let Some(message) = self.noted(keys, found.map_err(Into::into)).await? else { return Ok(Held::default()) };
        let value = (!message.is_removal()).then_some(message.payload);
        Ok(Held { value, revision: message.sequence })
    }

    /// The keys of what is to run; among them some that were removed. All of them or an error: what decides by this list
    /// what nobody needs must not be given a part.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn keys_of_desired(&self) -> Result<Vec<String>, BucketError> {
        let (session, stores) = self.stores().await?;
        let prefix = &stores.desired.prefix;
        let subjects = raw::subjects(&session, &stores.desired.stream_name, &format!("{prefix}>")).await;
        let subjects = self.noted(Keys::Desired, subjects.map_err(Into::into)).await?;
        Ok(subjects.iter().filter_map(|subject| Some(subject.strip_prefix(prefix.as_str())?.to_owned())).collect())
    }

    /// Replaces what stands under a key, if that is still what stood there at a revision. Gives back the new revision.
    ///
    /// # Errors
    /// When something else stands there, or the server is away or refuses; whether it was done is not known when the
    /// answer does not come.
    pub async fn swap(&self, keys: Keys, key: &str, value: Bytes, revision: u64) -> Result<u64, SwapError> {
        let (session, store) = self.store(keys).await?;
        let swapped = tokio::select! {
            biased;
            swapped = store.update(key, value, revision) => swapped,
            () = session.ended() => return Err(SwapError::Unconfirmed("the connection ended".to_owned())),
        };
        let error = match swapped {
            Ok(revision) => return Ok(revision),
            Err(error) => error,
        };
        Err(match error.kind() {
            UpdateErrorKind::WrongLastRevision => SwapError::Conflict,
            UpdateErrorKind::InvalidKey => SwapError::NotDone(BucketError::Refused(chain(&error))),
            UpdateErrorKind::TimedOut => SwapError::Unconfirmed(format!("{}; {PERMISSION}", chain(&error))),
            UpdateErrorKind::Other => {
                self.forget(keys).await;
                SwapError::Unconfirmed(chain(&error))
            }
        })
    }

    /// The number of the connection, when there is one just now: each has another one.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.link.session().ok().map(|session| session.number)
    }

    /// Says something under the key of a host.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn say(&self, host: &str, value: Bytes) -> Result<(), BucketError> {
        let (session, stores) = self.stores().await?;
        let said = within(&session, stores.hosts.put(host, value)).await?;
        self.noted(Keys::Hosts, said.map_err(|error| away(&error))).await?;
        Ok(())
    }

    async fn stores(&self) -> Result<(Arc<Session>, Stores), BucketError> {
        let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(BucketError::Away)?;
        // Opening is rare, and large as a future.
        let stores = Box::pin(self.stores_of(&session)).await?;
        Ok((session, stores))
    }

    async fn store(&self, keys: Keys) -> Result<(Arc<Session>, kv::Store), BucketError> {
        match keys {
            Keys::Desired => self.stores().await.map(|(session, stores)| (session, stores.desired)),
            Keys::Hosts => self.stores().await.map(|(session, stores)| (session, stores.hosts)),
            Keys::Pauses => {
                let session = self.link.wait(WAIT_FOR_SESSION).await.map_err(BucketError::Away)?;
                let store = Box::pin(self.pauses_of(&session)).await?;
                Ok((session, store))
            }
        }
    }

    async fn pauses_of(&self, session: &Arc<Session>) -> Result<kv::Store, BucketError> {
        let mut opened = self.opened_pauses.lock().await;
        if let Some((number, store)) = &*opened
            && *number == session.number
        {
            return Ok(store.clone());
        }
        let bucket = format!("{}-pauses", self.prefix);
        let said = "Tidegate: what is paused on all hosts";
        let store = self.keys(session, &bucket, said, HISTORY, Duration::ZERO).await?;
        *opened = Some((session.number, store.clone()));
        Ok(store)
    }

    /// When a bucket was created: tells it from one of the same name that was lost.
    ///
    /// # Errors
    /// When the server is away or refuses, or the bucket is gone.
    pub async fn created(&self, keys: Keys) -> Result<String, BucketError> {
        let (session, store) = self.store(keys).await?;
        let stream = &store.stream_name;
        let info = self.noted(keys, stream_info(&session, stream).await.map_err(Into::into)).await?;
        let info = info.ok_or_else(|| BucketError::Away(format!("the bucket of {stream} was just removed")));
        self.noted(keys, info).await.map(|info| info.created)
    }

    /// Lets go of the buckets that were opened: the next use looks whether they are there, and makes those that are not.
    async fn forget(&self, keys: Keys) {
        match keys {
            Keys::Desired | Keys::Hosts => *self.opened.lock().await = None,
            Keys::Pauses => *self.opened_pauses.lock().await = None,
        }
    }

    /// What came of a use of the buckets. When it failed, one of them may be gone.
    async fn noted<T>(&self, keys: Keys, done: Result<T, BucketError>) -> Result<T, BucketError> {
        if done.is_err() {
            self.forget(keys).await;
        }
        done
    }

    async fn stores_of(&self, session: &Arc<Session>) -> Result<Stores, BucketError> {
        let mut opened = self.opened.lock().await;
        if let Some((number, stores)) = &*opened
            && *number == session.number
        {
            return Ok(stores.clone());
        }
        let named = |what: &str| format!("{}-{what}", self.prefix);
        let (desired, hosts) = (named("desired"), named("hosts"));
        let stores = Stores {
            desired: self.keys(session, &desired, "Tidegate: what is to run", HISTORY, Duration::ZERO).await?,
            hosts: self.keys(session, &hosts, "Tidegate: what each host says of itself", 1, HOST_REMEMBERED).await?,
            modules: self.modules(session, named("modules")).await?,
        };
        *opened = Some((session.number, stores.clone()));
        Ok(stores)
    }

    async fn keys(
        &self,
        session: &Session,
        bucket: &str,
        description: &str,
        history: i64,
        max_age: Duration,
    ) -> Result<kv::Store, BucketError> {
        let (context, mut not_made) = (session.jetstream(), None);
        if stream_info(session, &format!("KV_{bucket}")).await?.is_none() {
            let config = kv::Config {
                bucket: bucket.to_owned(),
                description: description.to_owned(),
                history,
                max_age,
                num_replicas: self.replicas,
                ..kv::Config::default()
            };
            // Another host may make it at this moment: then it is there, whatever this one is told.
            let made = within(session, context.create_key_value(config)).await?;
            not_made = made.map_err(|error| refused(&error)).err();
            if not_made.is_none() {
                tracing::info!(bucket, "the bucket is created");
            }
        }
        let found = within(session, context.get_key_value(bucket)).await?;
        found.map_err(|error| not_made.unwrap_or_else(|| refused(&error)))
    }

    async fn modules(&self, session: &Session, bucket: String) -> Result<Modules, BucketError> {
        let (context, stream, mut not_made) = (session.jetstream(), format!("OBJ_{bucket}"), None);
        if stream_info(session, &stream).await?.is_none() {
            let config = object_store::Config {
                bucket: bucket.clone(),
                description: Some("Tidegate: modules by their sha256".to_owned()),
                num_replicas: self.replicas,
                // -1 is the server's word for no limit.
                max_bytes: -1,
                ..object_store::Config::default()
            };
            let made = within(session, context.create_object_store(config)).await?;
            not_made = made.map_err(|error| refused(&error)).err();
            if not_made.is_none() {
                tracing::info!(bucket, "the bucket is created");
            }
        }
        let found = within(session, context.get_object_store(&bucket)).await?;
        let store = found.map_err(|error| not_made.unwrap_or_else(|| refused(&error)))?;
        Ok(Modules { store, bucket, stream })
    }
}

/// Waits for something, for the time of a request and while the connection lasts.
async fn within<T>(session: &Session, work: impl IntoFuture<Output = T>) -> Result<T, BucketError> {
    let limit = session.request_timeout();
    tokio::select! {
        biased;
        done = work.into_future() => Ok(done),
        () = session.ended() => Err(BucketError::Away("the connection ended".to_owned())),
        () = tokio::time::sleep(limit) => {
            Err(BucketError::Away(format!("no answer within {limit:?}; {PERMISSION}")))
        }
    }
}

/// What failed on the way.
fn away(error: &(dyn std::error::Error + 'static)) -> BucketError {
    let text = chain(error);
    // The library has a kind for this at some places and none at others; the words are the same at all.
    let hint = if text.contains("timed out") { format!("; {PERMISSION}") } else { String::new() };
    BucketError::Away(text + &hint)
}

fn refused(error: &(dyn std::error::Error + 'static)) -> BucketError {
    BucketError::Refused(chain(error))
}

/// An error with its causes, as one line; the library's errors say their cause themselves.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    super::session::chain(error)
}
