//! Server-side apply: a client states the fields that it wants, and owns them; what it no longer states goes, unless
//! another manager owns it; what another manager owns and wants otherwise is a conflict.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::combine::combine;
use super::compare::{Misfit, check, compare, field_set};
use super::fields::{FieldSet, Path};
use super::managed::{Entry, Operation, Seen, Versions, Write, bare, cap, decode, empty, encode, unowned, update};
use super::prune::{remove, with_named_fields};
use super::shape::MergeInfo;
use crate::{Cause, Reason, Status};

/// Who owns the fields that were there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose applies take over from client-side apply.
const KUBECTL: &str = "kubectl";
/// Where client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager's entry as messages name it: `"kubectl" using apps/v1`.
    pub with: String,
    /// The field.
    pub path: Path,
}

/// Why an apply is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields with other values, and the client did not force.
    #[error("{}", conflict_words(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied configuration is not of the object's type.
    #[error("failed to create typed patch object ({about}): {source}")]
    Misfit {
        /// `namespace/name; apps/v1, Kind=Deployment`.
        about: String,
        /// What does not fit.
        source: Misfit,
    },
    /// The applied configuration says what it may not say.
    #[error("{0}")]
    Malformed(String),
    /// The stored object's own bookkeeping cannot be read.
    #[error("failed to decode managed fields: {0}")]
    Bookkeeping(String),
}

fn conflict_words(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.with, one.path);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last = "";
    for conflict in conflicts {
        if conflict.with != last {
            lines.push(format!("conflicts with {}:", conflict.with));
            last = &conflict.with;
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::Conflicts(conflicts) => {
                let mut status = Status::new(Reason::Conflict, message);
                let cause = |conflict: Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.with),
                    field: conflict.path.to_string(),
                };
                status.causes = conflicts.into_iter().map(cause).collect();
                status
            }
            ApplyError::Malformed(_) => Status::bad_request(message),
            ApplyError::Misfit { .. } | ApplyError::Bookkeeping(_) => {
                let mut status = Status::new(Reason::InternalError, message);
                status.reason = None; // as upstream: code 500, no reason
                status
            }
        }
    }
}

/// How an entry is named in messages.
struct Named<'a>(&'a Entry);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.manager)?;
        if !self.0.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.0.subresource)?;
        }
        match self.0.operation {
            Operation::Update => write!(f, " using {}", self.0.api_version),
            Operation::Apply => Ok(()),
        }
    }
}

/// How Go shows what an object is: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
pub fn shown_kind(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or("");
    let slash = if text("apiVersion").contains('/') { "" } else { "/" };
    format!("{slash}{}, Kind={}", text("apiVersion"), text("kind"))
}

/// Applies a configuration. `live` is the stored object, or `None` when the apply creates it. The result has its
/// `managedFields`; defaults, validation and the like are the caller's.
pub fn apply<T: MergeInfo>(
    place: T,
    live: Option<&Value>,
    applied: &Value,
    write: &Write<'_>,
    force: bool,
    versions: Versions<'_, T>,
) -> Result<Value, ApplyError> {
    let text = |field: &str| applied[field].as_str().unwrap_or("");
    if text("apiVersion") != write.api_version {
        return Err(ApplyError::Malformed(format!(
            "Incorrect version specified in apply patch. Specified patch version: {}, expected: {}",
            text("apiVersion"),
            write.api_version
        )));
    }
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".into()));
    }
    check(place, applied).map_err(|source| {
        let name = |field: &str| applied["metadata"][field].as_str().unwrap_or("").to_owned();
        let about = format!("{}/{}; {}", name("namespace"), name("name"), shown_kind(applied));
        ApplyError::Misfit { about, source }
    })?;
    let (present, mut entries) = match live {
        Some(live) => (bare(live), decode(live).map_err(ApplyError::Bookkeeping)?),
        None => (empty(applied), Vec::new()),
    };
    if let (Some(_), true) = (live, entries.is_empty()) {
        let before = Write { manager: BEFORE_FIRST_APPLY, ..*write };
        update(&mut entries, Seen::new(place, &empty(&present), &present, &before, versions));
        cap(&mut entries);
    }
    let apply = Apply { place, present, applied, write, versions };
    let result = apply.run(entries.clone(), force, &FieldSet::default());
    let (mut object, entries) = match result {
        Err(ApplyError::Conflicts(conflicts)) if write.manager == KUBECTL => {
            // What client-side apply put there, unchanged since, is not in the way of the same user's server-side apply.
            let Some(allowed) = apply.last_applied_fields() else { return Err(ApplyError::Conflicts(conflicts)) };
            apply.run(entries, force, &allowed)?
        }
        other => other?,
    };
    if write.manager == KUBECTL && last_applied(&object).is_some() {
        let mut applied = applied.clone();
        if let Some(annotations) = applied["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
        object["metadata"]["annotations"][LAST_APPLIED] = format!("{applied}\n").into();
    }
    encode(&mut object, entries);
    Ok(object)
}

fn last_applied(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LAST_APPLIED].as_str().filter(|text| !text.is_empty())
}

struct Apply<'a, T> {
    place: T,
    present: Value,
    applied: &'a Value,
    write: &'a Write<'a>,
    versions: Versions<'a, T>,
}

