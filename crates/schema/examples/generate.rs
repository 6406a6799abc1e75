//! Makes `data/types.json` and `data/descriptions.json.z` out of k8s-openapi's schemas and the marks that those lack (list types, merge
//! keys, patch strategies, defaults), which were read off upstream's OpenAPI documents:
//!
//! `cargo run -p schema --features generate --example generate -- openapi-marks.json crates/schema/data`
//!
//! Run it when the API level changes. The result is committed, so that no build needs k8s-openapi.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi as k8s;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Lists the types from which all others are reached.
macro_rules! roots {
    ($generator:ident, $($path:path)*) => {
        $($generator.subschema_for::<$path>();)*
    };
}

fn add_roots(generator: &mut SchemaGenerator) {
    roots! { generator,
        k8s::api::admissionregistration::v1::MutatingAdmissionPolicy
        k8s::api::admissionregistration::v1::MutatingAdmissionPolicyBinding
        k8s::api::admissionregistration::v1::MutatingWebhookConfiguration
        k8s::api::admissionregistration::v1::ValidatingAdmissionPolicy
        k8s::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding
        k8s::api::admissionregistration::v1::ValidatingWebhookConfiguration
        k8s::api::apps::v1::ControllerRevision
        k8s::api::apps::v1::DaemonSet
        k8s::api::apps::v1::Deployment
        k8s::api::apps::v1::ReplicaSet
        k8s::api::apps::v1::StatefulSet
        k8s::api::authentication::v1::SelfSubjectReview
        k8s::api::authentication::v1::TokenRequest
        k8s::api::authentication::v1::TokenReview
        k8s::api::authorization::v1::LocalSubjectAccessReview
        k8s::api::authorization::v1::SelfSubjectAccessReview
        k8s::api::authorization::v1::SelfSubjectRulesReview
        k8s::api::authorization::v1::SubjectAccessReview
        k8s::api::autoscaling::v1::HorizontalPodAutoscaler
        k8s::api::autoscaling::v1::Scale
        k8s::api::autoscaling::v2::HorizontalPodAutoscaler
        k8s::api::batch::v1::CronJob
        k8s::api::batch::v1::Job
        k8s::api::certificates::v1::CertificateSigningRequest
        k8s::api::coordination::v1::Lease
        k8s::api::core::v1::Binding
        k8s::api::core::v1::ComponentStatus
        k8s::api::core::v1::ConfigMap
        k8s::api::core::v1::Endpoints
        k8s::api::core::v1::Event
        k8s::api::core::v1::LimitRange
        k8s::api::core::v1::Namespace
        k8s::api::core::v1::Node
        k8s::api::core::v1::PersistentVolume
        k8s::api::core::v1::Pod
        k8s::api::core::v1::PodTemplate
        k8s::api::core::v1::ReplicationController
        k8s::api::core::v1::ResourceQuota
        k8s::api::core::v1::Secret
        k8s::api::core::v1::Service
        k8s::api::core::v1::ServiceAccount
        k8s::api::discovery::v1::EndpointSlice
        k8s::api::events::v1::Event
        k8s::api::flowcontrol::v1::FlowSchema
        k8s::api::flowcontrol::v1::PriorityLevelConfiguration
        k8s::api::networking::v1::IPAddress
        k8s::api::networking::v1::Ingress
        k8s::api::networking::v1::IngressClass
        k8s::api::networking::v1::NetworkPolicy
        k8s::api::networking::v1::ServiceCIDR
        k8s::api::node::v1::RuntimeClass
        k8s::api::policy::v1::Eviction
        k8s::api::policy::v1::PodDisruptionBudget
        k8s::api::rbac::v1::ClusterRole
        k8s::api::rbac::v1::ClusterRoleBinding
        k8s::api::rbac::v1::Role
        k8s::api::rbac::v1::RoleBinding
        k8s::api::resource::v1::DeviceClass
        k8s::api::resource::v1::ResourceClaim
        k8s::api::resource::v1::ResourceClaimTemplate
        k8s::api::resource::v1::ResourceSlice
        k8s::api::scheduling::v1::PriorityClass
        k8s::api::storage::v1::CSIDriver
        k8s::api::storage::v1::CSINode
        k8s::api::storage::v1::CSIStorageCapacity
        k8s::api::storage::v1::StorageClass
        k8s::api::storage::v1::VolumeAttachment
        k8s::api::storage::v1::VolumeAttributesClass
        k8s::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition
        k8s::apimachinery::pkg::apis::meta::v1::APIGroupList
        k8s::apimachinery::pkg::apis::meta::v1::APIResourceList
        k8s::apimachinery::pkg::apis::meta::v1::APIVersions
        k8s::apimachinery::pkg::apis::meta::v1::GroupResource
        k8s::apimachinery::pkg::apis::meta::v1::Status
        k8s::apimachinery::pkg::version::Info
        k8s::kube_aggregator::pkg::apis::apiregistration::v1::APIService
    }
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Types that stand for a scalar or for free-form data.
fn special(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("io.k8s.")? {
        "apimachinery.pkg.api.resource.Quantity" => "quantity",
        "apimachinery.pkg.apis.meta.v1.Time" => "time",
        "apimachinery.pkg.apis.meta.v1.MicroTime" => "microtime",
        "apimachinery.pkg.apis.meta.v1.FieldsV1" => "fields",
        "apimachinery.pkg.runtime.RawExtension" => "raw",
        "apimachinery.pkg.util.intstr.IntOrString" => "intorstring",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => "any",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => "schema-or-list",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => "schema-or-bool",
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => "schema-or-strings",
        _ => return None,
    })
}

