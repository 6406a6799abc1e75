//! The cache that an informer fills: objects by key, by owner and by any other index that its reader asked for.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
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

/// Objects in the order of their keys, by namespace and name, which are theirs already: an entry costs a pointer.
type Objects = BTreeSet<ByKey>;

struct ByKey(Arc<Object>);

/// What has a place in that order.
trait Keyed {
    fn parts(&self) -> (&str, &str);
}

impl Keyed for ByKey {
    fn parts(&self) -> (&str, &str) {
        (&self.0.head.namespace, &self.0.head.name)
    }
}

/// Of `namespace/name`, or `name`.
struct Key<'a>(&'a str);

impl Keyed for Key<'_> {
    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", self.0))
    }
}

impl<'a> Borrow<dyn Keyed + 'a> for ByKey {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Keyed + '_ {}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for ByKey {}

#[derive(Default)]
struct Cache {
    objects: Objects,
    owners: HashMap<String, Objects>,
    indexes: HashMap<&'static str, Index>,
    revision: u64,
}

struct Index {
    values: IndexFn,
    objects: HashMap<String, Objects>,
}

impl Cache {
    fn file(&mut self, object: &Arc<Object>, add: bool) {
        for owner in &object.head.owners {
            file_under(&mut self.owners, &owner.uid, object, add);
        }
        for index in self.indexes.values_mut() {
            for value in (index.values)(object) {
                file_under(&mut index.objects, &value, object, add);
            }
        }
    }
}

fn file_under(index: &mut HashMap<String, Objects>, value: &str, object: &Arc<Object>, add: bool) {
    if add {
        index.entry(value.to_owned()).or_default().replace(ByKey(object.clone()));
    } else if let Some(objects) = index.get_mut(value) {
        objects.remove(&ByKey(object.clone()));
        if objects.is_empty() {
            index.remove(value);
        }
    }
}

fn all(objects: Option<&Objects>) -> Vec<Arc<Object>> {
    objects.into_iter().flatten().map(|ByKey(object)| object.clone()).collect()
}

impl Lister {
    /// The object under `namespace/name` (or `name`).
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.cache.read().objects.get(&Key(key) as &dyn Keyed).map(|ByKey(object)| object.clone())
    }
    /// All objects, in key order.
    pub fn list(&self) -> Vec<Arc<Object>> {
        all(Some(&self.cache.read().objects))
    }
    /// The objects of a namespace, in key order.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let from = format!("{namespace}/");
        let cache = self.cache.read();
        let range = cache.objects.range::<dyn Keyed, _>((Bound::Included(&Key(&from) as &dyn Keyed), Bound::Unbounded));
        range.take_while(|ByKey(o)| o.head.namespace == namespace).map(|ByKey(o)| o.clone()).collect()
    }
    /// The objects of a namespace (all when `None`) whose labels match.
    pub fn select(&self, namespace: Option<&str>, selector: &LabelSelector) -> Vec<Arc<Object>> {
        let mut found = namespace.map_or_else(|| self.list(), |ns| self.list_namespace(ns));
        found.retain(|object| selector.matches(&object.head.labels));
        found
    }
    /// The objects that name the owner `uid`, in key order.
    pub fn by_owner(&self, uid: &str) -> Vec<Arc<Object>> {
        all(self.cache.read().owners.get(uid))
    }
    /// The objects that the index `name` files under `value`; none when there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<Object>> {
        let cache = self.cache.read();
        all(cache.indexes.get(name).and_then(|index| index.objects.get(value)))
    }
    /// Adds an index; objects that are in the cache already are filed at once. The same name again is ignored.
    pub fn add_index(&self, name: &'static str, values: IndexFn) {
        let mut cache = self.cache.write();
        if cache.indexes.contains_key(name) {
            return;
        }
        let mut objects = HashMap::new();
        for ByKey(object) in &cache.objects {
            for value in values(object) {
                file_under(&mut objects, &value, object, true);
            }
        }
        cache.indexes.insert(name, Index { values, objects });
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
        self.cache.read().objects.iter().map(|ByKey(object)| object.head.key()).collect()
    }

    /// Puts an object in; what was there before.
    pub fn insert(&self, object: Arc<Object>) -> Option<Arc<Object>> {
        let mut cache = self.cache.write();
        let old = cache.objects.replace(ByKey(object.clone())).map(|ByKey(old)| old);
        if let Some(old) = &old {
            cache.file(old, false);
        }
        cache.file(&object, true);
        old
    }

    /// Takes an object out; what was there.
    pub fn remove(&self, key: &str) -> Option<Arc<Object>> {
        let mut cache = self.cache.write();
        let ByKey(old) = cache.objects.take(&Key(key) as &dyn Keyed)?;
        cache.file(&old, false);
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
        lister.add_index("app", |o| o.head.labels.get("app").map(Into::into).into_iter().collect());
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
