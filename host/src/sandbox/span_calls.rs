//! The calls by which a guest starts and ends spans.
//!
//! Linked by hand: what is generated copies what a guest says before anyone could say that there is no room for it.
//!
//! Invariants:
//! - Whether spans are kept changes nothing for the guest: not what a call gives back, and not whether it is a fault. So what
//!   cannot be read of its texts is no fault.
//! - What is read of a run's texts is bounded, besides what is kept of them: reading takes the host's time and none of the guest's
//!   fuel.

use std::str::Utf8Error;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList, WasmStr};

use super::spans::{ATTRIBUTES, READ_BYTES, Started, TEXT_BYTES};
use super::state::State;

/// So much may one attribute's name and value take together. A larger one is dropped unread.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// Makes the two calls known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut spans = linker.instance("tidegate:events/spans@0.1.0")?;
    spans.func_wrap("start", start)?;
    spans.func_wrap("end", end)
}

/// What a guest says of a span: texts that are still in its memory.
type Said = (WasmStr, WasmList<(WasmStr, WasmStr)>);

fn start(mut store: StoreContextMut<'_, State>, (name, attributes): Said) -> wasmtime::Result<(u64,)> {
    store.data_mut().count_span_call()?;
    let (number, may_be_kept) = store.data().log.spans(|spans, _now| spans.admit());
    if may_be_kept {
        let (name, read) = beginning(&store, &name);
        let mut started = Started { name, read, ..Started::default() };
        read_attributes(&mut store, &attributes, &mut started);
        store.data().log.spans(|spans, now| spans.start(started, now));
    }
    Ok((number,))
}

fn end(mut store: StoreContextMut<'_, State>, (span, failure): (u64, Option<WasmStr>)) -> wasmtime::Result<()> {
    store.data_mut().count_span_call()?;
    let (is_open, may_read) = store.data().log.spans(|spans, _now| (spans.is_open(span), spans.may_read()));
    if is_open {
        // Where it is not read, it is still known that the span failed.
        let failure = failure.map(|failure| if may_read { beginning(&store, &failure) } else { (String::new(), 0) });
        store.data().log.spans(|spans, now| spans.end(span, failure, now));
    }
    Ok(())
}

fn read_attributes(
    store: &mut StoreContextMut<'_, State>,
    attributes: &WasmList<(WasmStr, WasmStr)>,
    started: &mut Started,
) {
    let transfer_limit = store.hostcall_fuel();
    store.set_hostcall_fuel(ATTRIBUTE_BYTES);
    for index in 0..attributes.len().min(ATTRIBUTES) {
        let Some(Ok((name, value))) = attributes.get(&mut *store, index) else { continue };
        let ((name, of_name), (value, of_value)) = (beginning(store, &name), beginning(store, &value));
        started.attributes.push((name, value));
        started.read = started.read.saturating_add(of_name).saturating_add(of_value);
    }
    store.set_hostcall_fuel(transfer_limit);
    started.attributes_dropped = attributes.len().saturating_sub(started.attributes.len());
}

/// The beginning of a text in a guest's memory, and how many bytes were read for it: all are, to see that it is a text. Of one that
/// is none nothing can be had but where that was seen.
fn beginning(store: &StoreContextMut<'_, State>, text: &WasmStr) -> (String, usize) {
    match text.to_str(store) {
        Ok(text) => (text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default().to_owned(), text.len()),
        Err(error) => {
            let read = error.downcast_ref::<Utf8Error>().map_or(READ_BYTES, Utf8Error::valid_up_to);
            (char::REPLACEMENT_CHARACTER.to_string(), read)
        }
    }
}
