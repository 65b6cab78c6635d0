//! WASI preview 2 with nothing granted.
//!
//! Toolchains link it whether a handler uses it or not, so it is there, and it is empty:
//! - environment, arguments and preopened directories are empty, stdin is at its end;
//! - stdout and stderr become lines of the run's log, within its limits;
//! - the clocks are true and random numbers come from the system's generator, unless runs are to be [`repeatable`](super::repeatable). Both are harmless (a handler can learn
//!   the time from a message, and reaches nothing that a guess would open) and every standard library wants them, be
//!   it only to seed a hash map;
//! - making a socket or asking for a name ends the run as `denied`: it never succeeds on a retry, so the person who
//!   deployed the handler should see it at once.
//!
//! Invariants:
//! - A handler that never calls WASI pays nothing for it.
//! - Every call counts as a call into the host. WASI has no way to refuse most of them, so going past the limit ends
//!   the run at the next tick, or at its end, whichever is first.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::fault::Stop;
use super::granted::Exchange;
use super::log::{LogBook, Stream};
use super::repeatable::Repeatable;
use super::state::State;

/// Streams and pollables that an instance may hold at once: standard libraries use a dozen.
const RESOURCES: usize = 1024;
/// Random bytes in one call; a guest that wants more calls again.
const RANDOM_BYTES: u64 = 64 << 10;
/// Bytes that the guest may write to a stream in one call: what `wasi:io` guarantees to be possible.
const WRITE_BYTES: usize = 4096;

/// What a store needs for WASI, made at the first call.
pub(super) struct Wasi {
    ctx: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) exchange: Exchange,
}

impl Wasi {
    fn new(log: &LogBook, repeatable: Option<&Repeatable>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        let mut builder = WasiCtx::builder();
        builder
            .stdin(Nothing)
            .stdout(Lines { log: log.clone(), stream: Stream::Stdout })
            .stderr(Lines { log: log.clone(), stream: Stream::Stderr })
            .max_random_size(RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        if let Some(repeatable) = repeatable {
            repeatable.give(&mut builder);
        }
        Self { ctx: builder.build(), table, exchange: Exchange::default() }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.count_call_later();
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

impl State {
    /// What the store needs for WASI.
    pub(super) fn wasi(&mut self) -> &mut Wasi {
        let Self { wasi, log, repeatable, .. } = self;
        wasi.get_or_insert_with(|| Box::new(Wasi::new(log, repeatable.as_ref())))
    }
}

/// The functions that would reach the network, by the version that the bindings carry; the linker takes any 0.2.
const NETWORK: [(&str, &str, &str); 3] = [
    ("wasi:sockets/tcp-create-socket@0.2.12", "create-tcp-socket", "wasi:sockets/tcp-create-socket"),
    ("wasi:sockets/udp-create-socket@0.2.12", "create-udp-socket", "wasi:sockets/udp-create-socket"),
    ("wasi:sockets/ip-name-lookup@0.2.12", "resolve-addresses", "wasi:sockets/ip-name-lookup"),
];

/// Makes WASI known to a linker.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    for (interface, function, capability) in NETWORK {
        linker.instance(interface)?.func_new(function, move |_store, _type, _parameters, _results| {
            Err(wasmtime::Error::new(Stop::Denied { capability }))
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// A stdin that is at its end.
struct Nothing;

impl IsTerminal for Nothing {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Nothing {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }
}

/// A standard stream whose lines go to the log.
struct Lines {
    log: LogBook,
    stream: Stream,
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    /// Only preview 3 asks for this one, and it is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self { log: self.log.clone(), stream: self.stream })
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.stream(self.stream, &bytes).map_err(|stop| StreamError::Trap(wasmtime::Error::new(stop)))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // One byte more than there is room for: writing it is what ends the run.
        Ok(self.log.room().saturating_add(1).min(WRITE_BYTES))
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}
