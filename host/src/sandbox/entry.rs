//! The function that handles messages: found and type-checked once a version, called once a message.
//!
//! Invariants: a function is called with the types that it was checked against, and only in instances of the component
//! that it was found in.

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, InstancePre, TypedFunc};

use super::adapters::{wasi_messaging, wasmcloud};
use super::bindings::tidegate::events::types::{Failure, Message, Outgoing};
use super::contract::Contract;
use super::convert::Fields;
use super::error::LoadError;
use super::state::State;
use crate::handler::Call;
use crate::outcome::{Output, Reason};

/// What the function of our contract takes.
type Parameters<'a> = (Message<'a>,);
/// What it gives back.
type Returned = Result<Vec<Outgoing>, Failure>;

/// What the guest answers.
pub(super) enum Answer {
    /// What a handler of ours returned.
    Returned(Returned),
    /// What one of another contract has sent, or why it failed.
    Adapted(Result<Vec<Output>, Reason>),
}

/// Where a component has the function, by its contract.
pub(super) enum Entry {
    Tidegate01(ComponentExportIndex),
    WasiMessaging02Draft(wasi_messaging::GuestIndices),
    WasmcloudMessaging02(wasmcloud::GuestIndices),
}

/// The function of one instance.
pub(super) enum Handle {
    Tidegate01(Func),
    WasiMessaging02Draft(wasi_messaging::Guest),
    WasmcloudMessaging02(wasmcloud::Guest),
}

impl Entry {
    /// Finds the function in a component that is linked, and checks its type.
    pub(super) fn find(
        component: &Component,
        linked: &InstancePre<State>,
        contract: Contract,
    ) -> Result<Self, LoadError> {
        let (export, function) = (contract.export(), contract.function());
        let missing = || LoadError::MissingFunction { export, function };
        let wrong = |source| LoadError::WrongExport { export, source };
        let (shape, engine) = (component.component_type(), component.engine());
        let interface = shape.get_export(engine, export).map(|export| export.ty);
        let Some(ComponentItem::ComponentInstance(interface)) = interface else {
            return Err(missing());
        };
        let item = interface.get_export(engine, function).map(|export| export.ty);
        let Some(ComponentItem::ComponentFunc(typed)) = item else {
            return Err(missing());
        };
        match contract {
            Contract::Tidegate01 => {
                typed.typecheck::<Parameters<'_>, (Returned,)>(&shape.instance_type()).map_err(wrong)?;
                let interface = component.get_export_index(None, export).ok_or_else(missing)?;
                component.get_export_index(Some(&interface), function).map(Self::Tidegate01).ok_or_else(missing)
            }
            Contract::WasiMessaging02Draft => {
                wasi_messaging::GuestIndices::new(linked).map(Self::WasiMessaging02Draft).map_err(wrong)
            }
            Contract::WasmcloudMessaging02 => {
                wasmcloud::GuestIndices::new(linked).map(Self::WasmcloudMessaging02).map_err(wrong)
            }
        }
    }

    /// The function of an instance of that component.
    pub(super) fn of(&self, store: &mut Store<State>, instance: Instance) -> wasmtime::Result<Handle> {
        match self {
            Self::Tidegate01(index) => {
                let function = instance.get_func(store, *index).map(Handle::Tidegate01);
                function.ok_or_else(|| wasmtime::format_err!("the instance lacks the function that was checked"))
            }
            Self::WasiMessaging02Draft(indices) => indices.load(store, &instance).map(Handle::WasiMessaging02Draft),
            Self::WasmcloudMessaging02(indices) => indices.load(store, &instance).map(Handle::WasmcloudMessaging02),
        }
    }
}

impl Handle {
    /// Calls it. Lowers the message into the guest's memory, and lifts what the guest answers.
    pub(super) async fn call(&self, store: &mut Store<State>, call: &Call<'_>) -> wasmtime::Result<Answer> {
        match self {
            Self::Tidegate01(function) => {
                let fields = Fields::of(&call.message.headers);
                #[expect(unsafe_code, reason = "the type is checked once a version instead of once an instance")]
                // SAFETY: `Entry::find` checked this function of this component against these very types, and a
                // component's types do not change between its instances.
                let function = unsafe { TypedFunc::<Parameters<'_>, (Returned,)>::new_unchecked(*function) };
                let (returned,) = function.call_async(store, (fields.message(call),)).await?;
                Ok(Answer::Returned(returned))
            }
            Self::WasiMessaging02Draft(guest) => wasi_messaging::call(guest, store, call).await.map(Answer::Adapted),
            Self::WasmcloudMessaging02(guest) => wasmcloud::call(guest, store, call).await.map(Answer::Adapted),
        }
    }
}
