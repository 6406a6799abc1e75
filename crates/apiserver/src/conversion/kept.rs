//! What webhooks have converted, for whoever asks next: each change is converted once per version, as it is for upstream's watch caches.
//!
//! A converted object belongs to the very object of the store that it was made of: while that one is there, so is what was made of it, and
//! nothing can be out of date. It belongs to one state of its definition, too, whose conversion or schema may change.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kinds::Kind;
use kinds::custom::Custom;
use object::Object;
use parking_lot::Mutex;
use store::Backend;
use tokio::time::Instant;

use crate::api::prefix;

/// So much is kept, of all definitions together.
const MOST_BYTES: usize = 64 << 20;
/// Once that is half full, what nobody has asked for in such a time makes room.
const TURN: Duration = Duration::from_secs(60);
/// What is gone from the store is looked for when as much has been added as there was, and at least so much.
const FEWEST: usize = 1000;

/// Converted objects by the definition, the state of it and of its version, and the object that they were made of.
pub(super) struct Kept {
    most: usize,
    state: Mutex<State>,
}

struct State {
    tables: HashMap<Of, Table>,
    bytes: usize,
    /// Objects added since the last look, and those that were there then.
    added: usize,
    left: usize,
    /// When unused ones last made room.
    turned: Instant,
}

/// Which objects a table has.
#[derive(PartialEq, Eq, Hash)]
struct Of {
    definition: String,
    fingerprint: u64,
}

impl Of {
    fn new(custom: &Custom) -> Self {
        Self { definition: custom.definition.clone(), fingerprint: custom.fingerprint }
    }
}

struct Table {
    /// What the keys of its objects begin with.
    prefix: String,
    /// By the address of the object: nothing else comes to stand there while the entry is weakly held.
    made: HashMap<usize, Made>,
}

struct Made {
    of: Weak<Object>,
    object: Arc<Object>,
    is_wanted: bool,
}

impl Made {
    /// The converted object, and what is kept to find it.
    fn bytes(&self) -> usize {
        self.object.body.len() + 2 * size_of::<Object>() + size_of::<(usize, Self)>()
    }
}

fn address(object: &Arc<Object>) -> usize {
    Arc::as_ptr(object).addr()
}

impl Kept {
    pub(super) fn new() -> Self {
        Self::with_room(MOST_BYTES)
    }

    fn with_room(most: usize) -> Self {
        let state = State { tables: HashMap::new(), bytes: 0, added: 0, left: 0, turned: Instant::now() };
        Self { most, state: Mutex::new(state) }
    }

    /// Puts what is kept in the place of the objects that it was made of.
    pub(super) fn find(&self, custom: &Custom, objects: &mut [&mut Arc<Object>]) {
        let mut state = self.state.lock();
        let Some(table) = state.tables.get_mut(&Of::new(custom)) else { return };
        for object in objects {
            if let Some(made) = table.made.get_mut(&address(object)) {
                made.is_wanted = true;
                **object = made.object.clone();
            }
        }
    }

    /// Keeps what was made of objects, where there is room.
    pub(super) fn keep(
        &self,
        store: &dyn Backend,
        kind: &Kind,
        custom: &Custom,
        now: Instant,
        made: impl Iterator<Item = (Arc<Object>, Arc<Object>)>,
    ) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.make_room(store, now, self.most);
        let new = || Table { prefix: prefix(kind, None), made: HashMap::new() };
        let table = state.tables.entry(Of::new(custom)).or_insert_with(new);
        for (of, object) in made {
            let made = Made { of: Arc::downgrade(&of), object, is_wanted: true };
            let bytes = made.bytes();
            if state.bytes + bytes > self.most {
                break;
            }
            state.bytes += bytes;
            state.added += 1;
            if let Some(before) = table.made.insert(address(&of), made) {
                state.bytes -= before.bytes();
            }
        }
    }

    /// Forgets what was made of a definition that is now in these states: one per version, none once it is gone.
    pub(super) fn retain(&self, definition: &str, fingerprints: &[u64]) {
        let mut state = self.state.lock();
        state.tables.retain(|of, _| of.definition != definition || fingerprints.contains(&of.fingerprint));
        state.weigh();
    }

    #[cfg(test)]
    fn count(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.tables.values().map(|table| table.made.len()).sum(), state.bytes)
    }
}

