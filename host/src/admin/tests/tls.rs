//! The listener with TLS, with certificates of authorities that are made for each test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::*;
use crate::admin::handshakes::Handshakes;
use crate::config::HttpTlsConfig;

/// An authority with its certificate, in a folder with those that it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this machine, and its key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with a host's files.
struct Files {
    folder: tempfile::TempDir,
    config: HttpTlsConfig,
}

impl Files {
    fn new(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = HttpTlsConfig { certificate: at("host.pem"), key: at("host.key"), client_ca: None };
        let files = Self { folder, config };
        files.issue(authority);
        files
    }

    fn issue(&self, authority: &Authority) {
        let (certificate, key) = authority.sign();
        self.write("host.pem", &certificate);
        self.write("host.key", &key);
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn encrypted(config: &HttpTlsConfig) -> (Site, Arc<Tls>) {
    let tls = Tls::open(config).unwrap();
    let listening = listen("127.0.0.1:0".parse().unwrap(), Door::new(&BTreeMap::new())).await.unwrap();
    (served(10, listening.with_tls(Arc::clone(&tls))), tls)
}

/// What a client trusts, and what it shows.
fn client(trusted: &Authority, shown: Option<(String, String)>) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Asks whether the host is alive; the status line of the answer, or why there was none.
async fn ask(address: SocketAddr, client: &TlsConnector) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let stream = client.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    live(stream).await
}

async fn live(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<String> {
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

#[tokio::test]
async fn whoever_trusts_the_authority_is_answered_and_nobody_without_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = Files::new(&authority);
    let (site, _tls) = encrypted(&files.config).await;
    let answer = ask(site.address, &client(&authority, None)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let error = ask(site.address, &client(&stranger, None)).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    let plain = live(TcpStream::connect(site.address).await.unwrap()).await;
    assert!(plain.as_ref().map_or(true, |answer| !answer.contains("HTTP")), "{plain:?}");
    assert!(ask(site.address, &client(&authority, None)).await.is_ok(), "and the next one is answered");
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_gets_no_answer() {
    let (authority, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let mut files = Files::new(&authority);
    files.config.client_ca = Some(files.write("clients.pem", &clients.pem));
    let (site, _tls) = encrypted(&files.config).await;
    assert!(ask(site.address, &client(&authority, None)).await.is_err(), "no certificate");
    for wrong in [&stranger, &authority] {
        assert!(ask(site.address, &client(&authority, Some(wrong.sign()))).await.is_err(), "another authority's");
    }
    let answer = ask(site.address, &client(&authority, Some(clients.sign()))).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn whoever_never_ends_a_handshake_keeps_nobody_out() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let (site, _tls) = encrypted(&files.config).await;
    // More than there are places for handshakes and for connections together.
    let mut silent = Vec::new();
    for _ in 0..2 * Handshakes::AT_ONCE {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    assert!(ask(site.address, &client(&authority, None)).await.unwrap().starts_with("HTTP/1.1 200"));
    // The oldest of them were told to go.
    let mut byte = [0];
    assert!(matches!(silent[0].read(&mut byte).await, Ok(0) | Err(_)));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_too_long_is_over() {
    let files = Files::new(&Authority::new());
    let handshakes = Handshakes::new(Tls::open(&files.config).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    let error = handshakes.enter(accepted, Arc::clone(&places)).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    assert_eq!((handshakes.under_way(), places.available_permits()), (0, 1), "and it left nothing behind");
    drop(client);
}

#[tokio::test]
async fn what_is_read_last_is_shown_to_the_next_client() {
    let (first, second) = (Authority::new(), Authority::new());
    let files = Files::new(&first);
    let (site, tls) = encrypted(&files.config).await;
    files.issue(&second);
    assert!(ask(site.address, &client(&first, None)).await.is_ok(), "not before it is told to");
    let material = tls.read().unwrap();
    assert_ne!(material.fingerprint(), tls.fingerprint());
    tls.renew(material);
    assert!(ask(site.address, &client(&second, None)).await.is_ok());
    assert!(ask(site.address, &client(&first, None)).await.is_err());
    // Half a renewal: a certificate whose key did not come yet.
    files.write("host.pem", &second.sign().0);
    assert!(matches!(tls.read(), Err(TlsError::Mismatch { .. })));
    assert!(ask(site.address, &client(&second, None)).await.is_ok(), "what was read goes on");
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_the_file() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign();
    let other = authority.sign().1;
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let check = |host: Option<&str>, private: Option<&str>, clients: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: Option<&str>| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            path
        };
        let config = HttpTlsConfig {
            certificate: at("host.pem", host),
            key: at("host.key", private),
            client_ca: clients.map(|text| at("clients.pem", Some(text))),
        };
        Material::read(&config).map(drop).map_err(|error| (error.key(), error.chain()))
    };
    let (good, key) = (Some(certificate.as_str()), Some(key.as_str()));
    assert_eq!(check(good, key, Some(&authority.pem)), Ok(()));
    let rows = [
        (check(None, key, None), "certificate", "could not read"),
        (check(good, None, None), "key", "No such file"),
        (check(Some("hello"), key, None), "certificate", "there is no certificate in"),
        (check(key, key, None), "certificate", "there is no certificate in"),
        (check(good, good, None), "key", "there is no private key in"),
        (check(good, Some(&other), None), "key", "does not belong to the certificate"),
        (check(Some(garbage), key, None), "certificate", "cannot be used"),
        (check(good, key, Some("")), "client_ca", "there is no certificate in"),
        (check(good, key, Some(garbage)), "client_ca", "cannot be used"),
    ];
    for (index, (found, at, said)) in rows.into_iter().enumerate() {
        let (key, told) = found.unwrap_err();
        assert!(key == at && told.contains(said), "row {index}: {key}: {told}");
        let file = Path::new(match at {
            "certificate" => "host.pem",
            "key" => "host.key",
            _ => "clients.pem",
        });
        assert!(told.contains(file.to_str().unwrap()), "row {index}: {told}");
    }
}
