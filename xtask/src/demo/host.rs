//! A host of our own for the time of the demo: its process, its address, its status.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::report::Counts;
use crate::run::{command, root, target_dir};

/// A start with nothing compiled takes a second or so; a slow and busy machine gets this long.
const START: Duration = Duration::from_secs(60);
/// What the host gives its handlers to end (25 s), and some.
const STOP: Duration = Duration::from_secs(30);

/// A running host. It is killed when this is dropped without being stopped.
pub(super) struct Host {
    process: Child,
    address: SocketAddr,
    config: String,
    data: PathBuf,
}

impl Host {
    /// Starts a host on the configuration of an example, with an empty queue and a port of its own.
    pub(super) fn start(example: &str) -> Result<Self> {
        let data = target_dir().join("demo");
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("emptying {}", data.display()));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let log = File::create(data.join("host.log")).context("making the host's log")?;
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("finding a port")?;
        let config = format!("{example}/tidegate.toml");

        eprintln!("==> starting a host on {config}");
        let process = tidegate(&["run"], &config, address, &data)
            .stdout(log.try_clone().context("sharing the host's log")?)
            .stderr(log)
            .spawn()
            .context("starting the host")?;
        let mut host = Self { process, address, config, data };
        let began = Instant::now();
        while host.get("/ready").is_err() {
            host.check_runs()?;
            ensure!(began.elapsed() < START, "the host is not ready after {START:?}; its log is {}", host.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("    ready after {:.0?} on http://{address}", began.elapsed());
        Ok(host)
    }

    /// The program, to speak to this host.
    pub(super) fn tidegate(&self, arguments: &[&str]) -> Command {
        tidegate(arguments, &self.config, self.address, &self.data)
    }

    /// What its only subscription has done so far.
    pub(super) fn counts(&mut self) -> Result<Counts> {
        self.check_runs()?;
        Counts::parse(&self.get("/v1/status")?)
    }

    pub(super) fn log(&self) -> String {
        self.data.join("host.log").display().to_string()
    }

    /// Asks it to end, as an operator would, and waits until it has.
    pub(super) fn stop(mut self) -> Result<()> {
        let process = self.process.id().to_string();
        let asked = command("kill", &["-TERM", &process]).status().context("asking the host to end")?;
        ensure!(asked.success(), "the host could not be asked to end");
        let began = Instant::now();
        while began.elapsed() < STOP {
            if let Some(status) = self.process.try_wait().context("waiting for the host")? {
                ensure!(status.success(), "the host ended with {status}; its log is {}", self.log());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the host did not end within {STOP:?}; its log is {}", self.log())
    }

    fn check_runs(&mut self) -> Result<()> {
        match self.process.try_wait().context("looking after the host")? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let log = fs::read_to_string(self.data.join("host.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(10).collect();
        anyhow!("the host ended with {status}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// The body of a page, when the host answers well. A request of three lines needs no library.
    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("speaking to the host")?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).context("setting a timeout")?;
        let address = self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .context("asking the host")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading the host's answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the host's answer has no body")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "{path}: {status}: {body}");
        Ok(body.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After a stop there is nothing to kill; otherwise nothing may be left running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tidegate(arguments: &[&str], config: &str, address: SocketAddr, data: &std::path::Path) -> Command {
    let program = target_dir().join("debug").join(format!("tidegate{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(["--config", config])
        .env("TIDEGATE_HTTP__LISTEN", address.to_string())
        .env("TIDEGATE_HOST__DATA_DIR", data)
        .current_dir(root());
    command
}
