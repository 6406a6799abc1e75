//! What happens to etcd: restarts, a lost leader, a partition, compaction. Nothing acknowledged is lost, no read is stale.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use protos::etcd::{CompactionRequest, CompactionResponse};

use super::compact::Round;
use super::{Repeat, number};
use crate::contract::{PREFIX, create, key, put};
use crate::testing::EtcdCluster;
use crate::*;

async fn sync(store: &Etcd) -> Result<(), StoreError> {
    store.sync().unwrap().await
}

/// Until etcd answers again.
async fn recovered(store: &Etcd) {
    while sync(store).await.is_err() {}
}

async fn next(watch: &mut Watch) -> Vec<(u64, String)> {
    let batch = watch.next().await.unwrap().unwrap();
    batch.into_iter().map(|e| (e.revision, e.object.head.name.clone())).collect()
}

#[tokio::test]
async fn two_servers_see_each_other() {
    let etcd = EtcdCluster::start(1);
    let (a, b) = (etcd.connect().await, etcd.connect().await);
    let mut watch = b.watch(PREFIX, b.revision()).unwrap();
    for n in 0..50 {
        let name = format!("n{n}");
        let done = a.commit(create(&name)).await.unwrap();
        sync(&b).await.unwrap();
        assert_eq!(b.get(&key(&name)).unwrap().mod_revision, done.revision, "a consistent read is not stale");
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        seen.extend(next(&mut watch).await);
    }
    let stale = Txn { compares: vec![Compare::Absent(key("n7"))], ..put("n7", "mine") };
    let refused = b.commit(stale).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { current: Some(c), .. } if c.object.head.name == "n7"));
    let proposals = [a.agree("/x", b"a").await.unwrap(), b.agree("/x", b"b").await.unwrap()];
    assert_eq!(proposals, [b"a", b"a"]);
    // Other keys of the same etcd are no objects, and hold nobody up.
    assert!(a.range("/", None, 0, 0).unwrap().items.iter().all(|v| v.key.starts_with(PREFIX)));
    sync(&b).await.unwrap();
}

#[tokio::test]
async fn certificates_on_both_sides() {
    let etcd = EtcdCluster::start_with_tls();
    let store = etcd.connect().await;
    store.commit(create("a")).await.unwrap();
    let anonymous = EtcdOptions { cert_file: None, key_file: None, ..etcd.options() };
    assert!(Etcd::connect(&anonymous, Options::default()).await.is_err());
    let stranger = EtcdOptions { ca_file: None, ..etcd.options() };
    assert!(Etcd::connect(&stranger, Options::default()).await.is_err(), "not signed by an authority of this machine");
    let half = EtcdOptions { key_file: None, ..etcd.options() };
    assert!(matches!(Etcd::connect(&half, Options::default()).await, Err(StoreError::Configuration(_))));
}

#[tokio::test]
async fn a_restart_of_etcd_interrupts_no_watch() {
    let mut etcd = EtcdCluster::start(1);
    let store = etcd.connect().await;
    let first = store.commit(create("a")).await.unwrap().revision;
    let mut watch = store.watch(PREFIX, first).unwrap();
    etcd.kill(0);
    assert_eq!(store.get(&key("a")).unwrap().mod_revision, first, "memory is there");
    let refused = sync(&store).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_) | StoreError::TimedOut(_)), "{refused}");
    etcd.run(0);
    recovered(&store).await;
    let second = store.commit(create("b")).await.unwrap().revision;
    assert_eq!(next(&mut watch).await, [(second, "b".into())]);
}

