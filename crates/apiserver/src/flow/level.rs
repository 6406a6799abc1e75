//! Seats and queues of one priority level.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use object::Object;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::classify::{Schema, uid_of};
use crate::metrics::flow::Limits;

/// A request takes at most this many seats.
const MOST_SEATS: usize = 10;

/// `PriorityLevelConfiguration`, read.
pub(super) struct Settings {
    pub(super) name: String,
    uid: HeaderValue,
    pub(super) shares: u64,
    is_exempt: bool,
    lendable_percent: u64,
    borrowing_percent: Option<u64>,
    /// Number of queues, of queues that a flow chooses from, and of requests in each; none: excess is refused at once.
    queues: Option<(usize, usize, usize)>,
}

impl Settings {
    pub(super) fn of(object: &Object) -> Option<Self> {
        let value = object.value().ok()?;
        let spec = &value["spec"];
        let is_exempt = spec["type"] == "Exempt";
        let part = if is_exempt { &spec["exempt"] } else { &spec["limited"] };
        let number = |value: &serde_json::Value, or: u64| value.as_u64().unwrap_or(or);
        let response = &spec["limited"]["limitResponse"];
        let queuing = &response["queuing"];
        let size = |key: &str, or: u64| number(&queuing[key], or) as usize;
        let queues = (response["type"] == "Queue")
            .then(|| (size("queues", 64).max(1), size("handSize", 8).max(1), size("queueLengthLimit", 50)));
        Some(Self {
            name: object.head.name.clone(),
            uid: uid_of(object)?,
            shares: number(&part["nominalConcurrencyShares"], if is_exempt { 0 } else { 30 }),
            is_exempt,
            lendable_percent: number(&part["lendablePercent"], 0).min(100),
            borrowing_percent: part["borrowingLimitPercent"].as_u64(),
            queues,
        })
    }
}

/// A request that wants seats.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) schema: Arc<Schema>,
    /// What distinguishes its flow from others of the schema.
    pub(super) flow: String,
    pub(super) seats: usize,
}

/// What came of it.
pub(super) enum Outcome {
    Seat(Seat),
    /// For so many seats; dropping it gives up.
    Wait(oneshot::Receiver<Seat>, usize),
    Refused,
}

/// A request as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) schema: Arc<Schema>,
    pub(super) flow: String,
    pub(super) seats: usize,
    /// Seconds since 1970.
    pub(super) arrived: i64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) told: Told,
    give: oneshot::Sender<Seat>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Seats of its own.
    nominal: usize,
    /// How many of them it lends at most.
    lendable: usize,
    /// How many of others' it takes at most.
    borrowing: Option<usize>,
    /// How many it may take now, as far as is known.
    borrowed: usize,
    pub(super) in_use: usize,
    /// In all queues.
    pub(super) waiting: usize,
    pub(super) executing: u64,
    pub(super) queues: Vec<VecDeque<Waiter>>,
    hand: usize,
    length: usize,
    /// The queue whose turn it is.
    turn: usize,
    refuses: bool,
    pub(super) dispatched: u64,
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
}

/// One level.
#[derive(Debug)]
pub(super) struct Level {
    uid: HeaderValue,
    is_exempt: bool,
    state: Mutex<State>,
    /// Of an exempt level: how many run, how many have run.
    passing: AtomicU64,
    passed: AtomicU64,
}

/// Seats of a request. Dropped, they go to whoever waits; also when they were given to one who left at that moment.
#[derive(Debug)]
pub(crate) struct Seat {
    level: Option<Arc<Level>>,
    seats: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self.level.take() {
            Some(level) if level.is_exempt => drop(level.passing.fetch_sub(1, Ordering::Relaxed)),
            Some(level) => level.release(self.seats),
            None => {}
        }
    }
}

impl Seat {
    /// How many they are.
    pub(crate) fn seats(&self) -> usize {
        self.seats
    }
}

impl Level {
    pub(super) fn new(settings: &Settings, seats: usize) -> Self {
        let level = Self {
            uid: settings.uid.clone(),
            is_exempt: settings.is_exempt,
            state: Mutex::default(),
            passing: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        };
        level.set(settings, seats);
        level
    }

