//! What policies in CEL say and do, read off upstream's API server v1.36.2.

use client::Resource;
use object::{Gvr, Reason, Status};
use serde_json::{Value, json};

use crate::bad_input::send;
use crate::custom::eventually;
use crate::world::{World, config_maps};

const VALIDATING: &str = "ValidatingAdmissionPolicy";
const MUTATING: &str = "MutatingAdmissionPolicy";

/// A policy with its binding, about the creation of what `rule` names.
async fn policy(
    world: &World,
    kind: &str,
    name: &str,
    rule: Value,
    spec: &Value,
    binding: &Value,
) -> Result<(), Status> {
    let mut whole = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}});
    let mut bound = json!({"policyName": name});
    if kind == VALIDATING {
        bound["validationActions"] = json!(["Deny"]);
    } else {
        whole["reinvocationPolicy"] = "Never".into();
    }
    for (target, over) in [(&mut whole, spec), (&mut bound, binding)] {
        target.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    }
    let object = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    world.create(object(kind, whole)).await?;
    world.create(object(&format!("{kind}Binding"), bound)).await.map(drop)
}

fn maps_named(name: &str) -> Value {
    json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"], "resourceNames": [name]})
}

fn patch(expression: &str) -> Value {
    json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]})
}

fn configuration(expression: &str) -> Value {
    json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]})
}

#[tokio::test]
async fn refusals_are_upstreams_to_the_letter() {
    let world = World::new().await;
    let validation = |expression: &str| json!({"validations": [{"expression": expression}]});
    let with = |mut spec: Value, more: Value| {
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let none = json!({});
    let nope = json!({"paramKind": {"apiVersion": "nope.org/v1", "kind": "Nope"}});
    let namespaces = json!({"paramKind": {"apiVersion": "v1", "kind": "Namespace"}});
    let by_name = json!({"paramRef": {"name": "x", "namespace": "y", "parameterNotFoundAction": "Deny"}});
    let untyped = "policy 'NAME' with binding 'NAME' denied request: error applying patch: failed to convert patch object to typed object";
    let vap = "configmaps \"NAME\" is forbidden: ValidatingAdmissionPolicy 'NAME'";
    let cases = [
        (VALIDATING, json!({"validations": [{"expression": "object.data.nope == 'x'", "reason": "Forbidden"}]}), &none, 422,
            format!("{vap} with binding 'NAME' denied request: expression 'object.data.nope == 'x'' resulted in error: no such key: nope")),
        (VALIDATING, validation("oldObject.data.x == '1'"), &none, 422,
            format!("{vap} with binding 'NAME' denied request: expression 'oldObject.data.x == '1'' resulted in error: no such key: data")),
        (VALIDATING, validation("string(object.data) == 'x'"), &none, 422,
            format!("{vap} with binding 'NAME' denied request: expression 'string(object.data) == 'x'' resulted in error: no such overload: string(map)")),
        (VALIDATING, with(validation("variables.v == '1'"), json!({"variables": [{"name": "v", "expression": "object.data.nope"}]})), &none, 422,
            format!("{vap} with binding 'NAME' denied request: expression 'variables.v == '1'' resulted in error: composited variable \"v\" fails to evaluate: no such key: nope")),
        (VALIDATING, with(validation("false"), json!({"matchConditions": [{"name": "c", "expression": "object.nope == 1"}]})), &none, 422,
            format!("{vap} with binding 'NAME' denied request: expression 'object.nope == 1' resulted in error: no such key: nope")),
        (VALIDATING, with(validation("false"), nope.clone()), &by_name, 422,
            format!("{vap} denied request: failed to configure policy: failed to find resource referenced by paramKind: 'nope.org/v1, Kind=Nope'")),
        (VALIDATING, with(validation("false"), namespaces), &by_name, 422,
            format!("{vap} with binding 'NAME' denied request: failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`")),
        (MUTATING, patch("[JSONPatch{op: 'remove', path: '/data/nope'}]"), &none, 403,
            "policy 'NAME' with binding 'NAME' denied request: JSON Patch: error in remove for path: '/data/nope': Unable to remove nonexistent key: nope: missing value".into()),
        (MUTATING, patch("[JSONPatch{op: 'add', path: '/data/v', value: object.data.nope}]"), &none, 403,
            "policy 'NAME' with binding 'NAME' denied request: expression '[JSONPatch{op: 'add', path: '/data/v', value: object.data.nope}]' resulted in error: no such key: nope".into()),
        (MUTATING, patch("[JSONPatch{op: 'add', path: '/bogus', value: '1'}]"), &none, 500,
            "Internal error occurred: strict decoding error: unknown field \"bogus\"".into()),
        (MUTATING, configuration("Object{data: {'n': 1}}"), &none, 403,
            format!("{untyped}: .data.n: expected string, got &value.valueUnstructured{{Value:1}}")),
        (MUTATING, configuration("Object{immutable: 1u}"), &none, 403,
            format!("{untyped}: .immutable: expected boolean, got &{{1}}")),
        (MUTATING, configuration("Object{metadata: Object.metadata{labels: {1: 'x'}}}"), &none, 403,
            format!("{untyped}: .metadata: expected map, got &{{fail to convert field \"labels\": map key '\\x01' is of type types.Int, not string}}")),
        (MUTATING, configuration("Object{metadata: Object.meta{labels: {'a': 'x'}}}"), &none, 403,
            "policy 'NAME' with binding 'NAME' denied request: type mismatch: unexpected type name \"Object.meta\", expected \"Object.metadata\", which matches field name path from root Object type".into()),
        (MUTATING, with(patch("[JSONPatch{op: 'add', path: '/data/v', value: 'x'}]"), nope), &by_name, 403,
            "policy \"NAME\" denied request: failed to configure policy: failed to find resource referenced by paramKind: 'nope.org/v1, Kind=Nope'".into()),
    ];
    for (index, (kind, spec, binding, ..)) in cases.iter().enumerate() {
        let name = format!("c{index}");
        policy(&world, kind, &name, maps_named(&name), spec, binding).await.unwrap();
    }
    let maps = Resource::collection(&config_maps(), Some("default"));
    for (index, (.., code, words)) in cases.iter().enumerate() {
        let name = format!("c{index}");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}});
        let refused = eventually(async || match world.client.create(&maps, &map).await {
            Err(status) if status.reason != Some(Reason::AlreadyExists) => Some(status),
            _ => {
                let at = Resource::object(&config_maps(), Some("default"), &name);
                world.client.delete(&at, &client::DeleteOptions::default()).await.ok();
                None
            }
        })
        .await;
        assert_eq!((refused.code, refused.message), (*code, words.replace("NAME", &name)));
    }
    let metrics = send(&world, false, "GET /metrics", "", b"").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for series in [
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"invalid_error\",policy=\"c0\",policy_binding=\"c0\"}",
        "apiserver_mutating_admission_policy_check_total{error_type=\"invalid_error\",policy=\"c7\",policy_binding=\"c7\"}",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
    // What an expression gives is known when the policy is written.
    for (kind, spec, words) in [
        (
            VALIDATING,
            validation("object.data.flag"),
            "spec.validations[0].expression: Invalid value: \"object.data.flag\": must evaluate to bool but got dyn",
        ),
        (
            VALIDATING,
            json!({"validations": [{"expression": "true", "messageExpression": "'a' + object.b"}, {"expression": "true", "messageExpression": "object.b"}]}),
            "spec.validations[1].messageExpression: Invalid value: \"object.b\": must evaluate to string but got dyn",
        ),
        (
            VALIDATING,
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "object.b"}]}),
            "spec.auditAnnotations[0].valueExpression: Invalid value: \"object.b\": must evaluate to one of [string null_type] but got dyn",
        ),
        (
            MUTATING,
            patch("[]"),
            "spec.mutations[0].jsonPatch.expression: Invalid value: \"[]\": must evaluate to list(JSONPatch) but got list(dyn)",
        ),
    ] {
        let refused = policy(&world, kind, "refused", maps_named("x"), &spec, &none).await.unwrap_err();
        assert_eq!(refused.message, format!("{kind}.admissionregistration.k8s.io \"refused\" is invalid: {words}"));
    }
    world.stop().await;
}

