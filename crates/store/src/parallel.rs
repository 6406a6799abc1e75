//! Work on many items by all cores, for the start.

use std::thread;

/// Fewer items are not worth a thread.
const LEAST: usize = 2000;

/// `work` on each item; the results in the items' order.
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len() / LEAST).max(1);
    let share = items.len().div_ceil(threads).max(1);
    let mut rest = items.into_iter();
    let work = &work;
    thread::scope(|scope| {
        let shares: Vec<Vec<T>> = (0..threads).map(|_| rest.by_ref().take(share).collect()).collect();
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = running.into_iter().map(|thread| match thread.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_order_stays() {
        for count in [0, 1, 2001, 10_007] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(super::map(items.clone(), |i| i), items);
        }
    }
}
