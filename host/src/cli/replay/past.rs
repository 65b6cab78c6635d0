//! Where the messages come from: what the streams of a handler's subscriptions still have, or its dead letters; page by page.

use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;

use crate::admin::wire::{ExportLine, PastMessages};
use crate::cli::client::{Client, Wanted};
use crate::cli::exit::Failure;
use crate::message::Message;
use crate::settle::dead_letter::DeadLetter;

/// A message that went by, and how its run is told to stand to others.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) message: Message,
    pub(super) subscription: String,
    pub(super) attempt: u32,
    pub(super) max_attempts: Option<u32>,
    pub(super) previous_failure: Option<String>,
}

/// What is read, in the order in which it is.
#[derive(Debug)]
pub(super) enum Told {
    /// What follows is of this one.
    Source {
        name: String,
        oldest: Option<String>,
        keeps_settled: bool,
    },
    Messages(Vec<Past>),
    /// It has more than were asked for.
    More,
}

/// Which messages.
pub(super) struct Question {
    pub(super) handler: String,
    pub(super) sources: Sources,
    pub(super) since: SystemTime,
    pub(super) until: SystemTime,
    /// At most so many of each source.
    pub(super) limit: u64,
}

pub(super) enum Sources {
    /// Those of these subscriptions.
    Streams(Vec<String>),
    DeadLetters,
}

/// Nobody listens any more.
struct Unheard;

impl Question {
    /// Tells all of them. Blocks until they are told, or nobody listens.
    pub(super) fn read(&self, client: &Client, to: &mpsc::Sender<Told>) -> Result<(), Failure> {
        let tell = |told| to.blocking_send(told).map_err(|_| Unheard);
        match &self.sources {
            Sources::Streams(subscriptions) => {
                for subscription in subscriptions {
                    if let Err(Unheard) = self.stream(client, subscription, &tell)? {
                        return Ok(());
                    }
                }
                Ok(())
            }
            Sources::DeadLetters => self.dead_letters(client, &tell),
        }
    }

    fn stream(
        &self,
        client: &Client,
        subscription: &str,
        tell: &impl Fn(Told) -> Result<(), Unheard>,
    ) -> Result<Result<(), Unheard>, Failure> {
        let (mut left, mut after) = (self.limit, None);
        loop {
            let page = client.past_messages(subscription, self.since, self.until, after)?;
            let PastMessages { messages, next, oldest, keeps_settled } = page;
            let name = subscription.to_owned();
            let first = after.is_none().then_some(Told::Source { name, oldest, keeps_settled });
            let found = messages.len();
            let messages = messages.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX));
            let messages = messages.map(|message| {
                Ok(Past {
                    message: message.into_message()?,
                    subscription: subscription.to_owned(),
                    attempt: 1,
                    max_attempts: None,
                    previous_failure: None,
                })
            });
            let messages: Vec<Past> = messages.collect::<anyhow::Result<_>>()?;
            left -= messages.len() as u64;
            let is_cut = messages.len() < found || (left == 0 && next.is_some());
            let told = first.into_iter().chain([Told::Messages(messages)]).chain(is_cut.then_some(Told::More));
            if let Err(unheard) = told.into_iter().try_for_each(tell) {
                return Ok(Err(unheard));
            }
            after = next;
            if after.is_none() || is_cut {
                return Ok(Ok(()));
            }
        }
    }

    fn dead_letters(&self, client: &Client, tell: &impl Fn(Told) -> Result<(), Unheard>) -> Result<(), Failure> {
        let spelled = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
        let wanted = Wanted::default()
            .and("handler", Some(self.handler.as_str()))
            .and("since", Some(spelled(self.since)))
            .and("until", Some(spelled(self.until)));
        let source = Told::Source { name: "dead letters".to_owned(), oldest: None, keeps_settled: true };
        if tell(source).is_err() {
            return Ok(());
        }
        let (mut left, mut is_over) = (self.limit, false);
        let exported = client.export_dead_letters(&wanted, |line| {
            let line = serde_json::from_slice(line).context("reading the host's answer")?;
            let ExportLine::Letter(letter) = line else { return Ok(()) };
            let letter = letter.into_letter().map_err(|error| anyhow!("reading the host's answer: {error}"))?;
            let heard = match left {
                0 => tell(Told::More).and(Err(Unheard)),
                _ => tell(Told::Messages(vec![Past::given_up(letter)])),
            };
            left = left.saturating_sub(1);
            is_over = heard.is_err();
            heard.map_err(|Unheard| anyhow!("no more is wanted"))
        });
        match exported {
            Err(_) if is_over => Ok(()),
            exported => exported.map(|_| ()),
        }
    }
}

impl Past {
    /// As it was handed over the last time.
    fn given_up(letter: DeadLetter) -> Self {
        Self {
            message: letter.message(),
            attempt: letter.record.attempts.max(1),
            max_attempts: letter.record.max_attempts,
            previous_failure: letter.record.previous_failure(),
            subscription: letter.record.subscription,
        }
    }
}
