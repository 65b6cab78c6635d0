//! The writer's part of a subscription's life: bound to its source, and forgotten when nobody uses it any more.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::error::Failure;
use super::inbox::{Bind, Bound, Forget};
use super::retain::Gone;
use super::state::{Marks, Subscription};
use super::writer::Writer;
use crate::broker::ForgetError;

/// How long after the start every subscription that is used is expected to be bound.
pub(super) const BOUND_WITHIN: Duration = Duration::from_secs(30);

impl Writer<'_> {
    /// Makes a subscription or takes up the one of this name where it stood.
    pub(super) fn bind(&mut self, bind: &Bind) -> Result<Bound, Failure> {
        let known = self.state.subscriptions.values().find(|own| own.name == bind.name).map(|own| own.id);
        let id = match known {
            Some(id) => id,
            None => self.add_subscription(bind)?,
        };
        let changed = self.state.subscriptions.get(&id).is_some_and(|own| own.filters != bind.filters);
        if known.is_none() || changed {
            let from = self.state.subscriptions.get(&id).map_or(0, |own| own.marks.cursor);
            let ready = bind.counted.messages + self.count_wanted(bind, bind.counted.through.max(from))?;
            let subjects = bind.filters.to_text();
            self.connection.execute("UPDATE subscription SET subjects = ?2 WHERE id = ?1", params![id, subjects])?;
            if let Some(own) = self.state.touch(id) {
                own.filters = bind.filters.clone();
                // What the filters of before passed over since the last message that they wanted, these may want.
                own.marks.caught_up = false;
                own.marks.at_most = None;
                own.marks.ready = ready;
            }
            self.state.filters_changed();
        }
        let Some(own) = self.state.touch(id) else {
            return Err(Failure::Fatal("a subscription that was just bound is not there".to_owned()));
        };
        let bound = Bound { subscription: id, gauge: own.gauge.clone() };
        let marks = own.marks;
        self.save_marks(id, &marks)?;
        tracing::info!(subscription = %bind.name, new = known.is_none(), ready = marks.ready, "subscription bound");
        Ok(bound)
    }

    /// A new subscription starts before the oldest kept message.
    fn add_subscription(&mut self, bind: &Bind) -> Result<i64, Failure> {
        let id = self.connection.query_row(
            "INSERT INTO subscription (name, subjects, cursor, floor, ready, last_seen_us) VALUES (?1, ?2, 0, 1, 0, ?3)
             RETURNING id",
            params![bind.name, bind.filters.to_text(), self.wall_us],
            |row| row.get(0),
        )?;
        let marks = Marks { floor: 1, ..Marks::default() };
        self.state.add_subscription(Subscription::new(id, bind.name.clone(), bind.filters.clone(), marks));
        Ok(id)
    }

    fn count_wanted(&mut self, bind: &Bind, above: i64) -> Result<i64, Failure> {
        let sql = "SELECT subject FROM message WHERE seq > ?1 AND target IS NULL";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([above])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += i64::from(row.get_ref(0)?.as_str().is_ok_and(|subject| bind.filters.want(subject)));
        }
        Ok(count)
    }

    pub(super) fn save_marks(&mut self, id: i64, marks: &Marks) -> Result<(), Failure> {
        self.st.save_subscription.execute([id, marks.cursor, marks.floor, marks.stored_ready(), self.wall_us])?;
        Ok(())
    }

    /// Removes a subscription that nobody uses. What others have settled that it held goes with it; what it alone wanted
    /// is kept until its age, or goes too.
    pub(super) fn forget(&mut self, forget: &Forget) -> Result<Result<(), ForgetError>, Failure> {
        let name = forget.name.as_str();
        let Some(own) = self.state.subscriptions.values().find(|own| own.name == name) else {
            return Ok(Err(ForgetError::Unknown(name.to_owned())));
        };
        let (id, filters) = (own.id, own.filters.clone());
        if own.is_bound() || self.state.has_leases(id) {
            return Ok(Err(ForgetError::InUse(name.to_owned())));
        }
        for table in ["pending", "settled"] {
            self.connection.execute(&format!("DELETE FROM {table} WHERE subscription = ?1"), [id])?;
        }
        self.connection.execute("DELETE FROM subscription WHERE id = ?1", [id])?;
        self.state.forget_subscription(id);
        self.sweep.clear_after(Gone { id, filters, left: forget.left });
        tracing::info!(subscription = %name, "subscription forgotten");
        Ok(Ok(()))
    }

    /// Warns, once, of subscriptions that hold messages and that nobody has bound: they may have gone from the
    /// configuration.
    pub(super) fn warn_of_unbound(&mut self) {
        if self.unbound_warned || self.opened_at.elapsed() < BOUND_WITHIN {
            return;
        }
        self.unbound_warned = true;
        let unbound = self.state.subscriptions.values().filter(|own| !own.is_bound());
        for own in unbound.filter(|own| own.marks.ready + own.marks.pending > 0) {
            tracing::warn!(
                subscription = %own.name,
                ready = own.marks.ready,
                pending = own.marks.pending,
                "a subscription that is not in the configuration holds messages; if it is gone for good, \
                 `tidegate subscriptions forget` removes it"
            );
        }
    }

    /// When that warning is due.
    pub(super) fn unbound_due(&self) -> Option<Instant> {
        (!self.unbound_warned).then(|| self.opened_at + BOUND_WITHIN)
    }
}
