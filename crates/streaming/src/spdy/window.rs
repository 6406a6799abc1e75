//! How much may be sent: SPDY/3.1's windows, of each stream and of the whole connection.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

const INITIAL: i64 = 64 * 1024;
const MOST: i64 = i32::MAX as i64;

struct State {
    /// The other side has shown that it knows windows; without that, none is minded.
    minded: bool,
    initial: i64,
    session: i64,
    streams: HashMap<u32, i64>,
}

pub(super) struct Windows {
    state: Mutex<State>,
    changed: Notify,
}

/// The stream takes nothing any more.
#[derive(Debug)]
pub(super) struct Closed;

impl Default for Windows {
    fn default() -> Self {
        let state = State { minded: false, initial: INITIAL, session: INITIAL, streams: HashMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl Windows {
    pub(super) fn open(&self, stream: u32) {
        let mut state = self.state.lock();
        let initial = state.initial;
        state.streams.insert(stream, initial);
    }

    pub(super) fn close(&self, stream: u32) {
        self.state.lock().streams.remove(&stream);
        self.changed.notify_waiters();
    }

    /// Streams that are open for sending.
    pub(super) fn count(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// Waits until something may be sent on the stream, `want` at most.
    pub(super) async fn reserve(&self, stream: u32, want: usize) -> Result<usize, Closed> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on a change is not missed.
            changed.as_mut().enable();
            if let Some(granted) = self.take(stream, want)? {
                return Ok(granted);
            }
            changed.await;
        }
    }

    fn take(&self, stream: u32, want: usize) -> Result<Option<usize>, Closed> {
        let mut state = self.state.lock();
        let State { minded, session, streams, .. } = &mut *state;
        let window = streams.get_mut(&stream).ok_or(Closed)?;
        let free = if *minded { usize::try_from((*session).min(*window)).unwrap_or(0) } else { want };
        let granted = want.min(free);
        *window -= granted as i64;
        *session -= granted as i64;
        Ok((granted > 0).then_some(granted))
    }

    /// `WINDOW_UPDATE`.
    pub(super) fn grow(&self, stream: u32, more: u32) {
        let mut state = self.state.lock();
        state.minded = true;
        let window = if stream == 0 { Some(&mut state.session) } else { state.streams.get_mut(&stream) };
        if let Some(window) = window {
            *window = (*window + i64::from(more)).min(MOST);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// `SETTINGS_INITIAL_WINDOW_SIZE`: also changes the windows of streams that are open.
    pub(super) fn set_initial(&self, size: u32) {
        let mut state = self.state.lock();
        state.minded = true;
        let size = i64::from(size).min(MOST);
        let difference = size - state.initial;
        state.initial = size;
        state.streams.values_mut().for_each(|w| *w += difference);
        drop(state);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn windows_count_once_they_are_known() {
        let windows = Windows::default();
        windows.open(1);
        assert_eq!(windows.reserve(1, 100_000).await.unwrap(), 100_000, "nobody has shown windows yet");
        windows.grow(1, 50_000);
        windows.grow(0, 40_000);
        assert_eq!(windows.reserve(1, 100_000).await.unwrap(), 5_536, "the connection's window is the smaller one");
        let waiting = windows.reserve(1, 10);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        windows.grow(0, 7);
        assert_eq!(waiting.await.unwrap(), 7);
        windows.set_initial(0);
        windows.grow(0, 1000);
        let waiting = windows.reserve(1, 10);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        windows.close(1);
        assert!(waiting.await.is_err());
    }
}
