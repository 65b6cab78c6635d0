//! Modules in the object store of a cluster: put whole and confirmed, read piece by piece, removed when nobody names them.
//!
//! Invariant: a module that somebody puts, or puts anew, is not removed by one who looked before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::object_store::{GetErrorKind, Object, ObjectInfo, ObjectStore};
use async_nats::{HeaderMap, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::{BucketError, Buckets, away, chain, raw, within};
use crate::broker::jetstream::session::Session;
use crate::broker::jetstream::wire::ApiAnswer;

/// How much is read at once: a chunk of the object store.
const PIECE: usize = 128 << 10;
/// Putting takes a round trip a chunk, and 64 MiB are 512 of them: a server that needs a second for each is given up.
const PUT_WITHIN: Duration = Duration::from_secs(300);

/// The object store, and the names that the library keeps to itself.
#[derive(Clone)]
pub(super) struct Modules {
    pub(super) store: ObjectStore,
    pub(super) bucket: String,
    pub(super) stream: String,
}

/// A module that is being read.
pub struct ModuleReader {
    object: Object,
    session: Arc<Session>,
    read: usize,
}

/// What the server says of a message that it has stored.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
}

impl ModuleReader {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the server is away, or the object is not whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        let mut piece = BytesMut::with_capacity(PIECE);
        let name = self.object.info.name.clone();
        let damaged = |detail: String| BucketError::Damaged { name: name.clone(), detail };
        match within(&self.session, self.object.read_buf(&mut piece)).await? {
            Ok(0) if self.read < self.object.info.size => Err(damaged("pieces of it are missing".to_owned())),
            Ok(0) => Ok(None),
            Ok(count) => {
                self.read += count;
                Ok(Some(piece.freeze()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(damaged(error.to_string())),
            Err(error) => Err(BucketError::Away(error.to_string())),
        }
    }
}

impl Buckets {
    /// When a module was put last, by the server's clock; `None`: it is not there.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn module_put_at(&self, name: &str) -> Result<Option<SystemTime>, BucketError> {
        let (session, stores) = self.stores().await?;
        let found = meta(&session, &stores.modules, name).await?;
        Ok(found.filter(|(_, info)| !info.deleted).map(|(raw, _)| raw.stored_at))
    }

    /// Puts a module, in the place of one of its name. Confirmed when it ends well.
    ///
    /// # Errors
    /// When the server is away or refuses; what was put of it is in nobody's way.
    pub async fn put_module(&self, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
        let (session, stores) = self.stores().await?;
        let mut bytes = bytes;
        let put = tokio::select! {
            biased;
            put = stores.modules.store.put(name, &mut bytes) => put,
            () = session.ended() => return Err(BucketError::Away("the connection ended".to_owned())),
            () = tokio::time::sleep(PUT_WITHIN) => {
                return Err(BucketError::Away(format!("the module was not stored within {PUT_WITHIN:?}")));
            }
        };
        put.map_err(|error| away(&error))?;
        Ok(())
    }

    /// Reads a module. That it is the one that it is called is for the caller to check.
    ///
    /// # Errors
    /// When there is none of this name, or the server is away or refuses.
    pub async fn read_module(&self, name: &str) -> Result<ModuleReader, BucketError> {
        let (session, stores) = self.stores().await?;
        let object = within(&session, stores.modules.store.get(name)).await?.map_err(|error| match error.kind() {
            GetErrorKind::NotFound => BucketError::NoModule(name.to_owned()),
            GetErrorKind::TimedOut | GetErrorKind::ConsumerCreate | GetErrorKind::Other => away(&error),
            GetErrorKind::InvalidName | GetErrorKind::BucketLink => {
                BucketError::Damaged { name: name.to_owned(), detail: chain(&error) }
            }
        })?;
        Ok(ModuleReader { object, session, read: 0 })
    }

    /// Removes the modules that are not among the named ones and were put before a time, and pieces of modules that were
    /// never whole. Gives back how many modules went.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn collect_modules(&self, named: &BTreeSet<String>, before: SystemTime) -> Result<usize, BucketError> {
        let (session, stores) = self.stores().await?;
        let store = &stores.modules;
        let (mut removed, mut whole) = (0, BTreeSet::new());
        for subject in raw::subjects(&session, &store.stream, &meta_subject(store, None)).await? {
            let Some(name) = name_of(store, &subject) else { continue };
            let Some((raw, info)) = meta(&session, store, &name).await? else { continue };
            if info.deleted {
                // Whoever removed it died before nothing was left of it.
                purge_until(&session, store, &subject, raw.sequence).await?;
            } else if named.contains(&name) || raw.stored_at >= before {
                whole.insert(info.nuid);
            } else if remove(&session, store, info, raw.sequence).await? {
                tracing::info!(digest = name, "a module that no version names any more was removed from the cluster");
                removed += 1;
            }
        }
        remove_pieces(&session, store, &whole, before).await?;
        Ok(removed)
    }
}

