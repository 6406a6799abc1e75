//! Watches over the memory, whatever fills it.

use std::sync::Arc;

use futures::stream;
use parking_lot::RwLock;

use crate::backend::{StoreError, Watch};
use crate::memory::Memory;

/// Events per delivery to a watcher.
const WATCH_BATCH: usize = 512;

/// Events of keys under `prefix` with revision greater than `after`, until the store closes.
pub(crate) fn watch(memory: &Arc<RwLock<Memory>>, prefix: &str, after: u64) -> Result<Watch, StoreError> {
    let changed = {
        let mut memory = memory.write();
        // Too old a revision is refused now, not with the first event.
        memory.events(prefix, after, 0)?;
        memory.subscribe(prefix)
    };
    let state = (memory.clone(), Arc::<str>::from(prefix), after, changed);
    let watch = stream::unfold(Some(state), |state| async move {
        let (memory, prefix, mut seen, mut changed) = state?;
        loop {
            changed.borrow_and_update();
            let found = memory.read().events(&prefix, seen, WATCH_BATCH);
            match found {
                Err(error) => return Some((Err(error), None)),
                Ok((events, reached)) => {
                    seen = reached.max(seen);
                    if !events.is_empty() {
                        return Some((Ok(events), Some((memory, prefix, seen, changed))));
                    }
                }
            }
            // The sender goes away when the store closes, and the stream ends.
            changed.changed().await.ok()?;
        }
    });
    Ok(Box::pin(watch))
}
