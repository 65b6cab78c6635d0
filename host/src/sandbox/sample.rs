//! Where the fuel of a run went: its stack, looked at each time that so much fuel has gone by.
//!
//! The engine asks for fuel at each function's beginning and at each turn of a loop. With a yield interval it gives way at the
//! first of these places behind each interval; the epoch is moved on meanwhile, and as the guest goes on, the next thing that
//! it comes to, at the same place, is the epoch's callback, from which its stack can be seen. So one run is enough, no clock is
//! in it, and every sample knows the fuel that was used by then to the unit.
//!
//! Invariants:
//! - The fuel of all stacks together is the fuel of the run.
//! - What was used since a look is of the stack that was seen there: what runs behind the beginning of a function or of a loop
//!   is most likely that function.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::{Engine, Store, UpdateDeadline, WasmBacktrace};

use super::fault;
use super::state::State;
use crate::handler::Run;

/// What stands in the place of the outer frames of a stack that is deeper than what is looked at.
const CUT_OFF: &str = "(further frames)";
/// What is no function of the module: the engine's own way into a component and out of it.
const GLUE: &str = "(between host and module)";
/// What runs before the first look, in a run that has none.
const UNSEEN: &str = "(not looked at)";

/// A run, and where its fuel went.
#[derive(Debug)]
pub struct Profile {
    /// The run.
    pub run: Run,
    /// Fuel by stacks, the outermost function first; in the order of their names.
    pub stacks: Vec<(Vec<Arc<str>>, u64)>,
    /// How often its stack was looked at.
    pub looks: u64,
    /// Fuel of functions of which the module has no names.
    pub nameless: u64,
}

/// What was seen, while a run goes on.
#[derive(Debug, Clone)]
pub(super) struct Sampler(Arc<Mutex<Samples>>);

#[derive(Debug)]
struct Samples {
    interval: u64,
    frames: usize,
    /// Fuel that was used at the last look.
    seen_at: u64,
    /// What was seen there.
    seen: Option<Vec<Arc<str>>>,
    stacks: HashMap<Vec<Arc<str>>, u64>,
    /// Names as they are shown, by those that the module has.
    names: HashMap<String, Arc<str>>,
    looks: u64,
}

/// A frame as the engine tells it.
struct Frame<'a> {
    name: Option<&'a str>,
    index: u32,
}

impl Sampler {
    /// Looks each time that so much fuel was used. A stack has at most so many frames.
    pub(super) fn new(interval: NonZeroU64, frames: usize) -> Self {
        let interval = interval.get();
        let (stacks, names) = (HashMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(Samples { interval, frames, seen_at: 0, seen: None, stacks, names, looks: 0 })))
    }

    /// Puts the callback into a store that has not begun, in the place of the one that gives way to others.
    pub(super) fn attach(&self, store: &mut Store<State>, fuel_limit: u64) -> wasmtime::Result<()> {
        let interval = self.samples().interval;
        store.fuel_async_yield_interval(Some(interval))?;
        let sampler = self.clone();
        store.epoch_deadline_callback(move |context| {
            context.data().check_tick()?;
            let used = fuel_limit.saturating_sub(context.get_fuel()?);
            sampler.samples().look(used, || WasmBacktrace::capture(&context));
            Ok(UpdateDeadline::Continue(1))
        });
        Ok(())
    }

    /// A run that is looked at each time that it gives way.
    pub(super) async fn followed<F: Future>(run: F, engine: &Engine) -> F::Output {
        let mut run = pin!(run);
        std::future::poll_fn(|context| {
            let polled = run.as_mut().poll(context);
            if polled.is_pending() {
                engine.increment_epoch();
            }
            polled
        })
        .await
    }

    /// What was seen of a run that has ended.
    pub(super) fn finish(&self, run: Run) -> Profile {
        let mut samples = self.samples();
        let left = run.usage.fuel.saturating_sub(samples.seen_at);
        samples.charge(left);
        let mut stacks: Vec<_> =
            std::mem::take(&mut samples.stacks).into_iter().filter(|(_, fuel)| *fuel > 0).collect();
        stacks.sort();
        let unnamed = |stack: &[Arc<str>]| stack.last().is_some_and(|name| is_nameless(name));
        let nameless = stacks.iter().filter(|(stack, _)| unnamed(stack)).map(|(_, fuel)| fuel).sum();
        Profile { run, stacks, looks: samples.looks, nameless }
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        // What the lock guards is changed in single steps: it is whole even if a holder died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    /// The guest has come to a place where it can be looked at. It comes to many for other reasons: what the engine knows of
    /// its fuel there is old, and less than an interval away.
    fn look(&mut self, used: u64, stack: impl FnOnce() -> WasmBacktrace) {
        if used.saturating_sub(self.seen_at) < self.interval {
            return;
        }
        let backtrace = stack();
        let frames = backtrace.frames().iter();
        self.saw(used, frames.map(|frame| Frame { name: frame.func_name(), index: frame.func_index() }));
    }

    /// Takes what was seen, the innermost frame first.
    fn saw<'a>(&mut self, used: u64, frames: impl Iterator<Item = Frame<'a>>) {
        let mut stack: Vec<Arc<str>> = frames.map(|frame| self.name(&frame)).collect();
        if stack.len() >= self.frames {
            stack.push(CUT_OFF.into());
        }
        if stack.is_empty() {
            stack.push(GLUE.into());
        }
        stack.reverse();
        if self.seen.is_none() {
            self.seen = Some(stack.clone());
        }
        self.charge(used - self.seen_at);
        self.seen = Some(stack);
        self.seen_at = used;
        self.looks += 1;
    }

    /// Puts fuel down to the stack that was seen last.
    fn charge(&mut self, fuel: u64) {
        let stack = self.seen.take().unwrap_or_else(|| vec![UNSEEN.into()]);
        let sum = self.stacks.entry(stack).or_default();
        *sum = sum.saturating_add(fuel);
    }

    fn name(&mut self, frame: &Frame<'_>) -> Arc<str> {
        let Some(mangled) = frame.name else {
            return format!("{NAMELESS}{}", frame.index).into();
        };
        if let Some(known) = self.names.get(mangled) {
            return Arc::clone(known);
        }
        let name: Arc<str> = fault::demangled(mangled).into();
        self.names.insert(mangled.to_owned(), Arc::clone(&name));
        name
    }
}

