//! Admission plugins that are built in: Pod Security, storage, tolerations, and that no way of writing leads past admission.

use apiserver::{AdmissionOptions, AuditOptions, Security, User};
use client::{DeleteOptions, Patch, Resource};
use object::Gvr;
use serde_json::{Value, json};

use crate::authn::reply;
use crate::custom::eventually;
use crate::world::{World, default_account, pod_of, pods};

const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, resources: [{group: \"\", resources: [pods]}]}\n";

const EXEMPTIONS: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    exemptions: {namespaces: [exempt], usernames: [ann]}
";

/// Sends a request as the administrator: the code, the warnings, the message.
async fn send(world: &World, method: &str, path: &str, body: &Value) -> (u16, Vec<String>, String) {
    let admin = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    let body = body.to_string();
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = reply(world, Some(&admin), &request).await;
    let code = reply.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let warnings = head.lines().filter(|l| l.to_ascii_lowercase().starts_with("warning: ")).map(|l| l[9..].to_owned());
    let message = serde_json::from_str::<Value>(body).ok().and_then(|b| b["message"].as_str().map(str::to_owned));
    (code, warnings.collect(), message.unwrap_or_default())
}

#[tokio::test]
async fn pods_keep_to_their_namespaces_level() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let log = dir.path().join("audit.log");
    let audit = AuditOptions {
        policy_file: Some(file("audit.yaml", AUDIT)),
        log_path: Some(log.clone()),
        ..AuditOptions::default()
    };
    let config_file = Some(file("admission.yaml", EXEMPTIONS));
    let admission = AdmissionOptions { config_file, ..AdmissionOptions::default() };
    let world = World::with(Security { audit, admission, ..Security::default() }).await;
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    for name in ["dev", "exempt"] {
        world.create(namespace(name, json!({}))).await.unwrap();
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        world.create(account).await.unwrap();
    }
    let bad = send(
        &world,
        "POST",
        "/api/v1/namespaces",
        &namespace("x", json!({"pod-security.kubernetes.io/enforce": "strict"})),
    )
    .await;
    assert_eq!(bad.0, 422);
    assert_eq!(
        bad.2,
        "Namespace \"x\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );

    let mut privileged = pod_of("old", None);
    privileged["spec"]["hostPID"] = true.into();
    let pods_of = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    assert_eq!(send(&world, "POST", &pods_of("dev"), &privileged).await, (201, vec![], String::new()));
    let stricter = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/audit": "restricted"}}});
    let (code, warnings, _) = send(&world, "PATCH", "/api/v1/namespaces/dev", &stricter).await;
    assert_eq!(code, 200);
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"dev\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"old: host namespaces\""
        ]
    );
    privileged["metadata"]["name"] = "new".into();
    let (code, _, message) = send(&world, "POST", &pods_of("dev"), &privileged).await;
    assert_eq!(
        (code, message.as_str()),
        (403, "pods \"new\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)")
    );
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]}}});
    let (code, warnings, _) = send(&world, "POST", "/apis/apps/v1/namespaces/dev/deployments", &deployment).await;
    assert_eq!(code, 201);
    assert_eq!(
        warnings,
        ["299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostPID=true)\""]
    );
    assert_eq!(send(&world, "POST", &pods_of("exempt"), &privileged).await.0, 201);
    let ann = world.as_user(User { name: "ann".into(), groups: vec!["system:masters".into()], ..User::default() });
    ann.create(&Resource::collection(&pods(), Some("dev")), &privileged).await.unwrap();
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let (_, warnings, _) = send(&world, "PATCH", "/api/v1/namespaces/exempt", &labels).await;
    assert_eq!(
        warnings,
        [
            "299 - \"namespace \\\"exempt\\\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored\""
        ]
    );

    let refused = eventually(async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.find(|event| event["responseStatus"]["code"] == 403)
    })
    .await;
    let notes = &refused["annotations"];
    assert_eq!(notes["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    let violations = notes["pod-security.kubernetes.io/audit-violations"].as_str().unwrap();
    assert!(
        violations.starts_with(
            "would violate PodSecurity \"restricted:latest\": host namespaces (hostPID=true), allowPrivilegeEscalation"
        ),
        "{violations}"
    );
    world.stop().await;
}

#[tokio::test]
async fn storage_and_nodes_get_their_defaults() {
    let world = World::new().await;
    let class = |name: &str, expand: bool| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p", "allowVolumeExpansion": expand,
        "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}})
    };
    world.create(class("b", true)).await.unwrap();
    world.create(class("a", false)).await.unwrap();
    let claim = |name: &str, class: Value| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let made = world.create(claim("c", Value::Null)).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "a", "of two that are as old the first by name");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let at = Resource::object(&Gvr::new("", "v1", "persistentvolumeclaims"), Some("default"), "c");
    world.client.delete(&at, &DeleteOptions::default()).await.unwrap();
    assert!(world.get(&at).await.unwrap()["metadata"]["deletionTimestamp"].is_string(), "a controller lets it go");

    world.create(claim("grows", json!("b"))).await.unwrap();
    let at = Resource { name: Some("grows".into()), ..at };
    let grow = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
    let refused = world.client.patch(&at, &grow).await.unwrap_err();
    assert_eq!(refused.code, 422, "the kind itself refuses before it is bound: {refused}");
    let bound = Patch::Merge(json!({"spec": {"volumeName": "v"}}));
    world.client.patch(&at, &bound).await.unwrap();
    let bound = Patch::Merge(json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    world.client.patch(&at.clone().sub("status"), &bound).await.unwrap();
    world.client.patch(&at, &grow).await.unwrap();

    let node = world.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}));
    assert_eq!(
        node.await.unwrap()["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    default_account(&world).await;
    world.create(pod_of("p", None)).await.unwrap();
    let pod = Resource::object(&pods(), Some("default"), "p");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    world.client.create(&pod.clone().sub("binding"), &binding).await.unwrap();
    let bound = world.get(&pod).await.unwrap();
    assert_eq!(bound["metadata"]["labels"]["topology.kubernetes.io/zone"], "z");
    let managers = bound["metadata"]["managedFields"].as_array().unwrap().len();
    assert_eq!(managers, 1, "nobody owns fields by binding: {bound}");
    world.stop().await;
}

/// A policy that refuses everything done to these.
async fn refuse(world: &World, rules: Value) {
    let group = "admissionregistration.k8s.io/v1";
    world.create(json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no"}, "spec": {
        "matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false", "messageExpression": "'no ' + request.kind.kind"}]}}))
        .await
        .unwrap();
    world
        .create(json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no"},
        "spec": {"policyName": "no", "validationActions": ["Deny"]}}))
        .await
        .unwrap();
}

