//! Seats and queues of one priority level.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use object::Object;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// `PriorityLevelConfiguration`, read.
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) uid: String,
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
            uid: object.head.uid.clone(),
            shares: number(&part["nominalConcurrencyShares"], if is_exempt { 0 } else { 30 }),
            is_exempt,
            lendable_percent: number(&part["lendablePercent"], 0).min(100),
            borrowing_percent: part["borrowingLimitPercent"].as_u64(),
            queues,
        })
    }
}

#[derive(Debug, Default)]
struct State {
    /// Seats of its own.
    nominal: usize,
    /// How many of them it lends at most.
    lendable: usize,
    /// How many of others' it takes at most.
    borrowing: Option<usize>,
    in_use: usize,
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    hand: usize,
    length: usize,
    /// The queue whose turn it is.
    turn: usize,
    refuses: bool,
}

/// One level.
#[derive(Debug)]
pub(super) struct Level {
    uid: String,
    is_exempt: bool,
    state: Mutex<State>,
}

/// A seat. Dropped, it goes to whoever waits; also when it was given to one who left at that moment.
#[derive(Debug)]
pub(crate) struct Seat(Option<Arc<Level>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(level) = self.0.take() {
            level.release();
        }
    }
}

impl Level {
    pub(super) fn new(settings: &Settings, seats: usize) -> Self {
        let level =
            Self { uid: settings.uid.clone(), is_exempt: settings.is_exempt, state: Mutex::new(State::default()) };
        level.set(settings, seats);
        level
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.is_exempt
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
    fn lent(&self) -> usize {
        let state = self.state.lock();
        state.nominal.saturating_sub(state.in_use).min(state.lendable)
    }

    /// A seat, now or later; `None` when it is refused. Dropping the future gives up waiting.
    pub(super) async fn acquire(self: Arc<Self>, flow: &str, others: &[Arc<Self>]) -> Option<Seat> {
        let waiting = {
            // What others lend is looked at before our own lock is taken: never two locks at once.
            let lent: usize = others.iter().map(|level| level.lent()).sum();
            let mut state = self.state.lock();
            let borrowed = state.borrowing.map_or(lent, |most| lent.min(most));
            if state.in_use < state.nominal + borrowed {
                state.in_use += 1;
                drop(state);
                return Some(Seat(Some(self)));
            }
            if state.refuses || state.queues.is_empty() {
                return None;
            }
            let queue = shortest(&mut state, flow);
            let length = state.length;
            if state.queues[queue].len() >= length {
                // Those who gave up take no place.
                state.queues[queue].retain(|waiter| !waiter.is_closed());
                if state.queues[queue].len() >= length {
                    return None;
                }
            }
            let (given, waiting) = oneshot::channel();
            state.queues[queue].push_back(given);
            waiting
        };
        waiting.await.ok()
    }

    /// Gives a seat on to the next queue's first, or frees it.
    fn release(self: Arc<Self>) {
        let mut seat = Seat(Some(self.clone()));
        let mut state = self.state.lock();
        let count = state.queues.len();
        for _ in 0..count {
            let turn = state.turn;
            state.turn = (turn + 1) % count;
            while let Some(waiter) = state.queues[turn].pop_front() {
                // One that gave up is passed over.
                match waiter.send(seat) {
                    Ok(()) => return,
                    Err(back) => seat = back,
                }
            }
        }
        seat.0 = None;
        state.in_use = state.in_use.saturating_sub(1);
    }
}

/// The shortest of the queues that the flow is dealt: a busy flow fills its own hand, and hardly all of another's.
fn shortest(state: &mut State, flow: &str) -> usize {
    let count = state.queues.len();
    let mut hasher = DefaultHasher::new();
    flow.hash(&mut hasher);
    let mut rest = hasher.finish();
    let mut deck: Vec<usize> = (0..count).collect();
    let mut best = None;
    for _ in 0..state.hand.min(count) {
        let pick = deck.swap_remove((rest % deck.len() as u64) as usize);
        rest = (rest / 7) ^ rest.rotate_left(13);
        let length = state.queues[pick].len();
        if best.is_none_or(|(_, least)| length < least) {
            best = Some((pick, length));
        }
    }
    best.map_or(0, |(queue, _)| queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(seats: usize, queues: Option<(usize, usize, usize)>, lendable_percent: u64) -> Arc<Level> {
        let settings = Settings {
            name: "l".into(),
            uid: "u".into(),
            shares: 1,
            is_exempt: false,
            lendable_percent,
            borrowing_percent: None,
            queues,
        };
        Arc::new(Level::new(&settings, seats))
    }

    #[tokio::test]
    async fn seats_queues_and_refusals() {
        let full = level(1, Some((1, 1, 1)), 0);
        let first = full.clone().acquire("a", &[]).await.unwrap();
        let mut second = Box::pin(full.clone().acquire("b", &[]));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(full.clone().acquire("c", &[]).await.is_none(), "the queue is full");
        drop(first);
        let second = second.await.unwrap();
        let mut gone = Box::pin(full.clone().acquire("d", &[]));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        drop(second);
        assert!(full.clone().acquire("e", &[]).await.is_some(), "who gave up holds nothing");
        let strict = level(1, None, 0);
        let _seat = strict.clone().acquire("a", &[]).await.unwrap();
        assert!(strict.acquire("a", &[]).await.is_none());
    }

    #[tokio::test]
    async fn idle_levels_lend() {
        let (busy, idle) = (level(1, None, 0), level(4, None, 50));
        let others = [idle.clone()];
        let mut seats = Vec::new();
        while let Some(seat) = busy.clone().acquire("a", &others).await {
            seats.push(seat);
        }
        assert_eq!(seats.len(), 3, "one of its own and half of the other's");
        assert!(idle.acquire("b", &[]).await.is_some());
    }

    #[tokio::test]
    async fn flows_take_turns() {
        let level = level(1, Some((8, 1, 10)), 0);
        let seat = level.clone().acquire("x", &[]).await.unwrap();
        let queue_of = |flow: &str| shortest(&mut level.state.lock(), flow);
        let other = (0..100).map(|i| format!("flow-{i}")).find(|flow| queue_of(flow) != queue_of("many")).unwrap();
        let mut many: Vec<_> = (0..5).map(|_| Box::pin(level.clone().acquire("many", &[]))).collect();
        for waiting in &mut many {
            assert!(futures::poll!(waiting.as_mut()).is_pending());
        }
        let mut single = Box::pin(level.clone().acquire(&other, &[]));
        assert!(futures::poll!(&mut single).is_pending());
        // Two seats become free: one goes to each flow, however many wait in the one.
        drop(seat);
        let first = futures::poll!(many[0].as_mut());
        drop(first);
        assert!(futures::poll!(&mut single).is_ready(), "the other flow's turn comes second at the latest");
    }
}
