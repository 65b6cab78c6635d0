//! What a function that answers a route says of it by its own types: what it reads of a request, and what it answers.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use schemars::JsonSchema;

use super::content::{Content, SchemaOf};
use crate::access::Caller;
use crate::admin::audit::Begun;
use crate::admin::fail::Fail;
use crate::admin::state::HostState;

/// What the types say.
#[derive(Debug, Default)]
pub(in crate::admin) struct Told {
    /// The parameters in the query, as one object.
    pub(super) query: Option<SchemaOf>,
    /// Whether it takes a part of the path.
    pub(super) path: bool,
    /// Whether it reads the body.
    pub(super) body: bool,
    /// The answer when all goes well; `None`: the types do not say.
    pub(super) answer: Option<(u16, Content)>,
}

/// A function that answers a route.
pub(in crate::admin) trait Tells<Arguments> {
    /// What its types say.
    fn tell() -> Told;
}

/// Something that a function takes out of a request.
pub(in crate::admin) trait Reads {
    fn read(told: &mut Told);
}

/// Something that a function answers.
pub(in crate::admin) trait Writes {
    fn write(told: &mut Told);
}

/// A function is a type of its own for each number of arguments, and there is no other way to name them all.
macro_rules! tells {
    ($($argument:ident),*) => {
        impl<F, W, A, $($argument),*> Tells<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> A,
            A: Future<Output = W>,
            W: Writes,
            $($argument: Reads,)*
        {
            fn tell() -> Told {
                let mut told = Told::default();
                W::write(&mut told);
                $($argument::read(&mut told);)*
                told
            }
        }
    };
}

tells!();
tells!(A1);
tells!(A1, A2);
tells!(A1, A2, A3);
tells!(A1, A2, A3, A4);
tells!(A1, A2, A3, A4, A5);
tells!(A1, A2, A3, A4, A5, A6);
tells!(A1, A2, A3, A4, A5, A6, A7);

impl Reads for State<Arc<HostState>> {
    fn read(_: &mut Told) {}
}

impl Reads for Caller {
    fn read(_: &mut Told) {}
}

/// Of a route that asks nobody who they are: whoever says it all the same.
impl Reads for Option<Extension<Caller>> {
    fn read(_: &mut Told) {}
}

impl Reads for Begun {
    fn read(_: &mut Told) {}
}

impl Reads for HeaderMap {
    fn read(_: &mut Told) {}
}

impl Reads for Path<String> {
    fn read(told: &mut Told) {
        told.path = true;
    }
}

impl Reads for Path<(String, String)> {
    fn read(told: &mut Told) {
        told.path = true;
    }
}

impl<T: JsonSchema> Reads for Result<Query<T>, QueryRejection> {
    fn read(told: &mut Told) {
        told.query = Some(T::json_schema);
    }
}

impl Reads for Body {
    fn read(told: &mut Told) {
        told.body = true;
    }
}

impl<W: Writes> Writes for Result<W, Fail> {
    fn write(told: &mut Told) {
        W::write(told);
    }
}

impl<T: JsonSchema> Writes for Json<T> {
    fn write(told: &mut Told) {
        told.answer = Some((200, Content::json::<T>()));
    }
}

impl<T: JsonSchema> Writes for (StatusCode, Json<T>) {
    fn write(told: &mut Told) {
        Json::<T>::write(told);
    }
}

impl Writes for &'static str {
    fn write(told: &mut Told) {
        told.answer = Some((200, Content::Text("text/plain; charset=utf-8")));
    }
}

/// The only status without a body that anything answers.
impl Writes for StatusCode {
    fn write(told: &mut Told) {
        told.answer = Some((204, Content::Nothing));
    }
}

impl Writes for Response {
    fn write(_: &mut Told) {}
}