#[tokio::test]
async fn a_frozen_etcd_gives_no_stale_reads() {
    let etcd = EtcdCluster::start(1);
    let store = Arc::new(etcd.connect().await);
    store.commit(create("a")).await.unwrap();
    etcd.freeze(0, true);
    let refused = sync(&store).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_) | StoreError::TimedOut(_)), "{refused}");
    let write = tokio::time::timeout(Duration::from_millis(50), store.commit(create("b"))).await;
    assert!(write.is_err(), "still waiting");
    etcd.freeze(0, false);
    recovered(&store).await;
    // Whether it took effect was not known then; it is one of the two now.
    let again = store.commit(create("b")).await;
    assert!(matches!(again, Ok(_) | Err(StoreError::Conflict { .. })));
    sync(&store).await.unwrap();
    assert!(store.get(&key("b")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_leader_loses_no_acknowledged_write() {
    let mut etcd = EtcdCluster::start(3);
    let (a, b) = (etcd.connect().await, etcd.connect().await);
    let start = b.revision();
    let mut watch = b.watch(PREFIX, start).unwrap();
    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for round in 0..3 {
        // One of the three times at least it is the leader; the writes go on meanwhile.
        let writes = futures::future::join_all((0..20).map(|n| {
            let (name, a) = (format!("r{round}-{n}"), &a);
            async move { a.commit(create(&name)).await.map(|done| (done.revision, name)) }
        }));
        let killed = async {
            tokio::task::yield_now().await;
            etcd.kill(round);
        };
        let (outcomes, ()) = futures::join!(writes, killed);
        acknowledged.extend(outcomes.into_iter().filter_map(Result::ok));
        recovered(&b).await;
        for (revision, name) in &acknowledged {
            assert_eq!(b.get(&key(name)).map(|v| v.mod_revision), Some(*revision), "{name}");
        }
        etcd.run(round);
        recovered(&a).await;
    }
    let last = a.commit(create("last")).await.unwrap().revision;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(revision, _)| *revision < last) {
        seen.extend(next(&mut watch).await);
    }
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0), "in order, once");
    assert!(acknowledged.len() > 20, "most writes went through: {}", acknowledged.len());
    assert!(acknowledged.iter().all(|one| seen.contains(one)), "the watch has lost nothing");
}

