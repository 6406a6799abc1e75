//! How long expressions take, for who measures: this crate knows no clock.

use std::sync::OnceLock;

/// What is done with the expressions of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// They are compiled.
    Compile,
    /// They are evaluated on a value.
    Evaluate,
}

/// Does the work, once, and measures it.
pub type Observer = fn(Work, &mut dyn FnMut());

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Who measures from now on; the first one stays.
pub fn observe(observer: Observer) {
    let _ = OBSERVER.set(observer);
}

/// Does the work under the observer's eyes, if there is one.
pub(crate) fn observed(work: Work, run: &mut dyn FnMut()) {
    match OBSERVER.get() {
        Some(observer) => observer(work, run),
        None => run(),
    }
}
