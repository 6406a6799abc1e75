//! What is in the folders of the first two levels, kept up with every change: `/registry/pods/` and `/registry/pods/default/`. Whatever
//! resource they are of, its objects lie in one of these.

use std::collections::HashMap;
use std::sync::Arc;

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

#[derive(Default)]
pub(crate) struct Tallies(HashMap<Box<str>, Tally>);

/// The folders of a key, or of a folder itself.
fn folders(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').skip(2).take(2).map(|(at, _)| &key[..=at])
}

impl Tallies {
    /// Counts what is there: keys in order, so that each folder is looked for once.
    pub(crate) fn of<'a>(objects: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)>) -> Self {
        let mut tallies = Self::default();
        let mut runs: Vec<(&str, Tally)> = Vec::new();
        for (key, object) in objects {
            if runs.last().is_none_or(|(folder, _)| !is_in(key, folder)) {
                tallies.close(&mut runs);
                runs.extend(folders(key).map(|folder| (folder, Tally::default())));
            }
            for (_, run) in &mut runs {
                run.objects += 1;
                run.bytes += object.body.len();
            }
        }
        tallies.close(&mut runs);
        tallies
    }

    fn close(&mut self, runs: &mut Vec<(&str, Tally)>) {
        for (folder, run) in runs.drain(..) {
            let tally = self.0.entry(folder.into()).or_default();
            tally.objects += run.objects;
            tally.bytes += run.bytes;
        }
    }

    /// An object of so many bytes has taken the place of another one.
    pub(crate) fn change(&mut self, key: &str, before: Option<usize>, after: Option<usize>) {
        let mut level = 0;
        for folder in folders(key) {
            level += 1;
            if !self.0.contains_key(folder) {
                self.0.insert(folder.into(), Tally::default());
            }
            let Some(tally) = self.0.get_mut(folder) else { continue };
            tally.events += 1;
            tally.objects =
                (tally.objects + usize::from(after.is_some())).saturating_sub(usize::from(before.is_some()));
            tally.bytes = (tally.bytes + after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
            // Namespaces come and go; below a group there are resources.
            if level == 2 && tally.objects == 0 && !has_group(folder) {
                self.0.remove(folder);
            }
        }
    }

    /// Whether the folder is one of these, and what is in it.
    pub(crate) fn get(&self, folder: &str) -> Option<Tally> {
        let is_counted = folder.ends_with('/') && folders(folder).last() == Some(folder);
        is_counted.then(|| self.0.get(folder).copied().unwrap_or_default())
    }
}

/// True when the key is in the folder, and in no deeper one that is counted.
fn is_in(key: &str, folder: &str) -> bool {
    key.strip_prefix(folder).is_some_and(|rest| folders(folder).count() == 2 || !rest.contains('/'))
}

/// True for `/registry/example.com/tabs/`.
fn has_group(folder: &str) -> bool {
    folder.split('/').nth(2).is_some_and(|first| first.contains('.'))
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
            let counted = Tallies::of(all.iter());
            for folder in [
                "/registry/minions/",
                "/registry/pods/",
                "/registry/pods/a/",
                "/registry/e.org/",
                "/registry/e.org/tabs/",
                "/registry/services/specs/",
            ] {
                let tally = |tallies: &Tallies| Tally { events: 0, ..tallies.get(folder).unwrap() };
                assert_eq!(tally(&kept), tally(&counted), "{folder} after {turn}");
            }
        }
        assert!(kept.get("/registry/e.org/tabs/").unwrap().events > 10, "the events of a resource are not forgotten");
        assert_eq!((kept.get("/registry/pods"), kept.get("/registry/e.org/tabs/a/")), (None, None));
    }
}
