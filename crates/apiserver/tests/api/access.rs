//! Who may do what, and who is who.

use std::time::Duration;

use apiserver::User;
use client::{Client, ListOptions, Resource};
use object::{Gvr, Reason};
use serde_json::json;

use crate::world::{World, config_map, config_maps, default_account, map_of, pods};

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

#[tokio::test]
async fn a_node_reads_pods_and_writes_no_other_node() {
    let world = World::new().await;
    let node = world.as_user(User::node("n1"));
    node.list(&Resource::collection(&pods(), None), &ListOptions::default()).await.unwrap();
    let nodes = Gvr::new("", "v1", "nodes");
    let made = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    node.create(&Resource::collection(&nodes, None), &made).await.unwrap();
    let other = Resource::object(&nodes, None, "n2");
    assert_eq!(node.update(&other, &made).await.unwrap_err().code, 403);
    assert_eq!(node.get(&config_map("kube-root-ca.crt")).await.unwrap_err().code, 404);
    world.stop().await;
}

/// Made with openssl for `O=devs, CN=joe`.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWE1IOENBUUF3SFRFTk1Bc0dBMVVFQ2d3RVpHVjJjekVNTUFvR0ExVUVBd3dEYW05bE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVqOXhSQmNEWUppU0dFZVlJQktobkRiQUMwWkJWVkdaNCt0UEdVUkVvCk1lZi9UbFI2K3cxeUhVVm0vb0s3NzBYVWhENkMwMEI4SGVGeVVzcjFZZmtXS2FBQU1Bb0dDQ3FHU000OUJBTUMKQTBnQU1FVUNJUURZUzNHWjBUU0QvTENjQjdDS1ZaSUcvbnFCcE9NSzNha0hNMk1jeFBNbTNnSWdKK1ZiSHorVgowRGxmaXVtbHVNNStjdG9GNlFiU2x4cGpNTUNlMEx3S1hJQT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

#[tokio::test]
async fn who_asks_for_a_certificate_does_not_decide() {
    let world = World::new().await;
    let requests = Gvr::new("certificates.k8s.io", "v1", "certificatesigningrequests");
    let spec =
        json!({"request": REQUEST, "signerName": "example.com/mine", "usages": ["client auth"], "username": "root"});
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
