//! How requests are sent: connections, whom they are made to, and how many there are.
//!
//! Invariants:
//! - A connection goes to an address that its grant lets it go to, and to no other: the address that was looked at is the
//!   one that is connected to.
//! - A redirect is an answer as any other; nobody follows it here.
//! - Connections and lookups are bounded, for all versions together and for each, so that one whose hosts hang leaves
//!   room for the others.
//! - Nothing here waits without an end: whoever drops the future ends it, but for a lookup, which keeps its place until
//!   the system is done with it.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::bodies::{Answer, Lent, Open, Upload};
use super::errors;
use super::idle::Idle;
use crate::sandbox::granted::hosts::{Place, Scheme, Target};
use crate::sandbox::granted::reach::Reach;

/// The most connections at once, of all versions: two for each instance that there may be, and half of the files that
/// a process may have open where nobody has said more.
const CONNECTIONS: usize = 512;
/// The most of one version: a quarter, so that three whose hosts hang leave room for a fourth.
const OF_ONE: usize = CONNECTIONS / 4;
/// The most lookups at once: each takes a thread for as long as the system's resolver does.
const LOOKUPS: usize = 32;
/// The most of one version.
const LOOKUPS_OF_ONE: usize = LOOKUPS / 4;
/// How long a connection may take to make, where the guest does not say: half of what a run has by default, so that it
/// can still say what went wrong.
const CONNECT: Duration = Duration::from_secs(5);
/// The most addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// The most that is held of an answer before the guest reads it, its headers among it: what nginx takes of a request.
const BUFFER_BYTES: usize = 32 << 10;
/// The most headers of an answer.
const HEADERS: usize = 128;

/// What the requests of all versions share.
pub(in crate::sandbox) struct Outlet {
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    idle: Arc<Idle>,
    /// Read at the first request over TLS.
    tls: OnceCell<Arc<ClientConfig>>,
    system: System,
}

/// What the system says.
#[derive(Clone, Copy)]
struct System {
    /// Which authorities are trusted. Reads files.
    trusted: fn() -> RootCertStore,
    /// The addresses of a name. Takes as long as it does.
    resolve: fn(&str) -> std::io::Result<Vec<IpAddr>>,
}

/// What one version sends its requests with.
pub(in crate::sandbox) struct Client {
    outlet: Arc<Outlet>,
    connections: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

/// A connection to a host.
pub(super) struct Connection {
    requests: SendRequest<Upload>,
    made_at: Instant,
    _driver: AbortOnDropHandle<()>,
    _places: [OwnedSemaphorePermit; 2],
}

/// What a request needs besides itself.
pub(super) struct Order {
    pub(super) target: Target,
    pub(super) open: Open,
    /// Set when its run ends.
    pub(super) over: Arc<AtomicBool>,
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = self.connections.available_permits();
        f.debug_struct("Outlet").field("connections", &CONNECTIONS.saturating_sub(left)).finish_non_exhaustive()
    }
}

impl Outlet {
    /// Trusts the authorities that the system trusts, and finds the hosts that it finds.
    pub(in crate::sandbox) fn new() -> Arc<Self> {
        Self::of(System { trusted, resolve })
    }

    fn of(system: System) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            idle: Arc::default(),
            tls: OnceCell::new(),
            system,
        })
    }

    /// For one more version.
    pub(in crate::sandbox) fn client(self: &Arc<Self>) -> Arc<Client> {
        Arc::new(Client {
            outlet: Arc::clone(self),
            connections: Arc::new(Semaphore::new(OF_ONE)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_OF_ONE)),
        })
    }

    async fn tls(&self) -> Result<TlsConnector, Error> {
        let trusted = self.system.trusted;
        let read = || async move {
            tokio::task::spawn_blocking(move || config(trusted())).await.ok().flatten().ok_or(Error::ConfigurationError)
        };
        self.tls.get_or_try_init(read).await.map(|config| TlsConnector::from(Arc::clone(config)))
    }

    /// A place for one more connection.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = Arc::clone(&self.connections).try_acquire_owned() {
            return Ok(place);
        }
        self.idle.make_room();
        place_of(&self.connections).await
    }
}

/// The cryptography that the rest of the host has; `None`: it has none, which cannot be.
fn config(trusted: RootCertStore) -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = builder.with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

fn trusted() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_taken, _ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(
            "the system trusts no authority, so handlers reach no host over TLS: install its certificates, or name \
             them with SSL_CERT_FILE"
        );
    }
    roots
}

