//! What there is: group lists, resource lists, aggregated discovery, OpenAPI documents, version. A document is made from the kinds
//! when somebody asks for it, and again when those kinds have changed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kinds::Kind;
use parking_lot::Mutex;
use schema::openapi::{self, CustomSchema, Part, Served};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::Api;
use crate::media;
use crate::registry::{Registry, Scope};

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

    pub(crate) fn of(body: Bytes, content_type: &'static str) -> Self {
        let hash = Sha256::digest(&body);
        let etag = hash.iter().map(|b| format!("{b:02X}")).collect();
        Self { body, etag, content_type }
    }
}

const JSON: &str = "application/json";
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

pub(crate) const AGGREGATED_YAML: &str = "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
pub(crate) const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the form of OpenAPI that a client takes first is protobuf; `None` when it takes none that there is. `version` is `v2` or `v3`.
pub(crate) fn is_openapi_protobuf(accept: &str, version: &str) -> Option<bool> {
    let [new, old] =
        ['.', '@'].map(|mark| format!("application/com.github.proto-openapi.spec.{version}{mark}v1.0+protobuf"));
    media::ranges(accept).iter().find_map(|range| range.first(&[(JSON, false), (&new, true), (&old, true)]))
}

/// The media type of aggregated discovery that a client takes first, if any.
pub(crate) fn aggregated_media(accept: &str) -> Option<&'static str> {
    let wanted = [("as", "APIGroupDiscoveryList"), ("g", "apidiscovery.k8s.io"), ("v", "v2")];
    let all = media::ranges(accept);
    let mut aggregated = all.iter().filter(|range| wanted.iter().all(|(name, is)| range.parameter(name) == Some(is)));
    let offered = [AGGREGATED, AGGREGATED_YAML, AGGREGATED_PROTOBUF];
    aggregated.find_map(|range| range.first(&offered.map(|whole| (whole.split(';').next().unwrap_or(whole), whole))))
}

/// Documents that were made, each with the stamp of the kinds that it was made from.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<HashMap<String, (u64, Arc<Document>)>>,
}

impl Documents {
    fn get(
        &self,
        registry: &Registry,
        key: &str,
        scope: Scope<'_>,
        make: impl FnOnce() -> Option<Document>,
    ) -> Option<Arc<Document>> {
        let stamp = registry.stamp(scope);
        if let Some((_, document)) = self.made.lock().get(key).filter(|(of, _)| *of == stamp) {
            return Some(document.clone());
        }
        let document = make().map(Arc::new);
        let mut made = self.made.lock();
        match &document {
            Some(document) => drop(made.insert(key.into(), (stamp, document.clone()))),
            None => drop(made.remove(key)),
        }
        document
    }
}

