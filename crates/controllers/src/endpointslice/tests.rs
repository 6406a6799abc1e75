use serde_json::{Value, json};

use super::*;
use crate::Verb;
use crate::testing::Scene;

fn service(change: impl FnOnce(&mut Value)) -> Value {
    let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "ns", "uid": "svc", "labels": {"l": "1"}},
        "spec": {"clusterIP": "10.43.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]}});
    change(&mut service);
    service
}

fn pod(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T00:00:00Z"}]}})
}

fn plan(objects: Vec<Value>) -> Plan {
    Scene::new(objects).plan(&CONTROLLER, "ns/s")
}

/// The bodies that a plan creates, and the others printed.
fn bodies(plan: &Plan) -> (Vec<Value>, Vec<String>) {
    let (mut created, mut other) = (Vec::new(), Vec::new());
    for op in plan.ops() {
        match &op.verb {
            Verb::Create(body) => created.push((**body).clone()),
            _ => other.push(op.to_string()),
        }
    }
    (created, other)
}

/// What the server would hold after the plan was carried out.
fn apply(plan: &Plan, objects: &mut Vec<Value>) {
    for (at, op) in plan.ops().enumerate() {
        match &op.verb {
            Verb::Create(body) => {
                let mut body = (**body).clone();
                body["metadata"]["name"] = json!(format!("s-{}-{at}", objects.len()));
                objects.push(body);
            }
            Verb::Update(base, change) => {
                let object = objects.iter_mut().find(|o| o["metadata"]["name"] == base.head.name).unwrap();
                object::patch::merge(object, change);
            }
            Verb::Delete(_) => objects.retain(|o| o["metadata"]["name"] != op.at.name.as_deref().unwrap_or_default()),
            Verb::Patch(_) => panic!("no patches here"),
        }
    }
}

fn sizes(objects: &[Value]) -> Vec<usize> {
    let mut sizes: Vec<usize> = objects
        .iter()
        .filter(|o| o["kind"] == "EndpointSlice")
        .map(|o| o["endpoints"].as_array().unwrap().len())
        .collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn a_slice_has_upstreams_form() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}});
    let (created, _) = bodies(&plan(vec![service(|_| {}), pod("a", "10.42.0.1"), node]));
    assert_eq!(
        created[0],
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "generateName": "s-", "namespace": "ns",
                "labels": {"l": "1", "kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-31T00:00:00Z"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "s", "uid": "svc", "controller": true, "blockOwnerDeletion": true}],
            },
            "endpoints": [{
                "addresses": ["10.42.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "n1", "zone": "z1",
                "targetRef": {"kind": "Pod", "namespace": "ns", "name": "a", "uid": "uid-a"},
            }],
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        })
    );
}

