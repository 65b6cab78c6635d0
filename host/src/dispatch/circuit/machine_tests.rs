//! How a circuit goes, and what holds whatever happens to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what went wrong by failing")]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn second(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ended(message: u64, sign: Sign) -> Ended {
    Ended { message, sign, is_proven_bad: false }
}

/// One that so many failures have opened just now.
fn opened(now: Instant) -> Machine {
    let mut machine = Machine::new(Some(CircuitPolicy::standard()));
    let changes: Vec<Change> = (0..20).filter_map(|n| machine.ran(ended(n, Sign::Bad), now).change).collect();
    assert_eq!(changes, [Change::Opened { good: 0, bad: 20, pause: second(5) }]);
    machine
}

#[test]
fn it_opens_when_half_of_twenty_messages_fail_and_not_before() {
    let now = Instant::now();
    let mut machine = Machine::new(Some(CircuitPolicy::standard()));
    for n in 0..9 {
        machine.ran(ended(n, Sign::Good), now);
    }
    for n in 100..110 {
        assert_eq!(machine.ran(ended(n, Sign::Bad), now), Answer { spared: None, change: None }, "{n}");
    }
    machine.ran(ended(9, Sign::Good), now);
    // 10 of 20 failed; the next failure says so.
    let answer = machine.ran(ended(110, Sign::Bad), now);
    assert_eq!(answer.change, Some(Change::Opened { good: 10, bad: 11, pause: second(5) }));
    assert_eq!(answer.spared, None, "it was closed while that one ran");
    let answer = machine.ran(ended(111, Sign::Bad), now);
    assert_eq!(answer, Answer { spared: Some(second(5)), change: None }, "what ran then costs no attempt");
}

#[test]
fn a_message_that_is_bad_by_itself_never_opens_it() {
    let mut now = Instant::now();
    let mut machine = Machine::new(Some(CircuitPolicy::standard()));
    for _ in 0..10_000 {
        assert_eq!(machine.ran(ended(1, Sign::Bad), now), Answer { spared: None, change: None });
        now += Duration::from_millis(37);
    }
}

#[test]
fn failures_that_lie_far_apart_do_not_open_it() {
    let mut now = Instant::now();
    let mut machine = Machine::new(Some(CircuitPolicy::standard()));
    for n in 0..1_000 {
        assert_eq!(machine.ran(ended(n, Sign::Bad), now).change, None, "{n}");
        now += Duration::from_millis(1_700);
    }
}

#[test]
fn each_probe_that_fails_doubles_the_pause_and_one_that_goes_well_closes_it() {
    let mut now = Instant::now();
    let mut machine = opened(now);
    for pause in [10, 20, 40, 80, 160, 300, 300] {
        assert!(!machine.probe(false, now), "too early");
        let Standing::Open { until } = machine.standing() else { panic!("{machine:?}") };
        now = until;
        assert!(machine.probe(false, now) && !machine.probe(false, now), "once");
        let answer = machine.ran(ended(1, Sign::Bad), now);
        let pause = second(pause);
        assert_eq!(answer, Answer { spared: Some(pause), change: Some(Change::ProbeFailed { pause }) });
    }
    assert!(machine.probe(true, now), "another version is tried at once");
    assert_eq!(machine.ran(ended(1, Sign::Nothing), now).change, None, "says nothing");
    let bad_by_itself = Ended { is_proven_bad: true, ..ended(2, Sign::Bad) };
    assert_eq!(machine.ran(bad_by_itself, now).change, None, "is bad by itself");
    assert_eq!(machine.standing(), Standing::Probing);
    assert_eq!(machine.ran(ended(3, Sign::Good), now).change, Some(Change::ProbeWentWell));
    assert_eq!((machine.standing(), machine.closed_at()), (Standing::Closed, Some(now)));
}

#[test]
fn what_opens_again_soon_goes_on_with_its_pause_and_later_begins_anew() {
    for (after, expected) in [(second(1), second(20)), (second(31), second(5))] {
        let mut now = Instant::now();
        let mut machine = opened(now);
        assert!(machine.probe(true, now));
        machine.ran(ended(1, Sign::Bad), now);
        assert!(machine.probe(true, now));
        machine.ran(ended(2, Sign::Good), now);
        now += after;
        let change = (0..20).find_map(|n| machine.ran(ended(n, Sign::Bad), now).change);
        assert_eq!(change, Some(Change::Opened { good: 0, bad: 20, pause: expected }), "{after:?} after it closed");
    }
}

