//! The table says what upstream v1.36.2 says of itself: names, verbs, scope, short names, categories, subresources, columns.

use kinds::{Kind, Scope, table};
use object::Gvr;
use serde::Deserialize;

/// Read off a running upstream, one line per resource, in its order.
const FACTS: &str = include_str!("../testdata/discovery.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fact {
    group: String,
    version: String,
    resource: String,
    kind: String,
    singular: String,
    scope: String,
    verbs: Vec<String>,
    short_names: Vec<String>,
    categories: Vec<String>,
    /// (name, group, version, kind, verbs)
    subresources: Vec<(String, String, String, String, Vec<String>)>,
    /// (name, type, format, priority)
    #[serde(default)]
    columns: Vec<(String, String, String, i32)>,
}

fn check(fact: &Fact, kind: &Kind) {
    let name = format!("{}/{}", kind.api_version(), kind.plural);
    assert_eq!((&fact.kind, &fact.singular), (&kind.kind, &kind.singular), "{name}");
    assert_eq!(fact.scope == "Namespaced", kind.scope == Scope::Namespaced, "{name}");
    assert_eq!(fact.verbs, kind.verbs, "verbs of {name}");
    assert_eq!(fact.short_names, kind.short_names, "short names of {name}");
    assert_eq!(fact.categories, kind.categories, "categories of {name}");
    let subresources: Vec<_> = kind
        .subresources
        .iter()
        .map(|s| (s.name.clone(), s.body.group.clone(), s.body.version.clone(), s.body.kind.clone(), s.verbs.clone()))
        .collect();
    assert_eq!(fact.subresources, subresources, "subresources of {name}");
    if !fact.columns.is_empty() {
        let columns: Vec<_> =
            kind.columns.iter().map(|c| (c.name.clone(), c.kind.clone(), c.format.clone(), c.priority)).collect();
        assert_eq!(fact.columns, columns, "columns of {name}");
    }
}

#[test]
fn the_table_is_upstreams() {
    let facts: Vec<Fact> = serde_json::from_str(FACTS).unwrap();
    let order: Vec<Gvr> = facts.iter().map(|f| Gvr::new(&f.group, &f.version, &f.resource)).collect();
    assert_eq!(
        table().kinds().iter().map(|kind| kind.gvr()).collect::<Vec<_>>(),
        order,
        "the same resources, in the same order"
    );
    for (fact, gvr) in facts.iter().zip(&order) {
        check(fact, table().by_gvr(gvr).unwrap());
    }
}

#[test]
fn versions_of_one_storage_share_its_place() {
    let prefix = |group: &str, version: &str, resource: &str| {
        let kind = table().by_gvr(&Gvr::new(group, version, resource)).unwrap();
        kind.storage_prefix.clone().unwrap()
    };
    assert_eq!(
        prefix("autoscaling", "v1", "horizontalpodautoscalers"),
        prefix("autoscaling", "v2", "horizontalpodautoscalers")
    );
    assert_eq!(prefix("", "v1", "events"), prefix("events.k8s.io", "v1", "events"));
    for (resource, place) in [("services", "services/specs"), ("endpoints", "services/endpoints"), ("nodes", "minions")]
    {
        assert_eq!(prefix("", "v1", resource), place);
    }
}
