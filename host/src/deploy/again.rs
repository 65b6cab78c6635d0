//! When a handler is looked at again that was not brought to what is to run, or to be tried. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::deploy::DeployError;
use crate::deploy::verdict::{Verdict, verdict};

/// When what was not possible for now is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The same where only somebody's deploy is in the way.
const TAKEN_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// So often the pause is doubled while the machine has too much to do, up to 320 s: a module that takes a minute to compile
/// then takes a sixth of a core.
const DOUBLINGS: u32 = 6;

/// How often in a row handlers were not brought to what is to run because the machine had too much to do.
#[derive(Debug, Default)]
pub(super) struct Again {
    loads: BTreeMap<String, u32>,
}

impl Again {
    /// What is to run of a handler is another question now, or is answered; of all, when it has no name.
    pub(super) fn forget(&mut self, handler: &str) {
        if handler.is_empty() {
            self.loads.clear();
        } else {
            self.loads.remove(handler);
        }
    }

    /// When a handler is looked at again after an error; `None`: when what is to run of it changes.
    pub(super) fn after(&mut self, handler: &str, error: &DeployError) -> Option<Duration> {
        match verdict(error) {
            Verdict::Taken => Some(TAKEN_AGAIN_AFTER),
            Verdict::Away => Some(AGAIN_AFTER),
            Verdict::Load => {
                let before = self.loads.entry(handler.to_owned()).or_default();
                let pause = pause(*before);
                *before = before.saturating_add(1);
                Some(pause)
            }
            Verdict::Against | Verdict::Nothing => None,
        }
    }
}

/// How long something rests that did not go well so often in a row before.
pub(super) fn pause(before: u32) -> Duration {
    AGAIN_AFTER.saturating_mul(1 << before.min(DOUBLINGS))
}

/// How long a handler rests on which the host panicked.
pub(super) const AFTER_A_PANIC: Duration = AGAIN_AFTER;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::LoadError;

    #[test]
    fn what_a_busy_machine_refused_is_tried_again_and_more_seldom_each_time() {
        let (mut again, limit) = (Again::default(), Duration::from_secs(60));
        let busy = DeployError::Refused(LoadError::CompilerBusy { limit });
        let pauses: Vec<u64> = (0..8).map(|_| again.after("h", &busy).map_or(0, |pause| pause.as_secs())).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320]);
        assert_eq!(again.after("g", &busy), Some(AGAIN_AFTER), "each handler by itself");
        again.forget("h");
        assert_eq!(again.after("h", &busy), Some(AGAIN_AFTER));
        // What is wrong with the module itself is so until another one comes.
        assert_eq!(again.after("h", &DeployError::Refused(LoadError::Empty)), None);
        let taken = DeployError::Busy { handler: "h".to_owned(), by: "ann".to_owned(), since: String::new() };
        assert_eq!(again.after("h", &taken), Some(TAKEN_AGAIN_AFTER));
    }
}