/// What a function is called of which the module has no name.
const NAMELESS: &str = "function ";

fn is_nameless(name: &str) -> bool {
    name.strip_prefix(NAMELESS).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::outcome::{Outcome, Usage};

    fn frames<'a>(names: &'a [&'a str]) -> impl Iterator<Item = Frame<'a>> {
        names.iter().map(|name| Frame { name: Some(*name).filter(|name| !name.is_empty()), index: 3 })
    }

    fn run(fuel: u64) -> Run {
        let usage = Usage { fuel, ..Usage::default() };
        Run { usage, ..Run::without_usage(Outcome::Completed(Vec::new())) }
    }

    fn shown(profile: &Profile) -> Vec<String> {
        profile.stacks.iter().map(|(stack, fuel)| format!("{} {fuel}", stack.join(";"))).collect()
    }

    #[test]
    fn what_was_used_since_a_look_is_of_what_was_seen_there() {
        let sampler = Sampler::new(NonZeroU64::MIN, 4);
        for (used, stack) in
            [(5, &["main"] as &[&str]), (20, &["inner", "main"]), (120, &["main"]), (130, &["", "main"])]
        {
            sampler.samples().saw(used, frames(stack));
        }
        let profile = sampler.finish(run(150));
        // The first five were used on the way to the first look.
        assert_eq!(shown(&profile), ["main 30", "main;function 3 20", "main;inner 100"]);
        assert_eq!((profile.looks, profile.nameless), (4, 20));
    }

    #[test]
    fn a_stack_that_is_too_deep_says_so_and_a_run_without_a_look_too() {
        let sampler = Sampler::new(NonZeroU64::MIN, 2);
        sampler.samples().saw(5, frames(&["c", "b"]));
        assert_eq!(shown(&sampler.finish(run(5))), ["(further frames);b;c 5"]);
        assert_eq!(shown(&Sampler::new(NonZeroU64::MIN, 2).finish(run(9))), ["(not looked at) 9"]);
    }

    #[test]
    fn what_is_less_than_an_interval_away_is_not_looked_at() {
        let sampler = Sampler::new(NonZeroU64::new(10).unwrap(), 2);
        sampler.samples().saw(10, frames(&["a"]));
        let mut looked = false;
        sampler.samples().look(19, || {
            looked = true;
            WasmBacktrace::capture(Store::new(&Engine::default(), ()))
        });
        assert!(!looked);
    }

    #[test]
    fn what_is_no_function_has_a_word_too() {
        let sampler = Sampler::new(NonZeroU64::MIN, 2);
        sampler.samples().saw(5, frames(&[]));
        assert_eq!(shown(&sampler.finish(run(7))), ["(between host and module) 7"]);
    }
}