impl Api {
    /// The document at a path; `accept` decides between plain and aggregated discovery, and the forms of OpenAPI.
    pub(crate) fn document(&self, path: &str, accept: &str) -> Option<Arc<Document>> {
        let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
        // `/apis//v1` is not the core group.
        if path.contains("//") {
            return None;
        }
        let registry = &self.registry;
        let get = |key: &str, scope: Scope<'_>, make: &dyn Fn() -> Option<Document>| {
            self.documents.get(registry, key, scope, make)
        };
        let json = |value: Value| Some(Document::new(&value, JSON));
        let all = Scope::Everything;
        if path.starts_with("/openapi/v3/") && is_openapi_protobuf(accept, "v3") == Some(true) {
            let plain = self.document(path, "")?;
            return get(&format!("{path}#protobuf"), all, &|| {
                let value = serde_json::from_slice(&plain.body).ok()?;
                let body = openapi::encode_v3(&value).into();
                Some(Document { body, etag: plain.etag.clone(), content_type: V3_PROTOBUF })
            });
        }
        match path {
            "/version" => get(path, Scope::Group(""), &|| json(version())),
            "/openapi/v2" if is_openapi_protobuf(accept, "v2") == Some(true) => {
                get("/openapi/v2#protobuf", all, &|| {
                    let bytes = openapi::encode_v2(&openapi_v2(registry));
                    Some(Document::of(bytes.into(), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"))
                })
            }
            "/openapi/v2" => get(path, all, &|| json(openapi_v2(registry))),
            // As upstream, which does not say what it is.
            "/openapi/v3" => {
                get(path, all, &|| Some(Document::new(&openapi_index(registry), "text/plain; charset=utf-8")))
            }
            "/api" | "/apis" if aggregated_media(accept).is_some() => get(&format!("{path}#aggregated"), all, &|| {
                Some(Document::new(&aggregated(registry, path == "/api"), AGGREGATED))
            }),
            "/api" => get(path, all, &|| json(core_versions(&format!("{}:{}", self.advertise, self.port)))),
            "/apis" => get(path, all, &|| json(group_list(registry))),
            "/" => get(path, all, &|| json(roots(registry))),
            _ => {
                let (docs, base) = match path.strip_prefix("/openapi/v3") {
                    Some(rest) => (true, rest),
                    None => (false, path),
                };
                if docs && is_about_discovery(registry, base.trim_start_matches('/')) {
                    let about = base.trim_start_matches('/');
                    return get(path, all, &|| {
                        let document = openapi::discovery_document(schema::table(), about)?;
                        let etag = openapi::fingerprint_of_discovery(about);
                        Some(Document { etag, ..Document::new(&document, JSON) })
                    });
                }
                let (group, version) = match base.strip_prefix("/apis/") {
                    Some(rest) => rest.split_once('/').map_or((rest, None), |(group, version)| (group, Some(version))),
                    None => ("", base.strip_prefix("/api/")),
                };
                match (docs, version) {
                    (true, Some(version)) => get(path, Scope::Group(group), &|| openapi_v3(registry, group, version)),
                    (false, Some(version)) => get(path, Scope::Group(group), &|| {
                        let of = registry.of(group, version);
                        let list = resource_list(&object::names::api_version(group, version), &of);
                        json(list).filter(|_| !of.is_empty())
                    }),
                    (false, None) if !group.is_empty() => get(path, Scope::Group(group), &|| {
                        let (name, versions) = registry.groups().into_iter().find(|(name, _)| name == group)?;
                        let mut whole = described(&name, &versions);
                        whole["kind"] = "APIGroup".into();
                        whole["apiVersion"] = "v1".into();
                        json(whole)
                    }),
                    _ => None,
                }
            }
        }
    }
}

fn core_versions(address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

fn described(group: &str, versions: &[String]) -> Value {
    let entry = |v: &String| json!({"groupVersion": object::names::api_version(group, v), "version": v});
    let entries: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": entries, "preferredVersion": entries.first()})
}

fn group_list(registry: &Registry) -> Value {
    let groups = registry.groups().into_iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = groups.map(|(group, versions)| described(&group, &versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The path of a group and version.
fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn roots(registry: &Registry) -> Value {
    let mut roots: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/readyz",
        "/statusz",
        "/version",
    ]
    .map(Into::into)
    .to_vec();
    for endpoint in ["healthz", "livez", "readyz"] {
        roots.extend(crate::health::names(endpoint).map(|check| format!("/{endpoint}/{check}")));
    }
    for (group, versions) in registry.groups().iter().filter(|(group, _)| !group.is_empty()) {
        roots.push(format!("/apis/{group}"));
        roots.extend(versions.iter().map(|version| base(group, version)));
    }
    roots.sort();
    json!({"paths": roots})
}

fn served_of(registry: &Registry, group: &str, version: &str) -> Vec<Served> {
    registry.of(group, version).iter().filter_map(|kind| served(kind)).collect()
}

fn openapi_v3(registry: &Registry, group: &str, version: &str) -> Option<Document> {
    let of = served_of(registry, group, version);
    let mut document = Document::new(&openapi::document(schema::table(), &of), JSON);
    document.etag = openapi::fingerprint(&of);
    (!of.is_empty()).then_some(document)
}

fn openapi_index(registry: &Registry) -> Value {
    let groups = registry.groups();
    let all = groups.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let entry = |(group, version): (&String, &String)| {
        let print = openapi::fingerprint(&served_of(registry, group, version));
        (base(group, version).trim_start_matches('/').to_owned(), print)
    };
    let built_in = groups.iter().filter(|(group, _)| is_built_in(registry, group));
    let about = built_in.map(|(group, _)| format!("apis/{group}")).chain(ABOUT.map(Into::into));
    let about = about.map(|path| {
        let print = openapi::fingerprint_of_discovery(&path);
        (path, print)
    });
    openapi::index(&all.map(entry).chain(about).collect::<Vec<_>>())
}

/// What the documents tell of besides resources; besides each built-in group.
const ABOUT: [&str; 5] = ["api", "apis", "version", ".well-known/openid-configuration", "openid/v1/jwks"];

fn is_about_discovery(registry: &Registry, path: &str) -> bool {
    ABOUT.contains(&path) || path.strip_prefix("apis/").is_some_and(|group| is_built_in(registry, group))
}

/// True for a served group that is not made of definitions.
fn is_built_in(registry: &Registry, group: &str) -> bool {
    !group.is_empty() && registry.has_group(group) && kinds::table().kinds().iter().any(|kind| kind.group == group)
}

fn openapi_v2(registry: &Registry) -> Value {
    let groups = registry.groups();
    let all = groups.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    let all: Vec<Served> = all.flat_map(|(group, version)| served_of(registry, group, version)).collect();
    openapi::document_v2(schema::table(), &all)
}

pub(crate) fn version() -> Value {
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
        custom: kind.custom.as_ref().map(|custom| CustomSchema {
            document: custom.document.clone(),
            list_kind: custom.list_kind.clone(),
            selectable: kind.selectable.clone(),
            fingerprint: custom.fingerprint,
        }),
        parts: kind.subresources.iter().map(|sub| part(kind, sub)).collect(),
        returned_by_delete: kind.returned_by_delete,
    })
}

fn part(kind: &Kind, sub: &kinds::Subresource) -> Part {
    let own = kind.schema.as_ref().filter(|_| sub.body.kind == kind.kind).cloned();
    let schema = own.or_else(|| crate::decode::schema_of(&sub.body)).unwrap_or_default();
    Part { name: sub.name.clone(), body: sub.body.clone(), verbs: sub.verbs.clone(), schema }
}

/// What a kind's `storageVersionHash` is made of. Upstream wrote these three in an older version when it had stored the first of them.
fn hashed(kind: &Kind) -> object::Gvk {
    let mut stored = kind.storage_version.clone().unwrap_or_else(|| kind.gvk());
    let old = ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "CustomResourceDefinition"];
    if kind.custom.is_none() && old.contains(&kind.kind.as_str()) {
        stored.version = "v1beta1".into();
    }
    stored
}

fn resource_list(group_version: &str, kinds: &[Arc<Kind>]) -> Value {
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
            let stored = hashed(kind);
            let stored = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
            let hash = Sha256::digest(stored.as_bytes());
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
    // Of custom resources the parts stand as they are declared.
    let custom = kinds.iter().any(|kind| kind.custom.is_some());
    resources.sort_by(|a, b| {
        let key = |entry: &Value| {
            let name = entry["name"].as_str().unwrap_or("").to_owned();
            if custom { name.split('/').next().unwrap_or("").to_owned() } else { name }
        };
        key(a).cmp(&key(b))
    });
    if group_version == "v1" {
        return json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

fn aggregated(registry: &Registry, core: bool) -> Value {
    let groups = registry.groups().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let of = registry.of(&group, version);
                    let resources: Vec<Value> = of.iter().map(|kind| aggregated_resource(kind)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
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
        "responseKind": response_kind(kind, &kind.gvk()),
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
            "responseKind": response_kind(kind, &s.body)})
    };
    if !kind.subresources.is_empty() {
        entry["subresources"] = kind.subresources.iter().map(sub).collect();
    }
    entry
}

/// Of built-in resources, only what is not the resource's own group and version is said.
fn response_kind(kind: &Kind, body: &object::Gvk) -> Value {
    let own = kind.custom.is_none() && body.group == kind.group && body.version == kind.version;
    let (group, version) = if own { ("", "") } else { (body.group.as_str(), body.version.as_str()) };
    json!({"group": group, "version": version, "kind": body.kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: &[u8]) -> String {
        Sha256::digest(value).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The hashes are those of what upstream v1.36.2 answers, written without spaces and with sorted keys.
    #[test]
    fn documents_are_upstreams_to_the_letter() {
        let registry = Registry::default();
        let v2 = openapi_v2(&registry);
        assert_eq!(
            hash(v2.to_string().as_bytes()),
            "0003af12e33305b9b4df379c4a5ffcd4dfb7a5f0bc6833828bce2d40590082b4",
            "/openapi/v2"
        );
        let mut all = Sha256::new();
        for path in openapi_index(&registry)["paths"].as_object().unwrap().keys() {
            let (group, version) = match path.strip_prefix("apis/") {
                Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
                None => ("", path.strip_prefix("api/").unwrap_or("")),
            };
            match openapi_v3(&registry, group, version) {
                Some(document) => all.update(&document.body),
                None => all.update(openapi::discovery_document(schema::table(), path).unwrap().to_string().as_bytes()),
            }
        }
        let all: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(all, "70904c7e44a0d0f6d4720004f835464f170af317090a38be7da8ad7d2745db04", "all of /openapi/v3");
        for (core, of) in [
            (true, "82e24495865cc27eb1a67fe654ad77b27fd2804bd80f4bb53c39e8397e1044fe"),
            (false, "779b4570aa81f1b0a482b938437106b54a7b437fd2e513cdeec8e25f11d3563c"),
        ] {
            assert_eq!(hash(aggregated(&registry, core).to_string().as_bytes()), of, "aggregated, core {core}");
        }
    }
}
