//! What surrounds requests: the audit log, priority and fairness, limits.

use std::time::Duration;

use apiserver::{AuditOptions, Security};
use serde_json::{Value, json};

use crate::authn::exchange;
use crate::world::World;

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: Request, resources: [{group: "", resources: [configmaps]}], verbs: [create]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}], verbs: [get]}
- {level: Metadata, resources: [{group: "", resources: [secrets]}]}
"#;

#[tokio::test]
async fn what_the_policy_wants_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let audit = AuditOptions { policy_file: Some(policy), log_path: Some(log.clone()), ..AuditOptions::default() };
    let world = World::with(Security { audit, ..Security::default() }).await;
    let admin = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    let ask = async |method: &str, path: &str, headers: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        exchange(&world, Some(&admin), &request).await.0
    };
    let maps = "/api/v1/namespaces/default/configmaps";
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
    assert_eq!(ask("POST", maps, "Audit-ID: one\r\nUser-Agent: me/1\r\n", &map).await, 201);
    assert_eq!(ask("GET", &format!("{maps}/a"), "", "").await, 200);
    assert_eq!(ask("DELETE", &format!("{maps}/a"), "", "").await, 200, "not written down");
    let as_jane = "Impersonate-User: jane\r\n";
    assert_eq!(ask("GET", "/api/v1/namespaces/default/secrets/s", as_jane, "").await, 403);
    assert_eq!(
        exchange(
            &world,
            None,
            "GET /api/v1/secrets HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
        )
        .await
        .0,
        401
    );
    // Components in the process are users like others.
    let manager = world.as_user(apiserver::User::new("system:kube-controller-manager", &[]));
    let none = client::Resource::object(&object::Gvr::new("", "v1", "secrets"), Some("default"), "none");
    assert_eq!(manager.get(&none).await.unwrap_err().code, 404);
    let events = async {
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if events.len() >= 5 {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    let events = tokio::time::timeout(Duration::from_secs(30), events).await.unwrap();
    let [create, get, secret, stranger, component] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (&create["auditID"], &create["userAgent"], &create["verb"]),
        (&json!("one"), &json!("me/1"), &json!("create"))
    );
    assert_eq!((&create["stage"], &create["responseStatus"]["code"]), (&json!("ResponseComplete"), &json!(201)));
    assert_eq!(create["requestObject"]["data"]["k"], "v");
    assert!(create["responseObject"].is_null() && create["sourceIPs"] == json!(["127.0.0.1"]), "{create}");
    assert_eq!(get["responseObject"]["data"]["k"], "v");
    assert!(get["responseObject"]["metadata"]["managedFields"].is_null(), "{get}");
    assert_eq!(
        get["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(
        (&secret["user"]["username"], &secret["impersonatedUser"]["username"]),
        (&json!("kubernetes-admin"), &json!("jane"))
    );
    assert_eq!(
        (&secret["responseStatus"]["code"], &secret["annotations"]["authorization.k8s.io/decision"]),
        (&json!(403), &json!("forbid"))
    );
    assert_eq!(secret["authenticationMetadata"]["impersonationConstraint"], "impersonate:user-info");
    assert_eq!((&stranger["stage"], &stranger["user"]), (&json!("ResponseStarted"), &json!({})));
    assert_eq!((&stranger["responseStatus"]["code"], &stranger["annotations"]), (&json!(401), &Value::Null));
    assert_eq!(component["user"]["username"], "system:kube-controller-manager");
    assert_eq!(
        (&component["objectRef"]["name"], &component["responseStatus"]["details"]["kind"]),
        (&json!("none"), &json!("secrets"))
    );
    let why = component["annotations"]["authorization.k8s.io/reason"].as_str().unwrap();
    assert!(
        why.starts_with("RBAC: allowed by ClusterRoleBinding \"system:kube-controller-manager\" of ClusterRole"),
        "{why}"
    );
    world.stop().await;
}

#[tokio::test]
async fn requests_belong_to_a_flow_and_a_level_refuses() {
    let world = World::new().await;
    let flow = "flowcontrol.apiserver.k8s.io/v1";
    let level = world.create(json!({"apiVersion": flow, "kind": "PriorityLevelConfiguration", "metadata": {"name": "none"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}}}));
    let level = level.await.unwrap();
    let schema = world.create(json!({"apiVersion": flow, "kind": "FlowSchema", "metadata": {"name": "jane"},
        "spec": {"matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "none"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}}));
    schema.await.unwrap();
    let jane = world.pki.client("jane", "jane", "dev").unwrap();
    let admin = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    let ask = async |pair: &pki::Pair| {
        exchange(&world, Some(pair), "GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.0
    };
    let refused = async {
        while ask(&jane).await != 429 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.expect("a level without seats takes nobody");
    assert_eq!(ask(&admin).await, 200, "others are not concerned: {level}");
    // The default objects are kept, and schemas say whether their level exists.
    let at = |resource: &str, name: &str| {
        client::Resource::object(&object::Gvr::new("flowcontrol.apiserver.k8s.io", "v1", resource), None, name)
    };
    let told = async |name: &str, wanted: &str| {
        while !world.get(&at("flowschemas", name)).await.is_ok_and(|schema| {
            let condition = &schema["status"]["conditions"][0];
            condition["type"] == "Dangling" && condition["status"] == wanted
        }) {
            tokio::task::yield_now().await;
        }
    };
    let kept = async {
        told("jane", "False").await;
        world.client.delete(&at("prioritylevelconfigurations", "none"), &Default::default()).await.unwrap();
        told("jane", "True").await;
        let change = client::Patch::Merge(json!({"spec": {"matchingPrecedence": 77}}));
        world.client.patch(&at("flowschemas", "catch-all"), &change).await.unwrap();
        while world.get(&at("flowschemas", "catch-all")).await.unwrap()["spec"]["matchingPrecedence"] != 10_000 {
            tokio::task::yield_now().await;
        }
        world.client.delete(&at("flowschemas", "probes"), &Default::default()).await.unwrap();
        told("probes", "False").await;
    };
    tokio::time::timeout(Duration::from_secs(30), kept).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn who_may_act_as_whom_can_be_limited_to_what() {
    let world = World::new().await;
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "as-jane"}, "rules": [
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["jane"]},
        {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["pods"]}]});
    world.create(role).await.unwrap();
    for (name, role, user) in [("as-jane", "as-jane", "eve"), ("jane", "view", "jane")] {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role}, "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}]});
        world.create(binding).await.unwrap();
    }
    let eve = world.pki.client("eve", "eve", "dev").unwrap();
    let ask = async |path: &str, headers: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nImpersonate-User: jane\r\n{headers}\r\n");
        exchange(&world, Some(&eve), &request).await
    };
    let allowed = async {
        while ask("/api/v1/pods", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), allowed).await.unwrap();
    let (code, body) = ask("/api/v1/services", "").await;
    assert_eq!(code, 403, "jane may, eve may not as jane");
    assert!(body.contains("cannot impersonate-on:user-info:list resource \\\"services\\\""), "{body}");
    assert_eq!(ask("/api/v1/pods", "Impersonate-Group: system:masters\r\n").await.0, 403);
    world.stop().await;
}