#[tokio::test]
async fn compaction_during_an_outage_is_410() {
    let etcd = EtcdCluster::start(1);
    let (a, b) = (etcd.connect().await, etcd.connect().await);
    let first = a.commit(create("a")).await.unwrap().revision;
    let mut watch = a.watch(PREFIX, first).unwrap();
    // The feed of `a` is not there while others write and compact.
    let gone = a.shared.clone();
    drop(a);
    b.commit(put("a", "2")).await.unwrap();
    let last = b.commit(put("a", "3")).await.unwrap().revision;
    let request = CompactionRequest { revision: number(last) };
    let _: CompactionResponse = b.shared.call("/etcdserverpb.KV/Compact", &request, Repeat::IfNotDone).await.unwrap();
    assert!(watch.next().await.is_none(), "it has ended with the store");
    let seen = gone.memory.read().revision;
    let mut late = watching::watch(&gone.memory, PREFIX, seen).unwrap();
    let mut tasks = base::Tasks::new(&tokio_util::sync::CancellationToken::new());
    tasks.spawn("feed", gone.clone().follow());
    let refused = late.next().await.unwrap();
    assert!(matches!(refused, Err(StoreError::Compacted { .. })), "{refused:?}");
    assert_eq!(gone.memory.read().get(&key("a")).unwrap().mod_revision, last, "the present is there all the same");
    assert!(matches!(watching::watch(&gone.memory, PREFIX, first), Err(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn servers_take_turns_to_compact() {
    let etcd = EtcdCluster::start(1);
    let (a, b) = (etcd.connect().await, etcd.connect().await);
    let first = a.commit(create("a")).await.unwrap().revision;
    let of_a = a.shared.compact_once(Round::default()).await.unwrap();
    let of_b = b.shared.compact_once(Round::default()).await.unwrap();
    a.commit(put("a", "2")).await.unwrap();
    a.shared.compact_once(of_a).await.unwrap();
    let of_b = b.shared.compact_once(of_b).await.unwrap();
    let request = protos::etcd::RangeRequest { revision: number(first), ..super::range("/registry/x", "") };
    let old = a.shared.range(&request).await.unwrap_err();
    assert!(base::Chain(&old).to_string().contains("compacted"), "{old}");
    // It is b's turn when a does not come.
    b.shared.compact_once(of_b).await.unwrap();
    assert!(a.watch(PREFIX, first).is_ok(), "memory's window is not etcd's");
}

#[tokio::test]
async fn a_snapshot_goes_back_into_etcd_and_elsewhere() {
    let etcd = EtcdCluster::start(1);
    let store = etcd.connect().await;
    store.commit(create("a")).await.unwrap();
    store.commit(create("b")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved");
    store.snapshot(&file).unwrap();
    store.commit(put("a", "changed")).await.unwrap();
    for n in 0..250 {
        store.commit(create(&format!("later{n}"))).await.unwrap();
    }
    store.commit(Txn { compares: vec![], ops: vec![Op::Delete(key("b"))] }).await.unwrap();
    let snapshot = Snapshot::read(&file).unwrap();
    store.restore(&snapshot).await.unwrap();
    let other = etcd.connect().await;
    for store in [&store, &other] {
        assert_eq!(store.count(PREFIX), 2);
        assert_eq!(store.get(&key("a")).unwrap().object.value().unwrap()["data"]["x"], "new");
    }
    let place = dir.path().join("db");
    let before = {
        let store = Embedded::open(&place, Options::default()).unwrap();
        store.commit(create("c")).await.unwrap();
        assert!(matches!(Snapshot::of_embedded(&place), Err(StoreError::Locked)));
        let restored = snapshot.restore_embedded(&place, &dir.path().join("old"));
        assert!(matches!(restored, Err(StoreError::Locked)), "not under a running server");
        store.revision()
    };
    let kept = snapshot.restore_embedded(&place, &dir.path().join("old")).unwrap().unwrap();
    assert_eq!(Snapshot::read(&kept).unwrap().count(), 1, "what was there is kept");
    let store = Embedded::open(&place, Options::default()).unwrap();
    assert_eq!(store.count(PREFIX), 2);
    assert!(store.revision() > before.max(snapshot.revision));
    assert!(matches!(store.watch(PREFIX, before), Err(StoreError::Compacted { .. })), "clients begin anew");
}

/// Seals by turning bytes around, under a name.
struct Turned(parking_lot::Mutex<Vec<&'static str>>);

impl Turned {
    fn named(names: &[&'static str]) -> Options {
        Options { transform: Some(Arc::new(Self(parking_lot::Mutex::new(names.to_vec())))), ..Options::default() }
    }
}

impl Transform for Turned {
    fn form(&self, _: &str) -> Arc<str> {
        format!("k8s:enc:{}:", self.0.lock()[0]).into()
    }

    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        Ok([self.form(key).as_bytes(), &value.iter().map(|b| !b).collect::<Vec<u8>>()].concat())
    }

    fn open(&self, _: &str, stored: &[u8]) -> Result<(Vec<u8>, Arc<str>), String> {
        for name in &*self.0.lock() {
            let form = format!("k8s:enc:{name}:");
            if let Some(sealed) = stored.strip_prefix(form.as_bytes()) {
                return Ok((sealed.iter().map(|b| !b).collect(), form.into()));
            }
        }
        Err("no key".into())
    }
}

#[tokio::test]
async fn sealed_values_are_shared_and_survive_snapshots() {
    let etcd = EtcdCluster::start(1);
    let a = Etcd::connect(&etcd.options(), Turned::named(&["x"])).await.unwrap();
    let both = Turned::named(&["y", "x"]);
    let b = Etcd::connect(&etcd.options(), both.clone()).await.unwrap();
    a.commit(create("a")).await.unwrap();
    sync(&b).await.unwrap();
    assert_eq!(b.get(&key("a")).unwrap().object.head.name, "a");
    assert!(b.is_stale(&key("a")) && !a.is_stale(&key("a")), "it would write the other form");
    let stored = a.agreed(&key("a")).await.unwrap().unwrap();
    assert!(stored.starts_with(b"k8s:enc:x:") && !String::from_utf8_lossy(&stored).contains("metadata"));
    // What `a` has no key for is there all the same: not for readers, but nobody makes it a second time.
    b.commit(create("b")).await.unwrap();
    sync(&a).await.unwrap();
    assert!(a.get(&key("b")).is_none());
    assert_eq!(a.unreadable(PREFIX).unwrap(), (key("b"), "no key".into()));
    assert!(matches!(a.commit(create("b")).await, Err(StoreError::Conflict { .. })));
    // A server without any key takes a snapshot, which goes into an embedded store and is opened there.
    let blind = etcd.connect().await;
    let dir = tempfile::tempdir().unwrap();
    blind.snapshot(&dir.path().join("saved")).unwrap();
    let snapshot = Snapshot::read(&dir.path().join("saved")).unwrap();
    assert_eq!(snapshot.count(), 2);
    let place = dir.path().join("db");
    snapshot.restore_embedded(&place, &dir.path().join("old")).unwrap();
    let embedded = Embedded::open(&place, Turned::named(&["x"])).unwrap();
    assert!(embedded.get(&key("a")).is_some_and(|v| v.mod_revision > 0));
    assert!(embedded.unreadable(&key("b")).is_some() && embedded.unreadable(&key("a")).is_none());
    assert!(matches!(embedded.commit(create("b")).await, Err(StoreError::Conflict { current: None, .. })));
    drop(embedded);
    let embedded = Embedded::open(&place, both).unwrap();
    assert_eq!(embedded.count(PREFIX), 2);
    blind.restore(&snapshot).await.unwrap();
    sync(&b).await.unwrap();
    assert_eq!(b.count(PREFIX), 2);
}
