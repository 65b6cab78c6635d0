//! A real OCI registry for a test: Debian's build of distribution, on a free port, with a store of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::authority::Authority;
use super::until;

/// User and password of a registry that asks for them; the registry has the hash.
pub(crate) const USER: (&str, &str) = ("ada", "open sesame");
const HASHED: &str = "ada:$2y$05$5Zculyj3mpJZj31RcknPV.vX3PChuN7JrkIV3qgHZOiveYzx7h2hS\n";

/// A running registry. Killed when it is dropped.
pub(crate) struct OciRegistry {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl OciRegistry {
    /// Open to everyone.
    pub(crate) fn open() -> Self {
        Self::start(tempfile::tempdir().unwrap(), "", "")
    }

    /// With a user and a password.
    pub(crate) fn with_password() -> Self {
        Self::start(tempfile::tempdir().unwrap(), "", "auth: {htpasswd: {realm: test, path: PASSWORDS}}\n")
    }

    /// Open to everyone, over TLS alone: with a certificate for this machine's address, and for the one that means all of them.
    pub(crate) fn with_tls(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1", "0.0.0.0"].map(str::to_owned)).unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap().pem();
        let [certificate_file, key_file] = ["host.pem", "host.key"].map(|name| folder.path().join(name));
        std::fs::write(&certificate_file, certificate).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate_file.display(), key_file.display());
        Self::start(folder, &tls, "")
    }

    fn start(folder: tempfile::TempDir, of_listener: &str, extra: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (passwords, config) = (folder.path().join("passwords"), folder.path().join("config.yml"));
        std::fs::write(&passwords, HASHED).unwrap();
        let store = folder.path().join("store");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"{of_listener}}}\n{}",
            store.display(),
            extra.replace("PASSWORDS", &passwords.display().to_string())
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("output.log")).unwrap();
        let mut serve = Command::new(binary());
        serve.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut started = Self { child: serve.spawn().unwrap(), port, folder };
        until("the registry listens", Duration::from_secs(30), || {
            let log = std::fs::read_to_string(started.folder.path().join("output.log")).unwrap_or_default();
            assert!(started.child.try_wait().unwrap().is_none(), "the registry ended at its start: {log}");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        started
    }

    /// Host and port.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps what it stores.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The registry's binary; fetched when it is missing. A test never goes on without it.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIDEGATE_OCI_REGISTRY") {
            return PathBuf::from(path);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join("target/servers/docker-registry");
        if !path.is_file() {
            let fetched = Command::new(env!("CARGO")).args(["xtask", "servers"]).current_dir(root).output().unwrap();
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(fetched.status.success() && path.is_file(), "could not fetch the registry: {said}");
        }
        path
    })
}
