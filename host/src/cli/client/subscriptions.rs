//! Subscriptions over the listener: what they do, paused and resumed.

use std::time::{Duration, SystemTime};

use super::{Client, encoded, read, unmet};
use crate::admin::wire::{Forgotten, KeptList, PastMessages, Paused, Readiness, Resumed, Status};
use crate::cli::exit::Failure;
use crate::pause::Reach;

/// Which subscriptions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// The one of a name.
    One(&'a str),
    /// Those of a handler.
    OfHandler(&'a str),
}

impl Client {
    /// What every subscription does.
    pub(crate) fn status(&self) -> Result<Status, Failure> {
        read(self.agent.get(format!("{}/v1/status", self.base)).call())
    }

    /// Whether the host is ready; it says so in good and in bad.
    pub(crate) fn readiness(&self) -> Result<Readiness, Failure> {
        let mut answer = self.agent.get(format!("{}/ready", self.base)).call().map_err(unmet)?;
        let body = answer.body_mut().read_json::<Readiness>();
        body.map_err(|error| anyhow::Error::from(error).context("reading whether the host is ready").into())
    }

    /// What brokers keep messages for.
    pub(crate) fn kept(&self) -> Result<KeptList, Failure> {
        read(self.agent.get(format!("{}/v1/subscriptions", self.base)).call())
    }

    /// Forgets a subscription that is gone for good.
    pub(crate) fn forget(&self, name: &str, broker: Option<&str>, removes: bool) -> Result<Forgotten, Failure> {
        let request = self.agent.delete(format!("{}/v1/subscriptions/{}", self.base, encoded(name)));
        let request = request.query_pairs(broker.map(|broker| ("broker", broker)));
        read(request.query("messages", if removes { "remove" } else { "keep" }).call())
    }

    /// A page of the messages that a subscription's stream still has.
    pub(crate) fn past_messages(
        &self,
        subscription: &str,
        since: SystemTime,
        until: SystemTime,
        after: Option<u64>,
    ) -> Result<PastMessages, Failure> {
        let spelled = |at: SystemTime| humantime::format_rfc3339_nanos(at).to_string();
        let request = self.agent.get(self.of_subscriptions(Which::One(subscription), "messages"));
        let request = request.query("since", spelled(since)).query("until", spelled(until));
        read(request.query_pairs(after.map(|after| ("after", after.to_string()))).call())
    }

    /// Pauses subscriptions.
    pub(crate) fn pause(
        &self,
        which: Which<'_>,
        hosts: Reach,
        why: Option<&str>,
        time: Option<Duration>,
    ) -> Result<Paused, Failure> {
        let request = self.agent.post(self.of_subscriptions(which, "pause"));
        let mut request = request.query_pairs(of_all(hosts));
        if let Some(why) = why {
            request = request.query("why", why);
        }
        if let Some(time) = time {
            request = request.query("for", humantime::format_duration(time).to_string().replace(' ', ""));
        }
        read(request.send_empty())
    }

    /// Resumes subscriptions.
    pub(crate) fn resume(&self, which: Which<'_>, hosts: Reach) -> Result<Resumed, Failure> {
        let request = self.agent.post(self.of_subscriptions(which, "resume"));
        read(request.query_pairs(of_all(hosts)).send_empty())
    }

    fn of_subscriptions(&self, which: Which<'_>, what: &str) -> String {
        let (kind, name) = match which {
            Which::One(name) => ("subscriptions", name),
            Which::OfHandler(name) => ("handlers", name),
        };
        format!("{}/v1/{kind}/{}/{what}", self.base, encoded(name))
    }
}

/// What is said where all hosts are meant.
fn of_all(hosts: Reach) -> Option<(&'static str, &'static str)> {
    (hosts == Reach::All).then(|| ("hosts", hosts.name()))
}
