//! A host's listener, asked in the few lines that HTTP takes: no library is needed for that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longer than a host takes to answer anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a host listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl Address {
    /// A port on loopback that is free now.
    pub(crate) fn free() -> Result<Self> {
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("finding a port").map(Self)
    }

    /// The body of a page, when the host answers well.
    pub(crate) fn get(self, path: &str) -> Result<String> {
        self.ask("GET", path, "", "")
    }

    /// Sends JSON lines, and gives back the body of the answer.
    pub(crate) fn post_lines(self, path: &str, lines: &str) -> Result<String> {
        self.ask("POST", path, "Content-Type: application/x-ndjson\r\n", lines)
    }

    fn ask(self, method: &str, path: &str, headers: &str, body: &str) -> Result<String> {
        let Self(address) = self;
        let mut stream = TcpStream::connect(address).context("speaking to the host")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a timeout")?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).context("asking the host")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading the host's answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the host's answer has no body")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "{path}: {status}: {body}");
        Ok(body.to_owned())
    }
}
