//! Mutation in two rounds: who changed an object early is asked again when others changed it later, if its `reinvocationPolicy` says so.

use serde_json::Value;

/// What one plugin remembers between the rounds. `K` names what it calls.
#[derive(Default)]
pub(super) struct Rounds<K> {
    is_second: bool,
    /// Called and willing to be called again.
    called: Vec<K>,
    /// To be called in the second round.
    due: Vec<K>,
    /// The object as the plugin left it.
    left: Option<Value>,
    changed: bool,
}

impl<K: PartialEq> Rounds<K> {
    /// 0, then 1.
    pub(super) fn number(&self) -> usize {
        usize::from(self.is_second)
    }

    /// Begins a round with the object.
    pub(super) fn enter(&mut self, object: &Value) {
        if self.is_second && self.left.as_ref().is_some_and(|left| left != object) {
            self.due.append(&mut self.called);
        }
    }

    /// Ends a round.
    pub(super) fn leave(&mut self, object: &Value) {
        // Only who may be called again cares.
        self.left = (!self.called.is_empty() || !self.due.is_empty()).then(|| object.clone());
    }

    /// True when it is to be called in this round. What was not called in the first is not called in the second.
    pub(super) fn concerns(&self, key: &K) -> bool {
        !self.is_second || self.due.contains(key)
    }

    /// It was called.
    pub(super) fn done(&mut self, key: K, changed: bool, if_needed: bool) {
        if changed {
            self.due.append(&mut self.called);
            self.changed = true;
        }
        if if_needed {
            self.called.push(key);
        }
    }

    /// True when a second round is wanted: something changed the object.
    pub(super) fn again(&self) -> bool {
        self.changed && !self.is_second
    }

    /// Begins the second round.
    pub(super) fn next(&mut self) {
        self.is_second = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_came_before_a_change_is_asked_again() {
        let mut rounds = Rounds::default();
        rounds.enter(&json!(0));
        rounds.done("a", true, true);
        rounds.done("never", false, false);
        rounds.done("b", true, true);
        rounds.leave(&json!(2));
        assert!(rounds.again());
        rounds.next();
        rounds.enter(&json!(2));
        assert!(rounds.concerns(&"a") && !rounds.concerns(&"b") && !rounds.concerns(&"never"));
        // What others did in between concerns all.
        let mut rounds = Rounds::default();
        rounds.enter(&json!(0));
        rounds.done("a", false, true);
        rounds.leave(&json!(0));
        rounds.next();
        rounds.enter(&json!(1));
        assert!(rounds.concerns(&"a"));
    }
}
