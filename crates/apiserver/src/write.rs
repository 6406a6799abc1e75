//! The one write path: every new object and every change goes through here.
//!
//! create: decode -> metadata -> default -> admit -> default -> validate -> commit (absent)
//! update: read -> change -> metadata -> default -> admit -> validate -> commit (unchanged since the read), again on conflict

mod create;
mod dates;
mod empties;
mod tree;
pub(crate) mod versions;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use client::Resource;
use kinds::Kind;
use object::patch::{self, FieldSet};
use object::{Draft, Invalid, Object, Status};
use serde_json::Value;
use store::{Compare, Op, StoreError, Txn, Versioned};

use crate::admission::addresses;
use crate::admission::{self, Attributes, Operation, Reserved, Sent, certificates};
use crate::api::{Api, key, namespace_of, not_allowed, served, store_status};
use crate::decode::{self, FieldValidation, Parsed};
use crate::subresources::{scale_of, set_replicas};
use crate::user::User;
use crate::warned;

pub(crate) use create::suffix;
pub(crate) use tree::{check_place, metadata_of, nameless};
use tree::{complete, dedupe_owners, is_labelled_anew, make_hollow, restore_metadata, spec_of, tidy, unversioned};

/// Options of a write, from the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteQuery {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    /// The client has said which validation it wants.
    pub(crate) says_validation: bool,
    pub(crate) manager: Option<String>,
    /// The client's name for itself: who writes when `manager` is not given.
    pub(crate) agent: String,
    pub(crate) force: bool,
    /// The tree comes out of server-side apply, which has done the managed fields.
    pub(crate) applied: bool,
    /// Lists and maps that the body has empty: see [`decode::Read`].
    pub(crate) empties: Vec<(String, Value)>,
}

impl WriteQuery {
    /// Runs `work` with the record of this write for the managed fields.
    pub(crate) fn recorded<T>(&self, kind: &Kind, part: Part, work: impl FnOnce(&patch::Write<'_>) -> T) -> T {
        let ignored = reset_fields(kind, part);
        let subresource = part.subresource();
        let manager = patch::manager_of(self.manager.as_deref().unwrap_or(""), &self.agent);
        let (api_version, time) = (kind.api_version(), base::time::now());
        work(&patch::Write { manager: &manager, api_version: &api_version, subresource, time: &time, ignored })
    }

    /// Notes in `new` who owns what after this write.
    fn track(&self, kind: &Kind, part: Part, old: Option<&Value>, new: &mut Value, others: &[Arc<Kind>]) {
        if !self.applied && kind.schema.is_some() && part != Part::Inner {
            // As upstream: only of built-in kinds an empty list is more than none.
            if kind.custom.is_some() && new["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty) {
                metadata_of(new).remove("managedFields");
            }
            let versions = versions::converter(kind, others);
            self.recorded(kind, part, |write| patch::track(kind.place(), old, new, write, &versions));
        }
    }
}

/// Fields that a write of this part puts back, so that nobody comes to own them by it.
fn reset_fields(kind: &Kind, part: Part) -> &'static FieldSet {
    static SETS: LazyLock<[FieldSet; 8]> = LazyLock::new(|| {
        [
            FieldSet::default(),
            FieldSet::of(&[&["status"]]),
            FieldSet::of(&[&["spec"]]),
            FieldSet::of(&[&["spec"], &["status"]]),
            FieldSet::of(&[&["spec"], &["status", "conditions"]]),
            FieldSet::of(&[&["spec"], &["status", "certificate"]]),
            FieldSet::of(&[&["spec"], &["metadata"]]),
            FieldSet::of(&[&["spec"], &["metadata", "labels"]]),
        ]
    });
    let [nothing, status, spec, both, conditions, certificate, metadata, labels] = &*SETS;
    match (part, kind.kind.as_str()) {
        (Part::Main, "CertificateSigningRequest") => both,
        (Part::Main | Part::Finalize, _) if kind.has_status() => status,
        (Part::Status, "CertificateSigningRequest") => conditions,
        (Part::Approval, _) => certificate,
        (Part::Status, "Deployment") => labels,
        (
            Part::Status,
            "ServiceCIDR"
            | "ResourceClaim"
            | "FlowSchema"
            | "PriorityLevelConfiguration"
            | "VolumeAttachment"
            | "ValidatingAdmissionPolicy"
            | "APIService",
        ) => metadata,
        (Part::Status, _) => spec,
        _ => nothing,
    }
}

