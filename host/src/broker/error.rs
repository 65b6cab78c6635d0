//! What can go wrong between us and a broker. A variant exists because somebody acts on it differently.

use std::io;

/// Why a subscription could not be bound to its source.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// Try again later: the broker is away.
    #[error("could not reach the broker to set up subscription `{subscription}`: {detail}")]
    Away {
        /// The subscription.
        subscription: String,
        /// What the client said.
        detail: String,
    },
    /// A person has to act: what stands on the broker would lose messages or does not exist.
    #[error("subscription `{subscription}` cannot use what stands on the broker: {detail}")]
    Refused {
        /// The subscription.
        subscription: String,
        /// Which setting, what it is, what it must be, and how to change it.
        detail: String,
    },
}

/// Why a subscription was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// There is none of this name that holds messages.
    #[error("there is no subscription `{0}` that the broker keeps messages for")]
    Unknown(String),
    /// This host receives it, or its last messages are still being settled.
    #[error("subscription `{0}` is in use; take it out of the configuration first, and `tidegate apply` that")]
    InUse(String),
    /// The store could not be written.
    #[error("could not use the broker's store: {0}")]
    Store(String),
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The broker is away; it is tried again with backoff.
    #[error("could not receive from the broker: {0}")]
    Away(String),
    /// The source is gone or was changed behind us (a consumer that was deleted); set the subscription up anew.
    #[error("the source is gone: {0}")]
    Gone(String),
    /// The broker was closed by us.
    #[error("the broker is closed")]
    Closed,
}

/// Why a settlement is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The lease was over, or the broker says that the delivery is no longer ours. Nothing was done; do nothing more.
    #[error("the lease on the message is over")]
    LeaseLost,
    /// The broker did not confirm; the same settlement may be tried again while the lease lasts.
    #[error("the broker did not confirm: {0}")]
    Unconfirmed(String),
    /// An output could not be published; the message is not acknowledged.
    #[error("could not publish an output: {0}")]
    Output(#[source] PublishError),
    /// The dead-letter queue did not take the record; the message is not given up.
    #[error("the dead-letter queue did not take the record: {0}")]
    DeadLetter(String),
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Try again: the broker is away or did not answer in time. The message may have been stored.
    #[error("the broker did not confirm the message: {0}")]
    Unavailable(String),
    /// The broker will never take this message: its subject, headers or id are not acceptable there.
    #[error("the broker refuses the message: {0}")]
    Invalid(String),
    /// The message is larger than the broker takes.
    #[error("the message has {size} bytes, and the broker takes at most {limit}")]
    TooLarge {
        /// Bytes of this message.
        size: usize,
        /// The broker's limit in bytes.
        limit: usize,
    },
    /// The stream or the disk is full; consuming goes on.
    #[error("the queue is full: {0}")]
    Full(String),
}

/// Why a dead-letter operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is none of this id.
    #[error("there is no dead letter `{0}`")]
    NotFound(String),
    /// It was sent back before.
    #[error("dead letter `{0}` was redriven already")]
    AlreadyRedriven(String),
    /// It came back from redrives so often that a further one needs force.
    #[error("dead letter `{id}` was redriven {count} times and failed each time; mend the handler, or force it")]
    Loop {
        /// Which.
        id: String,
        /// How often.
        count: u32,
    },
    /// The publish was refused; the dead letter stays.
    #[error("could not publish dead letter `{id}` again")]
    Publish {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// Nobody takes what is published to the subject that it was to go to; the dead letter stays.
    #[error("dead letter `{id}` was not sent to `{to}`: {why}")]
    NobodyTakes {
        /// Which.
        id: String,
        /// Where it was to go.
        to: String,
        /// Why not, for a person.
        why: String,
    },
    /// It was sent back, and could not be taken from the dead letters: a further redrive may run the message once more.
    #[error("dead letter `{id}` was sent back, and is still among the dead letters ({why}): discard it")]
    StillThere {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// The store could not be read or written.
    #[error("could not use the dead-letter store: {0}")]
    Store(String),
}

impl From<io::Error> for DeadLetterError {
    fn from(error: io::Error) -> Self {
        Self::Store(error.to_string())
    }
}
