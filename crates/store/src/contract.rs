//! What every [`Backend`] must do, whatever is below it; and a model that it must agree with.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use object::Draft;
use proptest::prelude::*;
use serde_json::json;

use crate::testing::Place;
use crate::*;

pub(crate) fn draft(name: &str, data: &str) -> Draft {
    let mut value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": data}});
    Draft::new(&mut value).unwrap()
}

pub(crate) fn key(name: &str) -> Arc<str> {
    format!("/registry/configmaps/default/{name}").into()
}

fn delete(name: &str) -> Txn {
    Txn { compares: vec![], ops: vec![Op::Delete(key(name))] }
}

pub(crate) fn put(name: &str, data: &str) -> Txn {
    Txn { compares: vec![], ops: vec![Op::Put(key(name), draft(name, data))] }
}

pub(crate) fn create(name: &str) -> Txn {
    Txn { compares: vec![Compare::Absent(key(name))], ..put(name, "new") }
}

/// Runs each of these tests on both stores.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod embedded {
            $(#[tokio::test] async fn $name() { super::$name(&Place::embedded()).await })*
            use crate::testing::Place;
        }
        mod etcd {
            $(#[tokio::test] async fn $name() { super::$name(&Place::etcd()).await })*
            use crate::testing::Place;
        }
    };
}

on_both! {
    compares_decide_and_revisions_count
    concurrent_creates_of_one_key_have_one_winner
    pages_hold_together_over_writes
    watches_replay_follow_and_keep_to_their_prefix
    an_old_revision_is_refused_after_a_restart
    a_snapshot_is_a_store
    watches_end_with_the_store
    what_is_put_and_removed_at_once_is_gone
    lists_and_watches_agree_under_concurrent_writes
}

pub(crate) const PREFIX: &str = "/registry/configmaps/";

fn names(page: &Page) -> Vec<String> {
    page.items.iter().map(|v| v.object.head.name.clone()).collect()
}

async fn compares_decide_and_revisions_count(place: &Place) {
    let store = place.open().await;
    let first = store.commit(create("a")).await.unwrap();
    assert_eq!(first.objects[0].as_ref().unwrap().head.resource_version, first.revision);
    let again = store.commit(create("a")).await.unwrap_err();
    assert!(
        matches!(again, StoreError::Conflict { current: Some(ref c), .. } if c.mod_revision == first.revision),
        "{again}"
    );
    let update = Txn { compares: vec![Compare::ModRevision(key("a"), first.revision)], ..put("a", "2") };
    let second = store.commit(update.clone()).await.unwrap();
    assert_eq!(second.revision, first.revision + 1);
    assert!(matches!(store.commit(update).await, Err(StoreError::Conflict { .. })), "stale");
    assert_eq!(store.revision(), second.revision);
    assert_eq!(store.get(&key("a")).unwrap().mod_revision, second.revision);
    let gone = store.commit(Txn { compares: vec![], ops: vec![Op::Delete(key("a"))] }).await.unwrap();
    assert_eq!(
        gone.objects[0].as_ref().unwrap().head.resource_version,
        gone.revision,
        "the last state, at the deletion"
    );
    assert!(store.get(&key("a")).is_none());
}

async fn concurrent_creates_of_one_key_have_one_winner(place: &Place) {
    let store = place.open().await;
    let outcomes = futures::future::join_all((0..50).map(|_| store.commit(create("a")))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
}

async fn pages_hold_together_over_writes(place: &Place) {
    let store = place.open().await;
    for name in ["a", "b", "c", "d"] {
        store.commit(create(name)).await.unwrap();
    }
    let first = store.range(PREFIX, None, 2, 0).unwrap();
    assert_eq!((names(&first), first.more, first.remaining), (vec!["a".into(), "b".into()], true, 2));
    store
        .commit(Txn { compares: vec![], ops: vec![Op::Delete(key("c")), Op::Put(key("bb"), draft("bb", ""))] })
        .await
        .unwrap();
    store.commit(put("d", "changed")).await.unwrap();
    let second = store.range(PREFIX, Some(&first.items[1].key), 2, first.revision).unwrap();
    assert_eq!((names(&second), second.more), (vec!["c".into(), "d".into()], false));
    assert!(second.items[1].mod_revision <= first.revision, "d as it was");
    assert_eq!(names(&store.range(PREFIX, None, 0, 0).unwrap()), ["a", "b", "bb", "d"]);
    assert_eq!(store.count(PREFIX), 4);
    let future = store.range(PREFIX, None, 0, 999);
    assert!(matches!(future, Err(StoreError::Future { .. })));
}

async fn watches_replay_follow_and_keep_to_their_prefix(place: &Place) {
    let store = place.open().await;
    let start = store.revision();
    store.commit(create("a")).await.unwrap();
    let mut watch = store.watch(PREFIX, start).unwrap();
    let other: Arc<str> = "/registry/pods/default/p".into();
    store.commit(Txn { compares: vec![], ops: vec![Op::Put(other, draft("p", ""))] }).await.unwrap();
    store.commit(put("a", "2")).await.unwrap();
    store.commit(Txn { compares: vec![], ops: vec![Op::Delete(key("a"))] }).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = watch.next().await.unwrap().unwrap();
        seen.extend(
            batch.into_iter().map(|e| (e.kind, e.previous.is_some(), e.object.head.resource_version == e.revision)),
        );
    }
    assert_eq!(seen, [(EventKind::Put, false, true), (EventKind::Put, true, true), (EventKind::Delete, true, true)]);
}

