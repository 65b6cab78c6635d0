//! What became of a delivery.

/// What became of a delivery, as the label `outcome` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Handled and acknowledged.
    Completed,
    /// Acknowledged as worthless, by the handler's word.
    Skipped,
    /// Acknowledged without a run: the message was settled before, and its broker gave it back.
    AlreadyDone,
    /// Returned after a run that counts.
    Retried,
    /// Returned without costing an attempt.
    Returned,
    /// In the dead-letter queue.
    DeadLettered,
    /// The lease was over: nothing was settled, and the broker hands it over again.
    Abandoned,
}

impl Ending {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 7] = [
        Self::Completed,
        Self::Skipped,
        Self::AlreadyDone,
        Self::Retried,
        Self::Returned,
        Self::DeadLettered,
        Self::Abandoned,
    ];

    /// The name in metric labels and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::AlreadyDone => "already-done",
            Self::Retried => "retried",
            Self::Returned => "returned",
            Self::DeadLettered => "dead-lettered",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether this ended the message, rather than that it comes again or had ended before.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Skipped | Self::DeadLettered => true,
            Self::AlreadyDone | Self::Retried | Self::Returned | Self::Abandoned => false,
        }
    }
}
