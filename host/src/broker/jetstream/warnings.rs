//! What a person should know of a broker, each said once: in the log when it is found, and to whoever asks from then on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More of them than this says nothing more, and would grow for ever where names change.
const MOST: usize = 256;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    texts: BTreeSet<String>,
    /// That a loss of power takes something.
    of_power: bool,
}

impl Warnings {
    /// Says it, unless it was said before.
    pub(super) fn say(&self, broker: &str, text: String) {
        let mut said = self.said();
        if said.texts.len() < MOST && !said.texts.contains(&text) {
            tracing::warn!(broker, "{text}");
            said.texts.insert(text);
        }
    }

    /// Says what a loss of power can take: once, of the first stream that is looked at.
    pub(super) fn say_of_power(&self, broker: &str, text: impl FnOnce() -> String) {
        if !std::mem::replace(&mut self.said().of_power, true) {
            self.say(broker, text());
        }
    }

    /// All that was said.
    pub(super) fn all(&self) -> Vec<String> {
        self.said().texts.iter().cloned().collect()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // Texts are added whole.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_and_there_is_an_end_to_them() {
        let warnings = Warnings::default();
        for number in 0..MOST + 10 {
            (0..2).for_each(|_| warnings.say("main", format!("risk {number:03}")));
        }
        assert_eq!(warnings.all().len(), MOST);
        let fresh = Warnings::default();
        fresh.say_of_power("main", || "of the first".to_owned());
        fresh.say_of_power("main", || "of the second".to_owned());
        assert_eq!(fresh.all(), ["of the first"]);
    }
}