async fn an_old_revision_is_refused_after_a_restart(place: &Place) {
    let store = place.open().await;
    store.commit(create("a")).await.unwrap();
    let last = store.commit(create("b")).await.unwrap().revision;
    drop(store);
    let store = place.open().await;
    assert_eq!(store.revision(), last);
    assert_eq!(names(&store.range(PREFIX, None, 0, 0).unwrap()), ["a", "b"]);
    assert!(matches!(store.watch(PREFIX, last - 1), Err(StoreError::Compacted { .. })));
    assert!(store.watch(PREFIX, last).is_ok());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    assert!(matches!(Embedded::open(dir.path(), Options::default()), Err(StoreError::Locked)));
    drop(store);
    assert!(Embedded::open(dir.path(), Options::default()).is_ok());
}

async fn a_snapshot_is_a_store(place: &Place) {
    let store = place.open().await;
    let last = store.commit(create("a")).await.unwrap().revision;
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("state.redb");
    for _ in 0..2 {
        store.snapshot(&path).unwrap();
        assert!(store.snapshot(&path).is_err(), "nothing is overwritten");
        let files = std::fs::read_dir(copy.path()).unwrap().count();
        assert_eq!(files, 1, "nothing else is left");
        std::fs::remove_file(&path).unwrap();
    }
    store.snapshot(&path).unwrap();
    let copy = Embedded::open(copy.path(), Options::default()).unwrap();
    assert_eq!((copy.revision(), copy.count(PREFIX)), (last, 1));
}

async fn watches_end_with_the_store(place: &Place) {
    let store = place.open().await;
    let start = store.revision();
    store.commit(create("a")).await.unwrap();
    let mut watch = store.watch(PREFIX, start).unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
    let waiting = async {
        drop(store);
        watch.next().await
    };
    assert!(waiting.await.is_none());
}

async fn what_is_put_and_removed_at_once_is_gone(place: &Place) {
    let store = place.open().await;
    let made = store.commit(create("a")).await.unwrap();
    let mut watch = store.watch(PREFIX, made.revision).unwrap();
    let both = Txn { compares: vec![], ops: vec![Op::Put(key("a"), draft("a", "last")), Op::Delete(key("a"))] };
    let done = store.commit(both).await.unwrap();
    assert_eq!(done.objects[0].as_ref().unwrap().value().unwrap()["data"]["x"], "last");
    assert!(store.get(&key("a")).is_none());
    let mut last = None;
    while last != Some(EventKind::Delete) {
        last = watch.next().await.unwrap().unwrap().last().map(|e| e.kind);
    }
}

/// Key to the revision of its value.
type State = BTreeMap<Arc<str>, u64>;

fn state(page: &Page) -> State {
    page.items.iter().map(|v| (v.key.clone(), v.mod_revision)).collect()
}

