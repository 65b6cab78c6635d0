//! Dead letters that are held because nobody takes them, and why: a person may have to act.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The messages whose dead letters are refused, and are tried again.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    messages: BTreeSet<u64>,
    why: String,
}

impl Refused {
    /// The dead letter of a message was refused; it is tried again.
    pub(crate) fn add(&self, sequence: u64, why: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.messages.insert(sequence);
        why.clone_into(&mut state.why);
    }

    /// It is not tried again: it was taken, or the message goes back.
    pub(crate) fn remove(&self, sequence: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).messages.remove(&sequence);
    }

    /// How many there are and why, for a person; `None` when there are none.
    pub(crate) fn shown(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let why = &state.why;
        match state.messages.len() {
            0 => None,
            1 => Some(format!("a dead letter is not taken, and is tried again: {why}")),
            count => Some(format!("{count} dead letters are not taken, and are tried again: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_until_it_is_taken_or_goes_back() {
        let refused = Refused::default();
        assert_eq!(refused.shown(), None);
        for sequence in [1, 2, 2] {
            refused.add(sequence, "the stream is full");
        }
        assert_eq!(
            refused.shown().unwrap_or_default(),
            "2 dead letters are not taken, and are tried again: the stream is full"
        );
        refused.remove(1);
        assert_eq!(
            refused.shown().unwrap_or_default(),
            "a dead letter is not taken, and is tried again: the stream is full"
        );
        refused.remove(2);
        refused.remove(3);
        assert_eq!(refused.shown(), None);
    }
}
