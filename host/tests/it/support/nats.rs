//! A real nats-server for a test: on a free port, with a store of its own, that can be killed, stopped and started anew.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::ports::free_port;

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running (or killed) server. Killed for good when it is dropped.
pub(crate) struct NatsServer {
    child: Option<Child>,
    port: u16,
    name: String,
    folder: tempfile::TempDir,
    extra: String,
}

impl NatsServer {
    /// Starts a server with JetStream.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with further lines of configuration. `$DIR` stands for the server's folder.
    pub(crate) async fn start_with(extra: &str) -> Self {
        let mut server = Self::named("test", extra);
        server.restart().await;
        server
    }

    /// A server of a name that does not run yet, with further lines of configuration.
    pub(super) fn named(name: &str, extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        Self { child: None, port: free_port(), name: name.to_owned(), folder, extra: extra.to_owned() }
    }

    /// A server that does not run yet: its address is known, nobody listens on it.
    pub(crate) fn not_started() -> Self {
        Self::named("test", "")
    }

    /// The address.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The server's folder: its store, its configuration, its log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it, or starts it anew, on the same port and store, and waits until it greets.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let config = self.write_config();
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("output.log")).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        self.wait_until_ready().await;
    }

    /// Gives the server that runs other further lines of configuration, which it takes up without ending.
    pub(crate) fn configure(&mut self, extra: &str) {
        extra.clone_into(&mut self.extra);
        self.write_config();
        self.signal(rustix::process::Signal::HUP);
    }

    fn write_config(&self) -> PathBuf {
        let folder = self.folder.path();
        let config = folder.join("server.conf");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: {}\njetstream {{ store_dir: \"{}\" }}\n{}\n",
            self.port,
            self.name,
            self.store().display(),
            self.extra.replace("$DIR", &folder.display().to_string())
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    async fn wait_until_ready(&mut self) {
        let until = Instant::now() + PATIENCE;
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        loop {
            pause.tick().await;
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                let mut greeting = [0; 5];
                let read = tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut greeting)).await;
                // A server that takes TLS from the first byte on greets nobody else.
                if matches!(read, Ok(Ok(_))) && &greeting == b"INFO " {
                    return;
                }
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            let log = || std::fs::read_to_string(self.folder.path().join("output.log")).unwrap_or_default();
            assert!(ended.is_none(), "nats-server ended at its start: {}", log());
            assert!(Instant::now() < until, "nats-server was not ready in time: {}", log());
        }
    }

    /// Kills it with SIGKILL, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A copy of its store as it is on disk now, as a crash leaves it or somebody keeps it.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a folder for the copy");
        self.freeze();
        copy_folder(&self.store(), copy.path());
        self.thaw();
        copy
    }

    /// Kills it and starts it anew on a copy of its store: what came after the copy was made never happened.
    pub(crate) async fn put_back(&mut self, copy: &tempfile::TempDir) {
        self.kill();
        std::fs::remove_dir_all(self.store()).unwrap();
        copy_folder(copy.path(), &self.store());
        self.restart().await;
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Stops it in order (SIGTERM), as an upgrade does, and starts it again.
    pub(crate) async fn restart_in_order(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
        self.restart().await;
    }

    /// Stops it where it stands (SIGSTOP), as a machine that hangs, and waits until every thread of it stands: one that
    /// still ran for a moment could answer what a test takes for unanswered.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let stopped = rustix::process::waitpid(Some(self.id()), rustix::process::WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "the server ended instead of stopping");
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.id(), signal).unwrap();
    }

    /// The process that runs.
    pub(crate) fn id(&self) -> rustix::process::Pid {
        let id = self.child.as_ref().expect("the server runs").id();
        rustix::process::Pid::from_raw(id.cast_signed()).unwrap()
    }

    /// A plain client of the library, to look at the server from outside.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("a client connects")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's binary; fetched when it is missing. A test never goes on without it.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIDEGATE_NATS_SERVER") {
            return PathBuf::from(path);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join("target/servers/nats-server");
        if !path.is_file() {
            let fetched = Command::new(env!("CARGO")).args(["xtask", "servers"]).current_dir(root).output().unwrap();
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(fetched.status.success() && path.is_file(), "could not fetch nats-server: {said}");
        }
        path
    })
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
