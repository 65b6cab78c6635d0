//! A host of the session's own, in this process.

use std::fs::{self, File, TryLockError};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::runtime::Runtime;

use super::setting::Setting;
use crate::app::{Host, Report};
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::profile::TlsFiles;
use crate::config::{Config, HttpConfig};
use crate::sandbox::CompileIn;

/// The host, until it is drained.
pub(super) struct Own {
    runtime: Arc<Runtime>,
    host: Option<Host>,
    /// What it runs by, with the address that it answers at.
    config: Config,
    compile_in: CompileIn,
    /// Two sessions do not share their data.
    _lock: File,
}

impl Own {
    /// Starts it. `fresh`: with nothing of what earlier sessions left.
    pub(super) fn start(runtime: &Arc<Runtime>, setting: &Setting, fresh: bool) -> Result<Self, Failure> {
        let data = setting.data();
        let lock = lock(setting)?;
        if fresh && data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
        }
        let mut config = setting.own();
        let compile_in = CompileIn::own_program().context("looking which program this is")?;
        let started = runtime.block_on(Host::start(&config, compile_in.clone()));
        let host = started.map_err(|error| hinted(error, &config.http))?;
        config.http.listen = host.address();
        Ok(Self { runtime: Arc::clone(runtime), host: Some(host), config, compile_in, _lock: lock })
    }

    /// Where it answers, and how.
    pub(super) const fn http(&self) -> &HttpConfig {
        &self.config.http
    }

    /// Ends it and starts it anew by a configuration that was changed; it answers where it did.
    ///
    /// # Errors
    /// When it cannot run by it; it then runs by the one of before, unless that cannot be either.
    pub(super) fn restart(&mut self, setting: &Setting) -> Result<(), RestartError> {
        if let Some(host) = self.host.take() {
            drop(self.runtime.block_on(host.drain(self.config.host.drain_timeout)));
        }
        let mut changed = setting.own();
        changed.http.listen = self.config.http.listen;
        match self.runtime.block_on(Host::start(&changed, self.compile_in.clone())) {
            Ok(host) => {
                (self.host, self.config) = (Some(host), changed);
                Ok(())
            }
            Err(error) => {
                let before = self.runtime.block_on(Host::start(&self.config, self.compile_in.clone()));
                self.host = Some(before.context("starting the host once more")?);
                Err(RestartError::Refused(error))
            }
        }
    }

    /// Lets what runs finish, and gives the rest back.
    pub(super) async fn drain(mut self) -> Vec<Report> {
        match self.host.take() {
            Some(host) => host.drain(self.config.host.drain_timeout).await,
            None => Vec::new(),
        }
    }
}

/// Why the host does not run by a changed configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestartError {
    /// It cannot; it runs by the one of before.
    #[error("{0:#}")]
    Refused(anyhow::Error),
    /// It runs by none.
    #[error(transparent)]
    Gone(#[from] anyhow::Error),
}

/// Takes the session's data for this process.
fn lock(setting: &Setting) -> Result<File, Failure> {
    let data = setting.data();
    let path = data.with_extension("lock");
    let making = || {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        File::create(&path)
    };
    let file = making().with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::from(anyhow!("another `tidegate dev` works with {}; end it first", data.display())))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::from(anyhow::Error::from(error).context(format!("locking {}", path.display()))))
        }
    }
}

/// What else can be done when somebody has the port.
fn hinted(error: anyhow::Error, http: &HttpConfig) -> anyhow::Error {
    let Ok(there) = Client::local(http, None, &TlsFiles::default()) else { return error };
    if http.listen.port() != 0 && there.is_there() {
        return error.context(format!(
            "a host answers at {} already: end it, give this one another port with \
             TIDEGATE_HTTP__LISTEN=127.0.0.1:7172, or deploy to that one with `--host {}`",
            http.listen,
            there.base()
        ));
    }
    error
}
