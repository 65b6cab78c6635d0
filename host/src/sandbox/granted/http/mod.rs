//! `wasi:http/outgoing-handler`: requests to the hosts that a handler is granted.
//!
//! Types and bodies are those of wasmtime's own crate; who may be asked, and how a request is sent, is decided here.
//!
//! Invariants:
//! - Nothing is sent that is not granted, nor while effects are suppressed.
//! - A request ends with its run: what of it is left is torn off, and never looks whole to the other end.
//! - What is held for a run is bounded: requests that are open at once, their buffers, and what fields there are.
//! - Nothing that a guest does writes into the host's log.

mod bodies;
mod client;
mod errors;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Request;
use tokio::sync::Semaphore;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::HttpResult;
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode, IoError, Method};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use client::Order;
pub(in crate::sandbox) use client::{Client, Outlet};

use super::hosts::{Scheme, Target};
use crate::handler::{Effect, Effects, LogLevel};
use crate::sandbox::fault::truncate;
use crate::sandbox::log::LogBook;
use crate::sandbox::state::State;

/// The interface that sends, by the version that the bindings carry; the linker takes any 0.2.
const OUTGOING: &str = "wasi:http/outgoing-handler@0.2.12";
/// The one that all else is in.
const TYPES: &str = "wasi:http/types@0.2.12";
/// The most requests of a run that are open at once: sent, and not answered or read to the end.
const OPEN: usize = 8;
/// Bytes of one set of header fields, with what holding them takes: what servers accept (8 to 16 KiB), twice. With all
/// the resources that an instance may hold these are 32 MiB, half of its memory.
const FIELD_BYTES: usize = 32 << 10;
/// Bytes of a body that are taken from the guest at once, and wait to be sent; two such pieces may. With as many bodies as
/// an instance may hold these are 10 MiB.
const CHUNK_BYTES: usize = 16 << 10;
/// The longest method: those that there are have 17 letters at the most.
const METHOD_BYTES: usize = 64;
/// The longest URL. Servers take 8 KiB.
const URL_BYTES: usize = 8 << 10;
/// What is shown of a URL.
const SHOWN_BYTES: usize = 160;
/// Why a host that is granted is not asked.
const PROHIBITED: &str = "its name leads to this machine, or to an address that every machine finds its own credentials at; \
                          grant `localhost` or the address itself where that is meant";

/// What the library needs of a store.
pub(in crate::sandbox) struct Exchange {
    ctx: WasiHttpCtx,
    sending: Sending,
}

/// What is to be sent next. Without it nothing is.
#[derive(Default)]
struct Sending(Option<Next>);

struct Next {
    client: Arc<Client>,
    order: Order,
    options: RequestOptions,
    log: LogBook,
    warned: Arc<AtomicBool>,
}

/// What a store has to do with hosts.
#[derive(Debug)]
pub(super) struct Asking {
    /// One for each request that may be open.
    open: Arc<Semaphore>,
    /// Set when nothing of the run goes on.
    over: Arc<AtomicBool>,
    /// The log has said why a request was not sent, which it does once a run.
    warned: Arc<AtomicBool>,
}

