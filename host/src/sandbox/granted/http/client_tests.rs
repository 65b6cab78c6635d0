//! Requests over real connections, to servers of this process with certificates of an authority of this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::sandbox::granted::hosts::{HostPattern, Hosts};

/// The one authority that `trusting` trusts.
fn authority() -> &'static (Issuer<'static, KeyPair>, String) {
    static AUTHORITY: OnceLock<(Issuer<'static, KeyPair>, String)> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    })
}

fn trusting() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority().1.as_bytes()).unwrap()).unwrap();
    roots
}

fn resolving(name: &str) -> std::io::Result<Vec<IpAddr>> {
    let addresses: &[[u8; 4]] = match name {
        "inside.example.test" => &[[127, 0, 0, 1]],
        "metadata.example.test" => &[[169, 254, 169, 254]],
        "both.example.test" => &[[169, 254, 169, 254], [127, 0, 0, 1], [0, 0, 0, 0]],
        "empty.example.test" => &[],
        _ => return Err(std::io::ErrorKind::NotFound.into()),
    };
    Ok(addresses.iter().map(|address| IpAddr::from(*address)).collect())
}

fn outlet(trusted: fn() -> RootCertStore) -> Arc<Outlet> {
    Outlet::of(System { trusted, resolve: resolving })
}

/// With a certificate for these names.
fn tls(names: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let certificate = params.signed_by(&key, &authority().0).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that answers, or never does. Its port, and how many connections it has taken.
async fn server(tls: Option<TlsAcceptor>, answers: bool) -> (u16, Arc<AtomicUsize>) {
    async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answers: bool) {
        let mut taken = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut taken).await {
            if answers && taken.ends_with(b"\r\n\r\n") {
                taken.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (port, taken) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            let (stream, _from) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, answers).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answers).await;
                        }
                    }
                }
            });
        }
    });
    (port, taken)
}

struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

async fn ask(client: &Arc<Client>, host: &str, connect_timeout: Option<Duration>) -> String {
    let (scheme, authority) = host.split_once("://").unwrap();
    let hosts: Hosts = [HostPattern::parse(host).unwrap()].into_iter().collect();
    let target = hosts.target(Scheme::of(scheme).unwrap(), authority).unwrap();
    let open = Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap());
    let request = Request::builder().uri(host).header("host", authority).body(WasiBody::new(Nothing)).unwrap();
    let options = RequestOptions { connect_timeout, ..RequestOptions::default() };
    match Arc::clone(client).send(Order { target, open, over: Arc::default() }, request, options).await {
        Ok(response) => response.status().to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn over_tls_only_whom_the_system_trusts_is_asked_and_by_its_own_name() {
    let client = outlet(trusting).client();
    let (named, _) = server(Some(tls(&["localhost"])), true).await;
    let (numbered, _) = server(Some(tls(&["localhost", "127.0.0.1"])), true).await;
    let (other, _) = server(Some(tls(&["other.example.test"])), true).await;
    let rows = [
        (format!("https://localhost:{named}"), "200 OK"),
        (format!("https://127.0.0.1:{named}"), "TLS certificate error"),
        (format!("https://127.0.0.1:{numbered}"), "200 OK"),
        (format!("https://localhost:{other}"), "TLS certificate error"),
    ];
    for (host, expected) in rows {
        assert_eq!(ask(&client, &host, None).await, expected, "{host}");
    }
    let distrustful = outlet(RootCertStore::empty).client();
    let host = format!("https://localhost:{named}");
    assert_eq!(ask(&distrustful, &host, None).await, "TLS certificate error");
    let (plain, _) = server(None, false).await;
    let silent = ask(&client, &format!("https://localhost:{plain}"), Some(Duration::from_millis(200))).await;
    assert_eq!(silent, "connection timeout", "a handshake is part of a connection");
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_or_to_a_cloud_s_own_service_is_not_followed() {
    let client = outlet(trusting).client();
    let (port, taken) = server(None, true).await;
    let rows = [
        ("inside.example.test", "destination IP address is prohibited"),
        ("metadata.example.test", "destination IP address is prohibited"),
        ("both.example.test", "destination IP address is prohibited"),
        ("empty.example.test", "DNS error: rcode the name was not found"),
        ("nobody.example.test", "DNS error: rcode the name was not found"),
    ];
    for (name, expected) in rows {
        assert_eq!(ask(&client, &format!("http://{name}:{port}"), None).await, expected, "{name}");
    }
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    for host in ["127.0.0.1", "localhost", "dev.localhost"] {
        assert_eq!(ask(&client, &format!("http://{host}:{port}"), None).await, "200 OK", "{host}");
    }
}

#[tokio::test]
async fn a_version_whose_hosts_hang_leaves_room_for_the_others() {
    let outlet = outlet(trusting);
    let (hanging, taken) = server(None, false).await;
    let (port, _) = server(None, true).await;
    let one = outlet.client();
    let asking: Vec<_> = (0..OF_ONE)
        .map(|_| {
            let one = Arc::clone(&one);
            AbortOnDropHandle::new(tokio::spawn(async move {
                ask(&one, &format!("http://127.0.0.1:{hanging}"), None).await
            }))
        })
        .collect();
    while taken.load(Ordering::SeqCst) < OF_ONE {
        tokio::task::yield_now().await;
    }
    let more = ask(&one, &format!("http://127.0.0.1:{port}"), Some(Duration::from_millis(100))).await;
    assert_eq!(more, "connection timeout");
    assert_eq!(ask(&outlet.client(), &format!("http://127.0.0.1:{port}"), None).await, "200 OK");
    drop(asking);
    assert_eq!(ask(&one, &format!("http://127.0.0.1:{port}"), None).await, "200 OK");
    assert!(one.connections.available_permits() >= OF_ONE - 1);
}

/// Connections that wait take places too, and must not keep anybody from making one.
#[tokio::test]
async fn connections_that_wait_make_room_for_new_ones() {
    let outlet = outlet(trusting);
    let (port, taken) = server(None, true).await;
    let host = format!("http://127.0.0.1:{port}");
    let all = u32::try_from(CONNECTIONS - 1).unwrap();
    let _others = Arc::clone(&outlet.connections).try_acquire_many_owned(all).unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&outlet.client(), &host, None).await, "200 OK", "each has its own");
    }
    assert_eq!(taken.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_connection_that_waits_goes_with_its_version_and_in_time_without_anybody_asking() {
    let outlet = outlet(trusting);
    let (port, _) = server(None, true).await;
    let host = format!("http://127.0.0.1:{port}");
    let (one, other) = (outlet.client(), outlet.client());
    let waiting = || CONNECTIONS - outlet.connections.available_permits();
    for client in [&one, &other] {
        assert_eq!(ask(client, &host, None).await, "200 OK");
    }
    assert_eq!(waiting(), 2);
    drop(one);
    assert_eq!(waiting(), 1);
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let gone = async {
        while waiting() > 0 {
            looks.tick().await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.expect("the other one goes too");
    assert_eq!(ask(&other, &host, None).await, "200 OK", "and is made anew");
    assert_eq!(waiting(), 1);
}
