//! A nats-server for the time of a soak.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::Address;

/// Longer than a start takes on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running server. Killed when it is dropped.
pub(super) struct Server {
    process: Child,
    address: Address,
}

impl Server {
    /// Starts a server with its store in a directory, and waits until it listens.
    pub(super) fn start(program: &Path, directory: &Path) -> Result<Self> {
        let address = Address::free()?;
        let config = directory.join("server.conf");
        let store = directory.join("store");
        let text = format!("listen: \"{}\"\njetstream {{ store_dir: \"{}\" }}\n", address.0, store.display());
        fs::write(&config, text).context("writing the server's configuration")?;
        let log = File::create(directory.join("server.log")).context("making the server's log")?;
        let process = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the server's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let server = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(address.0).is_err() {
            ensure!(began.elapsed() < START, "the server does not listen after {START:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.address.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever comes of it: nothing may be left running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