#[tokio::test]
async fn no_subresource_leads_past_admission() {
    let world = World::new().await;
    default_account(&world).await;
    world.create(pod_of("parts", None)).await.unwrap();
    let parts = "/api/v1/namespaces/default/pods/parts";
    let more = |spec: Value| json!({"metadata": {"labels": {"a": "b"}}, "spec": spec, "status": {"phase": "Failed"}});
    let debug = more(json!({"hostPID": true, "ephemeralContainers": [{"name": "e", "image": "i"}]}));
    assert_eq!(send(&world, "PATCH", &format!("{parts}/ephemeralcontainers"), &debug).await.0, 200);
    let resize = more(json!({"hostPID": true, "containers": [{"name": "main", "image": "other"}]}));
    assert_eq!(send(&world, "PATCH", &format!("{parts}/resize"), &resize).await.0, 200);
    let changed = world.get(&Resource::object(&pods(), Some("default"), "parts")).await.unwrap();
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["name"], "e");
    assert_eq!(changed["spec"]["containers"][0]["image"], "registry.k8s.io/pause:3.10", "nothing else changes");
    assert!(changed["spec"]["hostPID"].is_null() && changed["metadata"]["labels"].is_null(), "{changed}");
    assert_eq!(changed["status"]["phase"], "Pending");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod_of("x", None)["spec"]});
    world
        .create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template}}))
        .await
        .unwrap();
    let mut burstable = pod_of("p", None);
    burstable["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    world.create(burstable).await.unwrap();
    refuse(&world, json!([
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"], "operations": ["*"]},
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"],
            "resources": ["pods/binding", "pods/eviction", "pods/ephemeralcontainers", "pods/resize", "pods/status", "pods/exec", "pods/proxy", "serviceaccounts/token"]}
    ]))
    .await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments/d/scale";
    let replicas = json!({"spec": {"replicas": 2}});
    let said = eventually(async || {
        let (code, _, message) = send(&world, "PATCH", deployments, &replicas).await;
        (code != 200).then_some(message)
    })
    .await;
    assert!(said.ends_with("denied request: no Scale"), "{said}");
    let pod = "/api/v1/namespaces/default/pods/p";
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
    let resize = json!({"spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": {"requests": {"cpu": "1"}}}]}});
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    for (method, path, body, kind) in [
        ("POST", format!("{pod}/binding"), binding, "Binding"),
        ("POST", format!("{pod}/eviction"), eviction, "Eviction"),
        ("PATCH", format!("{pod}/ephemeralcontainers"), debug, "Pod"),
        ("PATCH", format!("{pod}/resize"), resize, "Pod"),
        ("PATCH", format!("{pod}/status"), json!({"status": {"message": "m"}}), "Pod"),
        ("POST", format!("{pod}/exec?command=ls&stdout=true"), Value::Null, "PodExecOptions"),
        ("GET", format!("{pod}/proxy/"), Value::Null, "PodProxyOptions"),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token".into(), token, "TokenRequest"),
    ] {
        let (code, _, message) = send(&world, method, &path, &body).await;
        assert_eq!(code, 422, "{path}: {message}");
        assert!(message.ends_with(&format!("denied request: no {kind}")), "{path}: {message}");
    }
    world.stop().await;
}

