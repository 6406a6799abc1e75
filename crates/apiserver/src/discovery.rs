//! What there is: group lists, resource lists, aggregated discovery, OpenAPI documents, version. Made once from the table of
//! kinds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use kinds::Kind;
use schema::openapi::{self, Served};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What clients take for our version: upstream's API level, and what we are.
pub(crate) const GIT_VERSION: &str = "v1.36.2+navarch";

/// A document and its ETag.
pub(crate) struct Document {
    pub(crate) body: Bytes,
    pub(crate) etag: String,
    pub(crate) content_type: &'static str,
}

impl Document {
    fn new(value: &Value, content_type: &'static str) -> Self {
        Self::of(serde_json::to_vec(value).unwrap_or_default().into(), content_type)
    }

    fn of(body: Bytes, content_type: &'static str) -> Self {
        let hash = Sha256::digest(&body);
        let etag = hash.iter().map(|b| format!("{b:02X}")).collect();
        Self { body, etag, content_type }
    }
}

const JSON: &str = "application/json";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

static DOCUMENTS: LazyLock<BTreeMap<String, Document>> = LazyLock::new(documents);
static AGGREGATED_CORE: LazyLock<Document> = LazyLock::new(|| Document::new(&aggregated(true), AGGREGATED));
static OPENAPI_V2: LazyLock<Document> = LazyLock::new(|| Document::new(&openapi_v2(), JSON));
/// The same, in the form that clients before 1.31 ask for (gnostic's messages).
static OPENAPI_V2_PROTOBUF: LazyLock<Document> = LazyLock::new(|| {
    let bytes = openapi::encode_v2(&openapi_v2());
    Document::of(bytes.into(), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
});
static AGGREGATED_GROUPS: LazyLock<Document> = LazyLock::new(|| Document::new(&aggregated(false), AGGREGATED));

/// The document at a path; `accept` decides between plain and aggregated discovery.
pub(crate) fn document(path: &str, accept: &str) -> Option<&'static Document> {
    let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
    let is_aggregated = |media: &str| {
        let mut parameters = media.split(';').map(str::trim);
        media.contains("g=apidiscovery.k8s.io") && parameters.any(|p| p == "v=v2")
    };
    let wants_aggregated = accept.split(',').any(is_aggregated);
    match path {
        "/openapi/v2" if accept.contains("proto-openapi.spec.v2") => Some(&OPENAPI_V2_PROTOBUF),
        "/openapi/v2" => Some(&OPENAPI_V2),
        "/api" if wants_aggregated => Some(&AGGREGATED_CORE),
        "/apis" if wants_aggregated => Some(&AGGREGATED_GROUPS),
        _ => DOCUMENTS.get(path),
    }
}

fn documents() -> BTreeMap<String, Document> {
    let table = kinds::table();
    let mut all = Documents::default();
    all.add("/version".into(), &version());
    all.add(
        "/api".into(),
        &json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]}),
    );
    let mut groups = Vec::new();
    let mut openapi_paths = Vec::new();
    let mut roots: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(Into::into)
    .to_vec();
    for endpoint in ["healthz", "livez", "readyz"] {
        roots.extend(crate::health::NAMES.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    for (group, versions) in table.groups() {
        let gv = |version: &str| object::names::api_version(group, version);
        let entries: Vec<Value> = versions.iter().map(|v| json!({"groupVersion": gv(v), "version": v})).collect();
        let described = json!({"name": group, "versions": entries, "preferredVersion": entries[0]});
        for version in &versions {
            let of: Vec<&Kind> = table.kinds().iter().filter(|k| k.group == group && k.version == *version).collect();
            let base = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
            all.add(base.clone(), &resource_list(&gv(version), &of));
            let served: Vec<Served> = of.iter().filter_map(|k| served(k)).collect();
            let path = base.trim_start_matches('/').to_owned();
            let document = Document::new(&openapi::document(schema::table(), &served, GIT_VERSION), JSON);
            openapi_paths.push((path.clone(), document.etag.clone()));
            all.0.insert(format!("/openapi/v3/{path}"), document);
            roots.push(base);
        }
        if !group.is_empty() {
            let mut whole = described.clone();
            whole["kind"] = "APIGroup".into();
            whole["apiVersion"] = "v1".into();
            all.add(format!("/apis/{group}"), &whole);
            roots.push(format!("/apis/{group}"));
            groups.push(described);
        }
    }
    all.add("/apis".into(), &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    all.add("/openapi/v3".into(), &openapi::index(&openapi_paths));
    roots.sort();
    all.add("/".into(), &json!({"paths": roots}));
    all.0
}

fn openapi_v2() -> Value {
    let all: Vec<Served> = kinds::table().kinds().iter().filter_map(served).collect();
    openapi::document_v2(schema::table(), &all, GIT_VERSION)
}

#[derive(Default)]
struct Documents(BTreeMap<String, Document>);

impl Documents {
    fn add(&mut self, path: String, value: &Value) {
        self.0.insert(path, Document::new(value, JSON));
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "2026-11-21T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn served(kind: &Kind) -> Option<Served> {
    Some(Served {
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
        namespaced: kind.namespaced(),
        verbs: kind.verbs.clone(),
        schema: kind.schema.clone()?,
    })
}

fn resource_list(group_version: &str, kinds: &[&Kind]) -> Value {
    let mut resources = Vec::new();
    for kind in kinds {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced(), "kind": kind.kind, "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            entry["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            entry["categories"] = json!(kind.categories);
        }
        if kind.storage_prefix.is_some() {
            let hash = Sha256::digest(kind.gvk().to_string().as_bytes());
            entry["storageVersionHash"] =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &hash[..8]).into();
        }
        resources.push(entry);
        for sub in &kind.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced(),
                "kind": sub.body.kind, "verbs": sub.verbs,
            });
            if sub.body.group != kind.group || sub.body.version != kind.version {
                entry["group"] = sub.body.group.as_str().into();
                entry["version"] = sub.body.version.as_str().into();
            }
            resources.push(entry);
        }
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn aggregated(core: bool) -> Value {
    let table = kinds::table();
    let groups = table.groups().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let of = table.kinds().iter().filter(|k| k.group == group && k.version == *version);
                    json!({"version": version, "freshness": "Current", "resources": of.map(aggregated_resource).collect::<Vec<_>>()})
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut entry = json!({
        "resource": kind.plural, "singularResource": kind.singular, "verbs": kind.verbs,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
    let sub = |s: &kinds::Subresource| {
        json!({"subresource": s.name, "verbs": s.verbs,
            "responseKind": {"group": s.body.group, "version": s.body.version, "kind": s.body.kind}})
    };
    if !kind.subresources.is_empty() {
        entry["subresources"] = kind.subresources.iter().map(sub).collect();
    }
    entry
}
