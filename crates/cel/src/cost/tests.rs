use schema::structural::Node;
use serde_json::json;

use super::*;
use crate::{Environment, check_typed, parse, sizes_of, type_of};

/// What upstream estimates; read off its messages, where the rule is over the limit.
#[test]
fn estimates_are_upstreams() {
    let root = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 10}, "l": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}}}});
    let node = Node::parse(&root);
    let (sizes, this) = (sizes_of(&node, false).unwrap(), type_of(&node, false));
    let environment = Environment::from([("self".to_owned(), this)]);
    for (source, wanted) in [
        ("true", 0),
        ("self.n == 5", 2),
        ("has(self.s)", 1),
        ("self.s == 'abc'", 3),
        ("self.s.matches('^a.*$')", 2 + 5 * 2),
        ("self.l.all(x, x == 'a')", 2 + 5 * (3 + 2) + 1),
        ("self.l.exists(x, x == 'a')", 2 + 5 * (4 + 2) + 1),
        ("size(self.l) > 1 && self.n > 0", 3 + 1 + 2 + 1),
        ("self.l.map(x, x + x).size() == 1", 2 + 10 + 1 + 5 * (12 + 2 + 8) + 1 + 1),
        ("self.l.isSorted()", 2 + 5 * 5),
        ("[1, 2].sum() == 3", 10 + 2 + 1),
        ("quantity(self.s).isLessThan(quantity('1'))", 2 + 4 + 1 + 1),
    ] {
        let expr = parse(source).unwrap();
        let (_, types) = check_typed(&expr, source, &environment).unwrap();
        assert_eq!(most_cost(&expr, &types, &sizes), wanted, "{source}");
    }
}