#[test]
fn conditions_of_unready_and_terminating_pods() {
    let conditions = |change: fn(&mut Value), publish: bool| {
        let mut one = pod("a", "10.42.0.1");
        change(&mut one);
        let (created, _) =
            bodies(&plan(vec![service(|s| s["spec"]["publishNotReadyAddresses"] = json!(publish)), one]));
        created[0]["endpoints"][0]["conditions"].clone()
    };
    let unready: fn(&mut Value) = |p| p["status"]["conditions"][0]["status"] = json!("False");
    let going: fn(&mut Value) = |p| p["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    assert_eq!(conditions(unready, false), json!({"ready": false, "serving": false, "terminating": false}));
    assert_eq!(conditions(unready, true), json!({"ready": true, "serving": false, "terminating": false}));
    assert_eq!(conditions(going, false), json!({"ready": false, "serving": true, "terminating": true}));
    assert_eq!(conditions(going, true), json!({"ready": true, "serving": true, "terminating": true}));
}

#[test]
fn finished_pods_and_pods_without_address_or_port_are_no_endpoints() {
    let empty = |change: fn(&mut Value)| {
        let mut one = pod("a", "10.42.0.1");
        change(&mut one);
        let (created, _) = bodies(&plan(vec![service(|_| {}), one]));
        assert_eq!((created.len(), &created[0]["endpoints"], &created[0]["ports"]), (1, &json!([]), &json!([])));
    };
    empty(|p| p["status"]["phase"] = json!("Succeeded"));
    empty(|p| p["status"] = json!({"phase": "Pending"}));
    empty(|p| p["spec"]["containers"][0]["ports"][0]["name"] = json!("other"));
    empty(|p| p["metadata"]["labels"] = json!({"app": "other"}));
}

#[test]
fn headless_services_name_their_pods() {
    let mut named = pod("a", "10.42.0.1");
    named["spec"]["hostname"] = json!("db-0");
    named["spec"]["subdomain"] = json!("s");
    let headless = service(|s| {
        s["spec"]["clusterIP"] = json!("None");
        s["spec"]["ports"] = json!([]);
    });
    let (created, _) = bodies(&plan(vec![headless, named]));
    assert_eq!(created[0]["endpoints"][0]["hostname"], "db-0");
    assert_eq!(created[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(created[0]["ports"], json!([]));
}

#[test]
fn pods_with_other_port_numbers_get_their_own_slice() {
    let mut other = pod("b", "10.42.0.2");
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    let (created, _) = bodies(&plan(vec![service(|_| {}), pod("a", "10.42.0.1"), other]));
    let ports: Vec<_> = created.iter().map(|slice| slice["ports"][0]["port"].clone()).collect();
    assert_eq!(ports, [json!(8080), json!(9090)]);
}

#[test]
fn at_most_a_hundred_in_a_slice_and_a_change_writes_one() {
    let mut objects = vec![service(|_| {})];
    objects.extend((0..250).map(|i| pod(&format!("p{i:03}"), &format!("10.42.{}.{}", i / 200, i % 200 + 1))));
    let first = plan(objects.clone());
    apply(&first, &mut objects);
    assert_eq!(sizes(&objects), [50, 100, 100]);
    assert!(plan(objects.clone()).is_empty(), "it is as it should be");
    // One pod turns unready: one slice is written.
    objects[7]["status"]["conditions"][0]["status"] = json!("False");
    let second = plan(objects.clone());
    assert_eq!(second.ops().count(), 1);
    apply(&second, &mut objects);
    // Twenty new ones go where there is room.
    objects.extend((0..20).map(|i| pod(&format!("q{i}"), &format!("10.42.9.{}", i + 1))));
    let third = plan(objects.clone());
    assert_eq!(third.ops().count(), 1);
    apply(&third, &mut objects);
    assert_eq!(sizes(&objects), [70, 100, 100]);
    assert!(plan(objects.clone()).is_empty());
    // All pods go: one empty slice without ports stays.
    objects.retain(|o| o["kind"] != "Pod");
    let last = plan(objects.clone());
    apply(&last, &mut objects);
    assert_eq!(sizes(&objects), [0]);
    assert!(plan(objects).is_empty());
}

#[test]
fn a_slice_with_strange_labels_is_set_right() {
    let mut objects = vec![service(|_| {}), pod("a", "10.42.0.1")];
    let made = plan(objects.clone());
    apply(&made, &mut objects);
    objects[2]["metadata"]["labels"]["strange"] = json!("x");
    let (created, other) = bodies(&plan(objects));
    assert!(created.is_empty());
    assert!(other[0].contains(r#""strange":null"#), "{other:?}");
}

#[test]
fn services_that_are_not_ours_are_left_alone() {
    assert!(plan(vec![service(|s| s["spec"]["type"] = json!("ExternalName"))]).is_empty());
    assert!(plan(vec![service(|s| s["spec"]["selector"] = Value::Null)]).is_empty());
    assert!(plan(vec![service(|s| s["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z"))]).is_empty());
    assert!(plan(vec![]).is_empty());
}