#[test]
fn somebody_closes_it_and_a_policy_that_never_opens_does_too() {
    let now = Instant::now();
    let mut machine = opened(now);
    assert_eq!(machine.close_by_hand(now), Some(Change::ClosedByHand));
    assert_eq!((machine.standing(), machine.close_by_hand(now)), (Standing::Closed, None));
    let change = (0..20).find_map(|n| machine.ran(ended(n, Sign::Bad), now).change);
    assert_eq!(change, Some(Change::Opened { good: 0, bad: 20, pause: second(5) }), "from the first pause on");
    assert_eq!(machine.set_policy(None, now), Some(Change::ClosedByHand));
    for n in 0..1_000 {
        assert_eq!(machine.ran(ended(n, Sign::Bad), now), Answer { spared: None, change: None });
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Ran { message: u64, sign: Sign, is_proven_bad: bool },
    Wait(u64),
    Probe { at_once: bool },
    CloseByHand,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let sign = prop_oneof![4 => Just(Sign::Bad), 2 => Just(Sign::Good), 1 => Just(Sign::Nothing)];
    let event = prop_oneof![
        20 => (0u64..40, sign, proptest::bool::weighted(0.1))
            .prop_map(|(message, sign, is_proven_bad)| Event::Ran { message, sign, is_proven_bad }),
        3 => (0u64..4_000).prop_map(Event::Wait),
        1 => (0u64..90_000).prop_map(Event::Wait),
        2 => proptest::bool::weighted(0.2).prop_map(|at_once| Event::Probe { at_once }),
        1 => Just(Event::CloseByHand),
    ];
    proptest::collection::vec(event, 1..400)
}

/// Whether some stretch of runs within the window has enough of them, and enough that failed, each failed message once.
fn is_enough(policy: &CircuitPolicy, runs: &[(Instant, u64, Sign)], now: Instant) -> bool {
    let (mut good, mut bad) = (0, HashSet::new());
    runs.iter().rev().take_while(|(at, ..)| now - *at < policy.window).any(|(_, message, sign)| {
        match sign {
            Sign::Good => good += 1,
            Sign::Bad => {
                bad.insert(*message);
            }
            Sign::Nothing => {}
        }
        policy.is_met(good, bad.len() as u64)
    })
}

proptest! {
    #[test]
    fn whatever_happens_it_keeps_its_promises(events in events()) {
        let policy = CircuitPolicy { messages: std::num::NonZeroU32::new(5).unwrap(), ..CircuitPolicy::standard() };
        let mut machine = Machine::new(Some(policy));
        let mut now = Instant::now();
        // What ran since it was closed last, and the last pause.
        let (mut runs, mut last_pause) = (Vec::new(), None);
        for event in events {
            let before = machine.standing();
            match event {
                Event::Wait(ms) => now += Duration::from_millis(ms),
                Event::CloseByHand => {
                    machine.close_by_hand(now);
                    prop_assert_eq!(machine.standing(), Standing::Closed);
                }
                Event::Probe { at_once } => {
                    let is_due = matches!(before, Standing::Open { until } if at_once || until <= now);
                    prop_assert_eq!(machine.probe(at_once, now), is_due);
                    prop_assert!(!is_due || machine.standing() == Standing::Probing);
                }
                Event::Ran { message, sign, is_proven_bad } => {
                    let answer = machine.ran(Ended { message, sign, is_proven_bad }, now);
                    runs.push((now, message, sign));
                    match before {
                        Standing::Closed => {
                            prop_assert_eq!(answer.spared, None, "a failure counts while it is closed");
                            let opens = matches!(machine.standing(), Standing::Open { .. });
                            prop_assert!(!opens || (sign == Sign::Bad && is_enough(&policy, &runs, now)));
                        }
                        Standing::Open { .. } => {
                            prop_assert!(answer.spared.is_some() && answer.change.is_none());
                            prop_assert_eq!(machine.standing(), before, "what ran already changes nothing");
                        }
                        Standing::Probing => {
                            let expected = match sign {
                                Sign::Good => Some(Change::ProbeWentWell),
                                Sign::Bad if !is_proven_bad => machine_pause(&machine).map(|pause| Change::ProbeFailed { pause }),
                                Sign::Bad | Sign::Nothing => None,
                            };
                            prop_assert_eq!(answer.change, expected);
                            prop_assert_eq!(answer.spared.is_none(), sign == Sign::Good, "a probe that fails costs nothing");
                        }
                    }
                }
            }
            if machine.standing() == Standing::Closed && before != Standing::Closed {
                runs.clear();
            }
            let pause = machine_pause(&machine);
            if let (Some(last), Some(pause)) = (last_pause, pause) {
                prop_assert!(pause == last || pause == policy.after(last) || pause == policy.pause);
            }
            if let Some(pause) = pause {
                prop_assert!(policy.pause <= pause && pause <= policy.max_pause, "{:?}", pause);
                last_pause = Some(pause);
            }
        }
    }
}

fn machine_pause(machine: &Machine) -> Option<Duration> {
    match machine.state {
        State::Closed(_) => None,
        State::Open { pause, .. } | State::Probing { pause } => Some(pause),
    }
}
