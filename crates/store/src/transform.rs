//! What stands on disk or in etcd instead of a value: encryption at rest, for the store's part of it.
//!
//! Memory holds values as they are; what leaves it for a disk, a snapshot or etcd goes through [`Transform::seal`], what comes back
//! through [`Transform::open`]. A value that does not open is kept as it came ([`Closed`]): it is no object, nobody may write over it
//! unseen, and it goes into snapshots as it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// What stored values that are not plain begin with.
const SEALED: &[u8] = b"k8s:enc:";

/// Another form of values, by key.
pub trait Transform: Send + Sync {
    /// The name of the form that values of the key are written in now; empty: as they are.
    fn form(&self, key: &str) -> Arc<str>;
    /// A value as it is written. The error says what is wrong.
    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String>;
    /// A value that was stored, and the name of the form that it was in.
    fn open(&self, key: &str, stored: &[u8]) -> Result<(Vec<u8>, Arc<str>), String>;
}

/// A stored value that nobody can read.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    /// As it is stored.
    pub(crate) stored: Bytes,
    /// etcd's revision of it; 0 where that is not known.
    pub(crate) mod_revision: u64,
    pub(crate) why: String,
}

/// Such a value and its key.
pub(crate) type ClosedRow = (Arc<str>, Closed);

/// A [`Transform`] and the forms that values are in; of those that are stored as they are nothing is noted.
#[derive(Default)]
pub(crate) struct Sealing {
    transform: Option<Arc<dyn Transform>>,
    forms: Mutex<HashMap<Arc<str>, Arc<str>>>,
}

impl Sealing {
    pub(crate) fn new(transform: Option<Arc<dyn Transform>>) -> Self {
        Self { transform, forms: Mutex::default() }
    }

    fn note(&self, key: &str, form: Arc<str>) {
        let mut forms = self.forms.lock();
        if form.is_empty() {
            forms.remove(key);
        } else {
            forms.insert(key.into(), form);
        }
    }

    /// The value as it is to be stored.
    pub(crate) fn seal<'a>(&self, key: &str, value: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        let Some(transform) = &self.transform else { return Ok(Cow::Borrowed(value)) };
        let form = transform.form(key);
        let sealed = match form.is_empty() {
            true => Cow::Borrowed(value),
            false => Cow::Owned(transform.seal(key, value)?),
        };
        self.note(key, form);
        Ok(sealed)
    }

    /// The same for a copy elsewhere: what is stored here stays in the form that it has.
    pub(crate) fn copy<'a>(&self, key: &str, value: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        match &self.transform {
            Some(transform) if !transform.form(key).is_empty() => transform.seal(key, value).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    /// The value that was stored.
    pub(crate) fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, String> {
        if !stored.starts_with(SEALED) {
            if self.transform.is_some() {
                self.note(key, "".into());
            }
            return Ok(stored);
        }
        let Some(transform) = &self.transform else {
            return Err("identity transformer tried to read encrypted data".into());
        };
        let (value, form) = transform.open(key, &stored)?;
        self.note(key, form);
        Ok(value.into())
    }

    pub(crate) fn forget(&self, key: &str) {
        if self.transform.is_some() {
            self.forms.lock().remove(key);
        }
    }

    /// True when a value that is written now would be in another form than the stored one.
    pub(crate) fn is_stale(&self, key: &str) -> bool {
        let Some(transform) = &self.transform else { return false };
        let wanted = transform.form(key);
        self.forms.lock().get(key).map_or("", |form| form) != &*wanted
    }
}
