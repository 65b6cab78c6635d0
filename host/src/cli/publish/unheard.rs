//! Subjects that were published on and that no subscription of the host receives: most likely a letter is wrong.

use std::collections::BTreeSet;

use crate::broker::subject::matches;
use crate::cli::direct::Receives;
use crate::cli::table::harmless;

/// So many different subjects are looked at: whoever publishes on more has made no slip of the hand.
const SUBJECTS: usize = 1000;
/// So many are named.
const NAMED: usize = 5;

/// The subjects of what is published.
#[derive(Debug, Default)]
pub(super) struct Subjects(BTreeSet<String>);

impl Subjects {
    pub(super) fn add(&mut self, subject: &str) {
        if self.0.len() < SUBJECTS && !self.0.contains(subject) {
            self.0.insert(subject.to_owned());
        }
    }

    /// What is told of those that none of these receives; nothing when each is received, or that is not known.
    pub(super) fn unheard(&self, subscriptions: &[Receives]) -> Option<String> {
        // One of which the host does not say what it receives may receive it.
        if subscriptions.is_empty() || subscriptions.iter().any(|one| one.subjects.is_empty()) {
            return None;
        }
        let is_heard =
            |subject: &str| subscriptions.iter().flat_map(|one| &one.subjects).any(|filter| matches(filter, subject));
        let unheard: Vec<&str> = self.0.iter().map(String::as_str).filter(|subject| !is_heard(subject)).collect();
        let names = unheard.iter().take(NAMED).map(|subject| format!("`{}`", harmless(subject))).collect::<Vec<_>>();
        if names.is_empty() {
            return None;
        }
        let more = unheard.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let received = subscriptions.iter().map(|one| format!("{} ({})", one.name, one.subjects.join(", ")));
        Some(format!(
            "warning: no subscription of this host receives {}{more}; it has {}",
            names.join(", "),
            received.take(NAMED).collect::<Vec<_>>().join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(published: &[&str], subscriptions: &[(&str, &[&str])]) -> Option<String> {
        let mut subjects = Subjects::default();
        published.iter().for_each(|subject| subjects.add(subject));
        let receives = |(name, filters): &(&str, &[&str])| Receives {
            name: (*name).to_owned(),
            broker: "local".to_owned(),
            subjects: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        };
        subjects.unheard(&subscriptions.iter().map(receives).collect::<Vec<_>>())
    }

    #[test]
    fn a_subject_that_nobody_receives_is_told_with_those_that_are_received() {
        let orders: (&str, &[&str]) = ("orders", &["orders.>"]);
        assert_eq!(told(&["orders.new", "orders.eu.paid"], &[orders]), None);
        assert_eq!(
            told(&["order.new", "orders.new", "order.new"], &[orders, ("mail", &["mail"])]).as_deref(),
            Some("warning: no subscription of this host receives `order.new`; it has orders (orders.>), mail (mail)")
        );
        let many = told(&["a", "b", "c", "d", "e", "f", "g"], &[orders]);
        assert!(many.as_deref().is_some_and(|text| text.contains("`e` and 2 more;")), "{many:?}");
        assert_eq!(told(&["order.new"], &[]), None, "what there is, is not known");
        assert_eq!(
            told(&["order.new"], &[orders, ("old", &[])]),
            None,
            "a host of before does not say what it receives"
        );
    }
}
