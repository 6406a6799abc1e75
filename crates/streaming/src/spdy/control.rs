//! What must be told without waiting in the queue: windows to grow, streams that were dropped.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame::{CANCEL, Frame};

/// Windows are grown when half of them was taken.
const WORTH_TELLING: u32 = 32 * 1024;

#[derive(Default)]
struct State {
    /// Bytes that were taken and not told yet; stream 0 is the whole connection.
    taken: HashMap<u32, u32>,
    /// At most one for each stream that was open.
    resets: Vec<u32>,
}

#[derive(Default)]
pub(super) struct Control {
    state: Mutex<State>,
    wake: Notify,
}

impl Control {
    /// `count` bytes of `stream` were taken; `None` when the stream is over.
    pub(super) fn took(&self, stream: Option<u32>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut state = self.state.lock();
        let mut worth = false;
        for id in [Some(0), stream].into_iter().flatten() {
            let taken = state.taken.entry(id).or_default();
            *taken = taken.saturating_add(count);
            worth |= *taken >= WORTH_TELLING;
        }
        drop(state);
        if worth {
            self.wake.notify_one();
        }
    }

    /// Nothing more comes on the stream: no need to tell of its window.
    pub(super) fn forget(&self, stream: u32) {
        self.state.lock().taken.remove(&stream);
    }

    pub(super) fn reset(&self, stream: u32) {
        self.state.lock().resets.push(stream);
        self.wake.notify_one();
    }

    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// What there is to tell.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let mut state = self.state.lock();
        let worth = |(stream, taken): (&u32, &mut u32)| {
            (*taken >= WORTH_TELLING).then(|| Frame::Window { stream: *stream, more: std::mem::take(taken) })
        };
        let mut frames: Vec<Frame> = state.taken.iter_mut().filter_map(worth).collect();
        frames.extend(state.resets.drain(..).map(|stream| Frame::Reset { stream, code: CANCEL }));
        frames
    }
}
