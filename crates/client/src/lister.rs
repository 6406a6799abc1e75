//! The cache that an informer fills: objects by key, by owner and by any other index that its reader asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use object::{LabelSelector, Object};
use parking_lot::RwLock;

/// Values under which an index files an object.
pub type IndexFn = fn(&Object) -> Vec<String>;

/// Reads an informer's cache. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lister {
    cache: Arc<RwLock<Cache>>,
}

#[derive(Default)]
struct Cache {
    objects: BTreeMap<String, Arc<Object>>,
    owners: HashMap<String, BTreeSet<String>>,
    indexes: HashMap<&'static str, Index>,
    revision: u64,
}

struct Index {
    values: IndexFn,
    keys: HashMap<String, BTreeSet<String>>,
}

impl Cache {
    fn file(&mut self, key: &str, object: &Object, add: bool) {
        for owner in &object.head.owners {
            file_under(&mut self.owners, &owner.uid, key, add);
        }
        for index in self.indexes.values_mut() {
            for value in (index.values)(object) {
                file_under(&mut index.keys, &value, key, add);
            }
        }
    }

    fn pick(&self, keys: Option<&BTreeSet<String>>) -> Vec<Arc<Object>> {
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key).cloned()).collect()
    }
}

fn file_under(index: &mut HashMap<String, BTreeSet<String>>, value: &str, key: &str, add: bool) {
    if add {
        index.entry(value.to_owned()).or_default().insert(key.to_owned());
    } else if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

impl Lister {
    /// The object under `namespace/name` (or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.cache.read().objects.get(key).cloned()
    }
    /// All objects, in key order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.cache.read().objects.values().cloned().collect()
    }
    /// The objects of a namespace, in key order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let from = format!("{namespace}/");
        let cache = self.cache.read();
        let range = cache.objects.range(from.clone()..);
        range.take_while(|(key, _)| key.starts_with(&from)).map(|(_, o)| o.clone()).collect()
    }
    /// The objects of a namespace (all when `None`) whose labels match.
    pub fn select(&self, namespace: Option<&str>, selector: &LabelSelector) -> Vec<Arc<Object>> {
        let mut found = namespace.map_or_else(|| self.list(), |ns| self.list_namespace(ns));
        found.retain(|object| selector.matches(&object.head.labels));
        found
    }
    /// The objects that name the owner `uid`, in key order.
    pub fn by_owner(&self, uid: &str) -> Vec<Arc<Object>> {
        let cache = self.cache.read();
        cache.pick(cache.owners.get(uid))
    }
    /// The objects that the index `name` files under `value`; none when there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<Object>> {
        let cache = self.cache.read();
        cache.pick(cache.indexes.get(name).and_then(|index| index.keys.get(value)))
    }
    /// Adds an index; objects that are in the cache already are filed at once. The same name again is ignored.
    pub fn add_index(&self, name: &'static str, values: IndexFn) {
        let mut cache = self.cache.write();
        if cache.indexes.contains_key(name) {
            return;
        }
        let mut keys = HashMap::new();
        for (key, object) in &cache.objects {
            for value in values(object) {
                file_under(&mut keys, &value, key, true);
            }
        }
        cache.indexes.insert(name, Index { values, keys });
    }
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.cache.read().objects.len()
    }
    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The newest revision that the cache has seen: writes up to it are visible here.
    pub fn revision(&self) -> u64 {
        self.cache.read().revision
    }
    /// Every key.
    pub fn keys(&self) -> Vec<String> {
        self.cache.read().objects.keys().cloned().collect()
    }

    /// Puts an object in; what was there before.
    pub fn insert(&self, object: Arc<Object>) -> Option<Arc<Object>> {
        let key = object.head.key();
        let mut cache = self.cache.write();
        let old = cache.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            cache.file(&key, old, false);
        }
        cache.file(&key, &object, true);
        old
    }

    /// Takes an object out; what was there.
    pub fn remove(&self, key: &str) -> Option<Arc<Object>> {
        let mut cache = self.cache.write();
        let old = cache.objects.remove(key)?;
        cache.file(key, &old, false);
        Some(old)
    }

    /// Notes that everything up to `revision` is in the cache.
    pub(crate) fn reached(&self, revision: u64) {
        let mut cache = self.cache.write();
        cache.revision = cache.revision.max(revision);
    }
}

impl FromIterator<Arc<Object>> for Lister {
    /// A cache of these objects that no informer fills: for tests of what reads caches.
    fn from_iter<I: IntoIterator<Item = Arc<Object>>>(objects: I) -> Self {
        let lister = Self::default();
        for object in objects {
            lister.reached(object.head.resource_version);
            lister.insert(object);
        }
        lister
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: &str, app: &str) -> Arc<Object> {
        Arc::new(
            Object::from_value(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns",
                "labels": {"app": app}, "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner}]}}))
            .unwrap(),
        )
    }

    fn names(objects: Vec<Arc<Object>>) -> Vec<String> {
        objects.iter().map(|o| o.head.name.clone()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let lister: Lister = [pod("a", "u1", "x"), pod("b", "u1", "y")].into_iter().collect();
        lister.add_index("app", |o| o.head.labels.get("app").cloned().into_iter().collect());
        assert_eq!(names(lister.by_owner("u1")), ["a", "b"]);
        assert_eq!(names(lister.by_index("app", "x")), ["a"]);
        lister.insert(pod("a", "u2", "y"));
        assert_eq!(names(lister.by_owner("u1")), ["b"]);
        assert_eq!(names(lister.by_owner("u2")), ["a"]);
        assert_eq!(names(lister.by_index("app", "y")), ["a", "b"]);
        lister.remove("ns/b");
        assert!(lister.by_owner("u1").is_empty());
        assert!(lister.by_index("app", "x").is_empty());
        assert!(lister.by_index("nothing", "x").is_empty());
        assert_eq!(names(lister.select(Some("ns"), &LabelSelector::parse("app=y").unwrap())), ["a"]);
    }
}
