//! Whose handler runs next: as many run at once as there are turns, and subscriptions go round.
//!
//! A guest gives its turn up whenever it stops running: when it is done, when it waits in a host call, and after each
//! slice of a millisecond (the sandbox yields there). What wants to go on queues up behind the others of its
//! subscription, and each subscription in its turn gets one slice. So one that floods the host, or whose handler spins,
//! costs the others one slice a round, however many of its messages want to run.
//!
//! A shadow's runs stand behind all of them: one gets a slice when nobody else wants it, and no two of them at once.
//!
//! Invariants:
//! - The executor sees at most as many runnable handlers as there are turns; the others wait here, in fair order.
//! - A turn that was given to a place is used or handed on, also when the call is dropped.
//! - Whoever stands behind gets a turn only while none of the others waits, and all of those have one turn together.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// The turns of a host.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// One queue a subscription, of places that want to run; turns go round the queues.
    queues: Vec<VecDeque<usize>>,
    /// The queues in which somebody stands, each once: turns go round these, however many there are beside them.
    round: VecDeque<usize>,
    /// Places that want to run and give way to all others.
    behind: VecDeque<usize>,
    /// One of those has a turn.
    behind_has_one: bool,
    places: Vec<PlaceState>,
}

#[derive(Debug)]
struct PlaceState {
    line: Line,
    phase: Phase,
    /// The task to wake when a turn comes.
    task: Option<Waker>,
    /// Since when it stands behind the others.
    queued_at: Option<Instant>,
    /// How long it stood there.
    waited: Duration,
}

/// Where a place stands when it wants to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// In a queue that turns go round to.
    Queue(usize),
    /// Behind all of them.
    Behind,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no call.
    Idle,
    /// It wants to run and stands in its queue.
    Queued,
    /// It was given a turn and its task was woken.
    Granted,
    /// It runs, and was not woken since it began to.
    Running,
    /// It runs, and wants to go on after this slice.
    Yielding,
    /// It waits for something in the host.
    Parked,
}

/// One subscription among those that go round.
#[derive(Debug, Clone)]
pub struct Seat {
    turns: Arc<Turns>,
    line: Line,
}

/// Where one handler runs at a time, at a subscription's seat.
#[derive(Debug)]
pub struct Place {
    inner: Arc<PlaceWaker>,
    /// Made once: it is what every call at this place is polled with.
    waker: Waker,
}

/// Wakes a place instead of its task: the task is woken when a turn comes.
#[derive(Debug)]
struct PlaceWaker {
    turns: Arc<Turns>,
    index: usize,
}

