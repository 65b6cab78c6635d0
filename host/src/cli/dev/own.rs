//! A host of the session's own, in this process.

use std::fs::{self, File, TryLockError};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::runtime::Runtime;

use super::setting::Setting;
use crate::app::{Host, Report};
use crate::cli::exit::Failure;
use crate::cli::taken;
use crate::config::{Config, HttpConfig};
use crate::sandbox::CompileIn;

/// What else a session can do where a host answers already.
const ELSEWHERE: &str = ", or deploy to that one with `--host URL`";

/// The host, until it is drained.
pub(super) struct Own {
    runtime: Arc<Runtime>,
    host: Option<Host>,
    /// What it runs by, with the address that it answers at.
    config: Config,
    compile_in: CompileIn,
    /// What it did before it was started anew, as often as that was.
    before: Vec<Report>,
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
        let host = started.map_err(|error| taken::hinted(error, &config.http, ELSEWHERE))?;
        config.http.listen = host.address();
        Ok(Self { runtime: Arc::clone(runtime), host: Some(host), config, compile_in, before: Vec::new(), _lock: lock })
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
            let reports = self.runtime.block_on(host.drain(self.config.host.drain_timeout));
            self.before = together(std::mem::take(&mut self.before), reports);
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

    /// Lets what runs finish, and gives the rest back; tells what was done since the session began.
    pub(super) async fn drain(mut self) -> Vec<Report> {
        let reports = match self.host.take() {
            Some(host) => host.drain(self.config.host.drain_timeout).await,
            None => Vec::new(),
        };
        together(self.before, reports)
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

/// What a host did before it was started anew and after that: what the session tells at its end is added up.
fn together(before: Vec<Report>, after: Vec<Report>) -> Vec<Report> {
    let mut all = before;
    for report in after {
        let Some(earlier) = all.iter_mut().find(|earlier| earlier.subscription == report.subscription) else {
            all.push(report);
            continue;
        };
        let (sum, more) = (&mut earlier.drained.counts, &report.drained.counts);
        sum.completed += more.completed;
        sum.skipped += more.skipped;
        sum.retried += more.retried;
        sum.dead_lettered += more.dead_lettered;
        sum.returned += more.returned;
        // What was left before came again.
        earlier.drained.left = report.drained.left;
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Drained;
    use crate::telemetry::SubscriptionCounts;

    /// A change of the configuration starts the host anew, and the summary told what came after it alone.
    #[test]
    fn what_was_done_before_a_restart_is_told_at_the_end() {
        let report = |subscription: &str, completed, dead_lettered, left| {
            let counts = SubscriptionCounts { completed, dead_lettered, ..SubscriptionCounts::default() };
            Report { subscription: subscription.to_owned(), drained: Drained { returned: 0, left, counts } }
        };
        let told = together(vec![report("orders", 4, 1, 2), report("gone", 1, 0, 0)], vec![report("orders", 1, 0, 0)]);
        let told = together(told, vec![report("orders", 0, 2, 0), report("new", 7, 0, 0)]);
        assert_eq!(told, [report("orders", 5, 3, 0), report("gone", 1, 0, 0), report("new", 7, 0, 0)]);
    }
}
