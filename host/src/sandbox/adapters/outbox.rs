//! What a module of another contract hands over in mid-run: the messages that it makes, and those that it has sent.
//!
//! Invariants:
//! - What is sent is within the limits on outputs at every moment, and what is not sent yet is so too.
//! - What the guest keeps from one run to the next stays counted.

use bytes::Bytes;
use wasmtime::component::{Resource, ResourceTable};

use crate::message::{CONTENT_TYPE_HEADER, Header, Headers, Message, is_of_its_message_alone};
use crate::outcome::Output;
use crate::sandbox::fault::Stop;
use crate::sandbox::limits::Limits;
use crate::sandbox::state::State;

/// Messages, clients and options that a guest may hold at once.
const RESOURCES: usize = 1024;
/// What an entry takes here besides its text.
const ENTRY_BYTES: usize = 48;

/// A connection, which is the name of an output.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code exports it again, and is as public as it goes")]
pub struct Client {
    name: String,
}

/// Options of a request; no request is ever made.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code exports it again, and is as public as it goes")]
pub struct Options;

/// A message that the guest holds: the one that it handles, or one that it makes.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated code exports it again, and is as public as it goes")]
pub struct Held {
    pub(super) topic: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) data: Bytes,
    pub(super) metadata: Vec<(String, String)>,
    /// The data is the broker's, which is held anyway.
    received: bool,
    counted: usize,
}

/// What one store holds.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Outbox {
    pub(super) table: ResourceTable,
    held: usize,
    sent: Vec<Output>,
    sent_bytes: usize,
}

impl Held {
    /// The message that is handled. The contract's metadata is text: what is not UTF-8 has its place held by U+FFFD.
    pub(super) fn received(message: &Message) -> Self {
        let mut held = Self {
            topic: Some(message.subject.clone()),
            data: message.body.clone(),
            received: true,
            ..Self::default()
        };
        for Header { name, value } in message.headers.iter() {
            let value = String::from_utf8_lossy(value).into_owned();
            if held.content_type.is_none() && name.eq_ignore_ascii_case(CONTENT_TYPE_HEADER) {
                held.content_type = Some(value);
            } else if !is_of_its_message_alone(name) {
                held.metadata.push((name.clone(), value));
            }
        }
        held
    }

    /// One that the guest makes.
    pub(super) fn made(data: Vec<u8>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Puts data of the guest's in the place of what is there.
    pub(super) fn set_data(&mut self, data: Vec<u8>) {
        self.data = data.into();
        self.received = false;
    }

    fn size(&self) -> usize {
        let entry = |(key, value): &(String, String)| key.len() + value.len() + ENTRY_BYTES;
        let data = if self.received { 0 } else { self.data.len() };
        let content_type = self.content_type.as_ref().map_or(0, String::len);
        data + content_type + self.metadata.iter().map(entry).sum::<usize>()
    }

    fn into_output(self, to: Option<String>, topic: String) -> Output {
        let plain = self.metadata.into_iter().map(|(name, value)| Header::new(name, value));
        let mut headers = Headers(plain.collect());
        if let Some(content_type) = self.content_type {
            headers.set(CONTENT_TYPE_HEADER, content_type);
        }
        Output { to, subject: Some(topic), id: None, headers, body: self.data }
    }
}

impl Outbox {
    /// Forgets what a run before has sent.
    pub(in crate::sandbox) fn begin(&mut self) {
        self.sent.clear();
        self.sent_bytes = 0;
    }

    /// Hands over what was sent.
    pub(super) fn take(&mut self) -> Vec<Output> {
        self.sent_bytes = 0;
        std::mem::take(&mut self.sent)
    }

    fn hold(&mut self, more: usize, less: usize, limits: &Limits) -> Result<(), Stop> {
        self.held = self.held.saturating_add(more).saturating_sub(less);
        within(self.held, limits)
    }

