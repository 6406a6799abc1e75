//! The kinds of custom resources, beside the built-in ones. A kind that a request holds stays whole while the registry changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kinds::Kind;
use kinds::custom::by_priority;
use object::{Gvk, Gvr};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// Looked up by every request that is not about a built-in kind.
#[derive(Default)]
pub(crate) struct Registry {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    by_gvr: HashMap<Gvr, Arc<Kind>>,
    definitions: HashMap<String, Definition>,
    groups: BTreeMap<String, Group>,
    /// Counts changes.
    changes: u64,
}

struct Definition {
    kinds: Vec<Arc<Kind>>,
    /// Cancelled when watches must begin anew.
    live: CancellationToken,
}

#[derive(Default)]
struct Group {
    /// The number of its last change. Groups stay here when they are empty, so that this never goes back.
    changed: u64,
    definitions: BTreeMap<String, Vec<Arc<Kind>>>,
}

/// What a document is made of: it is out of date when the scope's stamp moves.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Everything,
    Group(&'a str),
}

impl Registry {
    /// The kind of a resource.
    pub(crate) fn by_gvr(&self, gvr: &Gvr) -> Option<Arc<Kind>> {
        let built_in = kinds::table().by_gvr(gvr).cloned();
        built_in.or_else(|| self.state.read().by_gvr.get(gvr).cloned())
    }

    /// The kind of that name.
    pub(crate) fn by_gvk(&self, gvk: &Gvk) -> Option<Arc<Kind>> {
        let built_in = kinds::table().by_gvk(gvk).cloned();
        built_in.or_else(|| self.of(&gvk.group, &gvk.version).into_iter().find(|k| k.kind == gvk.kind))
    }

    /// The other versions of a kind: what has its storage.
    pub(crate) fn equivalents(&self, kind: &Kind) -> Vec<Arc<Kind>> {
        let is = |other: &&Arc<Kind>| other.storage_prefix == kind.storage_prefix && other.gvk() != kind.gvk();
        if kind.storage_prefix.is_none() {
            return Vec::new();
        }
        match &kind.custom {
            None => kinds::table().kinds().iter().filter(is).cloned().collect(),
            Some(custom) => {
                let state = self.state.read();
                state
                    .definitions
                    .get(&custom.definition)
                    .into_iter()
                    .flat_map(|d| &d.kinds)
                    .filter(is)
                    .cloned()
                    .collect()
            }
        }
    }

    /// The kinds of a group and version.
    pub(crate) fn of(&self, group: &str, version: &str) -> Vec<Arc<Kind>> {
        let is = |kind: &&Arc<Kind>| kind.group == group && kind.version == version;
        let mut found: Vec<Arc<Kind>> = kinds::table().kinds().iter().filter(is).cloned().collect();
        let state = self.state.read();
        let custom = state.groups.get(group).into_iter().flat_map(|g| g.definitions.values().flatten());
        found.extend(custom.filter(is).cloned());
        found
    }

    /// The kinds of a group that are stored, each once.
    pub(crate) fn stored_in(&self, group: &str) -> Vec<Arc<Kind>> {
        let is = |kind: &&Arc<Kind>| kind.group == group && kind.storage_prefix.is_some();
        let mut found: Vec<Arc<Kind>> = kinds::table().kinds().iter().filter(is).cloned().collect();
        let state = self.state.read();
        let custom = state.groups.get(group).into_iter().flat_map(|g| g.definitions.values().flatten());
        found.extend(custom.filter(is).cloned());
        found.sort_by(|a, b| a.plural.cmp(&b.plural));
        found.dedup_by(|a, b| a.plural == b.plural);
        found
    }

    /// True when something of the group is served.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        kinds::table().kinds().iter().any(|kind| kind.group == group)
            || self.state.read().groups.get(group).is_some_and(|g| !g.definitions.is_empty())
    }

    /// Groups, each with its versions in order of preference.
    pub(crate) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let owned = |(group, versions): (&str, Vec<&str>)| {
            (group.to_owned(), versions.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let mut all: Vec<(String, Vec<String>)> = kinds::table().groups().into_iter().map(owned).collect();
        let state = self.state.read();
        for (name, group) in &state.groups {
            let mut versions: Vec<&str> = group.definitions.values().flatten().map(|k| k.version.as_str()).collect();
            versions.sort_by(|a, b| by_priority(a, b));
            versions.dedup();
            match all.iter_mut().find(|(g, _)| g == name) {
                Some((_, known)) => {
                    for version in versions {
                        if !known.iter().any(|k| k == version) {
                            known.push(version.into());
                        }
                    }
                }
                None if versions.is_empty() => {}
                None => all.push(owned((name, versions))),
            }
        }
        all
    }

    /// A number that moves when the scope's kinds change.
    pub(crate) fn stamp(&self, scope: Scope<'_>) -> u64 {
        let state = self.state.read();
        match scope {
            Scope::Everything => state.changes,
            Scope::Group(group) => state.groups.get(group).map_or(0, |g| g.changed),
        }
    }

    /// Is cancelled when watches of a custom resource must end; `None` for built-in kinds, which stay.
    pub(crate) fn life(&self, kind: &Kind) -> Option<CancellationToken> {
        let custom = kind.custom.as_ref()?;
        let state = self.state.read();
        Some(state.definitions.get(&custom.definition).map_or_else(cancelled, |d| d.live.clone()))
    }

    /// Sets the kinds of a definition, if they are others than before.
    pub(crate) fn set(&self, definition: &str, kinds: Vec<Kind>) {
        let mut state = self.state.write();
        let known = state.definitions.get(definition);
        let print = |kind: &Kind| kind.custom.as_ref().map(|c| c.fingerprint);
        if known.map_or(kinds.is_empty(), |d| d.kinds.iter().map(|k| print(k)).eq(kinds.iter().map(print))) {
            return;
        }
        state.remove(definition);
        if kinds.is_empty() {
            return;
        }
        let kinds: Vec<Arc<Kind>> = kinds.into_iter().map(Arc::new).collect();
        let changes = state.changes;
        for kind in &kinds {
            state.by_gvr.insert(kind.gvr(), kind.clone());
            let group = state.groups.entry(kind.group.clone()).or_default();
            group.changed = changes;
            group.definitions.insert(definition.into(), kinds.clone());
        }
        state.definitions.insert(definition.into(), Definition { kinds, live: CancellationToken::new() });
    }

    /// Forgets a definition.
    pub(crate) fn remove(&self, definition: &str) {
        self.state.write().remove(definition);
    }
}

fn cancelled() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

impl State {
    fn remove(&mut self, definition: &str) {
        self.changes += 1;
        let Some(known) = self.definitions.remove(definition) else { return };
        known.live.cancel();
        for kind in known.kinds {
            self.by_gvr.remove(&kind.gvr());
            if let Some(group) = self.groups.get_mut(&kind.group) {
                group.changed = self.changes;
                group.definitions.remove(definition);
            }
        }
    }
}
