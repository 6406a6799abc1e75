use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn check_words(schema: Value, value: Value, wanted: &[&str]) {
    let node = Node::parse(&schema);
    let found: Vec<String> = check(&value, &node, None).iter().map(ToString::to_string).collect();
    assert_eq!(found, wanted, "{value}");
}

#[test]
fn values_are_checked_in_upstreams_words() {
    let schema =
        |spec: Value| json!({"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}});
    let of = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    check_words(
        schema(json!({"cron": {"type": "string"}, "n": {"type": "integer", "minimum": 1, "maximum": 10}})),
        of(json!({"cron": 5, "n": 11})),
        &[
            "spec.cron: Invalid value: \"integer\": spec.cron in body must be of type string: \"integer\"",
            "spec.n: Invalid value: 11: spec.n in body should be less than or equal to 10",
        ],
    );
    check_words(
        schema(
            json!({"a": {"type": "string", "pattern": "^x", "minLength": 3}, "e": {"type": "string", "enum": ["B", "A"]}}),
        ),
        of(json!({"a": "y", "e": "C"})),
        &[
            "spec.a: Invalid value: \"y\": spec.a in body should be at least 3 chars long",
            "spec.e: Unsupported value: \"C\": supported values: \"B\", \"A\"",
        ],
    );
    check_words(
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "required": ["x"]}}}),
        json!({"spec": {}}),
        &["spec.x: Required value"],
    );
    check_words(
        schema(json!({"p": {"x-kubernetes-int-or-string": true}, "n": {"type": "string", "nullable": true}})),
        of(json!({"p": "80%", "n": null})),
        &[],
    );
}

#[test]
fn whole_numbers_are_divided_exactly() {
    let node = Node::parse(&json!({"type": "object", "properties": {
        "i": {"type": "integer", "multipleOf": 2}, "n": {"type": "number", "multipleOf": 0.1}}}));
    assert!(check(&json!({"i": 4_294_967_296_i64, "n": 0.3}), &node, None).is_empty());
    assert_eq!(check(&json!({"i": 2_147_483_647, "n": 0.35}), &node, None).len(), 2);
}

#[test]
fn what_did_not_change_is_not_checked_again() {
    let node = Node::parse(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}}}}));
    let old = json!({"a": "long", "l": [{"k": "x", "v": 5}]});
    assert!(check(&json!({"a": "long", "l": [{"k": "y", "v": 1}, {"k": "x", "v": 5}]}), &node, Some(&old)).is_empty());
    assert_eq!(check(&json!({"a": "longer", "l": [{"k": "x", "v": 6}]}), &node, Some(&old)).len(), 2);
}

#[test]
fn formats_are_those_of_upstream() {
    for (format, good, bad) in [
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "x"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T10:00:00Z", "2024-02-29 10:00"),
        ("duration", "1h30m", "soon"),
        ("byte", "YQ==", "a"),
        ("email", "a@b.c", "a"),
        ("hostname", "a.example.com", "-"),
        ("uri", "https://a/b", "a b"),
        ("mac", "00:00:5e:00:53:01", "00:00"),
        ("isbn10", "0306406152", "0306406153"),
        ("isbn13", "9780306406157", "9780306406158"),
        ("creditcard", "4111111111111111", "4111111111111112"),
        ("hexcolor", "#fff", "#ff"),
        ("rgbcolor", "rgb(1,2,3)", "rgb(1,2)"),
        ("ssn", "123-45-6789", "1"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "5"),
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid3", "123e4567-e89b-32d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid5", "123e4567-e89b-52d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("nonsense", "anything", ""),
    ] {
        assert!(formats::fits(format, good), "{format} {good}");
        assert!(bad.is_empty() || !formats::fits(format, bad), "{format} {bad}");
    }
}

#[test]
fn pruning_names_what_it_drops() {
    let node = Node::parse(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"closed": {"type": "object"}}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "integer"}}}}}}}}));
    let mut value = json!({"apiVersion": "g/v", "kind": "K", "metadata": {"name": "n"}, "x": 1,
        "spec": {"a": "1", "z": 1, "open": {"q": {"r": 1}, "closed": {"s": 1}}, "list": [{"b": 1, "d": 1}],
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"u": 1}, "v": 1}, "map": {"k": {"c": 1, "e": 1}}}});
    let unknown = prune(&mut value, &node);
    assert_eq!(
        unknown,
        ["spec.list[0].d", "spec.map.k.e", "spec.open.closed.s", "spec.pod.spec.u", "spec.pod.v", "spec.z", "x"]
    );
    let wanted = json!({"apiVersion": "g/v", "kind": "K", "metadata": {"name": "n"},
        "spec": {"a": "1", "open": {"q": {"r": 1}, "closed": {}}, "list": [{"b": 1}],
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}}, "map": {"k": {"c": 1}}}});
    assert_eq!(value, wanted);
}

#[test]
fn sets_and_maps_have_nothing_twice() {
    let node = Node::parse(&json!({"type": "object", "properties": {
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}}}}));
    let mut errors = Vec::new();
    duplicates(&json!({"s": ["a", "a"], "m": [{"k": "d"}, {}]}), &node, "", &mut errors);
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["m[1]: Duplicate value: {\"k\":\"d\"}", "s[1]: Duplicate value: \"a\""]);
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "integer", "nullable": true})),
        Just(json!({"type": "integer", "default": 3})),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            (prop::collection::btree_map("[a-c]", inner.clone(), 0..4), any::<bool>()).prop_map(
                |(properties, open)| {
                    json!({"type": "object", "properties": properties, "x-kubernetes-preserve-unknown-fields": open})
                }
            ),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.prop_map(|entry| json!({"type": "object", "additionalProperties": entry, "default": {}})),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_are_idempotent(schema in any_schema(), value in any_value()) {
        let node = Node::parse(&schema);
        let mut once = value;
        prune(&mut once, &node);
        let mut twice = once.clone();
        prop_assert!(prune(&mut twice, &node).is_empty());
        prop_assert_eq!(&twice, &once);
        drop_nulls(&mut once, &node);
        default(&mut once, &node);
        let mut twice = once.clone();
        drop_nulls(&mut twice, &node);
        default(&mut twice, &node);
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn checking_never_panics(schema in any_schema(), value in any_value(), old in any_value()) {
        check(&value, &Node::parse(&schema), Some(&old));
    }
}
