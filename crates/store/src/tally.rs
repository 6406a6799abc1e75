//! What is in the folders of the first two levels, kept up with every change: `/registry/pods/` and `/registry/pods/default/`. Whatever
//! resource they are of, its objects lie in one of these.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use object::Object;

/// Objects under a prefix, and what has happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub objects: usize,
    /// The bytes of their bodies.
    pub bytes: usize,
    /// Changes since the start.
    pub events: u64,
}

/// Objects are counted once somebody asks, so that nobody has to wait for it at the start; events always.
#[derive(Default)]
pub(crate) struct Tallies {
    counts: OnceLock<HashMap<Box<str>, Count>>,
    events: HashMap<Box<str>, u64>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    objects: usize,
    bytes: usize,
}

/// The folders of a key, or of a folder itself.
fn folders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').skip(2).take(2).map(|(at, _)| &key[..=at])
}

fn slashes(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'/').count()
}

impl Tallies {
    /// An object of so many bytes has taken the place of another one.
    pub(crate) fn change(&mut self, key: &str, before: Option<usize>, after: Option<usize>) {
        for (level, folder) in folders(key).enumerate() {
            if level == 0 || is_resource(folder) {
                match self.events.get_mut(folder) {
                    Some(events) => *events += 1,
                    None => drop(self.events.insert(folder.into(), 1)),
                }
            }
            let Some(counts) = self.counts.get_mut() else { continue };
            let mut count = counts.get(folder).copied().unwrap_or_default();
            count.objects =
                (count.objects + usize::from(after.is_some())).saturating_sub(usize::from(before.is_some()));
            count.bytes = (count.bytes + after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
            match (counts.get_mut(folder), count.objects) {
                // Namespaces come and go.
                (_, 0) => drop(counts.remove(folder)),
                (Some(known), _) => *known = count,
                (None, _) => drop(counts.insert(folder.into(), count)),
            }
        }
    }

    /// What is in a folder, if it is one that is counted; `objects` are all that there are, in order.
    pub(crate) fn get<'a>(
        &self,
        folder: &str,
        objects: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)>,
    ) -> Option<Tally> {
        if !folder.ends_with('/') || folders(folder).last() != Some(folder) {
            return None;
        }
        let counts = self.counts.get_or_init(|| counted(objects));
        let Count { objects, bytes } = counts.get(folder).copied().unwrap_or_default();
        Some(Tally { objects, bytes, events: self.events.get(folder).copied().unwrap_or(0) })
    }

    /// Counts anew when somebody asks.
    pub(crate) fn forget(&mut self) {
        self.counts = OnceLock::new();
    }
}

/// Counts what is there. As it comes in order, each folder is looked for once.
fn counted<'a>(objects: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)>) -> HashMap<Box<str>, Count> {
    let mut counts: HashMap<Box<str>, Count> = HashMap::new();
    let mut close = |(folder, run): (Option<&str>, Count)| {
        for folder in folder.into_iter().flat_map(folders) {
            let count = counts.entry(folder.into()).or_default();
            count.objects += run.objects;
            count.bytes += run.bytes;
        }
    };
    let mut run: (Option<&str>, Count) = (None, Count::default());
    for (key, object) in objects {
        if !run.0.is_some_and(|folder| is_in(key, folder)) {
            close(std::mem::replace(&mut run, (folders(key).last(), Count::default())));
        }
        run.1.objects += 1;
        run.1.bytes += object.body.len();
    }
    close(run);
    counts
}

/// True when the key is in the folder, and in no deeper one that is counted.
fn is_in(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder).is_some_and(|rest| !rest.contains('/') || slashes(folder) == 4)
}

/// True for the folder of a resource that has a group, `/registry/example.com/tabs/`, and for those of services and their endpoints.
fn is_resource(folder: &str) -> bool {
    folder.split('/').nth(2).is_some_and(|first| first.contains('.') || first == "services")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counting_again_tells_the_same() {
        let object = |n: usize| {
            let value = json!({"metadata": {"name": "x"}, "data": "x".repeat(n)});
            Arc::new(Object::from_value(&value).unwrap())
        };
        let mut all: std::collections::BTreeMap<Arc<str>, Arc<Object>> = std::collections::BTreeMap::new();
        let mut kept = Tallies::default();
        let keys = [
            "/registry/minions/a",
            "/registry/minions/b",
            "/registry/pods/a/x",
            "/registry/pods/a/y",
            "/registry/pods/b/x",
            "/registry/e.org/tabs/a/x",
            "/registry/e.org/cubes/x",
            "/registry/services/specs/a/x",
            "/registry/services/endpoints/a/x",
        ];
        for turn in 0..200_usize {
            let key: Arc<str> = keys[turn * 7 % keys.len()].into();
            let after = (turn % 3 != 0).then(|| object(turn));
            let before = all.get(&key).map(|object| object.body.len());
            kept.change(&key, before, after.as_ref().map(|object| object.body.len()));
            match after {
                Some(object) => drop(all.insert(key, object)),
                None => drop(all.remove(&key)),
            }
            let counted = Tallies::default();
            for folder in [
                "/registry/minions/",
                "/registry/pods/",
                "/registry/pods/a/",
                "/registry/e.org/",
                "/registry/e.org/tabs/",
                "/registry/services/specs/",
            ] {
                let tally = |tallies: &Tallies| Tally { events: 0, ..tallies.get(folder, all.iter()).unwrap() };
                assert_eq!(tally(&kept), tally(&counted), "{folder} after {turn}");
            }
        }
        assert!(
            kept.get("/registry/e.org/tabs/", all.iter()).unwrap().events > 10,
            "the events of a resource are not forgotten"
        );
        assert_eq!(
            (kept.get("/registry/pods", all.iter()), kept.get("/registry/e.org/tabs/a/", all.iter())),
            (None, None)
        );
    }
}
