//! PATCH, and subresources that are more than a part of their object: scale, binding, eviction, tokens.

use std::sync::Arc;

use client::Resource;
use kinds::Kind;
use object::patch;
use object::{Gvk, Gvr, Invalid, Object, Reason, Status};
use serde_json::{Value, json};

use crate::admission::{self, Attributes, Operation};
use crate::api::{Api, not_allowed};
use crate::converted::{unconverted, unfit};
use crate::decode::{self, FieldValidation};
use crate::user::User;
use crate::write::versions::converter;
use crate::write::{Body, Part, WriteQuery, Written, check_place, nameless, parsed, part_of, same_uid};

/// A patch by its media type.
pub(crate) enum Change {
    /// Steps that are read one by one: a bad step is an error of the change, not of the body.
    Json(Value),
    /// With the keys that the patch has twice.
    Merge(Value, Vec<schema::Problem>),
    Strategic(Value),
    /// With the keys that it has twice.
    Apply(Value, Vec<schema::Problem>),
}

impl Change {
    /// Reads a patch; 415 for an unknown type.
    pub(crate) fn parse(body: &[u8], content_type: &str) -> Result<Self, Status> {
        let media = content_type.split(';').next().unwrap_or("").trim();
        let json = |prefix: &str| {
            schema::json::parse(body)
                .map_err(|error| Status::bad_request(format!("{prefix}{}", schema::json::go_words(body, &error))))
        };
        let found = |value: &Value| match value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "object",
        };
        let map = |prefix: &str| match json(prefix)? {
            (value @ (Value::Object(_) | Value::Null), duplicates) => Ok((value, duplicates)),
            (other, _) => Err(Status::bad_request(format!(
                "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                found(&other)
            ))),
        };
        const DECODING: &str = "error decoding patch: ";
        match media {
            "application/json-patch+json" => match json(DECODING)?.0 {
                Value::Array(steps) if steps.len() > patch::json::MOST_OPERATIONS => {
                    let text = patch::json::JsonPatchError::TooLong(steps.len()).to_string();
                    Err(Status::new(Reason::RequestEntityTooLarge, text))
                }
                steps @ (Value::Array(_) | Value::Null) => Ok(Self::Json(steps)),
                other => Err(Status::bad_request(format!(
                    "{DECODING}json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
                    found(&other)
                ))),
            },
            "application/merge-patch+json" => {
                let (value, duplicates) = map(DECODING)?;
                Ok(Self::Merge(value, duplicates.into_iter().map(schema::Problem::Duplicate).collect()))
            }
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(map("")?.0)),
            "application/apply-patch+yaml" => {
                let decode::Parsed { value: config, problems } = decode::parse(body, media)?;
                let text = |field: &str| config[field].as_str().unwrap_or("");
                let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
                if version.is_empty() || text("kind").is_empty() {
                    let text = format!("invalid object type: {group}/{version}, Kind={}", text("kind"));
                    return Err(Status::bad_request(text));
                }
                Ok(Self::Apply(config, problems))
            }
            _ => Err(Status::new(Reason::UnsupportedMediaType, "415: Unsupported Media Type")),
        }
    }

    /// `schema` is the full name of the target's type.
    fn apply(&self, schema: &str, old: &Value) -> Result<Value, Status> {
        let mut new = old.clone();
        let invalid = |e: String| Status { code: 422, reason: Some(Reason::Invalid), ..Status::bad_request(e) };
        match self {
            Change::Json(steps) => {
                let refused = "the server rejected our request due to an error in our request";
                patch::json::apply(&mut new, steps).map_err(|_| invalid(refused.into()))?;
            }
            Change::Merge(patch, _) => object::patch::merge(&mut new, patch),
            Change::Strategic(patch) | Change::Apply(patch, _) => {
                schema::strategic_merge(schema::table(), schema, &mut new, patch).map_err(Status::from)?;
                // What a strategic patch says of these is not looked at.
                for field in ["kind", "apiVersion"] {
                    new[field] = old[field].clone();
                }
            }
        }
        if !new.is_object() {
            return Err(Status::bad_request("the patched object is not a map"));
        }
        Ok(new)
    }

    fn apply_to_scale(
        &self,
        old: &Value,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
        let new = self.apply(SCALE, old)?;
        let shown = new.to_string();
        let mut problems = match self {
            Change::Merge(_, duplicates) => duplicates.clone(),
            _ => Vec::new(),
        };
        let decoded = schema::decode(schema::table(), SCALE, new, &mut problems);
        let told = |value| decode::tell(&problems, &scale_kind(), validation, warnings).map(|()| value);
        let decoded = decoded.map_err(|error| Status::bad_request(error.to_string())).and_then(told);
        decoded.map_err(|status| unfit(self, "Scale", &status, &shown))
    }
}

