//! Names, ids, garbage, and two processes on one store.

use crate::testing::{TestStore, content, sample};
use crate::{Digest, Error, Store};

#[test]
fn an_image_is_found_by_every_name() {
    let store = TestStore::new();
    let image = sample(&store, "demo:1", "a");
    let id = image.id.to_string();
    for name in ["demo:1", "docker.io/library/demo:1", "library/demo:1", &id, image.id.hex(), &image.id.hex()[..12]] {
        assert_eq!(store.get(name).unwrap().image, image, "{name}");
    }
    for name in ["demo:2", "demo", "", "sha256:00", "no such name"] {
        assert!(store.find(name).unwrap().is_none(), "{name}");
        assert!(matches!(store.get(name), Err(Error::NotFound { .. })), "{name}");
    }
    let listed = store.get("demo:1").unwrap();
    assert_eq!(listed.repo_tags, ["docker.io/library/demo:1"]);
    assert!(listed.repo_digests.is_empty());
    assert_eq!(listed.image.user, "7:8");
}

#[test]
fn content_goes_with_its_last_image() {
    let store = TestStore::new();
    sample(&store, "a:1", "same");
    let image = sample(&store, "b:1", "same");
    sample(&store, "c:1", "other");
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(content(&store), (8, 4));
    assert_eq!(store.untag("a:1").unwrap(), "docker.io/library/a:1");
    assert_eq!(content(&store), (8, 4));
    assert!(store.remove_image(image.id.as_str()).unwrap());
    assert!(!store.remove_image("b:1").unwrap());
    assert_eq!(content(&store), (4, 2));
    assert!(matches!(store.untag("b:1"), Err(Error::NotFound { .. })));
    store.remove_image("c:1").unwrap();
    assert_eq!(content(&store), (0, 0));
}

#[test]
fn a_moved_tag_leaves_the_old_image_by_id() {
    let store = TestStore::new();
    let old = sample(&store, "a:1", "old");
    let new = sample(&store, "a:1", "new");
    assert_eq!(store.get("a:1").unwrap().image.id, new.id);
    let old = store.get(old.id.as_str()).unwrap();
    assert!(old.repo_tags.is_empty());
    store.tag(old.image.id.as_str(), "rescued").unwrap();
    assert_eq!(store.get("rescued:latest").unwrap().image, old.image);
}

#[test]
fn collection_waits_for_leases() {
    let store = TestStore::new();
    let lease = store.lease().unwrap();
    store.put_blob(b"in flight").unwrap();
    assert_eq!(store.prune().unwrap(), crate::Freed::default());
    assert_eq!(content(&store).0, 1);
    drop(lease);
    assert_eq!(content(&store).0, 0, "the last lease does the work that waited");
}

#[test]
fn another_process_is_noticed() {
    let store = TestStore::new();
    let other = store.reopen();
    let image = sample(&store, "a:1", "x");
    assert_eq!(other.get("a:1").unwrap().image.id, image.id);
    other.remove_image("a:1").unwrap();
    assert!(store.find("a:1").unwrap().is_none());
}

#[test]
fn concurrent_changes_are_all_kept() {
    let store = TestStore::new();
    let image = sample(&store, "a:1", "x");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let own: Store = store.reopen();
            scope.spawn(move || {
                for n in 0..5 {
                    own.tag("a:1", &format!("t{thread}:n{n}")).unwrap();
                }
            });
        }
    });
    assert_eq!(store.get(image.id.as_str()).unwrap().repo_tags.len(), 21);
}

#[test]
fn pins_outlive_a_second_registration() {
    let store = TestStore::new();
    sample(&store, "a:1", "x");
    store.pin("a:1", true).unwrap();
    sample(&store, "a:1", "x");
    assert!(store.get("a:1").unwrap().image.pinned);
    assert!(store.pin("b:1", true).is_err());
}

#[test]
fn wrong_content_is_refused() {
    let store = TestStore::new();
    let expected = crate::Descriptor::new("", Digest::of(b"right"), 5);
    assert!(matches!(store.ingest(&b"wrong"[..], Some(&expected)), Err(Error::Mismatch { .. })));
    assert!(matches!(store.ingest(&b"righ"[..], Some(&expected)), Err(Error::Length { .. })));
    assert!(matches!(store.ingest(&b"right and more"[..], Some(&expected)), Err(Error::Length { .. })));
    assert_eq!(content(&store).0, 0);
    assert_eq!(std::fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
    let digest = store.put_blob(b"right").unwrap();
    std::fs::write(store.blob_path(&digest), b"rotten").unwrap();
    assert!(matches!(store.read_blob(&digest), Err(Error::Mismatch { .. })));
}

#[test]
fn a_broken_table_is_refused_and_kept() {
    let store = TestStore::new();
    let path = store.root().join("images.json");
    std::fs::write(&path, b"{\"version\":1,").unwrap();
    let error = Store::open(store.root()).err().unwrap();
    assert!(error.to_string().contains("images.json"), "{error}");
    assert!(store.prune().is_err(), "nothing is removed when it is not known what is used");
    std::fs::write(&path, br#"{"version":99,"names":{},"images":{}}"#).unwrap();
    assert!(Store::open(store.root()).err().unwrap().to_string().contains("newer"));
}
