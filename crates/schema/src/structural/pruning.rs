//! Pruning: what the schema does not know goes. Idempotent.

use serde_json::Value;

use super::{META_FIELDS, Node};

/// Paths of fields that went, in upstream's spelling (`spec.list[0].foo`).
pub type Unknown = Vec<String>;

/// Upstream names no more than this.
const MOST_UNKNOWN: usize = 100;

/// Drops unknown fields of a whole object and returns their paths.
pub fn prune(object: &mut Value, root: &Node) -> Unknown {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.value(object, Some(root), root.preserve, true);
    pruner.unknown
}

/// Drops unknown fields of a value that is no whole object, unless the schema says that it is one.
pub fn prune_value(value: &mut Value, node: &Node) -> Unknown {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.below(value, Some(node));
    pruner.unknown
}

struct Pruner {
    path: String,
    unknown: Unknown,
}

impl Pruner {
    /// `keep`: unknown fields stay here; `resource`: the meta fields are not this schema's business.
    fn value(&mut self, value: &mut Value, node: Option<&Node>, keep: bool, resource: bool) {
        match value {
            Value::Object(entries) => entries.retain(|key, value| {
                if resource && META_FIELDS.contains(&key.as_str()) {
                    return true;
                }
                let known = node.and_then(|n| n.field(key).map(Some).or(n.additional.as_ref().map(|_| n.entry())));
                let before = self.path.len();
                if !self.path.is_empty() {
                    self.path.push('.');
                }
                self.path.push_str(key);
                match known {
                    Some(below) => self.below(value, below),
                    None if !keep && self.unknown.len() < MOST_UNKNOWN => self.unknown.push(self.path.clone()),
                    None => {}
                }
                self.path.truncate(before);
                known.is_some() || keep
            }),
            Value::Array(items) => {
                let below = node.and_then(|n| n.items.as_deref());
                for (index, item) in items.iter_mut().enumerate() {
                    let before = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    match (keep, below) {
                        (true, None) => {}
                        (true, Some(below)) => self.value(item, Some(below), true, below.embedded),
                        (false, below) => self.below(item, below),
                    }
                    self.path.truncate(before);
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, value: &mut Value, node: Option<&Node>) {
        self.value(value, node, node.is_some_and(|n| n.preserve), node.is_some_and(|n| n.embedded));
    }
}
