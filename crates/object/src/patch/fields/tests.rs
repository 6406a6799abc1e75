use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn the_wire_form_comes_back() {
    let wire = json!({"f:spec": {"f:replicas": {}, "f:ports": {
        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}}, "v:\"x\"": {}}}});
    let set = FieldSet::from_value(&wire).unwrap();
    assert_eq!(set.to_value(), wire);
    let paths: Vec<String> = set.paths().iter().map(ToString::to_string).collect();
    assert_eq!(
        paths,
        [
            ".spec.replicas",
            ".spec.ports[containerPort=80,protocol=\"TCP\"]",
            ".spec.ports[=\"x\"]",
            ".spec.ports[containerPort=80,protocol=\"TCP\"].name",
        ]
    );
}

#[test]
fn malformed_sets_are_refused() {
    for bad in
        [json!([]), json!({"x": {}}), json!({"q:a": {}}), json!({"k:{": {}}), json!({"f:a": 1}), json!({"ab": {}})]
    {
        assert!(FieldSet::from_value(&bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_are_compared_as_values() {
    let one = PathElement::parse(r#"k:{"protocol":"TCP","containerPort":80.0}"#).unwrap();
    assert_eq!(one, PathElement::parse(r#"k:{"containerPort":80, "protocol":"TCP"}"#).unwrap());
}

fn path() -> impl Strategy<Value = Vec<PathElement>> {
    let element =
        prop_oneof!["[a-c]".prop_map(|n| PathElement::field(&n)), "[a-c]".prop_map(|n| PathElement::value(&n.into()))];
    prop::collection::vec(element, 1..4)
}

fn set() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(path(), 0..8).prop_map(|paths| {
        let mut set = FieldSet::default();
        paths.iter().for_each(|p| set.insert(p));
        set
    })
}

proptest! {
    #[test]
    fn sets_obey_their_laws(a in set(), b in set(), p in path()) {
        prop_assert_eq!(a.union(&b).has(&p), a.has(&p) || b.has(&p));
        prop_assert_eq!(a.intersection(&b).has(&p), a.has(&p) && b.has(&p));
        prop_assert_eq!(a.difference(&b).has(&p), a.has(&p) && !b.has(&p));
        let hidden = (1..=p.len()).any(|n| b.has(&p[..n]));
        prop_assert_eq!(a.without(&b).has(&p), a.has(&p) && !hidden);
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert_eq!(FieldSet::from_value(&a.to_value()).unwrap(), a.clone());
        prop_assert_eq!(a.paths().len(), a.paths().iter().filter(|q| a.has(&q.0)).count());
    }
}