    pub(super) fn uid(&self) -> &HeaderValue {
        &self.uid
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// True when it is the level of these settings, perhaps changed.
    pub(super) fn is_still(&self, settings: &Settings) -> bool {
        self.uid == settings.uid && self.is_exempt == settings.is_exempt
    }

    /// Takes over changed settings; whoever waits goes on waiting.
    pub(super) fn set(&self, settings: &Settings, seats: usize) {
        let mut state = self.state.lock();
        state.nominal = seats;
        state.lendable = seats * settings.lendable_percent as usize / 100;
        state.borrowing = settings.borrowing_percent.map(|percent| seats * percent as usize / 100);
        state.refuses = settings.queues.is_none();
        let (queues, hand, length) = settings.queues.unwrap_or((0, 0, 0));
        (state.hand, state.length) = (hand, length);
        if state.queues.len() < queues {
            state.queues.resize_with(queues, VecDeque::new);
        }
    }

    /// Seats that others may use now.
    pub(super) fn lent(&self) -> usize {
        let state = self.state.lock();
        state.nominal.saturating_sub(state.in_use).min(state.lendable)
    }

    /// How many seats it has; `all` is what all levels have together.
    pub(super) fn limits(&self, all: usize) -> Limits {
        let state = self.state.lock();
        Limits {
            nominal: state.nominal,
            lower: state.nominal - state.lendable,
            upper: state.nominal + state.borrowing.unwrap_or(all),
            current: state.nominal + state.borrowed,
        }
    }

    /// How many requests run, wait, and have run; of an exempt level.
    pub(super) fn passes(&self) -> (u64, u64) {
        (self.passing.load(Ordering::Relaxed), self.passed.load(Ordering::Relaxed))
    }

    /// Shows its state.
    pub(super) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.state.lock())
    }

    /// Lets a request of an exempt level through.
    pub(super) fn pass(self: &Arc<Self>) -> Seat {
        self.passing.fetch_add(1, Ordering::Relaxed);
        self.passed.fetch_add(1, Ordering::Relaxed);
        Seat { level: Some(self.clone()), seats: 0 }
    }

    pub(super) fn timed_out(&self) {
        self.state.lock().timed_out += 1;
    }

    /// Seats now, later, or not. `lent` counts what other levels lend now: it is only asked for when the own seats do not do.
    pub(super) fn acquire(self: &Arc<Self>, mut asked: Asked, lent: impl FnOnce() -> usize) -> Outcome {
        let mut state = self.state.lock();
        // As upstream: no request takes more than three twentieths of its level.
        asked.seats = asked.seats.min(MOST_SEATS).min((state.nominal * 3).div_ceil(20)).max(1);
        if state.waiting > 0 || state.in_use + asked.seats > state.nominal {
            // Never two locks at once.
            drop(state);
            let lent = lent();
            state = self.state.lock();
            state.borrowed = state.borrowing.map_or(lent, |most| lent.min(most));
            // Nobody overtakes those who wait.
            if state.waiting > 0 || state.in_use + asked.seats > state.nominal + state.borrowed {
                let outcome = self.queue(&mut state, asked);
                self.give(&mut state);
                return outcome;
            }
        }
        state.take(asked.seats);
        Outcome::Seat(Seat { level: Some(self.clone()), seats: asked.seats })
    }

    fn queue(&self, state: &mut State, asked: Asked) -> Outcome {
        if state.refuses || state.queues.is_empty() {
            state.rejected += 1;
            return Outcome::Refused;
        }
        let queue = shortest(state, &asked.schema.name, &asked.flow);
        let length = state.length;
        let before = state.queues[queue].len();
        if before >= length {
            // Those who gave up take no place.
            state.queues[queue].retain(|waiter| !waiter.give.is_closed());
            let now = state.queues[queue].len();
            state.waiting -= before - now;
            if now >= length {
                state.rejected += 1;
                return Outcome::Refused;
            }
        }
        let (give, waiting) = oneshot::channel();
        let Asked { schema, flow, seats } = asked;
        let told = Told { schema, flow, seats, arrived: base::time::now_seconds() };
        state.queues[queue].push_back(Waiter { told, give });
        state.waiting += 1;
        Outcome::Wait(waiting, seats)
    }

    fn release(self: Arc<Self>, seats: usize) {
        let mut state = self.state.lock();
        state.free(seats);
        self.give(&mut state);
    }

    /// Gives free seats to those who wait: the queues take turns.
    fn give(self: &Arc<Self>, state: &mut State) {
        let count = state.queues.len();
        let mut empty = 0;
        while state.waiting > 0 && empty < count {
            let turn = state.turn;
            let Some(wanted) = state.queues[turn].front().map(|waiter| waiter.told.seats) else {
                state.turn = (turn + 1) % count;
                empty += 1;
                continue;
            };
            // Alone, everybody gets what he wants.
            if state.in_use > 0 && state.in_use + wanted > state.nominal + state.borrowed {
                return;
            }
            let Some(waiter) = state.queues[turn].pop_front() else { return };
            state.waiting -= 1;
            state.turn = (turn + 1) % count;
            empty = 0;
            state.take(wanted);
            if let Err(mut back) = waiter.give.send(Seat { level: Some(self.clone()), seats: wanted }) {
                // It gave up. Its seats are not given back through the lock that is held.
                back.level = None;
                state.free(wanted);
                state.dispatched -= 1;
            }
        }
    }
}

impl State {
    fn free(&mut self, seats: usize) {
        self.in_use = self.in_use.saturating_sub(seats);
        self.executing = self.executing.saturating_sub(1);
    }

    fn take(&mut self, seats: usize) {
        self.in_use += seats;
        self.executing += 1;
        self.dispatched += 1;
    }
}

