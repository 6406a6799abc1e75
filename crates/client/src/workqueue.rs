//! A work queue of keys: each key once, fair, never two workers on one key, exponential back-off per key.
//!
//! ```text
//! add ----------> ready --get--> processing --done--> (dirty again? -> ready)
//! add_after ----> waiting --time--^
//! ```
//! A key that is added while it is being processed comes again after [`WorkQueue::done`].

mod counted;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use counted::Counted;

/// The back-off of the first retry and the longest one, as upstream's `DefaultTypedControllerRateLimiter`.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1000));

/// See the module. Cheap to clone; all clones are one queue.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that are to be processed: in `ready`, or to be put there when their processing is done.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    waiting: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What the heap's tickets stand for; a ticket that is not here was overtaken by an earlier one.
    tickets: HashMap<u64, K>,
    due: HashMap<K, (Instant, u64)>,
    next_ticket: u64,
    failures: HashMap<K, u32>,
    closed: bool,
    /// Of a queue that has a name.
    counted: Option<Counted<K>>,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        if let Some(counted) = &mut self.counted {
            counted.added(&key);
        }
        if self.processing.contains(&key) {
            return false;
        }
        self.push(key);
        true
    }

    fn push(&mut self, key: K) {
        if let Some(counted) = &self.counted {
            counted.ready();
        }
        self.ready.push_back(key);
    }

    /// Moves what is due to `ready`; when the next one is due.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, ticket))) = self.waiting.peek().copied() {
            let Some(key) = self.tickets.get(&ticket).cloned() else {
                self.waiting.pop();
                continue;
            };
            if at > now {
                return Some(at);
            }
            self.waiting.pop();
            self.tickets.remove(&ticket);
            self.due.remove(&key);
            self.add(key);
        }
        None
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            waiting: BinaryHeap::new(),
            tickets: HashMap::new(),
            due: HashMap::new(),
            next_ticket: 0,
            failures: HashMap::new(),
            closed: false,
            counted: None,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), wake: Notify::new() }) }
    }

    /// An empty queue whose metrics carry this name.
    pub fn named(name: &str) -> Self {
        let queue = Self::new();
        queue.inner.state.lock().counted = Some(Counted::new(name));
        queue
    }

    /// Adds a key, unless it waits in the queue already.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key) {
            self.inner.wake.notify_one();
        }
    }

    /// Adds a key after `wait`. Of several waits for one key the earliest counts.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + wait;
        let mut state = self.inner.state.lock();
        if state.closed || state.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        if let Some((_, overtaken)) = state.due.insert(key.clone(), (at, ticket)) {
            state.tickets.remove(&overtaken);
        }
        state.tickets.insert(ticket, key);
        state.waiting.push(Reverse((at, ticket)));
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Adds a key after its back-off: 5 ms, doubled each time until [`WorkQueue::forget`], at most 1000 s.
    pub fn add_rate_limited(&self, key: K) {
        let wait = {
            let mut state = self.inner.state.lock();
            if let Some(counted) = &state.counted {
                counted.retried();
            }
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            BACKOFF.0.saturating_mul(1u32.checked_shl(*failures - 1).unwrap_or(u32::MAX)).min(BACKOFF.1)
        };
        self.add_after(key, wait);
    }

    /// The key did well: its next back-off is the first one again.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often the key was added with back-off since it was forgotten.
    pub fn retries(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key to work on; `None` once the queue is shut down and drained. Every key that is got must be given to
    /// [`WorkQueue::done`].
    pub async fn get(&self) -> Option<K> {
        loop {
            let woken = self.inner.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let next = {
                let mut state = self.inner.state.lock();
                let next = state.advance(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    if let Some(counted) = &mut state.counted {
                        counted.begun(&key);
                    }
                    // Another worker takes what is left, or watches the clock for what waits.
                    if !state.ready.is_empty() || next.is_some() {
                        self.inner.wake.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    return None;
                }
                next
            };
            match next {
                None => woken.await,
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// The work on a key ended (well or not).
    pub fn done(&self, key: &K) {
        let mut state = self.inner.state.lock();
        state.processing.remove(key);
        if let Some(counted) = &mut state.counted {
            counted.done(key);
        }
        if state.dirty.contains(key) {
            state.push(key.clone());
            drop(state);
            self.inner.wake.notify_one();
        }
    }

    /// Takes no more keys; workers get what is ready and then `None`.
    pub fn shut_down(&self) {
        let mut state = self.inner.state.lock();
        state.closed = true;
        state.waiting.clear();
        state.tickets.clear();
        state.due.clear();
        drop(state);
        self.inner.wake.notify_waiters();
    }

    /// Keys that are ready (`workqueue_depth`).
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    /// True when no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when no key is ready and none is being worked on. Keys that wait for their time do not count.
    pub fn is_idle(&self) -> bool {
        let state = self.inner.state.lock();
        state.ready.is_empty() && state.processing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_in_order() {
        let queue = WorkQueue::new();
        for key in ["a", "b", "a", "c", "b"] {
            queue.add(key);
        }
        assert_eq!(queue.len(), 3);
        for wanted in ["a", "b", "c"] {
            let key = queue.get().await.unwrap();
            assert_eq!(key, wanted);
            queue.done(&key);
        }
        queue.shut_down();
        assert_eq!(queue.get().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_work_is_told() {
        let queue = WorkQueue::named("unfinished");
        queue.add("a");
        queue.add("b");
        let first = queue.get().await.unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        queue.get().await.unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        let told = |metric: &str| {
            let line = format!("workqueue_{metric}_seconds{{name=\"unfinished\"}} ");
            base::metrics::text().lines().find_map(|l| l.strip_prefix(&line).map(str::to_owned)).unwrap()
        };
        assert_eq!((told("unfinished_work"), told("longest_running_processor")), ("8".into(), "5".into()));
        queue.done(&first);
        assert_eq!((told("unfinished_work"), told("longest_running_processor")), ("3".into(), "3".into()));
    }

    #[tokio::test]
    async fn never_two_workers_on_one_key() {
        let queue = WorkQueue::new();
        queue.add("a");
        let key = queue.get().await.unwrap();
        queue.add("a");
        assert!(queue.is_empty(), "the key is being processed");
        queue.done(&key);
        assert_eq!(queue.get().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_until_forgotten() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..4 {
            queue.add_rate_limited("a");
            let before = Instant::now();
            let key = queue.get().await.unwrap();
            waits.push(before.elapsed().as_millis());
            queue.done(&key);
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        assert_eq!(queue.retries(&"a"), 4);
        queue.forget(&"a");
        queue.add_rate_limited("a");
        queue.get().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 80);
        for _ in 0..100 {
            queue.add_rate_limited("z");
        }
        assert_eq!(queue.retries(&"z"), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts_and_one_arrival_comes() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::from_secs(20));
        let key = queue.get().await.unwrap();
        assert_eq!((key, start.elapsed().as_secs()), ("a", 2));
        queue.done(&key);
        assert_eq!(queue.get().await, Some("b"));
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeping_worker_notices_an_earlier_delay() {
        let queue = WorkQueue::new();
        queue.add_after("late", Duration::from_secs(100));
        let other = queue.clone();
        let (first, ()) = tokio::join!(queue.get(), async {
            tokio::task::yield_now().await;
            other.add_after("soon", Duration::from_secs(1));
        });
        assert_eq!(first, Some("soon"));
    }
}
