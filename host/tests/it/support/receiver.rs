//! A real OTLP receiver for a test: rotel, a collector of its own making, which prints all that it takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::ports::free_port;
use super::until;

/// A running receiver. Killed when it is dropped.
pub(crate) struct Receiver {
    child: Option<Child>,
    port: u16,
    folder: tempfile::TempDir,
}

/// A span, as the receiver understood it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) is_error: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The spans that it is linked to.
    pub(crate) links: Vec<String>,
    /// The attributes of its events.
    pub(crate) events: Vec<BTreeMap<String, String>>,
    /// What is said of who says it.
    pub(crate) resource: BTreeMap<String, String>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let mut receiver = Self::not_started();
        receiver.restart();
        receiver
    }

    /// One whose address is known, and nobody listens there yet.
    pub(crate) fn not_started() -> Self {
        Self { child: None, port: free_port(), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn restart(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        let output = std::fs::OpenOptions::new().create(true).append(true).open(at("output")).unwrap();
        let here = |port: u16| format!("127.0.0.1:{port}");
        let mut run = Command::new(binary());
        run.args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed", "--otlp-http-endpoint", &here(self.port)])
            .args(["--otlp-grpc-endpoint", &here(free_port()), "--pid-file"])
            .arg(at("pid"))
            .arg("--log-file")
            .arg(at("log"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        self.child = Some(run.spawn().unwrap());
        until("the receiver listens", Duration::from_secs(30), || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the receiver ended at its start: {}", self.output());
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// What a host is told.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All lines that it printed; one that is printed just now may be there by half, and is left out.
    pub(crate) fn output(&self) -> String {
        let printed = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
        let mut printed = String::from_utf8_lossy(&printed).into_owned();
        printed.truncate(printed.rfind('\n').map_or(0, |end| end + 1));
        printed
    }

    /// All spans that it took so far, in their order.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut resource = BTreeMap::new();
        let mut spans: Vec<Seen> = Vec::new();
        // What the lines that come are about.
        let mut about = "";
        for line in self.output().lines() {
            let (name, value) = line.trim().split_once(':').map_or((line.trim(), ""), |(n, v)| (n.trim(), v.trim()));
            if line.starts_with("ResourceSpans #") {
                (resource, about) = (BTreeMap::new(), "resource");
            } else if line.starts_with("Span #") {
                spans.push(Seen { resource: resource.clone(), ..Seen::default() });
                about = "span";
            } else if line.starts_with("SpanEvent #") {
                spans.last_mut().unwrap().events.push(BTreeMap::new());
                about = "event";
            } else if line.starts_with("SpanLink #") {
                about = "link";
            } else if about == "resource" {
                resource.extend(attribute(line));
            } else if let Some(span) = spans.last_mut() {
                match (about, name) {
                    ("span", "Trace ID") => value.clone_into(&mut span.trace),
                    ("span", "Parent ID") => value.clone_into(&mut span.parent),
                    ("span", "ID") => value.clone_into(&mut span.id),
                    ("span", "Name") => value.clone_into(&mut span.name),
                    ("span", "Kind") => value.clone_into(&mut span.kind),
                    ("span", "Status code") => span.is_error = value == "STATUS_CODE_ERROR",
                    ("span", "Start time") => span.start = value.parse().unwrap(),
                    ("span", "End time") => span.end = value.parse().unwrap(),
                    ("span", _) => span.attributes.extend(attribute(line)),
                    ("event", _) => span.events.last_mut().unwrap().extend(attribute(line)),
                    ("link", "-> ID") => span.links.push(value.to_owned()),
                    _ => {}
                }
            }
        }
        // One that is printed just now may be there by half.
        spans.retain(|span| span.end > 0 && !span.attributes.is_empty());
        spans
    }

    /// The spans of one trace.
    pub(crate) fn of_trace(&self, trace: &str) -> Vec<Seen> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }
}

/// `     -> name: Str(value)`.
pub(super) fn attribute(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().strip_prefix("-> ")?.split_once(": ")?;
    let value = value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(value);
    Some((name.to_owned(), value.to_owned()))
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("what the receiver took:\n{}", self.output());
        }
    }
}

/// The receiver's binary; fetched when it is missing. A test never goes on without it.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIDEGATE_OTLP_RECEIVER") {
            return PathBuf::from(path);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join("target/servers/rotel-agent");
        if !path.is_file() {
            let fetched = Command::new(env!("CARGO")).args(["xtask", "servers"]).current_dir(root).output().unwrap();
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(fetched.status.success() && path.is_file(), "could not fetch the receiver: {said}");
        }
        path
    })
}
