//! The `#[handler]` attribute of `tidegate-sdk`; that crate's documentation says how to use it.
//!
//! Invariants: the function stands as it was written, also when it is refused, so that the only error a person sees is
//! the one about what is wrong; each error points at the words that are wrong.

mod check;
mod expand;

use proc_macro::TokenStream;
use quote::quote;

/// Makes a function the handler of this crate.
///
/// The function stays as it is, to be called by tests and by other functions. Beside it stands a type of the same name
/// that implements `tidegate_sdk::Handler`; in a build for wasm it is exported from the module. See the crate
/// documentation of `tidegate-sdk` for what a handler takes and returns.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match check::check(arguments.into(), &item) {
        Ok(function) => expand::expand(&function).into(),
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error).into()
        }
    }
}
