//! What is read of a delivery, and what a team is told.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidegate_sdk::{Failure, Output};

/// The few fields that routing needs, of payloads that have hundreds. Text is borrowed from the body.
#[derive(Deserialize)]
pub(crate) struct Delivery<'m> {
    #[serde(borrow)]
    action: Option<Cow<'m, str>>,
    #[serde(borrow)]
    repository: Option<Repository<'m>>,
    #[serde(borrow)]
    sender: Option<Sender<'m>>,
    pull_request: Option<PullRequest>,
    #[serde(borrow)]
    check_run: Option<Build<'m>>,
    #[serde(borrow)]
    workflow_job: Option<Build<'m>>,
}

#[derive(Deserialize)]
struct Repository<'m> {
    #[serde(borrow)]
    full_name: Cow<'m, str>,
}

#[derive(Deserialize)]
struct Sender<'m> {
    #[serde(borrow)]
    login: Cow<'m, str>,
}

#[derive(Deserialize)]
struct PullRequest {
    mergeable: Option<bool>,
}

#[derive(Deserialize)]
struct Build<'m> {
    #[serde(borrow)]
    conclusion: Option<Cow<'m, str>>,
}

impl Delivery<'_> {
    /// True while GitHub has not yet said whether a pull request can be merged.
    pub(crate) fn is_settling(&self) -> bool {
        self.pull_request.as_ref().is_some_and(|pull_request| pull_request.mergeable.is_none())
    }

    /// True for a build that came to an end, and a bad one.
    pub(crate) fn is_failed_build(&self) -> bool {
        let failed = |build: &Option<Build<'_>>| {
            build.as_ref().and_then(|build| build.conclusion.as_deref()).is_some_and(|how| how == "failure")
        };
        self.action.as_deref() == Some("completed") && (failed(&self.check_run) || failed(&self.workflow_job))
    }
}

/// What a team is told.
#[derive(Serialize)]
pub(crate) struct Notice<'a> {
    event: &'a str,
    action: Option<&'a str>,
    repository: Option<&'a str>,
    sender: Option<&'a str>,
    mergeable: Option<bool>,
    delivery: &'a str,
}

impl<'a> Notice<'a> {
    pub(crate) fn new(event: &'a str, id: &'a str, delivery: &'a Delivery<'_>) -> Self {
        Self {
            event,
            action: delivery.action.as_deref(),
            repository: delivery.repository.as_ref().map(|repository| &*repository.full_name),
            sender: delivery.sender.as_ref().map(|sender| &*sender.login),
            mergeable: delivery.pull_request.as_ref().and_then(|pull_request| pull_request.mergeable),
            delivery: id,
        }
    }

    /// The notice for a team, in the order of its repository's events.
    pub(crate) fn to(&self, team: &str) -> Result<Output, Failure> {
        let output = Output::to("routed").subject(format!("routed.{team}")).json(self)?;
        Ok(match self.repository {
            Some(repository) => output.key(repository),
            None => output,
        })
    }
}
