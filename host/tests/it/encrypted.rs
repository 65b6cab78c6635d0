//! A host whose listener speaks TLS: a real process, the command line that speaks to it, and certificates that are
//! replaced while it runs.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::support::ports::free_port;
use crate::support::until;

/// An authority, and its certificate in PEM.
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

    /// Writes a certificate for this machine and its key.
    fn issue(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("host.pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.join("host.key"), key.serialize_pem()).unwrap();
    }
}

struct Host {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Host {
    fn new(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        authority.issue(folder.path());
        let port = free_port();
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\ntls = {{ certificate = \"host.pem\", key = \"host.key\" }}\n\
             [brokers.local]\ntype = \"embedded\"\n[handlers.h]\n"
        );
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let mut host = Self { folder, port, child: None };
        host.child = Some(host.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the host answers", Duration::from_secs(60), || host.answers(authority));
        host
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("TIDEGATE_CONFIG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Whether a client that trusts an authority agrees with the host.
    fn answers(&self, trusted: &Authority) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut agreed = ClientConnection::new(Arc::new(config), name).unwrap();
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        agreed.complete_io(&mut stream).is_ok() && !agreed.is_handshaking()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_certificate_is_replaced_while_the_host_runs() {
    let (first, second) = (Authority::new(), Authority::new());
    let mut host = Host::new(&first);
    let shown = host.run(&["handlers", "--json"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"h\""), "the command line speaks TLS to it");
    second.issue(host.folder.path());
    let shown = host.run(&["apply", "--dry-run"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("http.tls (sha256 of the files)"), "{shown:?}");
    assert!(host.answers(&first), "what is shown is not applied");
    host.signal(Signal::HUP);
    until("the second certificate", Duration::from_secs(60), || host.answers(&second));
    assert!(!host.answers(&first));
    // What cannot be used is refused, whole, and is found by a check too.
    std::fs::write(host.folder.path().join("host.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (arguments, code) in [(&["apply", "--yes"][..], 6), (&["check"][..], 2)] {
        let refused = host.run(arguments);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains("does not belong to the certificate"), "{told}");
    }
    assert!(host.answers(&second));
    // A client that never ends its handshake does not hold a drain up.
    let _silent = TcpStream::connect(("127.0.0.1", host.port)).unwrap();
    host.signal(Signal::TERM);
    let status = host.child.take().unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
}
