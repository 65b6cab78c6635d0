//! A host of our own: its process, its address, its log.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::http::Address;
use crate::run::{root, target_dir};

/// A start with nothing compiled takes a second or so; a slow and busy machine gets this long.
const START: Duration = Duration::from_secs(60);
/// What the host gives its handlers to end (25 s), and some.
const STOP: Duration = Duration::from_secs(30);

/// A running host. It is killed when this is dropped without being stopped.
pub(crate) struct Host {
    process: Child,
    address: Address,
    program: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Host {
    /// Starts a program that cargo built on a configuration, with its data and its log in a directory that is there, and
    /// on a port of its own. Waits until it is ready.
    pub(crate) fn start(program: &Path, config: &Path, data: &Path) -> Result<Self> {
        let log = File::create(data.join("host.log")).context("making the host's log")?;
        let mut host = Self::spawn(program, config, data, log.into())?;
        let began = Instant::now();
        while host.get("/ready").is_err() {
            host.check_runs()?;
            ensure!(began.elapsed() < START, "the host is not ready after {START:?}; its log is {}", host.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(host)
    }

    /// The same, without waiting, and with its log to where it is told.
    pub(crate) fn spawn(program: &Path, config: &Path, data: &Path, log: Stdio) -> Result<Self> {
        let address = Address::free()?;
        let process = tidegate(program, &["run"], config, address, data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let (program, config, data) = (program.to_owned(), config.to_owned(), data.to_owned());
        Ok(Self { process, address, program, config, data })
    }

    /// The program, to speak to this host.
    pub(crate) fn tidegate(&self, arguments: &[&str]) -> Command {
        tidegate(&self.program, arguments, &self.config, self.address, &self.data)
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Its log, when it was started with a pipe for it.
    pub(crate) fn take_log(&mut self) -> Option<ChildStderr> {
        self.process.stderr.take()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The body of a page, when the host answers well.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.address.get(path)
    }

    pub(crate) fn log(&self) -> String {
        self.data.join("host.log").display().to_string()
    }

    /// Asks it to end, as an operator would, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM).context("asking the host to end")?;
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

    /// An error with the end of its log, when it has ended by itself.
    pub(crate) fn check_runs(&mut self) -> Result<()> {
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
}

impl Drop for Host {
    fn drop(&mut self) {
        // After a stop there is nothing to kill; otherwise nothing may be left running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The host's program, as cargo built it in a profile: `debug` or `release`.
pub(crate) fn program(profile: &str) -> PathBuf {
    target_dir().join(profile).join(format!("tidegate{}", std::env::consts::EXE_SUFFIX))
}

/// The program with a verb, on a configuration, an address and a data directory.
pub(crate) fn tidegate(program: &Path, arguments: &[&str], config: &Path, address: Address, data: &Path) -> Command {
    let mut command = Command::new(program);
    // What steers a host from outside would make this one another than it is meant to be.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .args([OsStr::new("--config"), config.as_os_str()])
        .env("TIDEGATE_HTTP__LISTEN", address.0.to_string())
        .env("TIDEGATE_HOST__DATA_DIR", data)
        .current_dir(root());
    command
}
