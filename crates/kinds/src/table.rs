//! All kinds, and how to find one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use object::{Gvk, Gvr, Texts};
use serde::Deserialize;
use serde_json::Value;

use crate::kind::{Column, Kind, Scope, Subresource};
use crate::{cells, convert, rooms};

const RESOURCES: &str = include_str!("../data/resources.json");

#[derive(Deserialize)]
struct Row {
    group: String,
    version: String,
    resource: String,
    kind: String,
    singular: String,
    namespaced: bool,
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    schema: Option<String>,
    #[serde(default)]
    subresources: Vec<SubRow>,
    #[serde(default)]
    columns: Vec<(String, String, String, i32)>,
}

#[derive(Deserialize)]
struct SubRow {
    name: String,
    group: String,
    version: String,
    kind: String,
    verbs: Vec<String>,
}

/// Resources in discovery's order.
pub struct Table {
    kinds: Vec<Arc<Kind>>,
    by_gvr: HashMap<Gvr, usize>,
    by_gvk: HashMap<Gvk, usize>,
}

/// Resources whose storage path is not their plural.
const STORAGE: &[(&str, &str, &str)] = &[
    ("", "services", "services/specs"),
    ("", "endpoints", "services/endpoints"),
    ("", "nodes", "minions"),
    ("", "replicationcontrollers", "controllers"),
    ("events.k8s.io", "events", "events"),
    ("apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
    ("networking.k8s.io", "ingresses", "ingress"),
];

/// Resources that PUT may create.
const CREATED_BY_UPDATE: &[&str] = &[
    "clusterrolebindings",
    "clusterroles",
    "endpoints",
    "events",
    "leases",
    "limitranges",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "services",
];

/// Resources whose DELETE answers with the object that is gone, not with a `Status` (upstream's `ReturnDeletedObject`).
const RETURNED_BY_DELETE: &[&str] = &[
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];

/// Resources whose PUT must carry a resourceVersion.
const CONDITIONAL: &[&str] = &[
    "apiservices",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "customresourcedefinitions",
    "leases",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "poddisruptionbudgets",
    "runtimeclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "volumeattachments",
];

/// Kinds whose `metadata.generation` counts spec changes.
const WITH_GENERATION: &[&str] = &[
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "DeviceClass",
    "EndpointSlice",
    "FlowSchema",
    "Ingress",
    "IngressClass",
    "Job",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "NetworkPolicy",
    "Pod",
    "PodDisruptionBudget",
    "PodTemplate",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "ReplicaSet",
    "ReplicationController",
    "ResourceSlice",
    "StatefulSet",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// (`group/plural`, selectable fields).
const SELECTABLE: &[(&str, &[&str])] = &[
    (
        "/pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    ),
    ("/nodes", &["spec.unschedulable"]),
    ("/namespaces", &["status.phase"]),
    ("/secrets", &["type"]),
    ("/services", &["spec.clusterIP", "spec.type"]),
    (
        "/events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    (
        "events.k8s.io/events",
        &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
    ),
    ("/replicationcontrollers", &["status.replicas"]),
    ("batch/jobs", &["status.successful"]),
    ("resource.k8s.io/resourceslices", &["spec.driver", "spec.nodeName"]),
    ("certificates.k8s.io/certificatesigningrequests", &["spec.signerName"]),
];

fn storage_prefix(row: &Row) -> Option<String> {
    if !row.verbs.iter().any(|v| v == "list") || row.resource == "componentstatuses" {
        return None;
    }
    let special = STORAGE.iter().find(|(g, r, _)| *g == row.group && *r == row.resource);
    Some(special.map_or_else(|| row.resource.clone(), |(_, _, prefix)| (*prefix).to_owned()))
}

impl From<Row> for Kind {
    fn from(row: Row) -> Self {
        let key = format!("{}/{}", row.group, row.resource);
        let columns = if row.columns.is_empty() {
            vec![("Name".into(), "string".into(), "name".into(), 0), ("Age".into(), "string".into(), String::new(), 0)]
        } else {
            row.columns.clone()
        };
        let place = format!("{}/{}/{}", row.group, row.version, row.resource);
        let words = DESCRIPTIONS.get(place.trim_start_matches('/'));
        let described =
            |at: usize| match words.map_or(["$name", "$created"].get(at).copied(), |w| w.get(at).map(String::as_str)) {
                Some("$name") => crate::custom::NAME.to_owned(),
                Some("$created") => crate::custom::CREATED.to_owned(),
                other => other.unwrap_or_default().to_owned(),
            };
        let column =
            |(at, (name, kind, format, priority))| Column { name, kind, format, priority, description: described(at) };
        let subresource =
            |s: SubRow| Subresource { body: Gvk::new(&s.group, &s.version, &s.kind), name: s.name, verbs: s.verbs };
        let storage_version = match (row.group.as_str(), row.version.as_str(), row.resource.as_str()) {
            ("autoscaling", "v1", _) => Some(Gvk::new("autoscaling", "v2", &row.kind)),
            ("events.k8s.io", "v1", "events") => Some(Gvk::new("", "v1", "Event")),
            _ => None,
        };
        Kind {
            storage_prefix: storage_prefix(&row),
            storage_version,
            selectable: SELECTABLE
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, fields)| fields.iter().map(|f| (*f).to_owned()).collect())
                .unwrap_or_default(),
            generation: WITH_GENERATION.contains(&row.kind.as_str()),
            create_on_update: CREATED_BY_UPDATE.contains(&row.resource.as_str()),
            returned_by_delete: RETURNED_BY_DELETE.contains(&row.resource.as_str()),
            unconditional_update: !CONDITIONAL.contains(&row.resource.as_str()),
            rules: rooms::rules(&row.group, &row.kind),
            columns: columns.into_iter().enumerate().map(column).collect(),
            scope: if row.namespaced { Scope::Namespaced } else { Scope::Cluster },
            subresources: row.subresources.into_iter().map(subresource).collect(),
            group: row.group,
            version: row.version,
            kind: row.kind,
            plural: row.resource,
            singular: row.singular,
            short_names: row.short_names,
            categories: row.categories,
            verbs: row.verbs,
            schema: row.schema,
            custom: None,
        }
    }
}

/// What each column means, by `group/version/resource` (of the core group `version/resource`), where it is not name and age alone.
static DESCRIPTIONS: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/columns.json"))
        .expect("data/columns.json is part of the source and covered by a test")
});

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rows: Vec<Row> =
        serde_json::from_str(RESOURCES).expect("data/resources.json is part of the source and covered by a test");
    let kinds: Vec<Arc<Kind>> = rows.into_iter().map(|row| Arc::new(row.into())).collect();
    let by_gvr = kinds.iter().enumerate().map(|(i, k)| (k.gvr(), i)).collect();
    let by_gvk = kinds.iter().enumerate().map(|(i, k)| (k.gvk(), i)).collect();
    Table { kinds, by_gvr, by_gvk }
});

