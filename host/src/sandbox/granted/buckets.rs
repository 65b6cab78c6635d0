//! `wasi:keyvalue`: the buckets of a handler, over the port of brokers.
//!
//! Invariants:
//! - A name without a grant is denied, and so is a change of a bucket that is granted for reading.
//! - Every key of a batch counts as a call of its own.
//! - What a call reads at once is within the limit on the bytes of outputs.

use std::num::NonZeroU32;

use bytes::Bytes;
use futures_util::StreamExt as _;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::Access;
use super::opened::{Compared, Opened};
use crate::broker::BucketError;
use crate::broker::bucket::check_key;
use crate::handler::{Effect, Effects};
use crate::sandbox::bindings::wasi_keyvalue::Imports;
use crate::sandbox::bindings::wasi_keyvalue::wasi::keyvalue::store::{Error, KeyResponse};
use crate::sandbox::bindings::wasi_keyvalue::wasi::keyvalue::{atomics, batch, store};
use crate::sandbox::state::State;

/// Keys of one page of a listing: 1 MiB of the longest ones.
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// How many of a batch are under way at once: what hides the way to a server, and fills a commit.
const AT_ONCE: usize = 16;
/// The longest number in digits.
const NUMBER_BYTES: usize = 20;

/// Makes it known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Imports::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// What the guest is told.
fn told(error: BucketError) -> Error {
    Error::Other(error.to_string())
}

impl State {
    /// The name of a bucket that may be changed.
    fn changeable(&mut self, bucket: &Resource<Opened>) -> wasmtime::Result<Result<String, Error>> {
        let name = self.bucket_name(bucket)?;
        Ok(match self.access(&name) {
            Some(Access::ReadWrite) => Ok(name),
            Some(Access::Read) | None => Err(Error::AccessDenied),
        })
    }

    /// Notes a change that was kept to the run.
    fn note(&mut self, effect: impl FnOnce() -> Effect) -> wasmtime::Result<()> {
        match self.effects {
            Effects::Real => Ok(()),
            Effects::Suppressed => Ok(self.record(effect())?),
        }
    }

    fn note_set(&mut self, bucket: &str, key: &str, bytes: usize) -> wasmtime::Result<()> {
        self.note(|| Effect::Set { bucket: bucket.to_owned(), key: key.to_owned(), bytes: bytes as u64 })
    }

