//! Lists and maps that a body has empty. For nearly all that is as if it had none, and they are in no tree; what is left are upstream's
//! messages, which show them, two kinds whose generation counts them, and what a definition's schema may not have, even empty.

use std::borrow::Cow;

use kinds::Kind;
use serde_json::Value;

use super::WriteQuery;

impl WriteQuery {
    /// The same, for a body with these.
    pub(super) fn of_body(&self, empties: Vec<(String, Value)>) -> Cow<'_, Self> {
        match empties.is_empty() {
            true => Cow::Borrowed(self),
            false => Cow::Owned(Self { empties, ..self.clone() }),
        }
    }

    /// The tree with what the body has empty, where the tree has nothing; `None` when that is nothing.
    pub(super) fn with_empties(&self, tree: &Value) -> Option<Value> {
        let mut whole = (!self.empties.is_empty()).then(|| tree.clone())?;
        for (at, empty) in &self.empties {
            let Some((above, key)) = at.rsplit_once('/') else { continue };
            if let Some(above) = whole.pointer_mut(above).and_then(Value::as_object_mut) {
                above.entry(key.replace("~1", "/").replace("~0", "~")).or_insert_with(|| empty.clone());
            }
        }
        Some(whole)
    }

    /// True when an empty list or map is a change of the kind's generation, as upstream, which compares these in Go's way.
    pub(super) fn empties_count(&self, kind: &Kind, tree: &Value) -> bool {
        let part = match kind.kind.as_str() {
            "NetworkPolicy" => "/spec/",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => "/webhooks/",
            _ => return false,
        };
        let counts = |at: &str| at.starts_with(part) && tree.pointer(at).is_none();
        kind.custom.is_none() && self.empties.iter().any(|(at, _)| counts(at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_empty_is_put_back_where_nothing_is() {
        let empties = vec![
            ("/spec/ports".to_owned(), json!([])),
            ("/spec/gone/ports".to_owned(), json!([])),
            ("/spec/a~1b/labels".to_owned(), json!({})),
        ];
        let query = WriteQuery { empties, ..WriteQuery::default() };
        let tree = json!({"spec": {"a/b": {}, "ports": [1]}});
        assert_eq!(query.with_empties(&tree), Some(json!({"spec": {"a/b": {"labels": {}}, "ports": [1]}})));
        assert_eq!(WriteQuery::default().with_empties(&tree), None);
    }
}
