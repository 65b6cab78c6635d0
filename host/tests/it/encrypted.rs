//! A host whose listener speaks TLS: a real process, the command line that speaks to it, and certificates that are
//! replaced while it runs.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::support::authority::Authority;
use crate::support::ports::free_port;
use crate::support::until;

/// Writes a certificate for this machine and its key.
fn issue(authority: &Authority, folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("host.pem"), params.signed_by(&key, &authority.issuer).unwrap().pem()).unwrap();
    std::fs::write(folder.join("host.key"), key.serialize_pem()).unwrap();
}

struct Host {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Host {
    fn new(authority: &Authority) -> Self {
        let host = Self::with(authority, "");
        until("the host answers", Duration::from_secs(60), || host.answers(authority));
        host
    }

    /// With more in `[http.tls]`.
    fn with(authority: &Authority, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        issue(authority, folder.path());
        let port = free_port();
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\ntls = {{ certificate = \"host.pem\", key = \"host.key\"{more} }}\n\
             [brokers.local]\ntype = \"embedded\"\n[handlers.h]\n"
        );
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let mut host = Self { folder, port, child: None };
        host.child = Some(host.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the host listens", Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        host
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("TIDEGATE_CONFIG").env("XDG_CONFIG_HOME", self.folder.path());
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
    issue(&second, host.folder.path());
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

#[test]
fn the_command_line_trusts_and_shows_what_it_is_told_to() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    issue(&clients, folder.path());
    std::fs::rename(file("host.pem"), file("me.pem")).unwrap();
    std::fs::rename(file("host.key"), file("me.key")).unwrap();
    std::fs::write(file("clients.pem"), &clients.pem).unwrap();
    std::fs::write(file("ca.pem"), &authority.pem).unwrap();
    let host = Host::with(&authority, &format!(", client_ca = \"{}\"", file("clients.pem")));
    let url = format!("https://localhost:{}", host.port);
    let (ca, cert, key) = (file("ca.pem"), file("me.pem"), file("me.key"));
    let run = |arguments: &[&str]| {
        let output = host.run(arguments);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let shown = ["--ca", &ca, "--cert", &cert, "--key", &key];
    let with = |arguments: &[&'static str], shown: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(["--host", &url]).chain(shown.iter().copied()).collect();
        run(&all)
    };
    let answered = with(&["whoami"], &shown);
    assert_eq!(answered.0, 0, "{}", answered.1);
    for (what, shown, hint) in [("no authority", &shown[2..], "`--ca`"), ("no certificate", &shown[..2], "`--cert`")] {
        let (code, told) = with(&["whoami"], shown);
        let expected = "what answers at https://localhost";
        assert!(code == 1 && told.contains(expected) && told.contains(hint), "{what}: {told}");
    }
    // Nobody is told to start a host that runs.
    let (code, told) = run(&["whoami", "--config", "tidegate.toml"]);
    assert!(code == 1 && told.contains("`--cert` and `--key`") && !told.contains("tidegate run"), "{told}");
    let (code, told) = run(&["whoami", "--host", &format!("http://localhost:{}", host.port)]);
    assert!(code == 1 && told.contains("its address begins with https://"), "{told}");
    let (code, told) = with(&["whoami"], &["--ca", &key]);
    assert!(code == 2 && told.contains("there is no certificate in"), "{told}");
    // A profile keeps them.
    let mut login = host.command(&["login", &url]);
    assert!(login.args(shown).output().unwrap().status.success());
    assert_eq!(run(&["whoami", "--profile", "default"]).0, 0);
    // And the host of the configuration here is met without its name.
    let config = ["--config", "tidegate.toml", "--cert", &cert, "--key", &key];
    let all: Vec<&str> = ["whoami"].into_iter().chain(config).collect();
    assert_eq!(run(&all).0, 0);
}