/// The outcome of a write.
pub(crate) struct Written {
    pub(crate) object: Arc<Object>,
    pub(crate) created: bool,
    pub(crate) warnings: Vec<String>,
}

/// A body with its media type.
pub(crate) struct Body<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) content_type: &'a str,
}

/// Upstream gives a patch without resourceVersion this many chances against concurrent writers.
const PATCH_ATTEMPTS: usize = 5;
/// Which part of an object an update may change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    /// A namespace's `finalize`.
    Finalize,
    /// The decision on a certificate signing request.
    Approval,
    /// A pod's containers through `ephemeralcontainers`.
    EphemeralContainers,
    /// A pod's resources through `resize`.
    Resize,
    /// How many there are to be.
    Scale,
    /// What a binding or an eviction does to the objects beneath: it was admitted as what it is, and nobody comes to own fields by it.
    Inner,
}

impl Part {
    /// The subresource that requests name.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Part::Main | Part::Inner => "",
            Part::Status => "status",
            Part::Finalize => "finalize",
            Part::Approval => "approval",
            Part::EphemeralContainers => "ephemeralcontainers",
            Part::Resize => "resize",
            Part::Scale => "scale",
        }
    }
}

pub(crate) fn part_of(kind: &Kind, subresource: Option<&str>) -> Result<Part, Status> {
    match subresource {
        None => Ok(Part::Main),
        Some(name) if kind.subresource(name).is_none() => {
            Err(Status::new(object::Reason::NotFound, "the server could not find the requested resource"))
        }
        Some("status") => Ok(Part::Status),
        Some("finalize") => Ok(Part::Finalize),
        Some("approval") => Ok(Part::Approval),
        Some("ephemeralcontainers") => Ok(Part::EphemeralContainers),
        Some("resize") => Ok(Part::Resize),
        Some(_) => Err(not_allowed()),
    }
}

