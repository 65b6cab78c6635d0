//! Where a subscription stands among the messages, as it is kept in memory and in the store.

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The last sequence that was looked at.
    pub(super) cursor: i64,
    /// Nothing above the cursor is wanted: all of it counts as looked at. What comes and is wanted ends that.
    pub(super) caught_up: bool,
    /// Below it, only rows in `pending` are unsettled.
    pub(super) floor: i64,
    /// Wanted messages above the cursor.
    pub(super) ready: i64,
    /// The same, where it is known for certain that there are no more: all that came was counted since nothing was above the
    /// cursor. What went meanwhile without being handed out is among them. Not stored.
    pub(super) at_most: Option<i64>,
    /// Rows in `pending`.
    pub(super) pending: i64,
    /// No row of `pending` is due before this; `None`: none waits.
    pub(super) next_due_us: Option<i64>,
    /// Whether there may be rows in `settled`.
    pub(super) has_settled: bool,
}

impl Marks {
    /// What stands for the count of what is ready where nothing above the cursor is wanted.
    const CAUGHT_UP: i64 = -1;

    /// One that is wanted came.
    pub(super) fn one_more(&mut self) {
        self.ready += 1;
        self.at_most = self.at_most.map(|most| most + 1);
    }

    /// Nothing above the cursor is wanted.
    pub(super) const fn catch_up(&mut self) {
        self.caught_up = true;
        self.ready = 0;
        self.at_most = Some(0);
    }

    /// The count of what is ready, as it is stored.
    pub(super) const fn stored_ready(&self) -> i64 {
        if self.caught_up { Self::CAUGHT_UP } else { self.ready }
    }

    /// Takes up what is stored.
    pub(super) fn stored(cursor: i64, floor: i64, ready: i64) -> Self {
        let caught_up = ready == Self::CAUGHT_UP;
        let at_most = if caught_up { Some(0) } else { None };
        Self { cursor, floor, ready: ready.max(0), caught_up, at_most, ..Self::default() }
    }
}
