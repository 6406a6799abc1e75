//! Lists, pages and watches with selectors while many write: whoever follows knows, at each revision, what a list of that revision says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, List, ListOptions, Patch, Resource, WatchEvent, WatchStream};
use futures::StreamExt;
use futures::future::join_all;
use object::{LabelSelector, Object};
use serde_json::json;

use crate::world::{World, config_map, config_maps, map_of};

const WRITERS: u64 = 6;
const WRITES: usize = 60;

/// Names and the revisions that they were last seen at.
type State = BTreeMap<String, u64>;

fn maps() -> Resource {
    Resource::collection(&config_maps(), Some("default"))
}

fn selecting(selector: &str) -> ListOptions {
    ListOptions { labels: LabelSelector::parse(selector).unwrap(), ..ListOptions::default() }
}

fn state(items: &[Arc<Object>]) -> State {
    items.iter().map(|o| (o.head.name.clone(), o.head.resource_version)).collect()
}

/// Creates, moves in and out of selections, and deletes, at random; losing a race is no failure.
async fn write(client: &Client, of: u64) {
    let mut seed = of.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for count in 0..WRITES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = format!("n{}", (seed >> 33) % 12);
        let label = ["x", "y", "z"][(seed >> 40) as usize % 3];
        let at = config_map(&name);
        let done = match seed >> 61 {
            0 => client.delete(&at, &Default::default()).await.map(drop),
            1..=3 => client.create(&maps(), &map_of(&name, label)).await.map(drop),
            _ => {
                let patch = json!({"metadata": {"labels": {"app": label}}, "data": {"by": format!("{of}-{count}")}});
                client.patch(&at, &Patch::Merge(patch)).await.map(drop)
            }
        };
        if let Err(status) = done {
            assert!([404, 409].contains(&status.code), "{status:?}");
        }
    }
}

/// A list in pages of three, which belong together whatever happens meanwhile.
async fn in_pages(client: &Client, selector: &str) -> List {
    let mut whole = List::default();
    let mut options = ListOptions { limit: 3, ..selecting(selector) };
    loop {
        let page = client.list(&maps(), &options).await.unwrap();
        assert!(whole.revision == 0 || whole.revision == page.revision, "pages are of one revision");
        whole.revision = page.revision;
        whole.items.extend(page.items);
        match page.continue_token {
            Some(token) => options.continue_token = Some(token),
            None => return whole,
        }
    }
}

/// Follows until `last`, from a list: what is there, at each revision.
async fn follow(mut watch: WatchStream, list: &List, last: u64) -> BTreeMap<u64, State> {
    let mut seen = state(&list.items);
    let mut reached = list.revision;
    let mut history = BTreeMap::from([(reached, seen.clone())]);
    while reached < last {
        let event = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event in time");
        let (object, is_there) = match event.expect("the watch goes on").unwrap() {
            WatchEvent::Added(object) => {
                assert!(!seen.contains_key(&object.head.name), "added twice: {}", object.head.name);
                (object, true)
            }
            WatchEvent::Modified(object) => {
                assert!(
                    seen.contains_key(&object.head.name),
                    "changed, but never there: {:?} after {reached} of {history:?}",
                    object.head
                );
                (object, true)
            }
            WatchEvent::Deleted(object) => {
                assert!(
                    seen.contains_key(&object.head.name),
                    "gone, but never there: {:?} after {reached} of {history:?}",
                    object.head
                );
                (object, false)
            }
            WatchEvent::Bookmark(revision) => {
                reached = reached.max(revision);
                continue;
            }
        };
        let head = &object.head;
        assert!(head.resource_version > reached, "in order, once: {} after {reached}", head.resource_version);
        reached = head.resource_version;
        if is_there {
            seen.insert(head.name.clone(), reached);
        } else {
            seen.remove(&head.name);
        }
        history.insert(reached, seen.clone());
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_pages_and_watches_agree_while_many_write() {
    let world = World::new().await;
    let client = &world.client;
    let selectors = ["", "app=x", "app!=x", "app in (x,y)", "!app"];
    // Somebody who follows from the beginning, and others who begin in the midst of it, from a list in pages.
    let begin = async |selector: &'static str, after: u64| {
        while client.list(&maps(), &selecting("")).await.unwrap().revision < after {
            tokio::task::yield_now().await;
        }
        let list = in_pages(client, selector).await;
        let options = ListOptions { resource_version: Some(list.revision), ..selecting(selector) };
        let watch = client.watch(&maps(), &options).await.unwrap();
        (selector, list, watch)
    };
    let start = client.list(&maps(), &selecting("")).await.unwrap().revision;
    let later = selectors.iter().flat_map(|selector| [0, 20, 90].map(|after| begin(selector, start + after)));
    let (_, followers) = futures::join!(join_all((1..=WRITERS).map(|of| write(client, of))), join_all(later));

    // Every selection has one of these last.
    for (name, label) in [("last-x", Some("x")), ("last-y", Some("y")), ("last", None)] {
        let mut map = map_of(name, label.unwrap_or(""));
        if label.is_none() {
            map["metadata"]["labels"] = json!({});
        }
        client.create(&maps(), &map).await.unwrap();
    }
    let end = client.list(&maps(), &selecting("")).await.unwrap();
    let mut truth: BTreeMap<&str, BTreeMap<u64, State>> = BTreeMap::new();
    for (selector, list, watch) in followers {
        let now = client.list(&maps(), &selecting(selector)).await.unwrap();
        let last = now.items.iter().map(|o| o.head.resource_version).max().unwrap();
        let history = follow(watch, &list, last).await;
        assert_eq!(history.values().next_back(), Some(&state(&now.items)), "{selector:?}");
        // Those who began later saw the same, from where they began.
        let known = truth.entry(selector).or_insert_with(|| history.clone());
        for (revision, seen) in &history {
            let then = known.range(..=revision).next_back().map(|(_, state)| state);
            assert!(then.is_none_or(|then| then == seen), "{selector:?} at {revision}: {seen:?}, before {then:?}");
        }
    }
    assert!(end.revision > start + WRITERS * 10, "there was something to see");
    world.stop().await;
}
