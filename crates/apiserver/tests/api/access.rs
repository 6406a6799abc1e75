//! Who may do what, and who is who.

use std::time::Duration;

use apiserver::User;
use client::{Client, ListOptions, Resource};
use object::{Gvr, Reason};
use serde_json::json;

use crate::world::{World, config_map, config_maps, default_account, map_of, pod_of, pods};

/// Waits until `client` may read the ConfigMap: policy follows its objects with a delay.
async fn until_allowed(client: &Client) {
    let allowed = async {
        while client.get(&config_map("a")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), allowed).await.expect("the policy is followed");
}

#[tokio::test]
async fn nothing_is_allowed_until_a_role_says_so() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    let jane = world.as_user(User::new("jane", &[]));
    let refused = jane.get(&config_map("a")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, Some(Reason::Forbidden)));
    assert_eq!(
        refused.message,
        "configmaps \"a\" is forbidden: User \"jane\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let everywhere = Resource::collection(&config_maps(), None);
    assert_eq!(
        jane.list(&everywhere, &ListOptions::default()).await.unwrap_err().message,
        "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
    );
    world
        .create(
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "jane"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]}),
        )
        .await
        .unwrap();
    until_allowed(&jane).await;
    assert_eq!(jane.delete(&config_map("a"), &Default::default()).await.unwrap_err().code, 403);
    assert_eq!(jane.list(&everywhere, &ListOptions::default()).await.unwrap_err().code, 403);
    world.stop().await;
}

#[tokio::test]
async fn reviews_answer() {
    let world = World::new().await;
    let at = |resource: &str| Resource::collection(&Gvr::new("authorization.k8s.io", "v1", resource), None);
    let review = |kind: &str, spec: serde_json::Value| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    let wanted = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let jane = world.as_user(User::new("jane", &[]));
    let own = review("SelfSubjectAccessReview", json!({"resourceAttributes": wanted}));
    let answer = jane.create(&at("selfsubjectaccessreviews"), &own).await.unwrap().value().unwrap();
    assert_eq!(answer["status"]["allowed"], false);
    let of = review(
        "SubjectAccessReview",
        json!({"user": "root", "groups": ["system:masters"], "resourceAttributes": wanted}),
    );
    let answer = world.client.create(&at("subjectaccessreviews"), &of).await.unwrap().value().unwrap();
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(jane.create(&at("subjectaccessreviews"), &of).await.unwrap_err().code, 403);

    let rules = review("SelfSubjectRulesReview", json!({"namespace": "default"}));
    let answer = jane.create(&at("selfsubjectrulesreviews"), &rules).await.unwrap().value().unwrap();
    assert_eq!(answer["spec"], json!({}), "what was asked is not said again");
    let local = Resource { namespace: Some("default".into()), ..at("localsubjectaccessreviews") };
    let of = review("LocalSubjectAccessReview", json!({"user": "jane", "resourceAttributes": wanted}));
    let answer = world.client.create(&local, &of).await.unwrap().value().unwrap();
    assert_eq!((&answer["metadata"]["namespace"], &answer["status"]["allowed"]), (&json!("default"), &json!(false)));
    let refused = async |selector: serde_json::Value, why: &str| {
        let asked = json!({"resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": selector}});
        let status = jane.create(&at("selfsubjectaccessreviews"), &review("SelfSubjectAccessReview", asked)).await;
        let found = status.unwrap_err().message;
        assert_eq!(
            found,
            format!(".authorization.k8s.io \"\" is invalid: spec.resourceAttributes.fieldSelector.{why}")
        );
    };
    let both = json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "In", "values": ["b"]}]});
    refused(both, "rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements").await;
    let why = "requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required";
    refused(json!({}), why).await;
    let why = "requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'";
    refused(json!({"requirements": [{"key": "a", "operator": "In"}]}), why).await;
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_good_while_its_account_lives() {
    let world = World::new().await;
    default_account(&world).await;
    let account = Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default");
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let issued = world.client.create(&account.clone().sub("token"), &request).await.unwrap().value().unwrap();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let reviews = Resource::collection(&Gvr::new("authentication.k8s.io", "v1", "tokenreviews"), None);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let answer = world.client.create(&reviews, &review).await.unwrap().value().unwrap();
    assert_eq!(answer["status"]["authenticated"], true);
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:default");
    world.client.delete(&account, &Default::default()).await.unwrap();
    let answer = world.client.create(&reviews, &review).await.unwrap().value().unwrap();
    assert_ne!(answer["status"]["authenticated"], true, "{answer}");
    world.stop().await;
}

