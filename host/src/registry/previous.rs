//! Which version a handler goes back to: the same rule for a host by itself and for a cluster. Pure.
//!
//! Invariant: each step back leads to a lower number, so that whoever goes back again and again comes to an end.

/// What is known of when a version ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its number.
    pub(crate) number: u64,
    /// Whether it was ever the active one.
    pub(crate) was_active: bool,
    /// The version that it took the place of when it was last made the active one; `None`: none, or that was not recorded.
    pub(crate) replaced: Option<u64>,
}

/// The version that was active before `active`; `None`: there was none, or it is not kept.
pub(crate) fn before(versions: &[Ran], active: u64) -> Option<u64> {
    let number = step_back(versions, active)?;
    versions.iter().any(|version| version.number == number).then_some(number)
}

/// What is to be recorded of a version that becomes the active one in the place of `active`: the version to go back to
/// from it.
///
/// A higher number takes the place of what ran, bad or good. A lower one is a step back, and who has stepped back does not
/// want what was left behind: so from there it goes on to what was active before that, and not forth again.
pub(crate) fn replaced_by(versions: &[Ran], active: Option<u64>, target: u64) -> Option<u64> {
    let mut number = active?;
    while number >= target {
        number = step_back(versions, number)?;
    }
    Some(number)
}

fn step_back(versions: &[Ran], number: u64) -> Option<u64> {
    let recorded = versions.iter().find(|version| version.number == number).and_then(|version| version.replaced);
    let below = || versions.iter().filter(|version| version.was_active).map(|version| version.number);
    // Of what was recorded by an earlier host it is guessed: the newest that was active.
    recorded.filter(|replaced| *replaced < number).or_else(|| below().filter(|other| *other < number).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ran and what it took the place of, from the first version on: as `deploy` and `rollback --to` make it.
    struct Handler {
        versions: Vec<Ran>,
        active: Option<u64>,
    }

    impl Handler {
        fn after(acts: &[Act]) -> Self {
            let mut handler = Self { versions: Vec::new(), active: None };
            for act in acts {
                handler.does(*act);
            }
            handler
        }

        fn does(&mut self, act: Act) {
            match act {
                Act::Deploy => {
                    self.does(Act::Abort);
                    self.does(Act::To(self.versions.len() as u64));
                }
                Act::Abort => {
                    let number = self.versions.len() as u64 + 1;
                    self.versions.push(Ran { number, was_active: false, replaced: None });
                }
                Act::To(target) => {
                    let replaced = replaced_by(&self.versions, self.active, target);
                    let version = self.versions.iter_mut().find(|version| version.number == target);
                    version.into_iter().for_each(|version| (version.was_active, version.replaced) = (true, replaced));
                    self.active = Some(target);
                }
                Act::Back => {
                    let target = self.active.and_then(|active| before(&self.versions, active));
                    target.into_iter().for_each(|target| self.does(Act::To(target)));
                }
            }
        }

        /// Where one rollback after the other leads to.
        fn way_back(mut self) -> Vec<u64> {
            let mut way = Vec::new();
            while let Some(target) = self.active.and_then(|active| before(&self.versions, active)) {
                way.push(target);
                self.does(Act::Back);
            }
            way
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Deploy,
        /// A version that was tried and never became the active one.
        Abort,
        Back,
        To(u64),
    }

    /// The story: version 2 was bad and rolled back, version 3 was bad too, and `rollback` brought 2.
    #[test]
    fn a_rollback_goes_to_the_version_that_was_active_before() {
        use Act::{Abort, Back, Deploy, To};
        let rows: [(&[Act], &[u64]); 10] = [
            (&[Deploy], &[]),
            (&[Deploy, Deploy, Deploy], &[2, 1]),
            (&[Deploy, Deploy, Back, Deploy], &[1]),
            (&[Deploy, Deploy, Back, Deploy, Back], &[]),
            (&[Deploy, Deploy, Deploy, Back], &[1]),
            (&[Deploy, Abort, Abort, Deploy], &[1]),
            // Forth by name: what ran until then is before it.
            (&[Deploy, Deploy, Deploy, To(1), To(3)], &[1]),
            // Back by name over some: from there it goes on as from there it was.
            (&[Deploy, Deploy, Deploy, Deploy, To(2)], &[1]),
            // To one that was rolled back, and to one that never was active.
            (&[Deploy, Deploy, Back, Deploy, To(2)], &[1]),
            (&[Deploy, Deploy, Back, Abort, Deploy, To(3)], &[1]),
        ];
        for (acts, expected) in rows {
            assert_eq!(Handler::after(acts).way_back(), expected, "{acts:?}");
        }
    }

    #[test]
    fn of_what_an_earlier_host_recorded_the_newest_below_is_taken_and_nothing_leads_up() {
        let ran = |number, was_active, replaced| Ran { number, was_active, replaced };
        let rows = [
            (vec![ran(3, true, None), ran(2, false, None), ran(1, true, None)], Some(1)),
            (vec![ran(3, true, Some(1)), ran(2, true, Some(1))], None),
            (vec![ran(3, true, Some(1)), ran(2, true, None), ran(1, true, None)], Some(1)),
            (vec![ran(3, true, Some(3)), ran(2, true, None)], Some(2)),
            (vec![ran(3, true, Some(9)), ran(9, true, None)], None),
            (vec![], None),
        ];
        for (versions, expected) in rows {
            assert_eq!(before(&versions, 3), expected, "{versions:?}");
        }
    }
}
