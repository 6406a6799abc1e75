//! Lists, pages, selectors, watches.

use std::time::Duration;

use client::{List, ListOptions, Patch, Resource, WatchEvent, WatchStream};
use futures::StreamExt;
use object::{FieldSelector, LabelSelector, Reason};
use serde_json::json;

use crate::world::{World, config_map, config_maps, default_account, map_of, pod_of, pods};

fn maps() -> Resource {
    Resource::collection(&config_maps(), Some("default"))
}

fn names(list: &List) -> Vec<&str> {
    list.items.iter().map(|o| o.head.name.as_str()).collect()
}

fn labelled(text: &str) -> ListOptions {
    ListOptions { labels: LabelSelector::parse(text).unwrap(), ..ListOptions::default() }
}

/// The next event that is no bookmark, as `ADDED name`.
async fn next(watch: &mut WatchStream) -> String {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("an event in time");
        return match event.expect("the watch goes on").unwrap() {
            WatchEvent::Added(o) => format!("ADDED {}", o.head.name),
            WatchEvent::Modified(o) => format!("MODIFIED {}", o.head.name),
            WatchEvent::Deleted(o) => format!("DELETED {}", o.head.name),
            WatchEvent::Bookmark(_) => continue,
        };
    }
}

#[tokio::test]
async fn selectors_choose() {
    let world = World::new().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "z")] {
        world.create(map_of(name, label)).await.unwrap();
    }
    for (selector, wanted) in
        [("app=x", vec!["a"]), ("app in (x, y)", vec!["a", "b"]), ("app!=x", vec!["b", "c"]), ("!app", vec![])]
    {
        let found = world.client.list(&maps(), &labelled(selector)).await.unwrap();
        assert_eq!(names(&found), wanted, "{selector}");
    }
    let by_name = ListOptions { fields: FieldSelector::parse("metadata.name=b").unwrap(), ..ListOptions::default() };
    assert_eq!(names(&world.client.list(&maps(), &by_name).await.unwrap()), ["b"]);
    let unknown = ListOptions { fields: FieldSelector::parse("data.key=x").unwrap(), ..ListOptions::default() };
    let refused = world.client.list(&maps(), &unknown).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "\"data.key\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    );

    default_account(&world).await;
    world.create(pod_of("here", Some("n1"))).await.unwrap();
    world.create(pod_of("there", Some("n2"))).await.unwrap();
    let of_node = ListOptions { fields: FieldSelector::parse("spec.nodeName=n1").unwrap(), ..ListOptions::default() };
    let found = world.client.list(&Resource::collection(&pods(), None), &of_node).await.unwrap();
    assert_eq!(names(&found), ["here"]);
    world.stop().await;
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.create(map_of(name, "1")).await.unwrap();
    }
    let transport = world.client.transport();
    let first = transport.list(&maps(), &ListOptions { limit: 2, ..ListOptions::default() }).await.unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    world.create(map_of("bb", "1")).await.unwrap();
    world.client.delete(&config_map("d"), &Default::default()).await.unwrap();
    let rest = ListOptions { continue_token: first.continue_token.clone(), ..ListOptions::default() };
    let rest = transport.list(&maps(), &rest).await.unwrap();
    assert_eq!((names(&rest), rest.revision), (vec!["c", "d", "e"], first.revision));
    assert_eq!(rest.continue_token, None);
    let nonsense = ListOptions { continue_token: Some("nonsense".into()), ..ListOptions::default() };
    assert_eq!(transport.list(&maps(), &nonsense).await.unwrap_err().code, 400);
    world.stop().await;
}