/// Plugins that run only where they are asked for, as upstream's server answers with the same settings.
#[tokio::test]
async fn plugins_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config_file = dir.path().join("admission.yaml");
    std::fs::write(
        &config_file,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: EventRateLimit\n  configuration: {limits: [{type: Namespace, qps: 1, burst: 1}]}\n- name: PodNodeSelector\n  configuration: {podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: zone=a, listed: zone=a}}\n- name: PodTolerationRestriction\n  configuration: {default: [{key: d, operator: Exists}]}\n",
    )
    .unwrap();
    let enable = [
        "NamespaceAutoProvision",
        "LimitPodHardAntiAffinityTopology",
        "PodNodeSelector",
        "PodTolerationRestriction",
        "EventRateLimit",
        "ExtendedResourceToleration",
        "OwnerReferencesPermissionEnforcement",
    ];
    let admission = AdmissionOptions {
        enable: enable.map(str::to_owned).to_vec(),
        disable: vec!["ServiceAccount".into(), "DefaultTolerationSeconds".into()],
        config_file: Some(config_file),
    };
    let world = World::with(Security { admission, ..Security::default() }).await;
    let at = |namespace: &str, what: &str| format!("/api/v1/namespaces/{namespace}/{what}");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    assert_eq!(send(&world, "POST", &at("fresh", "configmaps"), &map).await.0, 201);

    let mut pod = pod_of("p", None);
    let device = json!({"example.com/gpu": "1"});
    pod["spec"]["containers"][0]["resources"] = json!({"limits": device, "requests": device});
    assert_eq!(send(&world, "POST", &at("listed", "pods"), &pod).await.0, 201);
    let stored = world.client.get(&Resource::object(&pods(), Some("listed"), "p")).await.unwrap().value().unwrap();
    assert_eq!(stored["spec"]["nodeSelector"], json!({"zone": "a"}));
    assert_eq!(
        stored["spec"]["tolerations"],
        json!([{"key": "d", "operator": "Exists"}, {"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
    );
    let conflict = "pods \"p\" is forbidden: pod node label selector ";
    for (selector, why) in [
        (json!({"zone": "z"}), "conflicts with its namespace node label selector"),
        (json!({"x": "z"}), "labels conflict with its namespace whitelist"),
    ] {
        pod["spec"]["nodeSelector"] = selector;
        let (code, _, message) = send(&world, "POST", &at("listed", "pods"), &pod).await;
        assert_eq!((code, message), (403, format!("{conflict}{why}")));
    }
    let term = json!([{"topologyKey": "zone", "labelSelector": {}}]);
    pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}});
    let (code, _, message) = send(&world, "POST", &at("fresh", "pods"), &pod).await;
    assert_eq!(code, 403, "{message}");
    assert!(message.ends_with("has TopologyKey zone but only key kubernetes.io/hostname is allowed"), "{message}");

    let event = |name: &str| json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "fresh"}, "involvedObject": {"kind": "Pod", "namespace": "fresh", "name": "p"}});
    assert_eq!(send(&world, "POST", &at("fresh", "events"), &event("a")).await.0, 201);
    let (code, _, message) = send(&world, "POST", &at("fresh", "events"), &event("b")).await;
    assert_eq!((code, message.as_str()), (429, "limit reached on type Namespace for key fresh"));

    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "fresh"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch", "get"]}]});
    world.create(role).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r", "namespace": "fresh"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "joe", "apiGroup": "rbac.authorization.k8s.io"}]});
    world.create(binding).await.unwrap();
    let joe = world.as_user(User { name: "joe".into(), ..User::default() });
    let maps = Gvr::new("", "v1", "configmaps");
    let owned = |name: &str, blocks: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "blockOwnerDeletion": blocks});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}})
    };
    let collection = Resource::collection(&maps, Some("fresh"));
    // As soon as the policy is read again.
    let created = async || joe.create(&collection, &owned("free", false)).await.is_ok().then_some(());
    eventually(created).await;
    let refused = joe.create(&collection, &owned("blocking", true)).await.unwrap_err().to_string();
    assert!(
        refused.ends_with("an ownerReference refers to a resource you can't set finalizers on: , <nil>"),
        "{refused}"
    );
    let change = client::Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    let refused = joe.patch(&Resource::object(&maps, Some("fresh"), "free"), &change).await.unwrap_err().to_string();
    assert!(refused.ends_with("cannot set an ownerRef on a resource you can't delete: , <nil>"), "{refused}");
}