/// Makes the interfaces known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), State::http)?;
    linker.allow_shadowing(true);
    let mut instance = linker.instance(TYPES)?;
    // The library's own finds no code in an error of a body.
    instance.func_wrap("http-error-code", |mut store: StoreContextMut<'_, State>, (error,)| {
        let state = store.data_mut();
        state.count_call()?;
        let error: &IoError = state.wasi().table.get(&error)?;
        Ok((errors::code(error),))
    })?;
    // The library's own take texts of any length, and an instance may hold a thousand requests.
    instance.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, State>, (request, given): (Resource<HostOutgoingRequest>, Method)| {
            let bytes = method(&given).len();
            let set = |view: &mut WasiHttpCtxView<'_>| types::HostOutgoingRequest::set_method(view, request, given);
            bounded(store.data_mut(), bytes, METHOD_BYTES, set)
        },
    )?;
    instance.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, State>, (request, given): (Resource<HostOutgoingRequest>, Option<String>)| {
            let bytes = given.as_ref().map_or(0, String::len);
            let set = |view: &mut WasiHttpCtxView<'_>| types::HostOutgoingRequest::set_authority(view, request, given);
            bounded(store.data_mut(), bytes, URL_BYTES, set)
        },
    )?;
    instance.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, State>, (request, given): (Resource<HostOutgoingRequest>, Option<String>)| {
            let bytes = given.as_ref().map_or(0, String::len);
            let set =
                |view: &mut WasiHttpCtxView<'_>| types::HostOutgoingRequest::set_path_with_query(view, request, given);
            bounded(store.data_mut(), bytes, URL_BYTES, set)
        },
    )?;
    linker.allow_shadowing(false);
    linker.instance(OUTGOING)?.func_wrap("handle", |mut store: StoreContextMut<'_, State>, (request, options)| {
        Ok((handle(store.data_mut(), request, options)?,))
    })
}

/// Sets a part of a request, unless it is too long.
fn bounded(
    state: &mut State,
    bytes: usize,
    limit: usize,
    set: impl FnOnce(&mut WasiHttpCtxView<'_>) -> wasmtime::Result<Result<(), ()>>,
) -> wasmtime::Result<(Result<(), ()>,)> {
    let mut view = state.http();
    if bytes > limit {
        return Ok((Err(()),));
    }
    Ok((set(&mut view)?,))
}

impl Default for Exchange {
    fn default() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELD_BYTES);
        Self { ctx, sending: Sending::default() }
    }
}

impl Default for Asking {
    fn default() -> Self {
        Self { open: Arc::new(Semaphore::new(OPEN)), over: Arc::default(), warned: Arc::default() }
    }
}

impl Asking {
    /// Another run begins.
    pub(super) fn begin(&self) {
        self.warned.store(false, Ordering::Relaxed);
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.count_call_later();
        self.exchange()
    }
}

impl State {
    /// Whether a request of the run is on its way, or its answer not read to the end.
    pub(in crate::sandbox) fn is_asking(&self) -> bool {
        let asking = self.used.as_ref().and_then(|used| used.asking.as_ref());
        asking.is_some_and(|asking| asking.open.available_permits() < OPEN)
    }

    fn asking(&mut self) -> &mut Asking {
        self.used.get_or_insert_default().asking.get_or_insert_default()
    }

    fn exchange(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi();
        WasiHttpCtxView { ctx: &mut wasi.exchange.ctx, table: &mut wasi.table, hooks: &mut wasi.exchange.sending }
    }

    fn warn_once(&mut self, text: String) {
        let warned = Arc::clone(&self.asking().warned);
        warn_once(&self.log, &warned, text);
    }
}