    fn send(&mut self, output: Output, limits: &Limits) -> Result<(), Stop> {
        let count = u64::from(limits.outputs.get());
        if self.sent.len() as u64 >= count {
            return Err(Stop::TooMany { what: "outputs", limit: count });
        }
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let size = text(&output.to) + text(&output.subject) + output.headers.size() + output.body.len();
        self.sent_bytes = self.sent_bytes.saturating_add(size);
        within(self.sent_bytes, limits)?;
        self.sent.push(output);
        Ok(())
    }
}

fn within(bytes: usize, limits: &Limits) -> Result<(), Stop> {
    if bytes > limits.output_bytes {
        return Err(Stop::TooMany { what: "bytes of outputs", limit: limits.output_bytes as u64 });
    }
    Ok(())
}

/// What the adapters do with a store's outbox.
impl State {
    fn outbox(&mut self) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| {
            let mut outbox = Box::<Outbox>::default();
            outbox.table.set_max_capacity(RESOURCES);
            outbox
        })
    }

    /// What the run has sent.
    pub(super) fn take_sent(&mut self) -> Vec<Output> {
        self.outbox.as_mut().map(|outbox| outbox.take()).unwrap_or_default()
    }

    /// Gives the guest something to hold.
    pub(super) fn give<T: Send + 'static>(&mut self, thing: T) -> wasmtime::Result<Resource<T>> {
        let full = |_full| Stop::TooMany { what: "messages and clients held at once", limit: RESOURCES as u64 };
        Ok(self.outbox().table.push(thing).map_err(full)?)
    }

    /// Takes it back.
    pub(super) fn take<T: 'static>(&mut self, thing: Resource<T>) -> wasmtime::Result<T> {
        Ok(self.outbox().table.delete(thing)?)
    }

    /// A message that the guest holds.
    pub(super) fn held(&mut self, message: &Resource<Held>) -> wasmtime::Result<&mut Held> {
        Ok(self.outbox().table.get_mut(message)?)
    }

    /// Gives the guest a message that it made.
    pub(super) fn give_made(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Held>> {
        let message = self.give(Held::made(data))?;
        self.change(&message, |_made| {})?;
        Ok(message)
    }

    /// Changes a message that the guest holds, and counts what it takes then.
    pub(super) fn change(&mut self, message: &Resource<Held>, change: impl FnOnce(&mut Held)) -> wasmtime::Result<()> {
        let held = self.held(message)?;
        change(held);
        let (size, before) = (held.size(), held.counted);
        held.counted = size;
        let limits = std::sync::Arc::clone(&self.limits);
        Ok(self.outbox().hold(size, before, &limits)?)
    }

    /// Takes a message back that is sent or dropped.
    pub(super) fn take_message(&mut self, message: Resource<Held>) -> wasmtime::Result<Held> {
        let held = self.take(message)?;
        let limits = std::sync::Arc::clone(&self.limits);
        self.outbox().hold(0, held.counted, &limits)?;
        Ok(held)
    }

    /// Gives the guest a client.
    pub(super) fn give_client(&mut self, name: String) -> wasmtime::Result<Resource<Client>> {
        let limits = std::sync::Arc::clone(&self.limits);
        self.outbox().hold(name.len(), 0, &limits)?;
        self.give(Client { name })
    }

    /// Takes a client back.
    pub(super) fn take_client(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        let client = self.take(client)?;
        let limits = std::sync::Arc::clone(&self.limits);
        Ok(self.outbox().hold(0, client.name.len(), &limits)?)
    }

    /// Keeps a message to be published once the run has succeeded.
    pub(super) fn send(&mut self, client: &Resource<Client>, topic: String, message: Held) -> wasmtime::Result<()> {
        let name = self.outbox().table.get(client)?.name.clone();
        let to = Some(name).filter(|name| !name.is_empty());
        self.publish(message.into_output(to, topic))
    }

    /// The same for a message that is complete.
    pub(super) fn publish(&mut self, output: Output) -> wasmtime::Result<()> {
        let limits = std::sync::Arc::clone(&self.limits);
        Ok(self.outbox().send(output, &limits)?)
    }
}