impl Api {
    /// PATCH.
    pub(crate) async fn patch(
        &self,
        user: &User,
        at: &Resource,
        change: &Change,
        query: &WriteQuery,
    ) -> Result<Written, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        if at.subresource.as_deref() == Some("scale") {
            let warnings = parking_lot::Mutex::new(Vec::new());
            let compute = |old: &Value| {
                let mut found = Vec::new();
                let scale = change.apply_to_scale(old, query.validation, &mut found);
                *warnings.lock() = found;
                scale
            };
            let mut written = self.scale(user, at, compute, query).await?;
            written.warnings.splice(0..0, warnings.into_inner());
            return Ok(written);
        }
        if matches!(change, Change::Strategic(_)) && kind.custom.is_some() {
            let text = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(Status::new(Reason::UnsupportedMediaType, text));
        }
        let part = part_of(kind, at.subresource.as_deref())?;
        if let Change::Apply(config, twice) = change {
            if query.manager.as_deref().is_none_or(str::is_empty) {
                let error = object::Invalid::required("fieldManager", "is required for apply patch");
                return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
            }
            if decode::check_kind(config, kind).is_err() {
                return Err(Status::bad_request(format!("invalid object type: {}", patch::shown_kind(config))));
            }
            let warnings = repeated(twice, query.validation)?;
            return self.apply(user, at, kind, part, config, query, warnings).await;
        }
        let warnings = parking_lot::Mutex::new(Vec::new());
        let compute = |old: &Value| {
            let new = change.apply(kind.schema.as_deref().unwrap_or(""), old)?;
            let mut found = Vec::new();
            let mut tree = parsed(new);
            if let Change::Merge(_, duplicates) = change {
                tree.problems.clone_from(duplicates);
            }
            // What does not fit the type is the patch's fault.
            let shown = tree.value.to_string();
            if kind.custom.is_some() {
                if !tree.value["kind"].is_string() {
                    let why = Status::bad_request(format!("Object 'Kind' is missing in '{shown}'"));
                    return Err(unfit(change, &kind.kind, &why, &shown));
                }
                if !tree.value["apiVersion"].is_string() {
                    let why = "Object 'apiVersion' is missing in 'object has no apiVersion field'";
                    return Err(Status::internal(why));
                }
                // What a part of one says of it is not looked at.
                if part == Part::Main {
                    decode::check_custom(&tree.value, kind)?;
                }
            } else if !tree.value["apiVersion"].is_string() {
                // As upstream, which makes an empty object of it.
                return Err(nameless(at.name.as_deref().unwrap_or("")));
            }
            let checked = match kind.custom {
                Some(_) => Ok(()),
                None => decode::check_kind(&tree.value, kind),
            };
            let typed = checked.and_then(|()| decode::typed(tree, kind, query.validation, &mut found));
            *warnings.lock() = found;
            typed.map_err(|status| unfit(change, &kind.kind, &status, &shown))
        };
        let mut written = self.change(user, kind, at, part, query, compute).await?;
        written.warnings.splice(0..0, warnings.into_inner());
        Ok(written)
    }

    /// Server-side apply: merges the configuration, settles who owns what, creates what is not there.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request")]
    async fn apply(
        &self,
        user: &User,
        at: &Resource,
        kind: &Kind,
        part: Part,
        config: &Value,
        query: &WriteQuery,
        warnings: Vec<String>,
    ) -> Result<Written, Status> {
        let name = at.name.as_deref().unwrap_or("");
        let given = config["metadata"]["name"].as_str().unwrap_or("");
        if !given.is_empty() && given != name {
            let text = format!("the name of the object ({given}) does not match the name on the URL ({name})");
            return Err(Status::bad_request(text));
        }
        let query = WriteQuery { applied: true, ..query.clone() };
        let merge = |live: Option<&Value>| -> Result<Value, Status> {
            let others = live.map(|live| self.managed_versions(kind, live)).unwrap_or_default();
            let versions = converter(kind, &others);
            let merged = query
                .recorded(kind, part, |write| patch::apply(kind.place(), live, config, write, query.force, &versions));
            let ignored = &mut Vec::new();
            let typed =
                decode::typed(parsed(merged.map_err(Status::from)?), kind, decode::FieldValidation::Ignore, ignored);
            typed.map_err(|status| unconverted(config, &kind.kind, &status))
        };
        let exists = self.get(&Resource { subresource: None, ..at.clone() }).is_ok();
        if !exists && part == Part::Main {
            let value = merge(None)?;
            if given.is_empty() {
                return Err(nameless(name));
            }
            return self.create_value(user, kind, at, value, &query, warnings).await;
        }
        let mut written = self.change(user, kind, at, part, &query, |old| merge(Some(old))).await?;
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    /// GET of `scale`.
    pub(crate) fn get_scale(&self, at: &Resource) -> Result<Arc<Object>, Status> {
        let object = self.get(&Resource { subresource: None, ..at.clone() })?;
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let object = object.value().map_err(Status::internal)?;
        if let Some(paths) = scale_paths(kind).filter(|paths| paths.replicas(&object).is_none()) {
            return Err(Status::internal(format!("the spec replicas field {:?} does not exist", paths.field())));
        }
        let scale = scale_of(kind, &object);
        Object::from_value(&scale).map(Arc::new).map_err(Status::internal)
    }

    /// PUT of `scale`.
    pub(crate) async fn replace_scale(
        &self,
        user: &User,
        at: &Resource,
        body: Body<'_>,
        query: &WriteQuery,
    ) -> Result<Written, Status> {
        let mut warnings = Vec::new();
        let scale = decode::part(body.bytes, body.content_type, &scale_kind(), query.validation, &mut warnings)?;
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let compute = |present: &Value| {
            same_uid(kind, at, query, &scale, present)?;
            Ok(scale.clone())
        };
        let mut written = self.scale(user, at, compute, query).await?;
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    /// PUT or PATCH of `scale`: `compute` makes the new scale out of the present one.
    async fn scale(
        &self,
        user: &User,
        at: &Resource,
        compute: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
        query: &WriteQuery,
    ) -> Result<Written, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        if kind.subresource("scale").is_none() {
            return Err(not_allowed());
        }
        let change = |old: &Value| {
            let scale = compute(&scale_of(kind, old))?;
            let given = scale["metadata"]["name"].as_str().unwrap_or("");
            let name = at.name.as_deref().unwrap_or("");
            if given.is_empty() {
                return Err(nameless(name));
            }
            check_place(&scale, name, at.namespace.as_deref())?;
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            // Custom resources have checks of their own.
            if replicas < 0 && kind.custom.is_none() {
                let error =
                    object::Invalid::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
                return Err(Status::invalid("autoscaling", "Scale", name, &[error]));
            }
            let mut new = old.clone();
            set_replicas(kind, &mut new, replicas);
            // A scale that names no version expects none.
            let expected = scale["metadata"]["resourceVersion"].as_str().unwrap_or("");
            new["metadata"]["resourceVersion"] = expected.into();
            Ok(new)
        };
        let main = Resource { subresource: None, ..at.clone() };
        let written = self.change(user, kind, &main, Part::Scale, query, change).await?;
        let scale = scale_of(kind, &written.object.value().map_err(Status::internal)?);
        let object = Object::from_value(&scale).map(Arc::new).map_err(Status::internal)?;
        Ok(Written { object, ..written })
    }

    /// POST of a subresource.
    pub(crate) async fn create_sub(
        &self,
        user: &User,
        at: &Resource,
        body: Body<'_>,
        query: &WriteQuery,
    ) -> Result<(Value, u16, Vec<String>), Status> {
        let kind = &*self.kind_of(&at.gvr)?;
        let part = at.subresource.as_deref().and_then(|sub| kind.subresource(sub));
        let what = part.map_or("", |part| part.body.kind.as_str());
        let mut warnings = Vec::new();
        let mut value = match part {
            Some(sub) => decode::part(body.bytes, body.content_type, &sub.body, query.validation, &mut warnings)?,
            None => decode::parse_as(what, body.bytes, body.content_type)?.value,
        };
        match (at.gvr.resource.as_str(), at.subresource.as_deref()) {
            ("pods", Some("binding")) => self.bind_as(user, at, value, query, warnings).await,
            ("pods", Some("eviction")) => {
                let name = at.name.as_deref().unwrap_or("");
                if value["metadata"]["name"] != name {
                    return Err(Status::bad_request("name in URL does not match name in Eviction object"));
                }
                if let Some(namespace) = &at.namespace {
                    value["metadata"]["namespace"] = namespace.as_str().into();
                }
                self.admit_sub(user, at, &mut value, query, &mut warnings).await?;
                self.evict(user, at, &value, query.dry_run).await?;
                Ok((success(), 201, warnings))
            }
            ("serviceaccounts", Some("token")) => {
                self.admit_sub(user, at, &mut value, query, &mut warnings).await?;
                let (namespace, name) = (at.namespace.as_deref().unwrap_or(""), at.name.as_deref().unwrap_or(""));
                Ok((self.issue_token(namespace, name, &value)?, 201, warnings))
            }
            _ => Err(not_allowed()),
        }
    }

    /// Admission of what is posted to a subresource.
    async fn admit_sub(
        &self,
        user: &User,
        at: &Resource,
        value: &mut Value,
        query: &WriteQuery,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let kind = &*self.kind_of(&at.gvr)?;
        let name = at.name.as_deref().or(value["metadata"]["name"].as_str()).unwrap_or("").to_owned();
        let admitted = Attributes {
            user,
            kind,
            operation: Operation::Create,
            subresource: at.subresource.as_deref().unwrap_or(""),
            namespace: at.namespace.as_deref().unwrap_or(""),
            name: &name,
            title: &name,
            dry_run: query.dry_run,
            sent: crate::admission::Sent::Write(query),
        };
        admission::mutate(self, &admitted, value, &Value::Null, warnings).await?;
        admission::validate(self, &admitted, value, &Value::Null, warnings).await
    }

    /// POST to `bindings`.
    pub(crate) async fn bind(
        &self,
        user: &User,
        at: &Resource,
        body: Body<'_>,
        query: &WriteQuery,
    ) -> Result<(Value, u16, Vec<String>), Status> {
        let mut warnings = Vec::new();
        let of = Gvk::new("", "v1", "Binding");
        let binding = decode::part(body.bytes, body.content_type, &of, query.validation, &mut warnings)?;
        self.bind_as(user, at, binding, query, warnings).await
    }

    /// Assigns a pod to a node: what was posted to `binding` of a pod, or to `bindings`.
    async fn bind_as(
        &self,
        user: &User,
        at: &Resource,
        mut binding: Value,
        query: &WriteQuery,
        mut warnings: Vec<String>,
    ) -> Result<(Value, u16, Vec<String>), Status> {
        let pod = binding["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let pod = pod.as_str();
        if at.name.as_deref().is_some_and(|name| name != pod) {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        if let Some(namespace) = &at.namespace {
            crate::write::metadata_of(&mut binding).insert("namespace".into(), namespace.as_str().into());
        }
        self.admit_sub(user, at, &mut binding, query, &mut warnings).await?;
        let pods = Gvr::new("", "v1", "pods");
        check_target(&binding["target"])?;
        let target = binding["target"]["name"].as_str().unwrap_or("").to_owned();
        let kind = &*self.stored_kind_of(&pods)?;
        let at = Resource::object(&pods, at.namespace.as_deref(), pod);
        let assign = |old: &Value| {
            for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
                let (wanted, is) = (&binding["metadata"][field], &old["metadata"][field]);
                if wanted.as_str().is_some_and(|w| !w.is_empty()) && wanted != is {
                    let (wanted, is) = (wanted.as_str().unwrap_or(""), is.as_str().unwrap_or(""));
                    let key = crate::api::key(kind, at.namespace.as_deref(), pod);
                    let why = format!(
                        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {is}"
                    );
                    return Err(Status::conflict("", "pods", pod, &why));
                }
            }
            let conflict = |why: String| Err(Status::conflict("", "pods/binding", pod, &why));
            let present = old["spec"]["nodeName"].as_str().unwrap_or("");
            if old["metadata"]["deletionTimestamp"].is_string() {
                return conflict(format!("pod {pod} is being deleted, cannot be assigned to a host"));
            }
            if !present.is_empty() {
                return conflict(format!("pod {pod} is already assigned to node {present:?}"));
            }
            if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                return conflict(format!("pod {pod} has non-empty .spec.schedulingGates"));
            }
            let mut new = old.clone();
            new["spec"]["nodeName"] = target.as_str().into();
            for field in ["annotations", "labels"] {
                for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
                    new["metadata"][field][key] = value.clone();
                }
            }
            if let Some(status) = new["status"].as_object_mut() {
                status.remove("nominatedNodeName");
            }
            let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.retain(|c| c["type"] != "PodScheduled");
            conditions.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": base::time::now()}));
            new["status"]["conditions"] = conditions.into();
            Ok(new)
        };
        self.change(user, kind, &at, Part::Inner, query, assign).await?;
        Ok((success(), 201, warnings))
    }
}