#[tokio::test]
async fn policies_see_their_version_and_are_invoked_again() {
    let world = World::new().await;
    let seen = "object.apiVersion + ' ' + request.kind.version + ' ' + request.resource.version + ' ' + request.requestKind.version";
    let seen = format!(
        "{seen} + ' ' + string(has(object.spec.targetCPUUtilizationPercentage)) + string(has(object.spec.metrics))"
    );
    let scalers = json!({"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"], "operations": ["*"]});
    let conditions = json!([{"name": "c", "expression": "object.apiVersion == 'autoscaling/v1'"}]);
    let spec =
        json!({"validations": [{"expression": "false", "messageExpression": seen}], "matchConditions": conditions});
    policy(&world, VALIDATING, "e", scalers, &spec, &json!({})).await.unwrap();
    let at = Resource::collection(&Gvr::new("autoscaling", "v2", "horizontalpodautoscalers"), Some("default"));
    let count = std::sync::atomic::AtomicUsize::new(0);
    let refused = eventually(async || {
        let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": format!("h{count}")},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"}}});
        world.client.create(&at, &scaler).await.err()
    })
    .await;
    assert!(refused.message.ends_with("denied request: autoscaling/v1 v1 v1 v2 truefalse"), "{refused}");

    // Who changes the object itself is invoked again, too, if it wants to be.
    let note = |name: &str| {
        patch(&format!(
            "[JSONPatch{{op: 'add', path: '/data/seq', value: (has(object.data.seq) ? object.data.seq : '') + '{name};'}}]"
        ))
    };
    for (name, reinvoked) in [("a", "Never"), ("b", "IfNeeded")] {
        let mut spec = note(name);
        spec["reinvocationPolicy"] = reinvoked.into();
        policy(&world, MUTATING, name, maps_named("m"), &spec, &json!({})).await.unwrap();
    }
    let maps = Resource::collection(&config_maps(), Some("default"));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    eventually(async || {
        let made = world.client.create(&maps, &map).await.unwrap().value().unwrap();
        let at = Resource::object(&config_maps(), Some("default"), "m");
        world.client.delete(&at, &client::DeleteOptions::default()).await.unwrap();
        (made["data"]["seq"] == "a;b;b;").then_some(())
    })
    .await;
    world.stop().await;
}
