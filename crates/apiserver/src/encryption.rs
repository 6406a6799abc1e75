//! Encryption at rest: what the store writes of chosen resources (`apiserver.config.k8s.io/v1 EncryptionConfiguration`).
//!
//! ```text
//! write: the first provider of the resource   "k8s:enc:aesgcm:v1:<key's name>:" nonce, sealed value
//! read:  every provider whose prefix is there  in order; the first that opens it
//! ```
//! Objects in memory are as they are; what leaves for disk, snapshots and etcd comes through here. Who may be where is `config.rs`, the
//! ciphers are `cipher.rs`.

mod cipher;
mod config;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use store::{Backend, Transform};
use tokio_util::sync::CancellationToken;

use crate::reload;
use config::Config;

/// What values begin with that are not stored as they are.
const SEALED: &[u8] = b"k8s:enc:";

/// `--encryption-provider-config`: the store's values in the file's way.
pub struct Encryption {
    path: PathBuf,
    reloads: bool,
    /// The file's text when it was read first: it may change before anybody follows it.
    first: String,
    config: ArcSwap<Config>,
    /// Of built-in resources: what their keys begin with after `/registry/` -> resource, group.
    resources: HashMap<String, (String, String)>,
}

/// A file that cannot be used: what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("error while parsing file: {0}")]
pub struct EncryptionError(String);

impl Encryption {
    /// Reads the file; with `reloads` it is read again when it changes.
    pub fn load(path: &Path, reloads: bool) -> Result<Self, EncryptionError> {
        let (first, config) = read(path).map_err(EncryptionError)?;
        let mut resources = HashMap::new();
        for kind in kinds::table().kinds() {
            let Some(prefix) = &kind.storage_prefix else { continue };
            // Where groups share a storage it is the oldest's: `events`, not `events.events.k8s.io`.
            let of = resources.entry(prefix.clone()).or_insert_with(|| (kind.plural.clone(), kind.group.clone()));
            if kind.group.is_empty() {
                of.1.clear();
            }
        }
        Ok(Self { path: path.into(), reloads, first, config: ArcSwap::from_pointee(config), resources })
    }

    /// The resource and group of a key; what is in no API has none, and is never encrypted.
    fn resource_of<'a>(&'a self, key: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = key.strip_prefix("/registry/")?;
        let (first, rest) = rest.split_once('/')?;
        if let Some((resource, group)) = self.resources.get(first) {
            return Some((resource, group));
        }
        let (second, _) = rest.split_once('/')?;
        match self.resources.get(&format!("{first}/{second}")) {
            Some((resource, group)) => Some((resource, group)),
            // Custom resources are under their group.
            None => first.contains('.').then_some((second, first)),
        }
    }

    /// Reads the file again whenever it changes. A file that is no good leaves what was.
    pub(crate) async fn follow(self: Arc<Self>, store: Arc<dyn Backend>, token: CancellationToken) {
        if !self.reloads {
            return;
        }
        let take = |_: &str| {
            let (_, config) = read(&self.path)?;
            self.config.store(Arc::new(config));
            store.reopen();
            Ok(())
        };
        let follow = reload::follow(&self.path, &self.first, "encryption configuration", take);
        token.run_until_cancelled(follow).await;
    }
}

fn read(path: &Path) -> Result<(String, Config), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("error reading encryption provider configuration file {name:?}: {e}"))?;
    if text.trim().is_empty() {
        return Err(format!("encryption provider configuration file {name:?} is empty"));
    }
    let config = config::parse(&text).map_err(|error| match error {
        config::Error::Decoding(why) => {
            format!("error decoding encryption provider configuration file {name:?}: {why}")
        }
        config::Error::Invalid(why) => why,
    })?;
    Ok((text, config))
}

impl Transform for Encryption {
    fn form(&self, key: &str) -> Arc<str> {
        let config = self.config.load();
        let providers = self.resource_of(key).and_then(|(resource, group)| config.of(resource, group));
        providers.and_then(|p| p.first()).map_or_else(|| "".into(), config::Provider::form)
    }

    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let config = self.config.load();
        let providers = self.resource_of(key).and_then(|(resource, group)| config.of(resource, group));
        let first = providers.and_then(|p| p.first()).and_then(config::Provider::first);
        let Some((form, cipher)) = first else { return Ok(value.into()) };
        let mut sealed = form.as_bytes().to_vec();
        cipher.seal(value, key.as_bytes(), &mut sealed)?;
        Ok(sealed)
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<(Vec<u8>, Arc<str>), String> {
        let config = self.config.load();
        let providers = self.resource_of(key).and_then(|(resource, group)| config.of(resource, group));
        let Some(providers) = providers else {
            if stored.starts_with(SEALED) {
                return Err("identity transformer tried to read encrypted data".into());
            }
            return Ok((stored.into(), "".into()));
        };
        let mut errors: Vec<String> = Vec::new();
        for provider in providers {
            match provider.open(key, stored) {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(why)) if !errors.contains(&why) => errors.push(why),
                _ => {}
            }
        }
        Err(match errors.as_slice() {
            [] => "no matching prefix found".into(),
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }
}