/// Whoever lists at some time and follows from there has seen, in the end, what is there; each event knows its predecessor.
async fn lists_and_watches_agree_under_concurrent_writes(place: &Place) {
    let store = place.open().await;
    let writer = async |of: u64| {
        let mut seed = of.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut acknowledged = Vec::new();
        for _ in 0..60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = format!("n{}", (seed >> 33) % 7);
            let current = store.get(&key(&name));
            let compares = match &current {
                Some(value) => vec![Compare::ModRevision(key(&name), value.mod_revision)],
                None => vec![Compare::Absent(key(&name))],
            };
            let txn = if current.is_some() && seed >> 62 == 0 {
                Txn { compares, ..delete(&name) }
            } else {
                Txn { compares, ..put(&name, &seed.to_string()) }
            };
            match store.commit(txn).await {
                Ok(done) => acknowledged.push(done.revision),
                Err(StoreError::Conflict { current: newer, .. }) => {
                    let revision = |v: Option<Versioned>| v.map(|v| v.mod_revision);
                    assert_ne!(revision(newer), revision(current), "a conflict with what was there");
                }
                Err(error) => panic!("{error}"),
            }
        }
        acknowledged
    };
    let follower = async |wait: u64| {
        while store.revision() < wait {
            tokio::task::yield_now().await;
        }
        let page = store.range(PREFIX, None, 0, 0).unwrap();
        let watch = store.watch(PREFIX, page.revision).unwrap();
        (page, watch)
    };
    let (revisions, followers) = futures::join!(
        futures::future::join_all((1..=8).map(&writer)),
        futures::future::join_all([1, 5, 20, 50, 100].map(&follower)),
    );
    let mut revisions = revisions.concat();
    revisions.sort_unstable();
    assert!(revisions.windows(2).all(|w| w[0] < w[1]), "each write has a revision of its own");
    let last = *revisions.last().unwrap();
    let end = store.range(PREFIX, None, 0, 0).unwrap();
    assert_eq!(end.revision, last);
    for (page, mut watch) in followers {
        let (mut seen, mut reached) = (state(&page), page.revision);
        while reached < last {
            for event in watch.next().await.unwrap().unwrap() {
                assert!(event.revision > reached, "in order, once");
                reached = event.revision;
                let previous = event.previous.map(|p| p.head.resource_version);
                assert_eq!(previous, seen.get(&event.key).copied(), "the predecessor of {} at {reached}", event.key);
                match event.kind {
                    EventKind::Put => seen.insert(event.key, event.object.head.resource_version),
                    EventKind::Delete => seen.remove(&event.key),
                };
                if let Ok(then) = store.range(PREFIX, None, 0, reached) {
                    assert_eq!(state(&then), seen, "a list at {reached}");
                }
            }
        }
        assert_eq!(seen, state(&end));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    Create(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u8).prop_map(Step::Put),
        3 => (0..6u8).prop_map(Step::Delete),
        3 => (0..6u8).prop_map(Step::Create),
        1 => Just(Step::Reopen),
    ]
}

fn steps(cases: u32) -> (proptest::test_runner::TestRunner, impl Strategy<Value = Vec<Step>>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    (proptest::test_runner::TestRunner::new(config), proptest::collection::vec(step(), 1..40))
}

/// Any sequence of transactions leaves what a map would hold, at every revision of the window.
#[test]
fn the_embedded_store_agrees_with_a_map() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut runner, steps) = steps(12);
    let ran = runner.run(&steps, |steps| {
        runtime.block_on(agree(&Place::embedded(), steps));
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn etcd_agrees_with_a_map() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = Place::etcd();
    let (mut runner, steps) = steps(6);
    let ran = runner.run(&steps, |steps| {
        runtime.block_on(agree(&place, steps));
        Ok(())
    });
    ran.unwrap();
}

async fn agree(place: &Place, steps: Vec<Step>) {
    let mut store = place.open().await;
    for left in store.range(PREFIX, None, 0, 0).unwrap().items {
        store.commit(Txn { compares: vec![], ops: vec![Op::Delete(left.key)] }).await.unwrap();
    }
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    let mut past: Vec<(u64, BTreeMap<String, u64>)> = Vec::new();
    for step in steps {
        match step {
            Step::Put(n) => {
                let name = format!("n{n}");
                let done = store.commit(put(&name, "x")).await.unwrap();
                model.insert(name, done.revision);
            }
            Step::Delete(n) => {
                let name = format!("n{n}");
                store.commit(delete(&name)).await.unwrap();
                model.remove(&name);
            }
            Step::Create(n) => {
                let name = format!("n{n}");
                let done = store.commit(create(&name)).await;
                assert_eq!(done.is_ok(), !model.contains_key(&name));
                if let Ok(done) = done {
                    model.insert(name, done.revision);
                }
            }
            Step::Reopen => {
                drop(store);
                store = place.open().await;
                past.clear();
            }
        }
        past.push((store.revision(), model.clone()));
    }
    for (revision, then) in past {
        let page = store.range(PREFIX, None, 0, revision).unwrap();
        let found: BTreeMap<String, u64> =
            page.items.iter().map(|v| (v.object.head.name.clone(), v.mod_revision)).collect();
        assert_eq!(found, then, "at {revision}");
        let mut after: Option<Arc<str>> = None;
        let mut paged = Vec::new();
        loop {
            let page = store.range(PREFIX, after.as_deref(), 2, revision).unwrap();
            paged.extend(names(&page));
            assert_eq!(paged.len() + page.remaining, then.len(), "at {revision}");
            after = page.items.last().map(|v| v.key.clone());
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, then.into_keys().collect::<Vec<_>>(), "in pages at {revision}");
    }
}
