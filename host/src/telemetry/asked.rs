//! What a broker is asked for, and what keeps a subscription from asking: the closed lists behind two labels.

/// What a broker is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To settle a group of messages.
    Settle,
    /// To extend leases.
    Extend,
    /// To store outputs for another broker than the message's own.
    Send,
}

impl Operation {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 3] = [Self::Settle, Self::Extend, Self::Send];

    /// The name in metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Extend => "extend",
            Self::Send => "send",
        }
    }
}

/// What keeps a subscription from taking messages, though nobody paused it and its circuit is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldUp {
    /// Dead letters cannot be stored.
    DeadLetters,
    /// Outputs cannot be stored.
    Outputs,
    /// There is no version of its handler that could run.
    NoHandler,
    /// What it receives from is gone, or somebody changed it so that messages would be lost.
    Source,
}

impl HeldUp {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 4] = [Self::DeadLetters, Self::Outputs, Self::NoHandler, Self::Source];

    /// The kind of pause that it is called in metric labels: the reason code where there is one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "dlq-unavailable",
            Self::Outputs => "output-unavailable",
            Self::NoHandler => "no-handler",
            Self::Source => "source-lost",
        }
    }
}