/// The shortest of the queues that the flow is dealt: a busy flow fills its own hand, and hardly all of another's.
fn shortest(state: &mut State, schema: &str, flow: &str) -> usize {
    let count = state.queues.len();
    let mut hasher = DefaultHasher::new();
    (schema, flow).hash(&mut hasher);
    let mut rest = hasher.finish();
    let mut deck: Vec<usize> = (0..count).collect();
    let mut best = None;
    for _ in 0..state.hand.min(count) {
        // Each card takes its part of the hash: the hands of two flows have nothing to do with one another.
        let cards = deck.len() as u64;
        let pick = deck.swap_remove((rest % cards) as usize);
        rest = (rest / cards) ^ rest.rotate_left(29);
        let length = state.queues[pick].len();
        if best.is_none_or(|(_, least)| length < least) {
            best = Some((pick, length));
        }
    }
    best.map_or(0, |(queue, _)| queue)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn level(seats: usize, queues: Option<(usize, usize, usize)>, lendable_percent: u64) -> Arc<Level> {
        let settings = Settings {
            name: "l".into(),
            uid: HeaderValue::from_static("u"),
            shares: 1,
            is_exempt: false,
            lendable_percent,
            borrowing_percent: None,
            queues,
        };
        Arc::new(Level::new(&settings, seats))
    }

    fn asked(flow: &str, seats: usize) -> Asked {
        let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "s", "uid": "u"}});
        let schema = Arc::new(Schema::of(&Object::from_value(&schema).unwrap()).unwrap());
        Asked { schema, flow: flow.into(), seats }
    }

    fn acquire(level: &Arc<Level>, flow: &str, seats: usize) -> Outcome {
        level.acquire(asked(flow, seats), || 0)
    }

    fn seat(outcome: Outcome) -> Seat {
        let Outcome::Seat(seat) = outcome else { panic!("no seat") };
        seat
    }

    fn waiting(outcome: Outcome) -> oneshot::Receiver<Seat> {
        let Outcome::Wait(waiting, _) = outcome else { panic!("it does not wait") };
        waiting
    }

    #[test]
    fn seats_queues_and_refusals() {
        let full = level(1, Some((1, 1, 1)), 0);
        let first = seat(acquire(&full, "a", 1));
        let mut second = waiting(acquire(&full, "b", 1));
        assert!(second.try_recv().is_err());
        assert!(matches!(acquire(&full, "c", 1), Outcome::Refused), "the queue is full");
        drop(first);
        let second = second.try_recv().unwrap();
        drop(waiting(acquire(&full, "d", 1)));
        drop(second);
        drop(seat(acquire(&full, "e", 1)));
        assert_eq!(
            full.look(|s| (s.in_use, s.executing, s.dispatched, s.rejected)),
            (0, 0, 3, 1),
            "who gave up holds nothing"
        );
        let strict = level(1, None, 0);
        let _seat = seat(acquire(&strict, "a", 1));
        assert!(matches!(acquire(&strict, "a", 1), Outcome::Refused));
    }

    #[test]
    fn idle_levels_lend() {
        let (busy, idle) = (level(1, None, 0), level(4, None, 50));
        let mut seats = Vec::new();
        while let Outcome::Seat(seat) = busy.acquire(asked("a", 1), || idle.lent()) {
            seats.push(seat);
        }
        assert_eq!(seats.len(), 3, "one of its own and half of the other's");
        seat(acquire(&idle, "b", 1));
    }

    #[test]
    fn wide_requests_take_more_seats_and_wait_for_all_of_them() {
        let level = level(40, Some((4, 1, 10)), 0);
        let mut wide: Vec<Seat> = (0..6).map(|_| seat(acquire(&level, "lists", 50))).collect();
        assert_eq!(level.look(|s| s.in_use), 36, "six of the forty each");
        let mut last = waiting(acquire(&level, "lists", 50));
        let narrow = waiting(acquire(&level, "gets", 1));
        // Those who come later wait behind it, though there would be a seat.
        let mut behind = waiting(acquire(&level, "lists", 1));
        assert!(last.try_recv().is_err());
        wide.pop();
        assert!(last.try_recv().is_ok() && behind.try_recv().is_ok());
        drop((wide, narrow));
        assert_eq!(level.look(|s| (s.in_use, s.executing)), (0, 0));
    }

    #[test]
    fn flows_take_turns() {
        let level = level(1, Some((8, 1, 10)), 0);
        let running = seat(acquire(&level, "x", 1));
        let queue_of = |flow: &str| shortest(&mut level.state.lock(), "s", flow);
        let other = (0..100).map(|i| format!("flow-{i}")).find(|flow| queue_of(flow) != queue_of("many")).unwrap();
        let mut many: Vec<_> = (0..5).map(|_| waiting(acquire(&level, "many", 1))).collect();
        let mut single = waiting(acquire(&level, &other, 1));
        // Two seats become free: one goes to each flow, however many wait in the one.
        drop(running);
        drop(many[0].try_recv());
        assert!(single.try_recv().is_ok(), "the other flow's turn comes second at the latest");
    }
}