impl<T: MergeInfo> Apply<'_, T> {
    /// The merged object and the entries after the apply. Conflicts over fields in `allowed` are settled by force.
    fn run(&self, mut entries: Vec<Entry>, force: bool, allowed: &FieldSet) -> Result<(Value, Vec<Entry>), ApplyError> {
        let fields = field_set(self.place, self.applied).without(self.write.ignored);
        let mine = self.write.entry(Operation::Apply, fields);
        let at = entries.iter().position(|entry| entry.is_same(&mine));
        let (last, at) = match at {
            Some(at) => {
                let mine = Entry { time: entries[at].time.clone(), ..mine };
                (Some(std::mem::replace(&mut entries[at], mine)), at)
            }
            None => {
                entries.push(mine);
                (None, entries.len() - 1)
            }
        };
        let merged = combine(self.place, &self.present, self.applied);
        let merged = match last {
            Some(last) if !last.fields.is_empty() => self.prune(&merged, &entries, &last),
            _ => merged,
        };
        let mut seen = Seen::new(self.place, &self.present, &merged, self.write, self.versions);
        let mut conflicts: Vec<(Named<'_>, FieldSet)> = Vec::new();
        for (_, entry) in entries.iter().enumerate().filter(|(index, _)| *index != at) {
            let contested = entry.fields.intersection(&seen.in_version(&entry.api_version).changed());
            if !contested.is_empty() {
                conflicts.push((Named(entry), contested));
            }
        }
        if !force {
            let refused: Vec<Conflict> = refused(&conflicts, allowed);
            if !refused.is_empty() {
                return Err(ApplyError::Conflicts(refused));
            }
        }
        for (_, entry) in entries.iter_mut().enumerate().filter(|(index, _)| *index != at) {
            let change = seen.in_version(&entry.api_version);
            entry.fields = entry.fields.difference(&change.changed()).difference(&change.removed);
        }
        if merged != self.present {
            entries[at].time = Some(self.write.time.into());
        }
        entries[at].fields.subtract(unowned());
        entries.retain(|entry| !entry.fields.is_empty());
        Ok((merged, entries))
    }

    /// Removes what was applied the last time and is not now, unless somebody else owns it.
    fn prune(&self, merged: &Value, entries: &[Entry], last: &Entry) -> Value {
        let (place, merged) = self.in_version(merged, &last.api_version);
        let gone = with_named_fields(Some(place), &last.fields);
        // What anybody owns comes back, the versions one after the other, that of the last apply first,
        let mut versions: Vec<&str> = entries.iter().map(|entry| entry.api_version.as_str()).collect();
        versions.sort_by_key(|version| (*version != last.api_version, *version));
        versions.dedup();
        let mut pruned = remove(place, &merged, &gone);
        for version in versions {
            let ((place, merged), (_, seen)) = (self.in_version(&merged, version), self.in_version(&pruned, version));
            let named = |set: &FieldSet| with_named_fields(Some(place), set);
            let mut owned = FieldSet::default();
            entries.iter().filter(|e| e.api_version == version).for_each(|entry| owned.extend(&entry.fields));
            let all = named(&field_set(place, &merged));
            let kept = named(&field_set(place, &seen)).union(&named(&owned));
            pruned = remove(place, &merged, &all.difference(&kept));
        }
        // and so does what went along with its container, but was not this manager's.
        let (_, pruned) = self.in_version(&pruned, &last.api_version);
        let named = |value: &Value| with_named_fields(Some(place), &field_set(place, value));
        let lost = named(&merged).difference(&named(&pruned));
        let pruned = remove(place, &merged, &lost.intersection(&gone));
        self.in_version(&pruned, self.write.api_version).1.into_owned()
    }

    /// The object in a version, and its place there.
    fn in_version<'o>(&self, object: &'o Value, version: &str) -> (T, Cow<'o, Value>) {
        let other = (object["apiVersion"] != version).then(|| (self.versions)(object, version)).flatten();
        other.map_or((self.place, Cow::Borrowed(object)), |(place, object)| (place, Cow::Owned(object)))
    }

    /// The fields that client-side apply set and that still have the value that it gave them.
    fn last_applied_fields(&self) -> Option<FieldSet> {
        let last: Value = serde_json::from_str(last_applied(&self.present)?).ok()?;
        if last["apiVersion"] != self.write.api_version || check(self.place, &last).is_err() {
            return None;
        }
        let now = compare(self.place, &last, &self.present);
        Some(field_set(self.place, &last).difference(&now.changed()).difference(&now.removed))
    }
}

fn refused(conflicts: &[(Named<'_>, FieldSet)], allowed: &FieldSet) -> Vec<Conflict> {
    let mut refused: Vec<Conflict> = Vec::new();
    let mut sorted: Vec<_> = conflicts.iter().collect();
    sorted.sort_by_key(|(entry, _)| (&entry.0.manager, entry.0.operation, &entry.0.api_version, &entry.0.subresource));
    for (entry, fields) in sorted {
        let paths = fields.paths().into_iter().filter(|path| !allowed.has(&path.0));
        refused.extend(paths.map(|path| Conflict { with: entry.to_string(), path }));
    }
    refused
}

#[cfg(test)]
mod tests;
