//! The function that handles messages: found and type-checked once a version, called once a message.
//!
//! Invariants: a function is called with the types that it was checked against, and only in instances of the component
//! that it was found in.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, TypedFunc};
use wasmtime::{Engine, Store};

use super::bindings::tidegate::events::types::{Failure, Message, Outgoing};
use super::contract::Contract;
use super::error::LoadError;
use super::state::State;

/// What the function takes.
type Parameters<'a> = (Message<'a>,);
/// What the guest answers.
pub(super) type Answer = Result<Vec<Outgoing>, Failure>;

/// Where a component has the function.
#[derive(Clone, Copy)]
pub(super) struct Entry(ComponentExportIndex);

/// The function of one instance.
#[derive(Clone, Copy)]
pub(super) struct Handle(Func);

impl Entry {
    /// Finds the function in a component and checks its type.
    pub(super) fn find(component: &Component, engine: &Engine, contract: Contract) -> Result<Self, LoadError> {
        let export = contract.export();
        let missing = || LoadError::MissingFunction { export, function: contract.function() };
        let shape = component.component_type();
        let interface = shape.get_export(engine, export).map(|export| export.ty);
        let Some(ComponentItem::ComponentInstance(interface)) = interface else {
            return Err(missing());
        };
        let function = interface.get_export(engine, contract.function()).map(|export| export.ty);
        let Some(ComponentItem::ComponentFunc(function)) = function else {
            return Err(missing());
        };
        function
            .typecheck::<Parameters<'_>, (Answer,)>(&shape.instance_type())
            .map_err(|source| LoadError::WrongExport { export, source })?;
        let interface = component.get_export_index(None, export).ok_or_else(missing)?;
        component.get_export_index(Some(&interface), contract.function()).map(Self).ok_or_else(missing)
    }

    /// The function of an instance of that component.
    pub(super) fn of(self, store: &mut Store<State>, instance: Instance) -> wasmtime::Result<Handle> {
        let function = instance.get_func(store, self.0);
        function.map(Handle).ok_or_else(|| wasmtime::format_err!("the instance lacks the function that was checked"))
    }
}

impl Handle {
    /// Calls it. Lowers the message into the guest's memory, and lifts what the guest answers.
    pub(super) async fn call(self, store: &mut Store<State>, message: Message<'_>) -> wasmtime::Result<Answer> {
        #[expect(unsafe_code, reason = "the type is checked once a version instead of once an instance")]
        // SAFETY: `Entry::find` checked this function of this component against these very types, and a component's
        // types do not change between its instances.
        let function = unsafe { TypedFunc::<Parameters<'_>, (Answer,)>::new_unchecked(self.0) };
        let (answer,) = function.call_async(store, (message,)).await?;
        Ok(answer)
    }
}