#[tokio::test]
async fn a_revision_of_the_future_is_refused() {
    let world = World::new().await;
    let ahead = ListOptions { resource_version: Some(u64::MAX / 2), ..ListOptions::default() };
    let refused = world.client.list(&maps(), &ahead).await.unwrap_err();
    assert_eq!(refused.reason, Some(Reason::Timeout));
    assert!(refused.message.starts_with("Timeout: Too large resource version: "), "{refused}");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_from_a_list() {
    let world = World::new().await;
    world.create(map_of("before", "1")).await.unwrap();
    let list = world.client.list(&maps(), &ListOptions::default()).await.unwrap();
    let options = ListOptions { resource_version: Some(list.revision), ..ListOptions::default() };
    world.create(map_of("a", "1")).await.unwrap();
    let mut watch = world.client.watch(&maps(), &options).await.unwrap();
    world.client.patch(&config_map("a"), &Patch::Merge(json!({"data": {"key": "2"}}))).await.unwrap();
    world.client.delete(&config_map("a"), &Default::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    assert_eq!(next(&mut watch).await, "MODIFIED a");
    assert_eq!(next(&mut watch).await, "DELETED a");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_the_state() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    let mut watch = world.client.watch(&maps(), &ListOptions::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    world.create(map_of("b", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED b");
    world.stop().await;
}

#[tokio::test]
async fn entering_and_leaving_a_selection_is_added_and_deleted() {
    let world = World::new().await;
    world.create(map_of("a", "out")).await.unwrap();
    let mut watch = world.client.watch(&maps(), &labelled("app=in")).await.unwrap();
    for label in ["in", "out"] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"app": label}}}));
        world.client.patch(&config_map("a"), &patch).await.unwrap();
    }
    assert_eq!(next(&mut watch).await, "ADDED a");
    assert_eq!(next(&mut watch).await, "DELETED a");
    world.stop().await;
}

