//! POST: a new object.

use std::sync::Arc;

use client::Resource;
use kinds::Kind;
use object::{Object, Status};
use serde_json::Value;
use store::{Compare, Op, StoreError, Txn};

use super::tree::{
    complete, dedupe_owners, make_hollow, metadata_of, own_metadata, restore_own_metadata, set_namespace, tidy,
};
use super::{Body, Part, WriteQuery, Written, is_request};
use crate::admission::addresses;
use crate::admission::{self, Attributes, Operation, certificates};
use crate::api::{Api, key, namespace_of, not_allowed, served, store_status};
use crate::decode;
use crate::servers::is_shared;
use crate::user::User;
use crate::warned;

/// Random letters that follow `generateName` (no vowels: no words).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random letters.
pub(crate) fn suffix() -> String {
    (0..5).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// So many names are tried (KEP-4420).
const MOST_NAMES: usize = 8;

/// A name for who gives the beginning of one. As upstream: it is cut so that the whole fits into a DNS label, and what is taken
/// is tried again.
fn untaken(stem: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let stem: String = stem.chars().take(58).collect();
    let mut name = format!("{stem}{}", suffix());
    for _ in 1..MOST_NAMES {
        if !is_taken(&name) {
            break;
        }
        name = format!("{stem}{}", suffix());
    }
    name
}

impl Api {
    /// POST of an object to its collection.
    pub(crate) async fn create(
        &self,
        user: &User,
        at: &Resource,
        body: Body<'_>,
        query: &WriteQuery,
    ) -> Result<Written, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let mut warnings = Vec::new();
        let read = decode::object(body.bytes, body.content_type, kind, query.validation, &mut warnings)?;
        self.create_value(user, kind, at, read.value, &query.of_body(read.empties), warnings).await
    }

    /// Creates a decoded object.
    pub(crate) async fn create_value(
        &self,
        user: &User,
        kind: &Kind,
        at: &Resource,
        value: Value,
        query: &WriteQuery,
        warnings: Vec<String>,
    ) -> Result<Written, Status> {
        if kind.kind == "Service" && is_shared(self) {
            loop {
                if let Some(written) = self.create_once(user, kind, at, value.clone(), query, warnings.clone()).await? {
                    return Ok(written);
                }
                self.fresh(None).await?;
            }
        }
        let written = self.create_once(user, kind, at, value, query, warnings).await?;
        written.ok_or_else(|| Status::internal("nobody else gives out numbers"))
    }

    /// What the creation of an object gets that is there.
    fn already_there(&self, kind: &Kind, key: &str, name: &str) -> Status {
        let mut status = Status::already_exists(&kind.group, &kind.plural, name);
        let there = self.stored_value(key);
        if there.is_some_and(|there| there["metadata"]["deletionTimestamp"].is_string()) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    }

    /// One attempt to create; `None` when another server has given out the same numbers, perhaps.
    async fn create_once(
        &self,
        user: &User,
        kind: &Kind,
        at: &Resource,
        mut value: Value,
        query: &WriteQuery,
        mut warnings: Vec<String>,
    ) -> Result<Option<Written>, Status> {
        if kind.custom.as_ref().is_some_and(|custom| custom.terminating) {
            let message = "create not allowed while custom resource definition is terminating";
            return Err(Status { message: message.into(), ..not_allowed() });
        }
        let namespace = namespace_of(kind, at)?;
        set_namespace(kind, &mut value, namespace)?;
        let metadata = metadata_of(&mut value);
        let versioned = metadata.get("resourceVersion").and_then(Value::as_str).is_some_and(|rv| !rv.is_empty());
        let given = metadata.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
        let stem = metadata.get("generateName").and_then(Value::as_str).unwrap_or("").to_owned();
        let generated = given.is_empty() && !stem.is_empty();
        if generated {
            let name = untaken(&stem, |name| self.store.get(&key(kind, namespace, name)).is_some());
            metadata.insert("name".into(), name.into());
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(field);
        }
        if !query.applied {
            metadata.remove("managedFields");
        }
        metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".into(), base::time::now().into());
        metadata.remove("generation");
        if kind.generation {
            metadata.insert("generation".into(), 1.into());
        }
        warned::tell(dedupe_owners(&mut value), &mut warnings);
        complete(kind, &mut value);
        kind.default(&mut value);
        // What admission and the kind's own rules add is nobody's.
        query.track(kind, Part::Main, None, &mut value, &[]);
        kind.prepare_create(&mut value);
        complete(kind, &mut value);
        let name = value["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let mut admitted = Attributes {
            user,
            kind,
            operation: Operation::Create,
            subresource: "",
            namespace: namespace.unwrap_or(""),
            name: &name,
            title: if generated { &stem } else { &name },
            dry_run: query.dry_run,
            sent: admission::Sent::Write(query),
        };
        let own = own_metadata(&value);
        admission::mutate(self, &admitted, &mut value, &Value::Null, &mut warnings).await?;
        // What only the server sets nobody changes.
        set_namespace(kind, &mut value, namespace)?;
        restore_own_metadata(&mut value, &own);
        admitted.title = &name;
        admission::escalation::check(self, user, kind, &value, None).await?;
        if is_request(kind) {
            certificates::identify(user, &mut value);
        }
        let reserved = self.reserve(kind, &mut value, None, query.dry_run).await?;
        kind.prepare_create(&mut value);
        kind.default(&mut value);
        super::dates::set(kind, &mut value, None);
        tidy(&mut value);
        let hollow = complete(kind, &mut value);
        self.check(kind, &value, None, Part::Main, query)?;
        if hollow {
            make_hollow(kind, &mut value);
        }
        if is_request(kind) {
            certificates::created(&value)?;
        }
        warned::tell(kind.warnings(&value, None), &mut warnings);
        admission::validate(self, &admitted, &value, &Value::Null, &mut warnings).await?;
        let mut charges = admission::charge(self, &admitted, &value, &Value::Null)?;
        let mut stored = self.conversions.to_storage(kind, &value).await?;
        let draft = self.draft(kind, stored.as_mut().unwrap_or(&mut value))?;
        let key = key(kind, namespace, &name);
        if query.dry_run {
            if self.store.get(&key).is_some() {
                return Err(self.already_there(kind, &key, &name));
            }
            // Nothing was written: there is no version to speak of.
            let object = Object::from_value(&value).map_err(Status::internal)?;
            return Ok(Some(Written { object: served(kind, Arc::new(object)), created: true, warnings }));
        }
        if versioned {
            // As upstream: it is the store that refuses, after admission; no reason, and the code of an unexpected error.
            let text = "resourceVersion should not be set on objects to be created";
            return Err(Status { code: 500, reason: None, ..Status::bad_request(text) });
        }
        drop((given, stored));
        if !charges.may_be_lost() {
            // What waits for the disk is bytes: the tree takes ten times as much.
            value.take();
        }
        loop {
            let mut txn =
                Txn { compares: vec![Compare::Absent(key.clone())], ops: vec![Op::Put(key.clone(), draft.clone())] };
            txn.compares.append(&mut charges.compares.clone());
            txn.ops.append(&mut charges.ops);
            reserved.claim(self, &mut txn)?;
            match self.store.commit(txn).await {
                Ok(done) => {
                    let object = done.objects.into_iter().next().flatten();
                    let object = object.ok_or_else(|| Status::internal("the store returned nothing for a create"))?;
                    reserved.keep();
                    let object = self.conversions.one(kind, served(kind, object)).await?;
                    return Ok(Some(Written { object, created: true, warnings }));
                }
                // Another write was charged meanwhile: there may still be enough.
                Err(StoreError::Conflict { key, .. }) if charges.concern(&key) => {
                    self.fresh(None).await?;
                    charges = admission::charge(self, &admitted, &value, &Value::Null)?;
                }
                Err(StoreError::Conflict { key, .. }) if addresses::is_contended(&key) => return Ok(None),
                Err(StoreError::Conflict { .. }) => {
                    let mut status = self.already_there(kind, &key, &name);
                    status.retry_after_seconds = u32::from(generated);
                    return Err(status);
                }
                Err(error) => return Err(store_status(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn names_that_are_taken_are_tried_again() {
        let check = |taken: usize, asked: usize| {
            let tries = Cell::new(0);
            let name = untaken(&"x".repeat(70), |_| {
                tries.set(tries.get() + 1);
                tries.get() <= taken
            });
            assert_eq!((name.len(), tries.get()), (63, asked), "{taken}");
        };
        check(0, 1);
        check(3, 4);
        check(100, MOST_NAMES - 1);
    }
}