/// Where k8s-openapi corrects what upstream's documents say, and we do not.
fn is_required(name: &str, field: &str, said: bool) -> bool {
    match (name.strip_prefix("io.k8s.api.").unwrap_or(name), field) {
        (
            "core.v1.LocalObjectReference"
            | "core.v1.ConfigMapEnvSource"
            | "core.v1.ConfigMapKeySelector"
            | "core.v1.ConfigMapProjection"
            | "core.v1.ConfigMapVolumeSource"
            | "core.v1.SecretEnvSource"
            | "core.v1.SecretKeySelector"
            | "core.v1.SecretProjection",
            "name",
        ) => false,
        ("core.v1.Event", "metadata") | ("events.v1.Event", "eventTime") => true,
        (_, "metadata") => false,
        _ => said,
    }
}

/// True for structures that Go's types hold by value: they stand, empty, in every object, so that nobody comes to own them.
fn is_inline(name: &str, field: &str, required: bool) -> bool {
    let short = name.rsplit('.').next().unwrap_or(name);
    match (short, field) {
        ("ContainerStatus" | "PodSpec" | "PodStatus", "resources") => false,
        ("DaemonSetSpec" | "DeploymentSpec" | "ReplicaSetSpec" | "StatefulSetSpec", "selector") => false,
        ("ReplicationControllerSpec", "template") | ("CustomResourceSubresources", "status") => false,
        ("ScaleIOPersistentVolumeSource" | "ScaleIOVolumeSource", "secretRef") | ("IPAddressSpec", "parentRef") => {
            false
        }
        (
            _,
            "spec" | "status" | "metadata" | "template" | "jobTemplate" | "strategy" | "updateStrategy" | "resources"
            | "loadBalancer" | "nodeInfo" | "daemonEndpoints" | "kubeletEndpoint" | "lastState" | "deprecatedSource"
            | "regarding" | "acceptedNames" | "limitResponse",
        ) => true,
        ("ContainerStatus", "state") | ("Event", "source") | ("Endpoint", "conditions") => true,
        ("NetworkPolicySpec", "podSelector") | ("IngressServiceBackend", "port") => true,
        ("AllocationResult" | "ResourceClaimSpec", "devices") => true,
        _ => required,
    }
}

/// A schema's type in the form of `types.json`.
fn type_of(schema: &Value) -> Result<String> {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or(target);
        return Ok(special(name).unwrap_or(name).to_owned());
    }
    let format = schema["format"].as_str().unwrap_or("");
    Ok(match (schema["type"].as_str().unwrap_or(""), format) {
        ("array", _) => format!("[]{}", type_of(&schema["items"])?),
        ("object", _) if schema.get("additionalProperties").is_some() => {
            format!("{{}}{}", type_of(&schema["additionalProperties"])?)
        }
        ("string", "byte") => "bytes".into(),
        ("string", _) => "string".into(),
        ("integer", "int32") => "int32".into(),
        ("integer", "int64") => "int64".into(),
        ("number", _) => "double".into(),
        ("boolean", _) => "bool".into(),
        _ => anyhow::bail!("no type for {schema}"),
    })
}

#[derive(Default)]
struct Output {
    types: BTreeMap<String, Map<String, Value>>,
    descriptions: BTreeMap<String, BTreeMap<String, String>>,
}