/// The built-in kinds.
pub fn table() -> &'static Table {
    &TABLE
}

impl Table {
    /// All kinds, in discovery's order.
    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }
    /// The kind of a resource.
    pub fn by_gvr(&self, gvr: &Gvr) -> Option<&Arc<Kind>> {
        self.by_gvr.get(gvr).map(|i| &self.kinds[*i])
    }
    /// The kind of that name.
    pub fn by_gvk(&self, gvk: &Gvk) -> Option<&Arc<Kind>> {
        self.by_gvk.get(gvk).map(|i| &self.kinds[*i])
    }
    /// Groups in order of appearance, each with its versions in order of preference.
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for kind in &self.kinds {
            match groups.iter_mut().find(|(g, _)| *g == kind.group) {
                Some((_, versions)) if versions.contains(&kind.version.as_str()) => {}
                Some((_, versions)) => versions.push(&kind.version),
                None => groups.push((&kind.group, vec![&kind.version])),
            }
        }
        groups
    }
}

/// The values of the kind's selectable fields. Events have those of both their versions, whichever they came in: a selector of
/// one finds what was written through the other.
pub fn fields(kind: &Kind, object: &Value) -> Texts {
    if let Some(custom) = &kind.custom {
        return custom.fields(object);
    }
    if kind.kind != "Event" {
        return selected(kind, object).collect();
    }
    let from = Gvk::from_api_version(object["apiVersion"].as_str().unwrap_or(""), "Event");
    let from = if from.version.is_empty() { kind.gvk() } else { from };
    let versions = table().kinds.iter().filter(|k| k.kind == "Event");
    let converted: Vec<(&Arc<Kind>, Value)> = versions.map(|k| (k, convert(object.clone(), &from, &k.gvk()))).collect();
    converted.iter().flat_map(|(k, event)| selected(k, event)).collect()
}