impl Drop for Asking {
    /// Before anything that it has to do with is dropped: see [`Used`](super::Used).
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl WasiHttpHooks for Sending {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let next = self.0.take();
        Box::new(async move {
            let Next { client, order, options, log, warned } = next.ok_or(Error::HttpRequestDenied)?;
            let host = order.target.to_string();
            let answered = client.send(order, request, options).await;
            if let Err(Error::DestinationIpProhibited) = &answered {
                warn_once(&log, &warned, format!("a request to {host} was not sent: {PROHIBITED}"));
            }
            let response = answered?;
            // The body keeps its connection going by itself.
            let driven: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((response, driven))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}

/// An answer, and what drives it.
type Sent = (hyper::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A request as far as it is looked at before it is sent.
struct Asked {
    method: String,
    scheme: Scheme,
    authority: String,
    path: String,
}

impl Asked {
    fn of(request: &HostOutgoingRequest) -> Result<Self, ErrorCode> {
        let scheme = match &request.scheme {
            None | Some(types::Scheme::Https) => Scheme::Https,
            Some(types::Scheme::Http) => Scheme::Http,
            Some(types::Scheme::Other(other)) => Scheme::of(other).ok_or(ErrorCode::HttpProtocolError)?,
        };
        // One with a user in it says another host than it seems to; and a password is not to be shown.
        let authority = request.authority.clone().filter(|authority| !authority.contains('@'));
        let authority = authority.ok_or(ErrorCode::HttpRequestUriInvalid)?;
        let path = request.path_with_query.as_deref().unwrap_or("/");
        if authority.len().saturating_add(path.len()) > URL_BYTES {
            return Err(ErrorCode::HttpRequestUriTooLong);
        }
        let method = method(&request.method);
        // It would make a tunnel of a proxy that is granted, to hosts that are not.
        if method == "CONNECT" {
            return Err(ErrorCode::HttpRequestMethodInvalid);
        }
        let path = path.split('?').next().unwrap_or_default().to_owned();
        Ok(Self { method: method.to_owned(), scheme, authority, path })
    }

    fn host(&self) -> String {
        let mut host = format!("{}://{}", self.scheme.name(), self.authority);
        truncate(&mut host, SHOWN_BYTES);
        host
    }

    /// Without the query, where people put what is not to be seen.
    fn effect(self) -> Effect {
        let mut url = format!("{}://{}{}", self.scheme.name(), self.authority, self.path);
        truncate(&mut url, SHOWN_BYTES);
        let mut method = self.method;
        truncate(&mut method, 16);
        Effect::Requested { method, url }
    }
}

fn method(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => other,
    }
}

/// Sends a request, when it may be sent.
fn handle(
    state: &mut State,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    state.count_call()?;
    let table = &mut state.wasi().table;
    let options = options.map(|options| table.delete(options)).transpose()?.unwrap_or_default();
    let asked = table.get_mut(&request)?;
    // The library makes no URL without one.
    asked.path_with_query.get_or_insert_with(|| "/".to_owned());
    let next = match Asked::of(asked) {
        Ok(asked) => permit(state, asked, options)?,
        Err(refused) => Err(refused),
    };
    match next {
        Ok(next) => {
            state.wasi().exchange.sending.0 = Some(next);
            let sent = state.exchange().handle(request, None);
            // It is still there where the library has refused the request by itself.
            state.wasi().exchange.sending.0 = None;
            answered(sent)
        }
        Err(refused) => {
            // It is consumed either way.
            state.wasi().table.delete(request)?;
            Ok(Err(refused))
        }
    }
}

/// What a request is sent with, when it may be sent.
fn permit(state: &mut State, asked: Asked, options: RequestOptions) -> wasmtime::Result<Result<Next, ErrorCode>> {
    let target = state.granted.hosts.target(asked.scheme, &asked.authority);
    if target.is_none() && !state.granted.anything {
        state.warn_once(format!("a request to {} was not sent: it is not among the handler's hosts", asked.host()));
        return Ok(Err(ErrorCode::HttpRequestDenied));
    }
    match state.effects {
        Effects::Suppressed => {
            state.record(asked.effect())?;
            Ok(Err(ErrorCode::HttpRequestDenied))
        }
        Effects::Real => Ok(order(state, target, options)),
    }
}

fn order(state: &mut State, target: Option<Target>, options: RequestOptions) -> Result<Next, ErrorCode> {
    let (Some(target), Some(client)) = (target, state.client.clone()) else {
        return Err(ErrorCode::HttpRequestDenied);
    };
    let log = state.log.clone();
    let asking = state.asking();
    let warned = Arc::clone(&asking.warned);
    let open = Arc::clone(&asking.open).try_acquire_owned().map_err(|_none| ErrorCode::ConnectionLimitReached)?;
    let order = Order { target, open: Arc::new(open), over: Arc::clone(&asking.over) };
    Ok(Next { client, order, options, log, warned })
}

/// Tells whoever looks at the run's log, when it has not been told in this run.
fn warn_once(log: &LogBook, warned: &AtomicBool, text: String) {
    if !warned.swap(true, Ordering::Relaxed) {
        log.remark(LogLevel::Warn, text);
    }
}

fn answered<T>(sent: HttpResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match sent {
        Ok(sent) => Ok(Ok(sent)),
        Err(error) => error.downcast().map(Err),
    }
}
