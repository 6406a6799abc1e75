//! A store in a temporary directory, whose mounts go when it goes.

use std::ops::Deref;

use tempfile::TempDir;

use crate::{Builder, Image, Layer, Store};

pub(crate) struct TestStore {
    store: Store,
    // Dropped last: the directory can only go when nothing is mounted in it.
    _dir: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path().join("store")).unwrap(), _dir: dir }
    }
    /// The store as another process would open it.
    pub(crate) fn reopen(&self) -> Store {
        Store::open(self.store.root()).unwrap()
    }
}

impl Deref for TestStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        self.store.purge().unwrap();
    }
}

/// Two layers with known content; `salt` makes it another image.
pub(crate) fn sample(store: &Store, name: &str, salt: &str) -> Image {
    let below =
        Layer::new().file("/etc/name", 0o644, format!("base {salt}\n")).file("/gone", 0o644, "x").dir("/tmp", 0o1777);
    let above = Layer::new().file("/etc/salt", 0o600, salt).whiteout("/gone");
    let builder = Builder::new().layer(below).layer(above).entrypoint(["/bin/true"]).env("SALT", salt).user("7:8");
    builder.build(store, name).unwrap()
}

/// Numbers of blobs and snapshots.
pub(crate) fn content(store: &Store) -> (usize, usize) {
    let count = |dir: &str| std::fs::read_dir(store.root().join(dir)).unwrap().count();
    (count("blobs/sha256"), count("snapshots"))
}