/// Those that have a value.
fn selected<'a>(kind: &'a Kind, object: &'a Value) -> impl Iterator<Item = (&'a str, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => items.first().and_then(|i| i["ip"].as_str()).unwrap_or("").to_owned(),
        other => other.to_string(),
    };
    let or = move |one: &str, other: &str| match text(cells::at(object, one)) {
        empty if empty.is_empty() => text(cells::at(object, other)),
        given => given,
    };
    let value = move |path: &str| match path {
        "spec.unschedulable" | "spec.hostNetwork" => (cells::at(object, path) == true).to_string(),
        "source" => or("source.component", "reportingComponent"),
        "status.successful" => object["status"]["succeeded"].as_i64().unwrap_or(0).to_string(),
        "status.replicas" => object["status"]["replicas"].as_i64().unwrap_or(0).to_string(),
        path => text(cells::at(object, path)),
    };
    kind.selectable.iter().map(move |path| (path.as_str(), value(path))).filter(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let table = table();
        assert_eq!(table.kinds().len(), 68);
        for kind in table.kinds() {
            assert!(kind.schema.is_some(), "{} has no type", kind.gvk());
            let row = kind.row(&serde_json::json!({"metadata": {"name": "x"}}), 0);
            // Upstream shows the age of an address in a column that has no title.
            let untitled = usize::from(kind.kind == "IPAddress");
            assert!(
                row.len() == kind.columns.len() + untitled,
                "{}: {} cells for {} columns",
                kind.gvk(),
                row.len(),
                kind.columns.len()
            );
        }
        let pods = table.by_gvr(&Gvr::new("", "v1", "pods")).unwrap();
        assert_eq!(
            (pods.storage_prefix.as_deref(), pods.short_names.as_slice()),
            (Some("pods"), &["po".to_owned()][..])
        );
        assert_eq!(table.groups()[0].0, "");
    }

    #[test]
    fn selectable_fields_are_text() {
        let pods = table().by_gvr(&Gvr::new("", "v1", "pods")).unwrap();
        let pod = serde_json::json!({"spec": {"nodeName": "n1"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}});
        let fields = fields(pods, &pod);
        assert_eq!(
            ["spec.nodeName", "spec.hostNetwork", "status.podIPs", "status.podIP"].map(|field| fields.get(field)),
            [Some("n1"), Some("false"), Some("10.0.0.1"), None]
        );
    }

    #[test]
    fn events_are_found_by_the_fields_of_both_versions() {
        let event = serde_json::json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "reason": "r"});
        let kind = table().by_gvr(&Gvr::new("events.k8s.io", "v1", "events")).unwrap();
        let fields = fields(kind, &event);
        assert_eq!((fields.get("regarding.name"), fields.get("involvedObject.name")), (Some("p"), Some("p")));
    }
}