    fn note_deleted(&mut self, bucket: &str, key: &str) -> wasmtime::Result<()> {
        self.note(|| Effect::Deleted { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    async fn look(&mut self, name: String, key: String) -> wasmtime::Result<Result<Resource<Compared>, Error>> {
        match self.bucket(&name).find(&key).await {
            Ok(held) => self.give_compared(Compared { name, key, held }).map(Ok),
            Err(error) => Ok(Err(told(error))),
        }
    }
}

impl store::Host for State {
    async fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<Opened>, Error>> {
        self.count_call()?;
        match self.access(&name) {
            Some(_) => self.give_bucket(name).map(Ok),
            None => Ok(Err(Error::AccessDenied)),
        }
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Opened>, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.count_call()?;
        let name = self.bucket_name(&bucket)?;
        let found = self.bucket(&name).find(&key).await;
        Ok(found.map(|held| held.value.map(Vec::from)).map_err(told))
    }

    async fn set(
        &mut self,
        bucket: Resource<Opened>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        let name = match self.changeable(&bucket)? {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = value.len();
        self.count_written(&key, bytes)?;
        if let Err(error) = self.bucket(&name).set(&key, value.into()).await {
            return Ok(Err(told(error)));
        }
        self.note_set(&name, &key, bytes)?;
        Ok(Ok(()))
    }

    async fn delete(&mut self, bucket: Resource<Opened>, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        let name = match self.changeable(&bucket)? {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        self.count_written(&key, 0)?;
        if let Err(error) = self.bucket(&name).delete(&key).await {
            return Ok(Err(told(error)));
        }
        self.note_deleted(&name, &key)?;
        Ok(Ok(()))
    }

    async fn exists(&mut self, bucket: Resource<Opened>, key: String) -> wasmtime::Result<Result<bool, Error>> {
        self.count_call()?;
        let name = self.bucket_name(&bucket)?;
        Ok(self.bucket(&name).exists(&key).await.map_err(told))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Opened>,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        self.count_call()?;
        let name = self.bucket_name(&bucket)?;
        // A cursor is the last key of the page before.
        if let Some(Err(error)) = cursor.as_deref().map(check_key) {
            return Ok(Err(told(error)));
        }
        let page = self.bucket(&name).keys(cursor.as_deref(), PAGE).await;
        Ok(page.map_err(told).map(|page| {
            let cursor = page.keys.last().filter(|_| page.more).cloned();
            KeyResponse { keys: page.keys, cursor }
        }))
    }

    async fn drop(&mut self, bucket: Resource<Opened>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.take_bucket(bucket)
    }
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        bucket: Resource<Opened>,
        key: String,
        by: i64,
    ) -> wasmtime::Result<Result<i64, Error>> {
        self.count_call()?;
        let name = match self.changeable(&bucket)? {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        self.count_written(&key, NUMBER_BYTES)?;
        let sum = match self.bucket(&name).increment(&key, by).await {
            Ok(sum) => sum,
            Err(error) => return Ok(Err(told(error))),
        };
        self.note(|| Effect::Incremented { bucket: name, key, by })?;
        Ok(Ok(sum))
    }

    async fn swap(
        &mut self,
        compared: Resource<Compared>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        self.count_call()?;
        let Compared { name, key, held } = self.take_compared(compared)?;
        if self.access(&name) != Some(Access::ReadWrite) {
            return Ok(Err(atomics::CasError::StoreError(Error::AccessDenied)));
        }
        let bytes = value.len();
        self.count_written(&key, bytes)?;
        match self.bucket(&name).swap(&key, held.revision, value.into()).await {
            Ok(true) => {
                self.note_set(&name, &key, bytes)?;
                Ok(Ok(()))
            }
            Ok(false) => Ok(Err(match self.look(name, key).await? {
                Ok(latest) => atomics::CasError::CasFailed(latest),
                Err(error) => atomics::CasError::StoreError(error),
            })),
            Err(error) => Ok(Err(atomics::CasError::StoreError(told(error)))),
        }
    }
}

impl atomics::HostCas for State {
    async fn new(
        &mut self,
        bucket: Resource<Opened>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Compared>, Error>> {
        self.count_call()?;
        let name = self.bucket_name(&bucket)?;
        self.look(name, key).await
    }

    async fn current(&mut self, compared: Resource<Compared>) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.count_call()?;
        let value = self.compared(&compared)?.held.value.clone();
        Ok(Ok(value.map(Vec::from)))
    }

    async fn drop(&mut self, compared: Resource<Compared>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.take_compared(compared).map(drop)
    }
}

/// What came of the calls of a batch: all of them, or the first that failed, with those before it.
impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Opened>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, Error>> {
        keys.iter().try_for_each(|_key| self.count_call())?;
        let name = self.bucket_name(&bucket)?;
        let (bucket, limit) = (self.bucket(&name), self.limits.output_bytes);
        let (mut all, mut bytes) = (Vec::with_capacity(keys.len()), 0_usize);
        let finds = futures_util::stream::iter(keys).map(|key| {
            let bucket = &bucket;
            async move { bucket.find(&key).await.map(|held| (key, held.value)) }
        });
        let mut finds = std::pin::pin!(finds.buffered(AT_ONCE));
        while let Some(found) = finds.next().await {
            let (key, value) = match found {
                Ok(found) => found,
                Err(error) => return Ok(Err(told(error))),
            };
            bytes = bytes.saturating_add(value.as_ref().map_or(0, |value| value.len() + key.len()));
            if bytes > limit {
                let text = format!("the values together have more than {limit} bytes; ask for fewer at once");
                return Ok(Err(Error::Other(text)));
            }
            all.push(value.map(|value| (key, Vec::from(value))));
        }
        Ok(Ok(all))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Opened>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let name = match self.changeable(&bucket)? {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        for (key, value) in &pairs {
            self.count_call()?;
            self.count_written(key, value.len())?;
        }
        let bucket = self.bucket(&name);
        let sets = futures_util::stream::iter(pairs).map(|(key, value)| {
            let (bucket, bytes) = (&bucket, value.len());
            async move { bucket.set(&key, Bytes::from(value)).await.map(|()| (key, bytes)) }
        });
        let mut sets = std::pin::pin!(sets.buffered(AT_ONCE));
        while let Some(set) = sets.next().await {
            match set {
                Ok((key, bytes)) => self.note_set(&name, &key, bytes)?,
                Err(error) => return Ok(Err(told(error))),
            }
        }
        Ok(Ok(()))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Opened>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let name = match self.changeable(&bucket)? {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        for key in &keys {
            self.count_call()?;
            self.count_written(key, 0)?;
        }
        let bucket = self.bucket(&name);
        let deletes = futures_util::stream::iter(keys).map(|key| {
            let bucket = &bucket;
            async move { bucket.delete(&key).await.map(|()| key) }
        });
        let mut deletes = std::pin::pin!(deletes.buffered(AT_ONCE));
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(key) => self.note_deleted(&name, &key)?,
                Err(error) => return Ok(Err(told(error))),
            }
        }
        Ok(Ok(()))
    }
}
