//! Says whether a function can be a handler, and if not, what is wrong with it and what to write.

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, GenericParam, ItemFn, PathArguments, Result, Signature, Type};

/// Parses the function under the attribute and checks everything that types cannot.
pub(crate) fn check(arguments: TokenStream, item: &TokenStream) -> Result<ItemFn> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`#[handler]` takes nothing: write `#[handler]`"));
    }
    let function: ItemFn = syn::parse2(item.clone())
        .map_err(|_| Error::new_spanned(item, "`#[handler]` stands over a function with a body"))?;
    modifiers(&function.sig)?;
    generics(&function.sig)?;
    parameters(&function.sig)?;
    Ok(function)
}

fn modifiers(signature: &Signature) -> Result<()> {
    if let Some(word) = &signature.asyncness {
        return Err(Error::new_spanned(
            word,
            "a handler is a plain function: the host runs many of them side by side, each to its end; remove `async`",
        ));
    }
    if let Some(word) = &signature.unsafety {
        return Err(Error::new_spanned(word, "a handler is called by safe code; remove `unsafe`"));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new_spanned(abi, "`#[handler]` writes the export itself; remove the `extern`"));
    }
    Ok(())
}

fn generics(signature: &Signature) -> Result<()> {
    let concrete = "a handler is called by the host, which chooses no types; name the type that it takes";
    for parameter in &signature.generics.params {
        match parameter {
            GenericParam::Lifetime(_) => {}
            GenericParam::Type(_) | GenericParam::Const(_) => return Err(Error::new_spanned(parameter, concrete)),
        }
    }
    for input in &signature.inputs {
        if let FnArg::Typed(typed) = input
            && matches!(*typed.ty, Type::ImplTrait(_))
        {
            return Err(Error::new_spanned(&typed.ty, concrete));
        }
    }
    Ok(())
}

fn parameters(signature: &Signature) -> Result<()> {
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return Err(Error::new_spanned(
            receiver,
            "a handler is a free function, not a method: every message meets a fresh instance, so there is no `self`",
        ));
    }
    let mut inputs = signature.inputs.iter();
    let Some(first) = inputs.next() else {
        return Err(Error::new(
            signature.paren_token.span.join(),
            "a handler takes a message: a payload that implements `serde::Deserialize`, `Message` or `&Message`",
        ));
    };
    if let FnArg::Typed(typed) = first
        && is_raw_body(&typed.ty)
    {
        return Err(Error::new_spanned(
            &typed.ty,
            "this would be parsed as JSON; for the body as it is, take `Message` and call `into_body()`, `body()` or \
             `text()`",
        ));
    }
    if let Some(third) = inputs.nth(1) {
        return Err(Error::new(
            third.span(),
            "a handler takes the payload and, if it likes, `&Message`; everything else is in the message",
        ));
    }
    Ok(())
}

/// True for the types that someone writes who wants the body's bytes or text: they would be parsed as JSON.
fn is_raw_body(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Slice(_) => true,
            Type::Path(path) => path.path.is_ident("str"),
            _ => false,
        },
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident == "String" && last.arguments.is_none() || last.ident == "Vec" && is_of_bytes(&last.arguments)
        }),
        _ => false,
    }
}

fn is_of_bytes(arguments: &PathArguments) -> bool {
    let PathArguments::AngleBracketed(arguments) = arguments else { return false };
    arguments.args.iter().any(|argument| match argument {
        GenericArgument::Type(Type::Path(path)) => path.path.is_ident("u8"),
        _ => false,
    })
}