impl Output {
    fn add(&mut self, name: &str, schema: &Value, marks: &Value) -> Result<()> {
        let described = self.descriptions.entry(name.into()).or_default();
        if let Some(text) = schema["description"].as_str() {
            described.insert(String::new(), text.into());
        }
        if special(name).is_some() {
            return Ok(());
        }
        let required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Map::new();
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(text) = property["description"].as_str() {
                described.insert(field.clone(), text.into());
            }
            let mut entry = Map::new();
            if is_required(name, field, required.contains(field.as_str())) {
                entry.insert("required".into(), true.into());
            }
            for (mark, value) in marks[name][field].as_object().into_iter().flatten() {
                let key = match mark.as_str() {
                    "list-type" => "list",
                    "list-map-keys" => "keys",
                    "patch-merge-key" => "merge_key",
                    "patch-strategy" => "strategy",
                    "map-type" => "map",
                    "default" => "default",
                    "enum" => "enum",
                    other => anyhow::bail!("{name}.{field}: unknown mark {other}"),
                };
                entry.insert(key.into(), value.clone());
            }
            let kind = type_of(property).with_context(|| format!("{name}.{field}"))?;
            if kind.starts_with("io.k8s.") && is_inline(name, field, entry.contains_key("required")) {
                entry.insert("inline".into(), true.into());
            }
            let entry = if entry.is_empty() {
                kind.into()
            } else {
                let mut marked = Map::from_iter([("type".to_owned(), Value::from(kind))]);
                marked.append(&mut entry);
                Value::Object(marked)
            };
            fields.insert(field.clone(), entry);
        }
        if marks[name]["*"]["map-type"] == "atomic" {
            fields.insert("*".into(), "atomic".into());
        }
        self.types.insert(name.into(), fields);
        Ok(())
    }

    /// Lists of kinds are generic in k8s-openapi, and stand nowhere else in its schemas.
    fn add_list(&mut self, name: &str) {
        let item = name.trim_end_matches("List");
        let short = item.rsplit('.').next().unwrap_or(item);
        let list = json!({
            "apiVersion": "string", "kind": "string", "metadata": format!("{META}.ListMeta"),
            "items": {"type": format!("[]{item}"), "required": true},
        });
        let own = &self.descriptions[item];
        let text = |field: &str| own.get(field).cloned().unwrap_or_default();
        let described = [
            ("", format!("{short}List is a list of {short} objects.")),
            ("apiVersion", text("apiVersion")),
            ("kind", text("kind")),
            ("metadata", "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds".into()),
            ("items", format!("items is the list of {short} objects.")),
        ];
        self.descriptions.insert(name.into(), described.map(|(k, v)| (k.to_owned(), v)).into());
        self.types.insert(name.into(), list.as_object().cloned().unwrap_or_default());
    }
}

/// A JSON map with one entry on each line.
fn lines<T: serde::Serialize>(map: &BTreeMap<String, T>) -> Result<String> {
    let mut lines = Vec::with_capacity(map.len());
    for (name, value) in map {
        lines.push(format!("{}:{}", json!(name), serde_json::to_string(value)?));
    }
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(arguments.len() == 2, "arguments: the file of marks, the folder to write to");
    let marks: Value = serde_json::from_slice(&std::fs::read(&arguments[0]).context("reading the marks")?)?;
    let folder = Path::new(&arguments[1]);
    let mut generator = SchemaSettings::draft07().into_generator();
    add_roots(&mut generator);
    let mut output = Output::default();
    for (name, schema) in generator.definitions() {
        output.add(name, schema, &marks["types"])?;
    }
    let lists: Vec<String> = marks["kinds"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for name in lists.iter().filter(|name| name.ends_with("List")) {
        if output.types.contains_key(name.trim_end_matches("List")) && !output.types.contains_key(name) {
            output.add_list(name);
        }
    }
    let event = json!({"type": {"type": "string", "required": true}, "object": {"type": "raw", "required": true}});
    let text = |text: &str| text.to_owned();
    let described = [
        (String::new(), text("Event represents a single event to a watched resource.")),
        (text("type"), text("What happened: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.")),
        (text("object"), text("The object as it is now; as it was, for DELETED; a Status, for ERROR.")),
    ];
    output.descriptions.insert(format!("{META}.WatchEvent"), described.into());
    output.types.insert(format!("{META}.WatchEvent"), event.as_object().cloned().unwrap_or_default());

    std::fs::write(folder.join("types.json"), lines(&output.types)?)?;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(lines(&output.descriptions)?.as_bytes())?;
    std::fs::write(folder.join("descriptions.json.z"), packed.finish()?)?;
    Ok(())
}
