//! `wasi:messaging@0.2.0-draft`: messages are resources, a client is named, a topic is a subject.
//!
//! A client's name is the name of an output; without a name, the topic alone says which of the granted ones.

use wasmtime::Store;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::NO_ANSWERS;
use super::outbox::{Client, Held, Options};
use crate::handler::Call;
use crate::outcome::{Output, Reason};
use crate::sandbox::bindings::wasi_messaging::MessagingRequestReply;
pub(in crate::sandbox) use crate::sandbox::bindings::wasi_messaging::exports::wasi::messaging::incoming_handler::{
    Guest, GuestIndices,
};
use crate::sandbox::bindings::wasi_messaging::wasi::messaging::types::{Error, Metadata};
use crate::sandbox::bindings::wasi_messaging::wasi::messaging::{producer, request_reply, types};
use crate::sandbox::state::State;

/// Makes the contract's imports known to a linker.
pub(in crate::sandbox) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    MessagingRequestReply::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Hands a message over, and gives back what was sent or why it failed.
pub(in crate::sandbox) async fn call(
    guest: &Guest,
    store: &mut Store<State>,
    call: &Call<'_>,
) -> wasmtime::Result<Result<Vec<Output>, Reason>> {
    let message = store.data_mut().give(Held::received(call.message))?;
    let answer = guest.call_handle(&mut *store, message).await?;
    Ok(answer.map(|()| store.data_mut().take_sent()).map_err(reason))
}

fn reason(error: Error) -> Reason {
    let (code, detail) = match error {
        Error::Timeout => ("timeout", None),
        Error::Connection(text) => ("connection", Some(text)),
        Error::PermissionDenied(text) => ("permission-denied", Some(text)),
        Error::Other(text) => ("other", Some(text)),
    };
    Reason { code: code.to_owned(), detail }
}

impl types::Host for State {}

impl types::HostClient for State {
    fn connect(&mut self, name: String) -> wasmtime::Result<Result<Resource<Client>, Error>> {
        self.count_call()?;
        self.give_client(name).map(Ok)
    }

    fn disconnect(&mut self, _client: Resource<Client>) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.take_client(client)
    }
}

impl types::HostMessage for State {
    fn new(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Held>> {
        self.count_call()?;
        self.give_made(data)
    }

    fn topic(&mut self, message: Resource<Held>) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.held(&message)?.topic.clone())
    }

    fn content_type(&mut self, message: Resource<Held>) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.held(&message)?.content_type.clone())
    }

    fn set_content_type(&mut self, message: Resource<Held>, content_type: String) -> wasmtime::Result<()> {
        self.count_call()?;
        self.change(&message, |held| held.content_type = Some(content_type))
    }

    fn data(&mut self, message: Resource<Held>) -> wasmtime::Result<Vec<u8>> {
        self.count_call()?;
        Ok(self.held(&message)?.data.to_vec())
    }

    fn set_data(&mut self, message: Resource<Held>, data: Vec<u8>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.change(&message, |held| held.set_data(data))
    }

    fn metadata(&mut self, message: Resource<Held>) -> wasmtime::Result<Option<Metadata>> {
        self.count_call()?;
        Ok(Some(self.held(&message)?.metadata.clone()).filter(|metadata| !metadata.is_empty()))
    }

    fn add_metadata(&mut self, message: Resource<Held>, key: String, value: String) -> wasmtime::Result<()> {
        self.count_call()?;
        self.change(&message, |held| {
            held.metadata.retain(|(name, _value)| *name != key);
            held.metadata.push((key, value));
        })
    }

    fn set_metadata(&mut self, message: Resource<Held>, metadata: Metadata) -> wasmtime::Result<()> {
        self.count_call()?;
        self.change(&message, |held| held.metadata = metadata)
    }

    fn remove_metadata(&mut self, message: Resource<Held>, key: String) -> wasmtime::Result<()> {
        self.count_call()?;
        self.change(&message, |held| held.metadata.retain(|(name, _value)| *name != key))
    }

    fn drop(&mut self, message: Resource<Held>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.take_message(message).map(drop)
    }
}

impl producer::Host for State {
    fn send(
        &mut self,
        client: Resource<Client>,
        topic: String,
        message: Resource<Held>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        let message = self.take_message(message)?;
        self.send(&client, topic, message).map(Ok)
    }
}

impl request_reply::Host for State {
    fn request(
        &mut self,
        _client: Resource<Client>,
        _topic: String,
        _message: Resource<Held>,
        options: Option<Resource<Options>>,
    ) -> wasmtime::Result<Result<Vec<Resource<Held>>, Error>> {
        self.count_call()?;
        options.map(|options| self.take(options)).transpose()?;
        Ok(Err(Error::PermissionDenied(NO_ANSWERS.to_owned())))
    }

    fn reply(&mut self, _to: Resource<Held>, message: Resource<Held>) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        self.take_message(message)?;
        Ok(Err(Error::PermissionDenied(NO_ANSWERS.to_owned())))
    }
}

impl request_reply::HostRequestOptions for State {
    fn new(&mut self) -> wasmtime::Result<Resource<Options>> {
        self.count_call()?;
        self.give(Options)
    }

    fn set_timeout_ms(&mut self, _options: Resource<Options>, _ms: u32) -> wasmtime::Result<()> {
        Ok(self.count_call()?)
    }

    fn set_expected_replies(&mut self, _options: Resource<Options>, _count: u32) -> wasmtime::Result<()> {
        Ok(self.count_call()?)
    }

    fn drop(&mut self, options: Resource<Options>) -> wasmtime::Result<()> {
        self.count_call()?;
        self.take(options).map(|_options| ())
    }
}