/// Where the library keeps what is said of a module; `None`: of all.
fn meta_subject(store: &Modules, name: Option<&str>) -> String {
    format!("$O.{}.M.{}", store.bucket, name.map_or_else(|| ">".to_owned(), |name| URL_SAFE.encode(name)))
}

/// The module of which something is said under a subject.
fn name_of(store: &Modules, subject: &str) -> Option<String> {
    let token = subject.strip_prefix(&format!("$O.{}.M.", store.bucket))?;
    String::from_utf8(URL_SAFE.decode(token).ok()?).ok()
}

fn chunks_of(store: &Modules, nuid: &str) -> String {
    format!("$O.{}.C.{nuid}", store.bucket)
}

/// What is said of a module, also that it was removed; `None`: nothing.
async fn meta(session: &Session, store: &Modules, name: &str) -> Result<Option<(raw::Raw, ObjectInfo)>, BucketError> {
    let Some(raw) = raw::last(session, &store.stream, &meta_subject(store, Some(name))).await? else { return Ok(None) };
    let info: ObjectInfo = serde_json::from_slice(&raw.payload)
        .map_err(|error| BucketError::Damaged { name: name.to_owned(), detail: error.to_string() })?;
    Ok(Some((raw, info)))
}

/// Removes a module, if it is still what was said of it at a sequence. Whether it was.
async fn remove(session: &Session, store: &Modules, info: ObjectInfo, sequence: u64) -> Result<bool, BucketError> {
    let (subject, chunks) = (meta_subject(store, Some(&info.name)), chunks_of(store, &info.nuid));
    let gone = ObjectInfo { deleted: true, size: 0, chunks: 0, ..info };
    let payload = serde_json::to_vec(&gone).map_err(|error| BucketError::Refused(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    headers.insert("Nats-Expected-Last-Subject-Sequence", sequence.to_string());
    let answer = session
        .request(Subject::from(subject.as_str()), Some(headers), payload.into(), session.request_timeout())
        .await;
    let answer = answer.map_err(|error| BucketError::Away(error.to_string()))?;
    let removed = match serde_json::from_slice::<ApiAnswer<Stored>>(&answer.payload) {
        Ok(ApiAnswer::Given(stored)) => stored.seq,
        // Somebody has put it anew: it stays.
        Ok(ApiAnswer::Refused { .. }) => return Ok(false),
        Err(error) => return Err(BucketError::Away(error.to_string())),
    };
    purge(session, store, &chunks).await?;
    // Nothing is left: that it was removed would stand there for ever, and be asked for at each removal.
    purge_until(session, store, &subject, removed).await?;
    Ok(true)
}

/// Removes pieces that belong to no module: of one that was put while its host died.
async fn remove_pieces(
    session: &Session,
    store: &Modules,
    whole: &BTreeSet<String>,
    before: SystemTime,
) -> Result<(), BucketError> {
    let prefix = chunks_of(store, "");
    for subject in &raw::subjects(session, &store.stream, &format!("{prefix}>")).await? {
        let belongs = subject.strip_prefix(&prefix).is_none_or(|nuid| whole.contains(nuid));
        if belongs {
            continue;
        }
        let last = raw::last(session, &store.stream, subject).await?;
        if last.is_some_and(|last| last.stored_at < before) {
            purge(session, store, subject).await?;
        }
    }
    Ok(())
}

/// Removes what is said of a module up to a sequence: what somebody says after that stays.
async fn purge_until(session: &Session, store: &Modules, subject: &str, last: u64) -> Result<(), BucketError> {
    let asked = json!({ "filter": subject, "seq": last + 1 });
    let _: serde_json::Value = session.api(&format!("STREAM.PURGE.{}", store.stream), &asked).await?;
    Ok(())
}

async fn purge(session: &Session, store: &Modules, subject: &str) -> Result<(), BucketError> {
    let asked = json!({ "filter": subject });
    let _: serde_json::Value = session.api(&format!("STREAM.PURGE.{}", store.stream), &asked).await?;
    Ok(())
}
