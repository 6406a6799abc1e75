use super::*;
use crate::types::table;
use serde_json::json;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn deployment(value: Value) -> (Result<Value, String>, Vec<String>) {
    let mut problems = Vec::new();
    let decoded = decode(table(), DEPLOYMENT, value, &mut problems).map_err(|e| e.to_string());
    (decoded, problems.iter().map(ToString::to_string).collect())
}

fn refused(value: Value, wanted: &str) {
    assert_eq!(deployment(value).0.unwrap_err(), wanted);
}

#[test]
fn unknown_fields_are_reported_and_dropped() {
    let (decoded, problems) = deployment(json!({"spec": {"foo": 1, "replicas": null,
        "template": {"spec": {"containers": [{"name": "a", "imagePullPolcy": "x"}]}}}}));
    assert_eq!(decoded.unwrap(), json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}));
    assert_eq!(
        problems,
        [r#"unknown field "spec.foo""#, r#"unknown field "spec.template.spec.containers[0].imagePullPolcy""#]
    );
}

#[test]
fn problems_come_in_order_of_appearance() {
    let text = br#"{"zz": 1, "spec": {"replicas": 1, "bar": 1, "replicas": 2}, "aa": 1,
        "metadata": {"labels": {"a": "1", "a": "2"}, "name": "x", "name": "x"}}"#;
    let decoded = decode_json(table(), DEPLOYMENT, text).unwrap();
    assert_eq!(
        strict_error(&decoded.problems),
        "strict decoding error: unknown field \"zz\", unknown field \"spec.bar\", duplicate field \"spec.replicas\", \
         unknown field \"aa\", duplicate field \"metadata.labels.a\", duplicate field \"metadata.name\""
    );
    assert_eq!(decoded.value, json!({"spec": {"replicas": 2}, "metadata": {"labels": {"a": "2"}, "name": "x"}}));
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let container = |container: Value| json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    refused(
        json!({"spec": {"replicas": "3"}}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(
        json!({"spec": {"replicas": 1.5}}),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(
        container(json!({"image": 7})),
        "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
    );
    refused(
        json!({"spec": {"template": {"spec": {"containers": {}}}}}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
    );
    refused(
        json!({"metadata": {"labels": {"a": 1}}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    refused(
        json!({"metadata": {"labels": ["a"]}}),
        "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
    );
    refused(
        container(json!({"ports": [{"containerPort": 5_000_000_000_i64}]})),
        "json: cannot unmarshal number 5000000000 into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
    );
    refused(
        container(json!({"livenessProbe": {"httpGet": {"port": {}}}})),
        "json: cannot unmarshal object into Go value of type int32",
    );
    refused(json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment");
}

#[test]
fn malformed_text_comes_before_wrong_types() {
    let check = |text: &str, wanted: &str| {
        let error = decode_json(table(), DEPLOYMENT, text.as_bytes()).unwrap_err();
        assert_eq!(error, DecodeError::Syntax(wanted.into()), "{text}");
    };
    check(r#"{"spec": {"replicas": "x"}, }"#, "invalid character '}' looking for beginning of object key string");
    check(r#"{"spec""#, "unexpected end of JSON input");
    check(r#"{"spec": x}"#, "invalid character 'x' looking for beginning of value");
    check(r#"{"spec" 1}"#, "invalid character '1' after object key");
    check(r#"{"spec": 1 2}"#, "invalid character '2' after object key:value pair");
    check(r#"{} x"#, "invalid character 'x' after top-level value");
    let deep = format!("{}{}", "{\"spec\":".repeat(200_000), "}".repeat(200_000));
    assert!(matches!(decode_json(table(), "no.such.Type", deep.as_bytes()), Err(DecodeError::Syntax(_))));
}

#[test]
fn quantities_and_times_become_canonical() {
    let limits = |memory: &str| json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"memory": memory}}}]}}}});
    let (decoded, _) = deployment(limits("0.5Gi"));
    assert_eq!(decoded.unwrap()["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"], "512Mi");
    assert!(deployment(limits("lots")).0.unwrap_err().starts_with("quantities must match the regular expression"));
    let time = |text: &str| deployment(json!({"metadata": {"creationTimestamp": text}})).0;
    assert_eq!(time("2026-01-02T03:04:05.9+02:00").unwrap()["metadata"]["creationTimestamp"], "2026-01-02T01:04:05Z");
    let words = |text: &str, wanted: &str| assert_eq!(time(text).unwrap_err(), wanted);
    words("x", "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"");
    words("2026-1-1", "parsing time \"2026-1-1\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"1-1\" as \"01\"");
    words("2026-13-01T00:00:00Z", "parsing time \"2026-13-01T00:00:00Z\": month out of range");
    words(
        "2026-01-01T00:00:00",
        "parsing time \"2026-01-01T00:00:00\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
    );
    let lease = |text: &str| {
        decode(table(), "io.k8s.api.coordination.v1.Lease", json!({"spec": {"renewTime": text}}), &mut Vec::new())
    };
    assert_eq!(lease("2026-01-02T03:04:05.123456Z").unwrap()["spec"]["renewTime"], "2026-01-02T03:04:05.123456Z");
    assert!(lease("2026-01-02T03:04:05Z").is_err(), "microseconds are asked for");
}

#[test]
fn what_go_would_not_encode_goes() {
    let (decoded, problems) = deployment(json!({
        "metadata": {"labels": {}, "annotations": null, "finalizers": []},
        "spec": {"selector": {"matchLabels": {}}, "strategy": {},
            "template": {"spec": {"containers": [], "tolerations": [], "securityContext": {}, "nodeSelector": {"a": null}}}},
    }));
    assert_eq!(
        decoded.unwrap(),
        json!({"metadata": {}, "spec": {"selector": {}, "strategy": {},
            "template": {"spec": {"containers": [], "securityContext": {}, "nodeSelector": {"a": ""}}}}}),
    );
    assert!(problems.is_empty());
}

#[test]
fn yaml_is_json_by_other_means() {
    let text = b"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n  replicas: 2\n  foo: bar\n";
    let decoded = decode_yaml(table(), DEPLOYMENT, text).unwrap();
    assert_eq!(decoded.value["spec"], json!({"replicas": 2}));
    assert_eq!(
        strict_error(&decoded.problems),
        "strict decoding error: yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map, unknown field \"spec.foo\""
    );
    assert!(matches!(decode_yaml(table(), DEPLOYMENT, b"a: [").unwrap_err(), DecodeError::Syntax(_)));
}

#[test]
fn free_form_data_is_kept() {
    let revision = json!({"data": {"a": [1, null, {"b": null}], "b": {}}, "revision": 1});
    let decoded = decode(table(), "io.k8s.api.apps.v1.ControllerRevision", revision.clone(), &mut Vec::new()).unwrap();
    assert_eq!(decoded, revision);
    let unknown = decode(table(), "no.such.Type", json!({"a": 1, "b": [null]}), &mut Vec::new()).unwrap();
    assert_eq!(unknown, json!({"a": 1, "b": [null]}));
}
