use schema::structural::Node;
use serde_json::json;

use super::*;
use crate::{Environment, check_typed, device_sizes, device_type, parse, parse_binding, sizes_of, type_of};

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
        ("self.l.slice(1, 3).all(x, true)", 2 + (2 + 1 + 10) + 2 * 3 + 1),
        ("self.l.slice(self.n, self.n).size() == 1", 2 + 2 + 2 + (5 + 1 + 10) + 1 + 1),
        ("lists.range(-1).size() == 0", (1 + 10) + 1 + 1),
        ("self.l.sortBy(x, self.n).size() == 0", 2 + 10 + 5 * (12 + 2) + 1 + (2 * 25 + 1 + 10) + 1 + 1),
        ("quantity(self.s).isLessThan(quantity('1'))", 2 + 4 + 1 + 1),
    ] {
        let expr = parse(source).unwrap();
        let (_, types) = check_typed(&expr, source, &environment).unwrap();
        assert_eq!(most_cost(&expr, &types, &sizes), wanted, "{source}");
    }
}

/// Over a million selectors of devices are refused; which are, is read off upstream's answers.
#[test]
fn selectors_of_devices_have_upstreams_limit() {
    let environment = Environment::from([("device".to_owned(), device_type())]);
    for (source, is_good) in [
        ("device.attributes.all(d, device.attributes[d].all(k, device.attributes.all(e, e != k)))", true),
        (
            "device.attributes.all(d, device.attributes[d].all(k, device.attributes.all(e, device.attributes[e].all(l, l != k))))",
            false,
        ),
        ("device.attributes.all(d, device.attributes.all(e, device.attributes.all(f, d + e + f != '')))", false),
        ("device.attributes['x'].a.matches('^[a-z]*$')", true),
        (
            "device.attributes.all(d, device.attributes[d].all(k, device.attributes[d].all(l, device.attributes[d][k].contains(device.attributes[d][l]))))",
            false,
        ),
        ("cel.bind(x, device.attributes['x'], x.a && x.b)", true),
        ("lists.range(1000).all(x, lists.range(1000).all(y, x == y))", false),
    ] {
        let expr = parse_binding(source).unwrap();
        let (_, types) = check_typed(&expr, source, &environment).unwrap();
        let cost = most_cost_with(&expr, &types, "device", &device_sizes());
        assert_eq!(cost <= 1_000_000, is_good, "{source}: {cost}");
    }
}
