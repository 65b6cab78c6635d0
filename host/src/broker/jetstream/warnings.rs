//! What a person should know of a broker: said once in the log when it is found, and to whoever asks for as long as it was so when
//! its place was last looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More places than these are not remembered: it would grow for ever where names change.
const MOST: usize = 256;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// What was found at each place when it was last looked at.
    found: BTreeMap<String, Vec<String>>,
    /// That a loss of power takes something.
    of_power: bool,
}

impl Warnings {
    /// What a look at a place found. What was found before of any place is not said again.
    pub(super) fn found(&self, broker: &str, place: &str, texts: Vec<String>) {
        let mut said = self.said();
        for text in &texts {
            if !said.found.values().any(|known| known.contains(text)) {
                tracing::warn!(broker, "{text}");
            }
        }
        if texts.is_empty() {
            said.found.remove(place);
        } else if said.found.len() < MOST || said.found.contains_key(place) {
            said.found.insert(place.to_owned(), texts);
        }
    }

    /// Says in the log what a loss of power can take: once, of the first stream that is looked at. Not to whoever asks: a server
    /// that is set as the text says does not tell, and it would never go.
    pub(super) fn say_of_power(&self, broker: &str, text: impl FnOnce() -> String) {
        if !std::mem::replace(&mut self.said().of_power, true) {
            tracing::warn!(broker, "{}", text());
        }
    }

    /// All that holds, each once.
    pub(super) fn all(&self) -> Vec<String> {
        let all: BTreeSet<String> = self.said().found.values().flatten().cloned().collect();
        all.into_iter().collect()
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
    fn each_is_told_while_it_holds_and_there_is_an_end_to_them() {
        let warnings = Warnings::default();
        for number in 0..MOST + 10 {
            (0..2).for_each(|_| warnings.found("main", &format!("place {number}"), vec![format!("risk {number:03}")]));
        }
        assert_eq!(warnings.all().len(), MOST);
        let fresh = Warnings::default();
        let found = |place: &str, texts: &[&str]| {
            fresh.found("main", place, texts.iter().map(|text| (*text).to_owned()).collect());
            fresh.all()
        };
        assert_eq!(found("a", &["one", "two"]), ["one", "two"]);
        assert_eq!(found("b", &["one"]), ["one", "two"]);
        assert_eq!(found("a", &[]), ["one"]);
        assert_eq!(found("b", &[]), [""; 0]);
        fresh.say_of_power("main", || "in the log alone".to_owned());
        assert_eq!(fresh.all(), [""; 0]);
    }
}