impl Api {
    /// PUT of an object or of a part of it.
    pub(crate) async fn update(
        &self,
        user: &User,
        at: &Resource,
        body: Body<'_>,
        query: &WriteQuery,
    ) -> Result<Written, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let part = part_of(kind, at.subresource.as_deref())?;
        let mut warnings = Vec::new();
        let read = decode::object(body.bytes, body.content_type, kind, query.validation, &mut warnings)?;
        let (value, query) = (read.value, &*query.of_body(read.empties));
        let name = at.name.as_deref().unwrap_or("");
        let body_name = value["metadata"]["name"].as_str().unwrap_or("");
        if body_name.is_empty() {
            return Err(nameless(name));
        }
        let namespace = namespace_of(kind, at)?;
        check_place(&value, name, namespace)?;
        let exists = self.store.get(&key(kind, namespace, name)).is_some();
        let is_readable = exists || self.store.unreadable(&key(kind, namespace, name)).is_none();
        let uid = value["metadata"]["uid"].as_str().unwrap_or("");
        if !exists && is_readable && kind.create_on_update && part == Part::Main {
            if !uid.is_empty() {
                return Err(other_uid(kind, at, query, uid, ""));
            }
            let mut value = value;
            metadata_of(&mut value).remove("resourceVersion");
            return self.create_value(user, kind, at, value, query, warnings).await;
        }
        let versioned = !version_of(&value).is_empty();
        if !versioned && !kind.unconditional_update {
            return Err(match exists {
                true => unversioned(kind, name),
                false => Status::not_found(&kind.group, &kind.plural, name),
            });
        }
        let replace = |old: &Value| {
            same_uid(kind, at, query, &value, old)?;
            Ok(value.clone())
        };
        let mut written = self.change(user, kind, at, part, query, replace).await?;
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    /// Changes an object: `compute` makes the new tree out of the present one. It is called again when another write came
    /// between, unless the new tree names the resourceVersion that it was made for.
    pub(crate) async fn change(
        &self,
        user: &User,
        kind: &Kind,
        at: &Resource,
        part: Part,
        query: &WriteQuery,
        compute: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<Written, Status> {
        let namespace = namespace_of(kind, at)?;
        let name = at.name.as_deref().unwrap_or("");
        let key = key(kind, namespace, name);
        let not_found = || self.missing(kind, namespace, name);
        let mut current = self.store.get(&key).ok_or_else(not_found)?;
        for attempt in 1.. {
            let old = self.conversions.one(kind, served(kind, current.object.clone())).await?;
            let old = old.value().map_err(Status::internal)?;
            let mut new = compute(&old)?;
            if new["metadata"]["name"].as_str().is_none_or(str::is_empty) {
                return Err(nameless(name));
            }
            check_place(&new, name, namespace)?;
            let wanted = version_of(&new).to_owned();
            if !wanted.is_empty() && wanted.parse::<u64>().is_err() {
                let text = format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax");
                return Err(Status { code: 500, reason: None, ..Status::bad_request(text) });
            }
            if wanted.is_empty() && !kind.unconditional_update && part != Part::Scale {
                return Err(unversioned(kind, name));
            }
            // A patch starts from the present tree and carries its version along; that names no expectation.
            if !wanted.is_empty() && wanted.parse() != Ok(current.mod_revision) {
                return Err(Status::stale(&kind.group, &kind.plural, name));
            }
            match self.commit_change(user, kind, part, query, &current, &old, &mut new).await? {
                Committed::Done(object, warnings) => {
                    let object = self.conversions.one(kind, object).await?;
                    return Ok(Written { object, created: false, warnings });
                }
                Committed::Conflict(Some(newer)) => current = newer,
                Committed::Conflict(None) => return Err(not_found()),
            }
            if attempt >= PATCH_ATTEMPTS {
                return Err(Status::stale(&kind.group, &kind.plural, name));
            }
        }
        Err(Status::internal("unreachable: the loop above returns"))
    }

    #[allow(clippy::too_many_arguments, reason = "the steps of one write share all of these")]
    async fn commit_change(
        &self,
        user: &User,
        kind: &Kind,
        part: Part,
        query: &WriteQuery,
        current: &Versioned,
        old: &Value,
        new: &mut Value,
    ) -> Result<Committed, Status> {
        let name = current.object.head.name.clone();
        new["apiVersion"] = old["apiVersion"].clone();
        new["kind"] = old["kind"].clone();
        restore_metadata(new, old);
        // Who expects no version builds on the present one.
        kinds::kind::keep(&mut new["metadata"], &old["metadata"], "resourceVersion");
        complete(kind, new);
        kind.default(new);
        query.track(kind, part, Some(old), new, &self.managed_versions(kind, old));
        match part {
            Part::Main | Part::Scale => kind.prepare_update(new, old),
            Part::Status => kind.prepare_status(new, old),
            Part::Finalize => kinds::kind::keep(new, old, "status"),
            Part::Approval => kinds::prepare_approval(new, old),
            Part::EphemeralContainers => kinds::pod_parts::prepare_ephemeral(new, old),
            Part::Resize => kinds::pod_parts::prepare_resize(new, old),
            Part::Inner => {}
        }
        let mut warnings = Vec::new();
        let admitted = Attributes {
            user,
            kind,
            operation: Operation::Update,
            subresource: part.subresource(),
            namespace: &current.object.head.namespace,
            name: &name,
            title: &name,
            dry_run: query.dry_run,
            sent: Sent::Write(query),
        };
        warned::tell(dedupe_owners(new), &mut warnings);
        if part == Part::Scale {
            let (mut scale, before) = (scale_of(kind, new), scale_of(kind, old));
            admission::mutate(self, &admitted, &mut scale, &before, &mut warnings).await?;
            set_replicas(kind, new, scale["spec"]["replicas"].as_i64().unwrap_or(0));
        } else if part != Part::Inner {
            admission::mutate(self, &admitted, new, old, &mut warnings).await?;
            restore_metadata(new, old);
            match part {
                Part::Main => kind.prepare_update(new, old),
                Part::Status => kind.prepare_status(new, old),
                Part::EphemeralContainers => kinds::pod_parts::prepare_ephemeral(new, old),
                Part::Resize => kinds::pod_parts::prepare_resize(new, old),
                _ => {}
            }
        }
        if is_request(kind) && matches!(part, Part::Approval | Part::Status) {
            certificates::date(new, old);
        }
        if matches!(part, Part::Main | Part::Status) {
            dates::set(kind, new, Some(old));
        }
        admission::escalation::check(self, user, kind, new, Some(old)).await?;
        let reserved = match part {
            Part::Main => self.reserve(kind, new, Some(old), query.dry_run).await?,
            _ => Reserved::default(),
        };
        tidy(new);
        let hollow = complete(kind, new);
        if kind.generation {
            kinds::kind::keep(&mut new["metadata"], &old["metadata"], "generation");
        }
        warnings.extend(self.check(kind, new, Some(old), part, query)?);
        if hollow {
            make_hollow(kind, new);
        }
        if kind.generation {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            let changed = !matches!(part, Part::Status | Part::Approval | Part::Inner)
                && (spec_of(kind, new) != spec_of(kind, old)
                    || is_labelled_anew(kind, new, old)
                    || query.empties_count(kind, new));
            new["metadata"]["generation"] = (generation + i64::from(changed)).into();
        }
        if matches!(part, Part::Main | Part::Scale) {
            warned::tell(kind.warnings(new, Some(old)), &mut warnings);
        }
        match part {
            Part::Inner => {}
            Part::Scale => {
                let (scale, before) = (scale_of(kind, new), scale_of(kind, old));
                admission::validate(self, &admitted, &scale, &before, &mut warnings).await?;
            }
            _ => admission::validate(self, &admitted, new, old, &mut warnings).await?,
        }
        patch::keep_times(old, new);
        if patch::same_but(new, old, &["resourceVersion"]) && !self.store.is_stale(&current.key) {
            return Ok(Committed::Done(served(kind, current.object.clone()), warnings));
        }
        let mut stored = self.conversions.to_storage(kind, new).await?;
        let draft = self.draft(kind, stored.as_mut().unwrap_or(new))?;
        if query.dry_run {
            return Ok(Committed::Done(served(kind, Arc::new(draft.seal(current.mod_revision))), warnings));
        }
        let mut charges = match part {
            Part::Main | Part::Resize | Part::Status => admission::charge(self, &admitted, new, old)?,
            _ => admission::Charges::default(),
        };
        // The last finalizer of an object that waits for its deletion went away.
        let gone = new["metadata"]["deletionTimestamp"].is_string() && crate::delete::is_free(kind, new);
        let mut ops = vec![Op::Put(current.key.clone(), draft)];
        if gone {
            ops.push(Op::Delete(current.key.clone()));
        }
        ops.append(&mut charges.ops);
        let mut compares = vec![Compare::ModRevision(current.key.clone(), current.mod_revision)];
        compares.append(&mut charges.compares.clone());
        let mut txn = Txn { compares, ops };
        reserved.claim(self, &mut txn)?;
        txn.ops.extend(addresses::released(kind, old, (!gone).then_some(new)));
        match self.store.commit(txn).await {
            Ok(done) => {
                let object = done.objects.into_iter().next().flatten();
                reserved.keep();
                let object = object.ok_or_else(|| Status::internal("the store returned nothing"))?;
                Ok(Committed::Done(served(kind, object), warnings))
            }
            Err(StoreError::Conflict { key, .. }) if charges.concern(&key) || addresses::is_contended(&key) => {
                self.fresh(None).await?;
                Ok(Committed::Conflict(self.store.get(&current.key)))
            }
            Err(StoreError::Conflict { current, .. }) => Ok(Committed::Conflict(current)),
            Err(error) => Err(store_status(&error)),
        }
    }

    /// Reserves what a Service needs of addresses and ports; freed unless the write succeeds.
    async fn reserve(
        &self,
        kind: &Kind,
        new: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reserved, Status> {
        if kind.group.is_empty() && kind.kind == "Service" {
            return addresses::admit(self, new, old, dry_run).await;
        }
        Ok(Reserved::default())
    }

    /// Validates a whole object; what clients are told of what may stay.
    fn check(
        &self,
        kind: &Kind,
        new: &Value,
        old: Option<&Value>,
        part: Part,
        query: &WriteQuery,
    ) -> Result<Vec<String>, Status> {
        let is_definition = kind.kind == "CustomResourceDefinition" && kind.custom.is_none();
        let whole = is_definition.then(|| query.with_empties(new)).flatten();
        let (mut errors, told) = self.errors(kind, whole.as_ref().unwrap_or(new), old, part);
        warned::note(&told);
        if errors.is_empty() {
            return Ok(told);
        }
        if let Some(whole) = query.with_empties(new) {
            let (shown, _) = self.errors(kind, &whole, old, part);
            if shown.iter().map(|e| (e.kind, &e.field)).eq(errors.iter().map(|e| (e.kind, &e.field))) {
                errors = shown;
            }
        }
        kind.show(&mut errors);
        let name = new["metadata"]["name"].as_str().filter(|n| !n.is_empty());
        let name = name.or(new["metadata"]["generateName"].as_str()).unwrap_or("");
        // As upstream: what is wrong with events is told of in their old group.
        let group = if kind.kind == "Event" && kind.custom.is_none() { "" } else { &kind.group };
        Err(Status::invalid(group, &kind.kind, name, &errors))
    }

    /// What is wrong with an object, and what clients are told of what may stay.
    fn errors(&self, kind: &Kind, new: &Value, old: Option<&Value>, part: Part) -> (Vec<Invalid>, Vec<String>) {
        let (mut errors, mut told) = (Vec::new(), Vec::new());
        kinds::validate_metadata(kind, new, old, &mut errors);
        match (part, old) {
            (Part::Status, Some(old)) => told = kind.validate_status(new, old, &mut errors),
            (Part::Approval, Some(old)) => kinds::validate_approval(new, old, &mut errors),
            (Part::EphemeralContainers, Some(old)) => kinds::pod_parts::validate_ephemeral(new, old, &mut errors),
            (Part::Resize, Some(old)) => kinds::pod_parts::validate_resize(new, old, &mut errors),
            (Part::Inner, _) => {}
            _ => told = kind.validate(new, old, &mut errors),
        }
        if (old.is_none() || part == Part::Status) && kind.group == "resource.k8s.io" {
            let namespace = new["metadata"]["namespace"].as_str().unwrap_or("");
            let namespace = self.stored_value(&format!("/registry/namespaces/{namespace}")).unwrap_or_default();
            kinds::validate_admin_access(new, &namespace, &mut errors);
        }
        (errors, told)
    }

    /// Encodes a tree, with the kind's selectable fields in its head.
    pub(crate) fn draft(&self, kind: &Kind, value: &mut Value) -> Result<Draft, Status> {
        let fields = kinds::fields(kind, value);
        if let (Some(stored), Some(custom)) = (&kind.storage_version, &kind.custom) {
            if value["apiVersion"] != stored.api_version() {
                value["apiVersion"] = stored.api_version().into();
            }
            custom.narrow(value);
        }
        let mut draft = Draft::new(value).map_err(|e| Status::bad_request(e.to_string()))?;
        draft.head.fields = fields;
        Ok(draft)
    }
}

/// A PUT is of the object whose uid it names, if it names one.
pub(crate) fn same_uid(kind: &Kind, at: &Resource, query: &WriteQuery, new: &Value, old: &Value) -> Result<(), Status> {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    match (uid(new), uid(old)) {
        (wanted, is) if !wanted.is_empty() && wanted != is => Err(other_uid(kind, at, query, &wanted, &is)),
        _ => Ok(()),
    }
}

fn other_uid(kind: &Kind, at: &Resource, query: &WriteQuery, wanted: &str, is: &str) -> Status {
    let name = at.name.as_deref().unwrap_or("");
    let key = key(kind, at.namespace.as_deref(), name);
    // As upstream: what is not written has no place in the store.
    let key = if query.dry_run { key.trim_start_matches("/registry") } else { &*key };
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}",
    );
    Status::conflict(&kind.group, &kind.plural, name, &why)
}

/// The version that an object names; none and 0 are none.
fn version_of(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().filter(|version| version.parse() != Ok(0u64)).unwrap_or("")
}

fn is_request(kind: &Kind) -> bool {
    kind.group == "certificates.k8s.io" && kind.kind == "CertificateSigningRequest"
}

enum Committed {
    Done(Arc<Object>, Vec<String>),
    Conflict(Option<Versioned>),
}

/// Parsed from a tree that is at hand (patches, in-process writes).
pub(crate) fn parsed(value: Value) -> Parsed {
    Parsed { value, problems: Vec::new() }
}