/// A node's rights follow from what its pods refer to.
#[tokio::test]
async fn a_node_reads_what_its_pods_refer_to() {
    let world = World::new().await;
    default_account(&world).await;
    for name in ["used", "other"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        world.create(secret).await.unwrap();
    }
    let node = world.as_user(User::node("n1"));
    let secret = |name: &str| Resource::object(&Gvr::new("", "v1", "secrets"), Some("default"), name);
    assert_eq!(node.get(&secret("used")).await.unwrap_err().code, 403);
    let mut pod = pod_of("web", Some("n1"));
    pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "used"}}]);
    world.create(pod).await.unwrap();
    node.get(&secret("used")).await.unwrap();
    let refused = node.get(&secret("other")).await.unwrap_err();
    assert_eq!(
        refused.message,
        "secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'n1' and this object"
    );
    assert_eq!(world.as_user(User::node("n2")).get(&secret("used")).await.unwrap_err().code, 403);
    let all = Resource::collection(&Gvr::new("", "v1", "secrets"), Some("default"));
    assert_eq!(node.list(&all, &ListOptions::default()).await.unwrap_err().code, 403);
    let named = |field: &str, value: &str| ListOptions {
        fields: object::FieldSelector { terms: vec![(field.into(), true, value.into())] },
        ..ListOptions::default()
    };
    assert_eq!(node.list(&all, &named("metadata.name", "used")).await.unwrap().items.len(), 1);
    let pods = Resource::collection(&pods(), None);
    assert_eq!(node.list(&pods, &ListOptions::default()).await.unwrap_err().code, 403);
    node.list(&pods, &named("spec.nodeName", "n1")).await.unwrap();
    assert_eq!(node.list(&pods, &named("spec.nodeName", "n2")).await.unwrap_err().code, 403);
    // NodeRestriction: what a node may write about itself and others.
    let nodes = Gvr::new("", "v1", "nodes");
    let at = Resource::collection(&nodes, None);
    let of = |name: &str, labels: serde_json::Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    assert_eq!(
        node.create(&at, &of("n2", json!({}))).await.unwrap_err().message,
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    assert_eq!(
        node.create(&at, &of("n1", json!({"node-role.kubernetes.io/x": "a"}))).await.unwrap_err().message,
        "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/x"
    );
    node.create(&at, &of("n1", json!({"team": "a"}))).await.unwrap();
    let taint = client::Patch::Merge(json!({"metadata": {"labels": {"team": "b"}}}));
    node.patch(&Resource::object(&nodes, None, "n1"), &taint).await.unwrap();
    let taint = client::Patch::Merge(json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
    assert_eq!(node.patch(&Resource::object(&nodes, None, "n1"), &taint).await.unwrap_err().code, 403);
    world.create(pod_of("elsewhere", Some("n2"))).await.unwrap();
    let elsewhere = Resource::object(&crate::world::pods(), Some("default"), "elsewhere");
    assert_eq!(
        node.delete(&elsewhere, &Default::default()).await.unwrap_err().message,
        "pods \"elsewhere\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself"
    );
    let token = |pod: &str, uid: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}})
    };
    let account = Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default").sub("token");
    assert_eq!(node.create(&account, &token("web", "")).await.unwrap_err().code, 403);
    let uid =
        world.get(&Resource::object(&crate::world::pods(), Some("default"), "web")).await.unwrap()["metadata"]["uid"]
            .clone();
    node.create(&account, &token("web", uid.as_str().unwrap())).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let world = World::new().await;
    let of = |kind: &str, rest: serde_json::Value| {
        let mut object = rest;
        object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
        object["kind"] = kind.into();
        object
    };
    let weak = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "update"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    world.create(of("Role", json!({"metadata": {"name": "granter"}, "rules": weak}))).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let subjects = json!([{"apiGroup": group, "kind": "User", "name": "jane"}]);
    let bind = |name: &str, kind: &str, role: &str| {
        of(
            "RoleBinding",
            json!({"metadata": {"name": name}, "subjects": subjects,
        "roleRef": {"apiGroup": group, "kind": kind, "name": role}}),
        )
    };
    world.create(bind("jane", "Role", "granter")).await.unwrap();
    world.create(map_of("a", "1")).await.unwrap();
    let jane = world.as_user(User::new("jane", &[]));
    until_allowed(&jane).await;
    let at = |resource: &str| Resource::collection(&Gvr::new(group, "v1", resource), Some("default"));
    let role = |name: &str, verbs: &[&str], resource: &str| {
        of(
            "Role",
            json!({"metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]}),
        )
    };
    jane.create(&at("roles"), &role("own", &["get"], "configmaps")).await.unwrap();
    assert_eq!(
        jane.create(&at("roles"), &role("more", &["get", "list"], "secrets")).await.unwrap_err().message,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
    jane.create(&at("rolebindings"), &bind("own", "Role", "own")).await.unwrap();
    assert_eq!(jane.create(&at("rolebindings"), &bind("view", "ClusterRole", "view")).await.unwrap_err().code, 403);
    assert_eq!(jane.create(&at("rolebindings"), &bind("none", "ClusterRole", "none")).await.unwrap_err().code, 404);
    world.stop().await;
}

#[tokio::test]
async fn certificates_are_approved_and_signed_by_whom_the_signer_trusts() {
    let world = World::new().await;
    let group = "certificates.k8s.io";
    let requests = Gvr::new(group, "v1", "certificatesigningrequests");
    let at = |name: &str| Resource::object(&requests, None, name);
    let ask = |name: &str, request: &str| {
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name}, "spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"], "username": "root", "groups": ["system:masters"]}})
    };
    let refused = world.create(ask("junk", "eA==")).await.unwrap_err();
    assert_eq!((refused.code, refused.causes[0].field.as_str()), (422, "spec.request"));
    let (jane, _) = pki::csr::request("jane", "dev", &[]).unwrap();
    let made = world.create(ask("jane", &jane)).await.unwrap();
    assert_eq!(made["spec"]["username"], "system:apiserver", "who asks is not for the client to say");
    let (root, _) = pki::csr::request("root", "system:masters", &[]).unwrap();
    let root = world.create(ask("root", &root)).await.unwrap_err();
    assert_eq!(
        root.message,
        "certificatesigningrequests.certificates.k8s.io \"root\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let approve = |mut request: serde_json::Value| {
        request["status"] =
            json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}], "certificate": "eA=="});
        request
    };
    let updated = world.client.update(&at("jane"), &approve(made.clone())).await.unwrap().value().unwrap();
    assert!(updated["status"]["conditions"].is_null(), "only `approval` approves: {updated}");
    let clerk = world.as_user(User::new("clerk", &[]));
    world
        .create(
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "clerk"},
        "rules": [{"apiGroups": [group], "resources": ["certificatesigningrequests/approval"], "verbs": ["update"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}),
        )
        .await
        .unwrap();
    world.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "clerk"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "clerk"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "clerk"}]})).await.unwrap();
    world.create(map_of("a", "1")).await.unwrap();
    until_allowed(&clerk).await;
    let refused = clerk.update(&at("jane").sub("approval"), &approve(made.clone())).await.unwrap_err();
    assert!(
        refused.message.ends_with(
            "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        ),
        "{refused}"
    );
    let mut request = approve(made.clone());
    request["status"]["certificate"].take();
    let approval = at("jane").sub("approval");
    let approved = world.client.update(&approval, &request).await.unwrap().value().unwrap();
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string(), "{approved}");
    let mut both = approved.clone();
    both["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "Denied", "status": "True"}));
    assert_eq!(world.client.update(&at("jane").sub("approval"), &both).await.unwrap_err().code, 422);
    world.stop().await;
}

