//! Writes what stands beside a handler's function: the type of its name, and the export.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, ItemFn, ReturnType};

/// The function as it is, and what the host and the tests call.
pub(crate) fn expand(function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let visibility = &function.vis;
    // Of this macro alone: the function's own words, which may come from another macro, can neither see nor hide it.
    let message = Ident::new("message", Span::mixed_site());
    let body = body(function, &message);
    quote! {
        #function

        // A struct with braces is a name among the types only: the function keeps its name among the values.
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, reason = "the type has the function's name")]
        #visibility struct #name {}

        #[automatically_derived]
        impl ::tidegate_sdk::Handler for #name {
            fn handle(
                mut #message: ::tidegate_sdk::Message,
            ) -> ::core::result::Result<::std::vec::Vec<::tidegate_sdk::Output>, ::tidegate_sdk::Failure> {
                #body
            }
        }

        // A second handler beside the first is refused by this name; one in another module by the exported symbol.
        #[doc(hidden)]
        #[allow(dead_code, reason = "stands for its name")]
        const A_CRATE_HAS_ONE_HANDLER: () = ();

        // What is exported from a module is in use in a native build too, though nothing there calls it.
        #[cfg(not(target_family = "wasm"))]
        const _: ::tidegate_sdk::export::Entry = <#name as ::tidegate_sdk::Handler>::handle;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Export;
            impl ::tidegate_sdk::bindings::exports::tidegate::events::handler::Guest for Export {
                fn handle(
                    message: ::tidegate_sdk::bindings::tidegate::events::types::Message,
                ) -> ::core::result::Result<
                    ::std::vec::Vec<::tidegate_sdk::bindings::tidegate::events::types::Outgoing>,
                    ::tidegate_sdk::bindings::tidegate::events::types::Failure,
                > {
                    ::tidegate_sdk::export::call::<#name>(message)
                }
            }
            ::tidegate_sdk::bindings::__export_message_handler!(Export with_types_in ::tidegate_sdk::bindings);
        };
    }
}

/// Makes the arguments, calls the function, and turns what it returns into an outcome. Each step bears the place in the
/// function that it is about, so that a type which does not fit is shown there.
fn body(function: &ItemFn, message: &Ident) -> TokenStream {
    let name = &function.sig.ident;
    let alone = function.sig.inputs.len() == 1;
    let arguments = function.sig.inputs.iter().map(|input| {
        let place = match input {
            FnArg::Typed(typed) => typed.ty.span(),
            FnArg::Receiver(receiver) => receiver.span(),
        };
        if alone {
            quote_spanned!(place=> ::tidegate_sdk::export::TakeMessage::take_message(&mut #message)?)
        } else {
            quote_spanned!(place=> ::tidegate_sdk::export::FromMessage::from_message(&#message)?)
        }
    });
    let returned = match &function.sig.output {
        ReturnType::Default => name.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    let callee = Ident::new(&name.to_string(), returned.resolved_at(name.span()));
    quote_spanned!(returned=> ::tidegate_sdk::export::outcome(#callee(#(#arguments),*)))
}