impl State {
    /// Lets go of what was made of objects that are in the store no longer, and in need of what nobody wants; each now and then.
    fn make_room(&mut self, store: &dyn Backend, now: Instant, most: usize) {
        let turns = self.bytes > most / 2 && now - self.turned > TURN;
        if self.added < self.left.max(FEWEST) && !turns {
            return;
        }
        for table in self.tables.values_mut() {
            let prefix = &table.prefix;
            table.made.retain(|_, made| {
                let Some(of) = made.of.upgrade() else { return false };
                let there = store.get(&format!("{prefix}{}", of.head.key()));
                let is_there = there.is_some_and(|there| Arc::ptr_eq(&there.object, &of));
                is_there && (!turns || std::mem::take(&mut made.is_wanted))
            });
        }
        self.tables.retain(|_, table| !table.made.is_empty());
        self.weigh();
        if turns {
            self.turned = now;
        }
    }

    fn weigh(&mut self) {
        let made = || self.tables.values().flat_map(|table| table.made.values());
        (self.bytes, self.left) = (made().map(Made::bytes).sum(), made().count());
        self.added = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::{Embedded, Op, Options, Txn};

    use super::*;

    /// Objects in a store, and what was made of them in one version of their definition.
    struct World {
        store: Embedded,
        kind: Kind,
        kept: Kept,
    }

    impl World {
        fn custom(&self) -> &Custom {
            self.kind.custom.as_ref().unwrap()
        }

        async fn write(&self, name: &str) -> Arc<Object> {
            let mut value = json!({"apiVersion": "e.org/v1", "kind": "Tab", "metadata": {"name": name}});
            let key: Arc<str> = format!("/registry/e.org/tabs/{name}").into();
            let draft = object::Draft::new(&mut value).unwrap();
            self.store.commit(Txn { compares: vec![], ops: vec![Op::Put(key.clone(), draft)] }).await.unwrap();
            self.store.get(&key).unwrap().object
        }

        /// Keeps a thousand bytes for each of the objects, after so many turns.
        fn keep(&self, turns: u32, objects: &[Arc<Object>]) {
            let made = Object::from_value(&json!({"metadata": {"name": "m"}, "x": "x".repeat(1000)})).unwrap();
            let made = objects.iter().map(|object| (object.clone(), Arc::new(made.clone())));
            let now = Instant::now() + turns * (TURN + Duration::from_secs(1));
            self.kept.keep(&self.store, &self.kind, self.custom(), now, made);
        }

        fn finds(&self, object: &Arc<Object>) -> bool {
            let mut found = object.clone();
            self.kept.find(self.custom(), &mut [&mut found]);
            !Arc::ptr_eq(&found, object)
        }
    }

    #[tokio::test]
    async fn what_nobody_wants_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let definition = json!({"metadata": {"name": "tabs.e.org"}, "status": {"conditions": [{"type": "Established", "status": "True"}],
            "acceptedNames": {"plural": "tabs", "kind": "Tab"}}, "spec": {"group": "e.org", "scope": "Cluster", "names": {"plural": "tabs"},
            "versions": [{"name": "v1", "served": true, "storage": true}]}});
        let world = World {
            store: Embedded::open(folder.path(), Options::default()).unwrap(),
            kind: kinds::custom::kinds(&definition, 0).remove(0),
            kept: Kept::with_room(10_000),
        };
        let mut objects = Vec::new();
        for n in 0..20 {
            objects.push(world.write(&format!("t{n:02}")).await);
        }
        world.keep(0, &objects);
        let (count, bytes) = world.kept.count();
        assert!((3..10).contains(&count) && bytes <= 10_000, "{count} {bytes}");
        assert!(world.finds(&objects[0]) && !world.finds(&objects[19]), "what is there stays while there is no room");
        // The first turn: all were wanted. Until the second, only one is.
        world.keep(1, &[]);
        assert_eq!(world.kept.count().0, count);
        assert!(world.finds(&objects[0]));
        world.keep(3, &objects[19..]);
        assert!(world.finds(&objects[0]) && !world.finds(&objects[1]) && world.finds(&objects[19]));
        // What is not in the store as it was goes, too.
        assert!(!world.finds(&world.write("t00").await));
        for _ in 0..FEWEST {
            world.keep(3, &objects[19..]);
        }
        assert_eq!(world.kept.count().0, 1);
        world.kept.retain("tabs.e.org", &[]);
        assert_eq!(world.kept.count(), (0, 0));
    }
}
