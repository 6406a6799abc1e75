//! Exponential back-off with jitter.

use std::time::Duration;

/// Exponential back-off: `first`, doubled each time up to `most`, each wait spread by up to 20 %.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`, never waits longer than `most` (plus jitter).
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }
    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        wait.mul_f64(1.0 + rand::random::<f64>() * 0.2)
    }
    /// After success: begin anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
