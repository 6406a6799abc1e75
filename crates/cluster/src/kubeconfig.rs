//! The user's kubeconfig: our context goes in and out again, and nothing else in it changes.
//!
//! Files are read as trees, so that fields which we do not know stay. Which file is written follows kubectl's rules, and so
//! does the lock beside it.

mod emit;
mod file;
mod place;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use place::{Owner, Place};

/// Why a kubeconfig could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// It cannot be read, written or renamed.
    #[error("cannot {operation} the kubeconfig {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: std::io::Error,
    },
    /// It is not what kubectl could read: it stays as it is.
    #[error("{path} is not a kubeconfig ({why}), and stays as it is; repair it, or set KUBECONFIG to another file")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Somebody else holds kubectl's lock.
    #[error("{0} is there: another program is changing the kubeconfig; if none is, remove that file")]
    Locked(PathBuf),
    /// Neither `KUBECONFIG` nor a home directory.
    #[error("there is no place for a kubeconfig: neither KUBECONFIG nor HOME is set")]
    Nowhere,
}

type Result<T> = std::result::Result<T, KubeconfigError>;

/// What was changed, so that it can be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Merged {
    /// The file that our entries are in.
    pub path: PathBuf,
    /// The file was made for them.
    #[serde(default)]
    pub is_ours: bool,
    /// Directories that were made for the file, outermost first.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// The context that was selected before.
    #[serde(default)]
    pub previous: Option<String>,
}

/// The lists of a kubeconfig, and what stands in an entry beside its name.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("users", "user"), ("contexts", "context")];

/// Puts the one cluster and user of `ours` and a context of them, all called `name`, into the user's kubeconfig and selects the context.
/// `before` is what the last merge said, if it was not taken back since.
pub fn merge(place: &Place, name: &str, ours: &Value, before: Option<&Merged>) -> Result<Merged> {
    let path = place.target(name, |file, name| file::read(file).is_ok_and(|f| f.is_some_and(|c| has(&c, name))));
    let (directories, _lock) = file::lock(&path, &place.owner)?;
    let found = file::read(&path)?;
    let again = before.filter(|b| b.path == path);
    let mut merged = Merged {
        path: path.clone(),
        is_ours: found.is_none() || again.is_some_and(|b| b.is_ours),
        directories: again.map_or(directories, |b| b.directories.clone()),
        previous: again.and_then(|b| b.previous.clone()),
    };
    let mut config = found.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "Config", "preferences": {}}));
    for (list, inner) in LISTS {
        let ours = match list {
            "contexts" => json!({"cluster": name, "user": name}),
            _ => ours[list].as_array().and_then(|l| l.first()).map_or(Value::Null, |e| e[inner].clone()),
        };
        put(&mut config, list, inner, name, ours);
    }
    let selected = config["current-context"].as_str().unwrap_or_default();
    if selected != name {
        merged.previous = Some(selected.to_owned()).filter(|s| !s.is_empty());
    }
    config["current-context"] = name.into();
    file::write(&path, &config, &place.owner)?;
    Ok(merged)
}

/// Takes `name` out again, selects what was selected before, and removes what was made only for us and is empty.
pub fn remove(name: &str, merged: &Merged) -> Result<()> {
    let Some(mut config) = file::read(&merged.path)? else { return Ok(()) };
    let owner = Owner::of(&merged.path);
    let lock = file::lock(&merged.path, &owner)?;
    for (list, _) in LISTS {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|e| e["name"] != name);
        }
    }
    if config["current-context"] == name {
        let previous = merged.previous.as_deref().filter(|p| has(&config, p)).unwrap_or_default();
        config["current-context"] = previous.into();
    }
    let is_empty = LISTS.iter().all(|(list, _)| config[list].as_array().is_none_or(Vec::is_empty));
    if merged.is_ours && is_empty {
        file::delete(&merged.path)?;
        drop(lock);
        for directory in merged.directories.iter().rev() {
            // Something else is in it by now: it stays.
            let _ = std::fs::remove_dir(directory);
        }
        return Ok(());
    }
    file::write(&merged.path, &config, &owner)
}

/// Whether [`merge`] will understand the files that are there.
pub fn check(place: &Place) -> Result<()> {
    place.files.iter().try_for_each(|file| file::read(file).map(drop))
}

/// Whether the user's kubeconfig has this context.
pub fn contains(path: &Path, name: &str) -> bool {
    file::read(path).is_ok_and(|config| config.is_some_and(|c| has(&c, name)))
}

fn has(config: &Value, context: &str) -> bool {
    config["contexts"].as_array().is_some_and(|list| list.iter().any(|entry| entry["name"] == context))
}

/// Sets the known fields of an entry, or adds the entry; what else stands in it stays.
fn put(config: &mut Value, list: &str, inner: &str, name: &str, ours: Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let Some(entries) = config[list].as_array_mut() else { return };
    match entries.iter_mut().find(|e| e["name"] == name) {
        Some(entry) => {
            // A namespace that the user set for this context stays too.
            match (entry[inner].as_object_mut(), ours) {
                (Some(present), Value::Object(ours)) => present.extend(ours),
                (_, ours) => entry[inner] = ours,
            }
        }
        None => entries.push(json!({"name": name, inner: ours})),
    }
}