impl Turns {
    /// As many turns at once as given; at least one.
    #[must_use]
    pub fn new(at_once: usize) -> Arc<Self> {
        let state = State {
            free: at_once.max(1),
            queues: Vec::new(),
            round: VecDeque::new(),
            behind: VecDeque::new(),
            behind_has_one: false,
            places: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// As many as the machine runs threads at once.
    #[must_use]
    pub fn of_this_machine() -> Arc<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))
    }

    /// A seat for one more subscription.
    #[must_use]
    pub fn seat(self: &Arc<Self>) -> Seat {
        let mut state = self.lock();
        state.queues.push(VecDeque::new());
        Seat { turns: Arc::clone(self), line: Line::Queue(state.queues.len() - 1) }
    }

    /// A seat that gives way to all others.
    #[must_use]
    pub fn seat_behind(self: &Arc<Self>) -> Seat {
        Seat { turns: Arc::clone(self), line: Line::Behind }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // What the lock guards is changed in single steps that cannot panic: it is whole even if a holder died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn phase(&self, place: usize) -> Phase {
        self.places.get(place).map_or(Phase::Idle, |place| place.phase)
    }

    fn set(&mut self, place: usize, phase: Phase) {
        if let Some(place) = self.places.get_mut(place) {
            place.phase = phase;
        }
    }

    fn line(&self, place: usize) -> Option<Line> {
        self.places.get(place).map(|place| place.line)
    }

    fn enqueue(&mut self, place: usize) {
        let Some(PlaceState { line, phase, queued_at, .. }) = self.places.get_mut(place) else { return };
        match line {
            Line::Queue(queue) => {
                let index = *queue;
                let Some(queue) = self.queues.get_mut(index) else { return };
                if queue.is_empty() {
                    self.round.push_back(index);
                }
                queue.push_back(place);
            }
            Line::Behind => {
                self.behind.push_back(place);
                *queued_at = Some(Instant::now());
            }
        }
        *phase = Phase::Queued;
    }

    /// Takes a place out of where it waits.
    fn leave(&mut self, place: usize) {
        match self.line(place) {
            Some(Line::Queue(index)) => {
                let Some(queue) = self.queues.get_mut(index) else { return };
                queue.retain(|other| *other != place);
                if queue.is_empty() {
                    self.round.retain(|other| *other != index);
                }
            }
            Some(Line::Behind) => self.behind.retain(|other| *other != place),
            None => {}
        }
    }

    /// Takes a free turn, where there is one for this place.
    fn take(&mut self, place: usize) -> bool {
        let is_behind = self.line(place) == Some(Line::Behind);
        let takes = self.free > 0 && !(is_behind && self.behind_has_one);
        if takes {
            self.free -= 1;
            self.behind_has_one |= is_behind;
        }
        takes
    }

    /// Gives up the turn of a place. The task to wake, if any.
    fn give_up(&mut self, place: usize) -> Option<Waker> {
        if self.line(place) == Some(Line::Behind) {
            self.behind_has_one = false;
        }
        self.pass_on()
    }

    /// The place runs; what it waited for that, behind the others, is added up.
    fn begin(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place) {
            place.phase = Phase::Running;
            place.waited += place.queued_at.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// Gives a turn to the place that is next, or back to the free ones. The task to wake, if any.
    fn pass_on(&mut self) -> Option<Waker> {
        while let Some(index) = self.round.pop_front() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let Some(place) = queue.pop_front() else { continue };
            if !queue.is_empty() {
                self.round.push_back(index);
            }
            if let Some(place) = self.places.get_mut(place) {
                place.phase = Phase::Granted;
                return place.task.take();
            }
        }
        if !self.behind_has_one
            && let Some(place) = self.behind.pop_front().and_then(|place| self.places.get_mut(place))
        {
            self.behind_has_one = true;
            place.phase = Phase::Granted;
            return place.task.take();
        }
        self.free += 1;
        None
    }
}

impl Seat {
    /// A place for one handler at a time.
    #[must_use]
    pub fn place(&self) -> Place {
        let mut state = self.turns.lock();
        let (line, phase, waited) = (self.line, Phase::Idle, Duration::ZERO);
        state.places.push(PlaceState { line, phase, task: None, queued_at: None, waited });
        let inner = Arc::new(PlaceWaker { turns: Arc::clone(&self.turns), index: state.places.len() - 1 });
        let waker = Waker::from(Arc::clone(&inner));
        Place { inner, waker }
    }
}

impl Place {
    /// Runs a future, only while it has a turn.
    pub fn run<F: Future + Unpin>(&mut self, future: F) -> InTurn<'_, F> {
        InTurn { place: self, future, ended: false }
    }

    /// How long its calls stood behind the others since this was asked last; nothing where they do not.
    #[must_use]
    pub fn waited(&mut self) -> Duration {
        let mut state = self.inner.turns.lock();
        state.places.get_mut(self.inner.index).map(|place| std::mem::take(&mut place.waited)).unwrap_or_default()
    }
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.turns.lock();
        match state.phase(self.index) {
            Phase::Running => state.set(self.index, Phase::Yielding),
            Phase::Parked => {
                state.enqueue(self.index);
                if state.free > 0 {
                    state.free -= 1;
                    let task = state.pass_on();
                    drop(state);
                    if let Some(task) = task {
                        task.wake();
                    }
                }
            }
            Phase::Idle | Phase::Queued | Phase::Granted | Phase::Yielding => {}
        }
    }
}

/// A future that is polled only in turn.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct InTurn<'a, F> {
    place: &'a mut Place,
    future: F,
    /// It has ended: its place is idle, and nothing is to be taken back.
    ended: bool,
}

