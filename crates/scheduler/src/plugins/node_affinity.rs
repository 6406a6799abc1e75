//! NodeName, nodeSelector and node affinity.

use crate::framework::{Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::{NodeExpression, NodeTerm, compare};

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "NodeAffinity", filter, score: Some(score), normalize: true, weight: 2 };

fn expression_holds(expression: &NodeExpression, actual: Option<&str>) -> bool {
    let values = &expression.values;
    let number = |wanted| actual.zip(values.first()).is_some_and(|(a, v)| compare(a, v, wanted));
    match expression.operator.as_str() {
        "In" => actual.is_some_and(|a| values.iter().any(|v| v == a)),
        "NotIn" => !actual.is_some_and(|a| values.iter().any(|v| v == a)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => number(i64::gt),
        "Lt" => number(i64::lt),
        _ => false,
    }
}

/// A term without any requirement selects nothing.
fn term_holds(term: &NodeTerm, node: &Node) -> bool {
    let labels =
        term.match_expressions.iter().all(|e| expression_holds(e, node.labels.get(&e.key).map(String::as_str)));
    let field = |e: &NodeExpression| (e.key == "metadata.name").then_some(node.name.as_str());
    let fields = term.match_fields.iter().all(|e| expression_holds(e, field(e)));
    (!term.match_expressions.is_empty() || !term.match_fields.is_empty()) && labels && fields
}

/// True when nodeSelector and required affinity allow the node.
pub(crate) fn allowed(pod: &Pod, node: &Node) -> bool {
    let spec = &pod.view.spec;
    let selected = spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec.affinity.node_affinity.required.as_ref();
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_holds(t, node)))
}

fn filter(pod: &Pod, node: &Node, _: &Snapshot) -> Verdict {
    if allowed(pod, node) { Ok(()) } else { Refusal::incurable("node(s) didn't match Pod's node affinity/selector") }
}

fn score(pod: &Pod, nodes: &[&Node], _: &Snapshot) -> Vec<i64> {
    let preferred = &pod.view.spec.affinity.node_affinity.preferred;
    let weigh = |node: &&Node| preferred.iter().filter(|p| term_holds(&p.preference, node)).map(|p| p.weight).sum();
    nodes.iter().map(weigh).collect()
}
