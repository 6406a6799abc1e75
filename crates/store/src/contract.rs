//! What every [`Backend`] must do, whatever is below it; and a model that it must agree with.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use object::Draft;
use proptest::prelude::*;
use serde_json::json;

use crate::*;

pub(crate) fn draft(name: &str, data: &str) -> Draft {
    let mut value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"x": data}});
    Draft::new(&mut value).unwrap()
}

pub(crate) fn key(name: &str) -> Arc<str> {
    format!("/registry/configmaps/default/{name}").into()
}

pub(crate) fn put(name: &str, data: &str) -> Txn {
    Txn { compares: vec![], ops: vec![Op::Put(key(name), draft(name, data))] }
}

fn create(name: &str) -> Txn {
    Txn { compares: vec![Compare::Absent(key(name))], ..put(name, "new") }
}

fn open() -> (tempfile::TempDir, Embedded) {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    (dir, store)
}

const PREFIX: &str = "/registry/configmaps/";

fn names(page: &Page) -> Vec<String> {
    page.items.iter().map(|v| v.object.head.name.clone()).collect()
}

#[tokio::test]
async fn compares_decide_and_revisions_count() {
    let (_dir, store) = open();
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

#[tokio::test]
async fn concurrent_creates_of_one_key_have_one_winner() {
    let (_dir, store) = open();
    let outcomes = futures::future::join_all((0..50).map(|_| store.commit(create("a")))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
}

#[tokio::test]
async fn pages_hold_together_over_writes() {
    let (_dir, store) = open();
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

#[tokio::test]
async fn watches_replay_follow_and_keep_to_their_prefix() {
    let (_dir, store) = open();
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

#[tokio::test]
async fn an_old_revision_is_refused_after_a_restart() {
    let (dir, store) = open();
    store.commit(create("a")).await.unwrap();
    let last = store.commit(create("b")).await.unwrap().revision;
    drop(store);
    let store = Embedded::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.revision(), last);
    assert_eq!(names(&store.range(PREFIX, None, 0, 0).unwrap()), ["a", "b"]);
    assert!(matches!(store.watch(PREFIX, last - 1), Err(StoreError::Compacted { .. })));
    assert!(store.watch(PREFIX, last).is_ok());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let (dir, store) = open();
    assert!(matches!(Embedded::open(dir.path(), Options::default()), Err(StoreError::Locked)));
    drop(store);
    assert!(Embedded::open(dir.path(), Options::default()).is_ok());
}

#[tokio::test]
async fn a_snapshot_is_a_store() {
    let (_dir, store) = open();
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

#[tokio::test]
async fn watches_end_with_the_store() {
    let (_dir, store) = open();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Any sequence of transactions leaves what a map would hold, at every revision of the window.
    #[test]
    fn agrees_with_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (dir, mut store) = open();
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
                        store.commit(Txn { compares: vec![], ops: vec![Op::Delete(key(&name))] }).await.unwrap();
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
                        store = Embedded::open(dir.path(), Options::default()).unwrap();
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
        });
    }
}