/// What is wrong with a binding's target; upstream tells it as an error of its own.
fn check_target(target: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let kind = &target["kind"];
    if kind.as_str().is_some_and(|kind| !matches!(kind, "" | "Node")) {
        errors.push(Invalid::unsupported("target.kind", kind, &["Node", "<empty>"]).to_string());
    }
    if target["name"].as_str().is_none_or(str::is_empty) {
        errors.push(Invalid::required("target.name", "").to_string());
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::unexpected(one)),
        many => Err(Status::unexpected(&format!("[{}]", many.join(", ")))),
    }
}

fn success() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn scale_paths(kind: &Kind) -> Option<&kinds::custom::Scale> {
    kind.custom.as_ref().and_then(|custom| custom.scale.as_ref())
}

/// Sets how many there are to be.
pub(crate) fn set_replicas(kind: &Kind, object: &mut Value, replicas: i64) {
    match scale_paths(kind) {
        Some(paths) => paths.set(object, replicas),
        None => object["spec"]["replicas"] = replicas.into(),
    }
}

fn scale_kind() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

/// The `Scale` of an object.
pub(crate) fn scale_of(kind: &Kind, object: &Value) -> Value {
    let metadata = &object["metadata"];
    if let Some(paths) = scale_paths(kind) {
        let mut scale = paths.show(object);
        scale["kind"] = "Scale".into();
        scale["apiVersion"] = "autoscaling/v1".into();
        scale["metadata"] = json!({"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]});
        return scale;
    }
    let selector = match &object["spec"]["selector"] {
        map if map.get("matchLabels").is_some() || map.get("matchExpressions").is_some() => {
            object::LabelSelector::from_object(map)
        }
        map => serde_json::from_value(map.clone()).ok().map(|m| object::LabelSelector::from_map(&m)),
    };
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"]},
        "spec": if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) },
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.map(|s| s.to_string()).unwrap_or_default()},
    })
}

/// Keys that a configuration has twice: an error, a warning, or nobody's business.
fn repeated(problems: &[schema::Problem], validation: decode::FieldValidation) -> Result<Vec<String>, Status> {
    let Some(first) = problems.first() else { return Ok(Vec::new()) };
    match validation {
        decode::FieldValidation::Strict => {
            Err(Status::bad_request(format!("error strict decoding YAML: error converting YAML to JSON: {first}")))
        }
        decode::FieldValidation::Warn => {
            let line = |p: &schema::Problem| p.to_string().lines().last().unwrap_or("").trim().to_owned();
            let said: Vec<String> = problems.iter().map(line).collect();
            crate::warned::note(&said);
            Ok(said)
        }
        decode::FieldValidation::Ignore => Ok(Vec::new()),
    }
}