#[tokio::test]
async fn who_asks_for_a_certificate_does_not_decide() {
    let world = World::new().await;
    let requests = Gvr::new("certificates.k8s.io", "v1", "certificatesigningrequests");
    let (asked, _) = pki::csr::request("joe", "dev", &[]).unwrap();
    let spec =
        json!({"request": asked, "signerName": "example.com/mine", "usages": ["client auth"], "username": "root"});
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"}, "spec": spec});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "asks"},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "verbs": ["*"],
            "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"]}]});
    world.create(role).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "asks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}]});
    world.create(binding).await.unwrap();
    let joe = world.as_user(User::new("joe", &[]));
    let collection = Resource::collection(&requests, None);
    let patience = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while joe.list(&collection, &ListOptions::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    patience.await.unwrap();
    let made = joe.create(&collection, &request).await.unwrap().value().unwrap();
    assert_eq!(made["spec"]["username"], "joe", "the server says who asks");
    let at = Resource::object(&requests, None, "r");
    let approved = client::Patch::Merge(json!({"spec": {"username": "x"}, "status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Test", "message": ""}]}}));
    let refused = joe.patch(&at.clone().sub("approval"), &approved).await.unwrap_err();
    assert_eq!(
        refused.message,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"example.com/mine\""
    );
    let done = world.client.patch(&at.clone().sub("approval"), &approved).await.unwrap().value().unwrap();
    let condition = &done["status"]["conditions"][0];
    assert_eq!((&condition["type"], &done["spec"]["username"]), (&json!("Approved"), &json!("joe")));
    assert!(condition["lastTransitionTime"].is_string());
    let unapproved = client::Patch::Merge(json!({"status": {"conditions": []}}));
    assert_eq!(world.client.patch(&at.sub("approval"), &unapproved).await.unwrap_err().code, 422);
    world.stop().await;
}