#[tokio::test]
async fn a_finalized_object_is_deleted_to_its_watchers() {
    let world = World::new().await;
    let mut map = map_of("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(map).await.unwrap();
    let mut watch = world.client.watch(&maps(), &ListOptions::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    world.client.delete(&config_map("a"), &Default::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "MODIFIED a");
    world.client.patch(&config_map("a"), &Patch::Merge(json!({"metadata": {"finalizers": []}}))).await.unwrap();
    let mut seen = next(&mut watch).await;
    if seen == "MODIFIED a" {
        seen = next(&mut watch).await;
    }
    assert_eq!(seen, "DELETED a");
    world.create(map_of("b", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED b", "nothing else comes of it");
    world.stop().await;
}

#[tokio::test]
async fn a_list_that_waited_too_long_goes_on_inconsistently() {
    use base64::Engine;
    let encode = |token: serde_json::Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string());
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create(map_of(name, "1")).await.unwrap();
    }
    let old = encode(json!({"v": "meta.k8s.io/v1", "rv": 1, "start": "a\0", "made": 1}));
    let page = |token: String| ListOptions { continue_token: Some(token), ..ListOptions::default() };
    let expired = world.client.list(&maps(), &page(old)).await.unwrap_err();
    assert_eq!((expired.code, expired.reason), (410, Some(object::Reason::Expired)));
    let rest = world.client.list(&maps(), &page(expired.continue_token)).await.unwrap();
    assert_eq!(names(&rest), ["b", "c"]);
    world.stop().await;
}

/// As upstream v1.36.2 answers.
#[tokio::test]
async fn revisions_matches_limits_and_tokens_in_combination() {
    let world = World::new().await;
    let mut old = 0;
    for name in ["a", "b", "c", "d"] {
        let made = world.create(map_of(name, "1")).await.unwrap();
        if name == "c" {
            old = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        }
    }
    let two = ListOptions { limit: 2, ..ListOptions::default() };
    let first = world.client.transport().list(&maps(), &two).await.unwrap();
    let (token, newest) = (first.continue_token.unwrap(), first.revision);
    let check = async |query: &str, code: u16, wanted: &str| {
        let query = query.replace("OLD", &old.to_string()).replace("NEW", &newest.to_string()).replace("TOKEN", &token);
        let path = format!("GET /api/v1/namespaces/default/configmaps?{query}");
        let reply = crate::bad_input::send(&world, false, &path, "", b"").await;
        let value = reply.json();
        let found: Vec<&str> = match value["items"].as_array() {
            Some(items) => items.iter().filter_map(|i| i["metadata"]["name"].as_str()).collect(),
            None => vec![value["message"].as_str().unwrap_or("")],
        };
        let more = if value["metadata"]["continue"].is_string() { "+" } else { "" };
        assert_eq!(reply.code, code, "{query}: {value}");
        let found = format!("{}{more}", found.join(" "));
        assert!(if code == 200 { found == wanted } else { found.contains(wanted) }, "{query}: {found}");
    };
    check("resourceVersion=OLD", 200, "a b c d").await;
    check("limit=2", 200, "a b+").await;
    check("limit=2&resourceVersion=0", 200, "a b c d").await;
    check("limit=2&resourceVersion=OLD", 200, "a b+").await;
    check("limit=3&resourceVersion=OLD", 200, "a b c").await;
    check("limit=-1", 200, "a b c d").await;
    check("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax").await;
    check("timeoutSeconds=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax").await;
    check("resourceVersion=999999", 504, "Too large resource version: 999999, current: ").await;
    check("limit=2&resourceVersion=999999", 504, "Too large resource version: 999999, current: ").await;
    check("resourceVersion=-1", 400, "invalid resource version: resourceVersion: Invalid value: \"-1\"").await;
    let unless = "resourceVersionMatch is forbidden unless resourceVersion is provided";
    check("resourceVersionMatch=Exact", 422, unless).await;
    check("limit=2&resourceVersionMatch=NotOlderThan", 422, unless).await;
    check("resourceVersionMatch=X&resourceVersion=5", 422, "supported values: \"Exact\", \"NotOlderThan\", \"\"").await;
    let zero = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    check("resourceVersionMatch=Exact&resourceVersion=0", 422, zero).await;
    check("resourceVersionMatch=Exact&resourceVersion=OLD", 200, "a b c").await;
    check("resourceVersionMatch=Exact&resourceVersion=NEW&limit=3", 200, "a b c+").await;
    check("resourceVersionMatch=NotOlderThan&resourceVersion=OLD&limit=3", 200, "a b c+").await;
    check("resourceVersionMatch=NotOlderThan&resourceVersion=0&limit=3", 200, "a b c d").await;
    check("limit=1&continue=TOKEN", 200, "c+").await;
    check("continue=TOKEN", 200, "c d").await;
    check("limit=1&continue=TOKEN&resourceVersion=0", 200, "c d").await;
    let no_version = "specifying resource version is not allowed when using continue";
    check("continue=TOKEN&resourceVersion=NEW", 400, no_version).await;
    let when = "resourceVersionMatch is forbidden when continue is provided";
    check("continue=TOKEN&resourceVersionMatch=Exact&resourceVersion=NEW", 422, when).await;
    check("continue=bogus", 400, "continue key is not valid: illegal base64 data at input byte 4").await;
    check("continue=!!", 400, "continue key is not valid: illegal base64 data at input byte 0").await;
    check("continue=e30", 400, "continue key is not valid: server does not recognize this encoded version ").await;
    check("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list").await;
    let watch = async |query: &str, code: u16, wanted: &str| check(&format!("watch=1&{query}"), code, wanted).await;
    let alone = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
    watch("resourceVersionMatch=NotOlderThan&resourceVersion=NEW", 422, alone).await;
    watch("resourceVersionMatch=Exact&resourceVersion=NEW", 422, "supported values: \"NotOlderThan\"").await;
    watch("sendInitialEvents=true", 422, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        .await;
    watch("continue=TOKEN", 422, when).await;
    watch("resourceVersion=x", 500, "resourceVersion: Invalid value: \"x\": strconv.ParseUint").await;
    world.stop().await;
}