impl<F: Future + Unpin> Future for InTurn<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let PlaceWaker { turns, index } = &*this.place.inner;
        {
            let mut state = turns.lock();
            match state.phase(*index) {
                Phase::Idle if state.take(*index) => {}
                Phase::Idle => {
                    state.enqueue(*index);
                    return wait(state, *index, cx);
                }
                Phase::Granted => {}
                Phase::Queued | Phase::Parked | Phase::Running | Phase::Yielding => return wait(state, *index, cx),
            }
            state.begin(*index);
        }
        // The turn is passed on even when the call panics.
        let mut turn = Turn { turns, index: *index, cx, goes_on: false };
        let polled = Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.place.waker));
        turn.goes_on = polled.is_pending();
        drop(turn);
        this.ended = polled.is_ready();
        polled
    }
}

fn wait<T>(mut state: std::sync::MutexGuard<'_, State>, index: usize, cx: &Context<'_>) -> Poll<T> {
    if let Some(place) = state.places.get_mut(index) {
        place.task = Some(cx.waker().clone());
    }
    Poll::Pending
}

impl<F> Drop for InTurn<'_, F> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let PlaceWaker { turns, index } = &*self.place.inner;
        let mut state = turns.lock();
        let task = match state.phase(*index) {
            Phase::Granted => state.give_up(*index),
            Phase::Queued => {
                state.leave(*index);
                None
            }
            Phase::Idle | Phase::Running | Phase::Yielding | Phase::Parked => None,
        };
        state.set(*index, Phase::Idle);
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A turn in use. It is passed on when it is dropped.
struct Turn<'a, 'b> {
    turns: &'a Turns,
    index: usize,
    cx: &'a Context<'b>,
    /// The call has not ended and wants another turn, now or when it is woken.
    goes_on: bool,
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        if self.goes_on {
            if state.phase(self.index) == Phase::Yielding {
                state.enqueue(self.index);
            } else {
                state.set(self.index, Phase::Parked);
            }
            if let Some(place) = state.places.get_mut(self.index) {
                place.task = Some(self.cx.waker().clone());
            }
        } else {
            state.set(self.index, Phase::Idle);
        }
        let task = state.give_up(self.index);
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests say what went wrong by failing")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Yields so many times before it is done, and says when it is polled.
    fn slices(count: usize, mut polled: impl FnMut() + Unpin) -> impl Future<Output = ()> + Unpin {
        let mut left = count;
        futures_util::future::poll_fn(move |cx| {
            polled();
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn a_crowd_costs_a_neighbour_one_slice_a_turn() {
        let turns = Turns::new(1);
        let (crowd, single) = (turns.seat(), turns.seat());
        let crowd_slices = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (mut place, count) = (crowd.place(), Arc::clone(&crowd_slices));
            tasks.spawn(async move {
                let polled = || {
                    count.fetch_add(1, Ordering::Relaxed);
                };
                place.run(slices(1000, polled)).await;
            });
        }
        // The crowd stands in its queue before the single one comes.
        while crowd_slices.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        let count = Arc::clone(&crowd_slices);
        let alone = tokio::spawn(async move {
            let before = count.load(Ordering::Relaxed);
            single.place().run(slices(20, || {})).await;
            count.load(Ordering::Relaxed) - before
        });
        let meanwhile = alone.await.unwrap();
        assert!(meanwhile <= 21 + 2, "21 slices of one waited for {meanwhile} of the crowd");
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn a_call_that_waits_in_the_host_holds_no_turn() {
        let turns = Turns::new(1);
        let seat = turns.seat();
        let (open, wait) = tokio::sync::oneshot::channel::<()>();
        let mut parked = seat.place();
        let parked = tokio::spawn(async move { parked.run(wait).await });
        while turns.lock().phase(0) != Phase::Parked {
            tokio::task::yield_now().await;
        }
        seat.place().run(slices(5, || {})).await;
        open.send(()).unwrap();
        parked.await.unwrap().unwrap();
        assert_eq!(turns.lock().free, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_turn_comes_back_whatever_is_dropped() {
        let turns = Turns::new(2);
        runs_and_drops(&[turns.seat(), turns.seat(), turns.seat()], 90).await;
        let state = turns.lock();
        assert_eq!((state.free, state.round.len()), (2, 0));
    }

    /// Calls at these seats by so many tasks, of which every fifth is dropped while it waits, holds a turn, or was never
    /// polled.
    async fn runs_and_drops(seats: &[Seat; 3], tasks: usize) {
        let mut running = tokio::task::JoinSet::new();
        for index in 0..tasks {
            let mut place = seats.get(index % 3).unwrap().place();
            running.spawn(async move {
                for call in 0..20usize {
                    let mut run = place.run(slices(10, || {}));
                    if (index + call) % 5 == 0 {
                        for _ in 0..call % 4 {
                            let _ = futures_util::poll!(&mut run);
                        }
                    } else {
                        run.await;
                    }
                }
            });
        }
        running.join_all().await;
    }

    /// Runs slices at a place until it is told to stop, and counts them.
    async fn spins(mut place: Place, count: Arc<AtomicUsize>, stop: tokio_util::sync::CancellationToken) {
        while !stop.is_cancelled() {
            let polled = || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            place.run(slices(20, polled)).await;
        }
    }

    #[tokio::test]
    async fn whoever_stands_behind_runs_when_nobody_else_wants_to() {
        let turns = Turns::new(1);
        let (real, behind) = (turns.seat(), turns.seat_behind());
        let count = || Arc::new(AtomicUsize::new(0));
        let (shadows, others) = ([count(), count()], count());
        let (stop, stop_all) = (tokio_util::sync::CancellationToken::new(), tokio_util::sync::CancellationToken::new());
        let mut tasks = tokio::task::JoinSet::new();
        for shadow in &shadows {
            tasks.spawn(spins(behind.place(), Arc::clone(shadow), stop_all.clone()));
        }
        let reached = |count: &Arc<AtomicUsize>, goal: usize| {
            let count = Arc::clone(count);
            async move {
                while count.load(Ordering::Relaxed) < goal {
                    tokio::task::yield_now().await;
                }
            }
        };
        for shadow in &shadows {
            reached(shadow, 100).await;
        }
        // Two, so that one of them waits whenever the other ends a slice.
        for _ in 0..2 {
            tasks.spawn(spins(real.place(), Arc::clone(&others), stop.clone()));
        }
        reached(&others, 100).await;
        let before: Vec<usize> = shadows.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        reached(&others, 2_000).await;
        let after: Vec<usize> = shadows.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(before, after, "they ran while others wanted to");
        stop.cancel();
        for (shadow, before) in shadows.iter().zip(before) {
            reached(shadow, before + 100).await;
        }
        stop_all.cancel();
        tasks.join_all().await;
        let state = turns.lock();
        assert_eq!((state.free, state.round.len(), state.behind.len(), state.behind_has_one), (1, 0, 0, false));
    }

    #[tokio::test]
    async fn all_that_stand_behind_have_one_turn_together_and_know_how_long_they_waited() {
        let turns = Turns::new(3);
        let behind = turns.seat_behind();
        let (mut one, mut other) = (behind.place(), behind.place());
        let mut first = one.run(slices(3, || {}));
        let _ = futures_util::poll!(&mut first);
        assert_eq!(turns.lock().free, 2, "it goes on at its next poll");
        let mut second = other.run(slices(0, || {}));
        assert!(futures_util::poll!(&mut second).is_pending(), "one has the turn");
        assert_eq!(turns.lock().behind.len(), 1);
        drop(first);
        second.await;
        assert!(other.waited() > Duration::ZERO && other.waited().is_zero(), "it is told once");
        let state = turns.lock();
        assert_eq!((state.free, state.behind_has_one), (3, false));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_turn_comes_back_from_behind_whatever_is_dropped() {
        let turns = Turns::new(2);
        runs_and_drops(&[turns.seat(), turns.seat_behind(), turns.seat_behind()], 60).await;
        let state = turns.lock();
        assert_eq!((state.free, state.round.len(), state.behind.len(), state.behind_has_one), (2, 0, 0, false));
    }
}