fn resolve(name: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

async fn place_of(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    Arc::clone(places).acquire_owned().await.map_err(|_closed| Error::ConnectionLimitReached)
}

impl Drop for Client {
    /// Its version is gone: nobody uses its connections again.
    fn drop(&mut self) {
        self.outlet.idle.forget(self);
    }
}

impl Client {
    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        self: Arc<Self>,
        order: Order,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let Order { target, open, over } = order;
        let to_connect = options.connect_timeout.unwrap_or(CONNECT).min(FOREVER);
        let first_byte = options.first_byte_timeout.unwrap_or(FOREVER).min(FOREVER);
        let mut request = origin_form(request)?.map(|body| Upload::new(body, over, Arc::clone(&open)));
        loop {
            let kept = self.idle(&target).await;
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => {
                    let by = Instant::now() + to_connect;
                    timeout_at(by, self.connect(&target, by)).await.map_err(|_late| Error::ConnectionTimeout)??
                }
            };
            let again = if is_new { None } else { once_more(&request) };
            let answered = timeout(first_byte, connection.requests.try_send_request(request)).await;
            match answered.map_err(|_late| Error::ConnectionReadTimeout)? {
                Ok(response) => {
                    let lent = Lent { client: self, target, connection, _open: open };
                    let answer = |body| WasiBody::new(Answer::new(body, lent, options.between_bytes_timeout));
                    return Ok(response.map(answer));
                }
                Err(mut error) => {
                    // The other end has closed a connection that was kept, before it took the request or just then.
                    let unsent = error.take_message().filter(|_| !is_new);
                    match unsent.or_else(|| again.filter(|_| was_closed(error.error()))) {
                        Some(unsent) => request = unsent,
                        None => return Err(errors::of_hyper(&error.into_error())),
                    }
                }
            }
        }
    }

    async fn idle(self: &Arc<Self>, target: &Target) -> Option<Connection> {
        let idle = &self.outlet.idle;
        if let Some(connection) = idle.take(self, target) {
            return Some(connection);
        }
        // One whose answer was read just now is ready when its own task has been there.
        tokio::task::yield_now().await;
        idle.take(self, target)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(self: &Arc<Self>, target: Target, connection: Connection) {
        self.outlet.idle.keep(self, target, connection);
    }

    async fn connect(&self, target: &Target, by: Instant) -> Result<Connection, Error> {
        let places = [place_of(&self.connections).await?, self.outlet.place().await?];
        let addresses = self.addresses(target).await?;
        let stream = reach(&addresses, by).await?;
        // A request is written at once, and nothing follows that could be sent with it.
        stream.set_nodelay(true).map_err(|error| errors::of_connecting(&error))?;
        match target.scheme() {
            Scheme::Http => shake(stream, places).await,
            Scheme::Https => {
                let name = match target.place() {
                    Place::Address(address) => ServerName::from(address),
                    Place::Name(name) => {
                        ServerName::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?.to_owned()
                    }
                };
                let tls = self.outlet.tls().await?;
                let stream = tls.connect(name, stream).await.map_err(|error| errors::of_tls(&error))?;
                shake(stream, places).await
            }
        }
    }

    /// The addresses that a request may be sent to.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Error> {
        let mut found = match (target.place(), target.reach()) {
            (Place::Address(address), _) => vec![address],
            // Whatever a resolver says: it is this machine.
            (Place::Name(_), Reach::ThisMachine) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            (Place::Name(name), Reach::Address(_) | Reach::Elsewhere) => self.look_up(name.to_owned()).await?,
        };
        if found.is_empty() {
            return Err(unknown_name());
        }
        found.retain(|address| target.reach().allows(*address));
        if found.is_empty() {
            return Err(Error::DestinationIpProhibited);
        }
        Ok(found.into_iter().take(ADDRESSES).map(|address| SocketAddr::new(address, target.port())).collect())
    }

    async fn look_up(&self, name: String) -> Result<Vec<IpAddr>, Error> {
        let places = [place_of(&self.lookups).await?, place_of(&self.outlet.lookups).await?];
        let resolve = self.outlet.system.resolve;
        let look = move || {
            let _places = places;
            resolve(&name)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(addresses)) => Ok(addresses),
            // The system's error names no reason that a handler could act on; a task ends otherwise with the runtime.
            Ok(Err(_)) | Err(_) => Err(unknown_name()),
        }
    }
}

/// As good as none: a run ends before. Clocks take no larger one.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn unknown_name() -> Error {
    Error::DnsError { rcode: Some("the name was not found".to_owned()), info_code: None }
}

/// Connects to the first address that answers. Each has its share of the time, so that one that is silent leaves some
/// to the next.
async fn reach(addresses: &[SocketAddr], by: Instant) -> Result<TcpStream, Error> {
    let mut failed = Error::DestinationUnavailable;
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len().saturating_sub(tried)).unwrap_or(u32::MAX).max(1);
        let share = by.saturating_duration_since(Instant::now()) / left;
        failed = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => errors::of_connecting(&error),
            Err(_late) => Error::ConnectionTimeout,
        };
    }
    Err(failed)
}

async fn shake<S>(stream: S, places: [OwnedSemaphorePermit; 2]) -> Result<Connection, Error>
where
    S: Unpin + Send + 'static,
    TokioIo<S>: Read + Write,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES).max_headers(HEADERS);
    let (requests, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| errors::of_hyper(&error))?;
    // How it ended is what its request is told.
    let driver = tokio::spawn(async move { drop(connection.await) });
    let (made_at, driver) = (Instant::now(), AbortOnDropHandle::new(driver));
    Ok(Connection { requests, made_at, _driver: driver, _places: places })
}

/// Whether the other end went away without a word of an answer.
fn was_closed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let reset = cause.is_some_and(|cause| matches!(cause.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || reset
}

/// The same request, where it can be sent a second time: it asks for nothing to be done, and has no body that is gone.
fn once_more(request: &Request<Upload>) -> Option<Request<Upload>> {
    if !request.method().is_safe() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(request.body().without_content());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    Some(copy)
}

/// A request as the host itself takes it, and not a proxy.
fn origin_form<B>(mut request: Request<B>) -> Result<Request<B>, Error> {
    let path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    *request.uri_mut() = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(request)
}

impl Connection {
    pub(super) const fn made_at(&self) -> Instant {
        self.made_at
    }

    /// Whether it can be sent a request.
    pub(super) fn is_ready(&self) -> bool {
        self.requests.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
