//! `wasmcloud:messaging@0.2.0`: a message is a subject, a body and perhaps an address for answers.
//!
//! It has no headers and names no connection: the subject alone says which of the granted outputs is meant.

use wasmtime::Store;
use wasmtime::component::{HasSelf, Linker};

use super::NO_ANSWERS;
use crate::handler::Call;
use crate::message::Headers;
use crate::outcome::{Output, Reason};
use crate::sandbox::bindings::wasmcloud::Wasmcloud;
pub(in crate::sandbox) use crate::sandbox::bindings::wasmcloud::exports::wasmcloud::messaging::handler::{
    Guest, GuestIndices,
};
use crate::sandbox::bindings::wasmcloud::wasmcloud::messaging::{consumer, types};
use crate::sandbox::state::State;

/// Makes the contract's imports known to a linker.
pub(in crate::sandbox) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Wasmcloud::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Hands a message over, and gives back what was sent or why it failed.
pub(in crate::sandbox) async fn call(
    guest: &Guest,
    store: &mut Store<State>,
    call: &Call<'_>,
) -> wasmtime::Result<Result<Vec<Output>, Reason>> {
    let message =
        types::BrokerMessageParam { subject: &call.message.subject, body: &call.message.body, reply_to: None };
    let answer = guest.call_handle_message(&mut *store, message).await?;
    let reason = |text| Reason { code: "error".to_owned(), detail: Some(text) };
    Ok(answer.map(|()| store.data_mut().take_sent()).map_err(reason))
}

impl types::Host for State {}

impl consumer::Host for State {
    fn request(
        &mut self,
        _subject: String,
        _body: Vec<u8>,
        _timeout_ms: u32,
    ) -> wasmtime::Result<Result<types::BrokerMessageResult, String>> {
        self.count_call()?;
        Ok(Err(NO_ANSWERS.to_owned()))
    }

    fn publish(&mut self, message: types::BrokerMessageResult) -> wasmtime::Result<Result<(), String>> {
        self.count_call()?;
        if message.reply_to.is_some() {
            return Ok(Err(NO_ANSWERS.to_owned()));
        }
        let (subject, body) = (Some(message.subject), message.body.into());
        self.publish(Output { to: None, subject, id: None, headers: Headers::default(), body }).map(Ok)
    }
}
