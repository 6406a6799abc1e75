use super::*;
use crate::types::table;

fn served(group: &str, kind: &str, plural: &str, schema: &str) -> Served {
    Served {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced: true,
        verbs: ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
            .map(Into::into)
            .into(),
        schema: schema.into(),
        custom: None,
        parts: Vec::new(),
        returned_by_delete: false,
    }
}

fn deployments() -> Served {
    served("apps", "Deployment", "deployments", "io.k8s.api.apps.v1.Deployment")
}

fn crds() -> Served {
    let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    Served {
        namespaced: false,
        ..served("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", schema)
    }
}

/// Every definition that a document refers to is in it.
fn check_closed(text: &str, prefix: &str, schemas: &Map<String, Value>) {
    let mut found = 0;
    for reference in text.split(prefix).skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
        found += 1;
    }
    assert!(found > 50);
}

#[test]
fn a_document_is_closed_under_reference() {
    for resource in [deployments(), crds()] {
        let document = document(table(), &[resource]);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        check_closed(&document.to_string(), "\"#/components/schemas/", schemas);
    }
    let document = document_v2(table(), &[deployments(), crds()]);
    check_closed(&document.to_string(), "\"#/definitions/", document["definitions"].as_object().unwrap());
}

#[test]
fn what_kubectl_looks_for() {
    let document = document(table(), &[deployments()]);
    let path = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let names: Vec<&str> =
        path["patch"]["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(path["patch"]["x-kubernetes-group-version-kind"], gvk);
    assert_eq!(path["get"]["operationId"], "readAppsV1NamespacedDeployment");
    assert_eq!(
        document["paths"]["/apis/apps/v1/deployments"]["get"]["operationId"],
        "listAppsV1DeploymentForAllNamespaces"
    );
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([gvk]));
    assert_eq!(deployment["description"], "Deployment enables declarative updates for Pods and ReplicaSets.");
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(spec["required"], json!(["selector", "template"]));
    assert_eq!(
        spec["properties"]["selector"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"
    );
    let strategy = &schemas["io.k8s.api.apps.v1.DeploymentStrategy"]["properties"]["type"];
    assert_eq!(strategy["enum"], json!(["Recreate", "RollingUpdate"]), "what explain shows");
    let limits = &schemas["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"];
    assert_eq!(
        limits["additionalProperties"]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"
    );
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
}

#[test]
fn fingerprints_tell_documents_apart() {
    let one = fingerprint(&[deployments()]);
    assert_eq!(one, fingerprint(&[deployments()]));
    assert_eq!(one.len(), 32);
    assert_ne!(one, fingerprint(&[crds()]));
}

/// The fields of a protobuf message: (number, bytes), varints as their low byte.
fn fields(mut rest: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = rest[0];
            *rest = &rest[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let length = if tag & 7 == 2 { usize::try_from(varint(&mut rest)).unwrap() } else { 1 };
        found.push((tag >> 3, &rest[..length]));
        rest = &rest[length..];
    }
    found
}

#[test]
fn the_protobuf_form_has_every_definition_and_path() {
    let document = document_v2(table(), &[deployments()]);
    let bytes = encode_v2(&document);
    let top = fields(&bytes);
    let of = |number: u64| top.iter().find(|(n, _)| *n == number).unwrap().1;
    assert_eq!(of(1), b"2.0");
    let definitions = fields(of(9));
    assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
    let deployment =
        definitions.iter().map(|(_, entry)| fields(entry)).find(|e| e[0].1 == b"io.k8s.api.apps.v1.Deployment");
    let schema = fields(deployment.unwrap()[1].1);
    assert!(schema.iter().any(|(n, text)| *n == 4 && text.starts_with(b"Deployment enables")));
    let extension = schema.iter().find(|(n, _)| *n == 31).unwrap().1;
    assert_eq!(fields(extension)[0].1, b"x-kubernetes-group-version-kind");
    assert_eq!(fields(of(8)).len(), document["paths"].as_object().unwrap().len());
}

#[test]
fn a_root_that_takes_anything() {
    let document = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}});
    let custom = CustomSchema {
        document: document.to_string().into(),
        list_kind: "TabList".into(),
        selectable: Vec::new(),
        fingerprint: 0,
    };
    let tabs = Served { custom: Some(custom), ..served("example.com", "Tab", "tabs", "com.example.v1.Tab") };
    let marks = json!([{"group": "example.com", "version": "v1", "kind": "Tab"}]);
    let old = &document_v2(table(), &[tabs])["definitions"]["com.example.v1.Tab"];
    assert_eq!(
        *old,
        json!({"type": "object", "x-kubernetes-group-version-kind": marks}),
        "no fields, lest kubectl refuse others"
    );
}
