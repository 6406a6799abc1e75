//! Who else decides what is allowed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{AdmissionOptions, AuthorizationOptions, Security, TokenWebhookOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::authn::{bearer, exchange};
use crate::world::{World, default_account, pod_of};

/// The reviews that a server was asked.
type Asked = Arc<Mutex<Vec<Value>>>;

/// Answers reviews: allows `jane`, denies `mallory`, fails for `nobody`, has no opinion of others; knows the token `good`. Writes its
/// kubeconfig to `file`.
async fn decider(file: &Path, tasks: &mut JoinSet<()>) -> Asked {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/authorize", listener.local_addr().unwrap());
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": url}}], "users": [{"name": "u", "user": {"token": "mine"}}]});
    std::fs::write(file, kubeconfig.to_string()).unwrap();
    let asked = Asked::default();
    let seen = asked.clone();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let review: Value = loop {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break Value::Null;
                }
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
                if let Some(Ok(review)) = body {
                    assert!(text.starts_with("POST /authorize HTTP/1.1\r\n"), "{text}");
                    assert!(text.to_lowercase().contains("authorization: bearer mine\r\n"), "{text}");
                    break review;
                }
            };
            let spec = &review["spec"];
            let who = spec["user"].as_str().or(spec["token"].as_str()).or(spec["containers"][0]["image"].as_str());
            let who = who.unwrap_or("");
            let (code, status) = match who {
                "good" => (200, json!({"authenticated": true, "user": {"username": "jane", "uid": "1", "groups": ["dev"], "extra": {"a": ["b"]}}})),
                "jane" => (200, json!({"allowed": true, "reason": "she is jane"})),
                "mallory" => (200, json!({"allowed": false, "denied": true, "reason": "go away"})),
                "nobody" => (500, json!({})),
                _ => (200, json!({"allowed": false, "reason": "never heard of"})),
            };
            seen.lock().push(review);
            let body =
                json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status})
                    .to_string();
            let reply =
                format!("HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(reply.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    asked
}

/// Code and message of a GET by the user.
async fn get(world: &World, user: &str, path: &str) -> (u16, String) {
    let pair = world.pki.client(user, user, if user == "root" { "system:masters" } else { "dev" }).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (code, body) = exchange(world, Some(&pair), &request).await;
    let status: Value = serde_json::from_str(&body).unwrap_or_default();
    (code, status["message"].as_str().unwrap_or("").to_owned())
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets?fieldSelector=type%3Dx";
const REFUSED: &str = "cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";

#[tokio::test]
async fn another_server_decides() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let kubeconfig = dir.path().join("kubeconfig");
    let asked = decider(&kubeconfig, &mut tasks).await;
    let file = dir.path().join("authorization.yaml");
    let with = |policy: &str, condition: &str| {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": [
            {"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"},
            {"type": "Webhook", "name": "ours", "webhook": {"timeout": "3s", "authorizedTTL": "30s", "unauthorizedTTL": "30s",
                "subjectAccessReviewVersion": "v1", "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": policy,
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": kubeconfig},
                "matchConditions": [{"expression": "has(request.resourceAttributes)"}, {"expression": condition}]}}]})
        .to_string()
    };
    std::fs::write(&file, with("NoOpinion", "!(request.user in ['kim'])")).unwrap();
    let options = AuthorizationOptions { config_file: Some(file.clone()), ..AuthorizationOptions::default() };
    let world = World::with(Security { authorization: options, ..Security::default() }).await;

    assert_eq!(get(&world, "jane", SECRETS).await.0, 200);
    let mut review = asked.lock().pop().unwrap();
    review["spec"].as_object_mut().unwrap().remove("extra");
    assert_eq!(
        review["spec"],
        json!({"user": "jane", "groups": ["dev", "system:authenticated"],
        "resourceAttributes": {"namespace": "default", "verb": "list", "version": "v1", "resource": "secrets",
            "fieldSelector": {"requirements": [{"key": "type", "operator": "In", "values": ["x"]}]}}})
    );
    assert_eq!(get(&world, "jane", SECRETS).await.0, 200);
    assert!(asked.lock().is_empty(), "what was answered is remembered");
    let refused = |user: &str, why: &str| (403, format!("secrets is forbidden: User {user:?} {REFUSED}{why}"));
    assert_eq!(get(&world, "mallory", SECRETS).await, refused("mallory", ": go away"));
    assert_eq!(get(&world, "bob", SECRETS).await, refused("bob", ": never heard of"));
    asked.lock().clear();
    assert_eq!(get(&world, "kim", SECRETS).await, refused("kim", ""));
    assert_eq!(get(&world, "root", SECRETS).await.0, 200);
    assert_eq!(get(&world, "mallory", "/version").await.0, 200, "RBAC comes first");
    assert_eq!(get(&world, "mallory", "/metrics").await.0, 403, "the conditions do not hold");
    assert!(asked.lock().is_empty(), "none of these concern it: {:?}", asked.lock());
    assert_eq!(get(&world, "nobody", SECRETS).await.0, 500, "nobody has decided, and one has failed");
    assert_eq!(asked.lock().len(), 5, "it may have been a passing trouble");

    // The file is read again.
    std::fs::write(&file, with("Deny", "request.user == 'kim'")).unwrap();
    let reached = async {
        while get(&world, "jane", SECRETS).await.0 != 403 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("never reloaded");
    assert_eq!(get(&world, "kim", SECRETS).await, refused("kim", ": never heard of"));
    world.stop().await;
}

#[tokio::test]
async fn modes_decide_in_their_order() {
    let with = |modes: &[&str]| {
        let modes = modes.iter().map(|mode| (*mode).to_owned()).collect();
        let authorization = AuthorizationOptions { modes, ..AuthorizationOptions::default() };
        World::with(Security { authorization, ..Security::default() })
    };
    let world = with(&["AlwaysDeny"]).await;
    assert_eq!(get(&world, "root", SECRETS).await.0, 200, "administrators are never locked out");
    let why = get(&world, "jane", "/version").await;
    assert_eq!(why, (403, "forbidden: User \"jane\" cannot get path \"/version\": Everything is forbidden.".into()));
    world.stop().await;
    let world = with(&["RBAC", "AlwaysAllow"]).await;
    assert_eq!(get(&world, "jane", SECRETS).await.0, 200);
    world.stop().await;
}

#[tokio::test]
async fn another_server_knows_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let config_file = dir.path().join("kubeconfig");
    let asked = decider(&config_file, &mut tasks).await;
    let webhook = TokenWebhookOptions { config_file, version: "v1".into(), cache_ttl: Duration::from_secs(60) };
    let world = World::with(Security { token_webhook: Some(webhook), ..Security::default() }).await;
    let jane =
        json!({"username": "jane", "uid": "1", "groups": ["dev", "system:authenticated"], "extra": {"a": ["b"]}});
    assert_eq!(bearer(&world, "good").await, Ok(jane.clone()));
    let review = asked.lock().pop().unwrap();
    assert_eq!((&review["apiVersion"], &review["kind"]), (&json!("authentication.k8s.io/v1"), &json!("TokenReview")));
    assert_eq!(review["spec"], json!({"token": "good", "audiences": ["https://kubernetes.default.svc.cluster.local"]}));
    assert_eq!(bearer(&world, "good").await, Ok(jane));
    assert!(asked.lock().is_empty(), "what was answered is remembered");
    assert_eq!(bearer(&world, "other").await, Err(401));
    assert_eq!(bearer(&world, "nobody").await, Err(401), "a failure vouches for nobody");
    world.stop().await;
}

#[tokio::test]
async fn another_server_judges_images() {
    let dir = tempfile::tempdir().unwrap();
    let (kubeconfig, config) = (dir.path().join("images"), dir.path().join("admission.yaml"));
    let mut tasks = JoinSet::new();
    let asked = decider(&kubeconfig, &mut tasks).await;
    let images = |allow: bool| {
        let policy = json!({"kubeConfigFile": kubeconfig, "retryBackoff": 1, "defaultAllow": allow});
        let plugin = json!({"name": "ImagePolicyWebhook", "configuration": {"imagePolicy": policy}});
        let file =
            json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [plugin]});
        std::fs::write(&config, file.to_string()).unwrap();
        let enable = vec!["ImagePolicyWebhook".to_owned()];
        let admission = AdmissionOptions { enable, config_file: Some(config.clone()), ..AdmissionOptions::default() };
        Security { admission, ..Security::default() }
    };
    let world = World::with(images(false)).await;
    default_account(&world).await;
    let pod = |name: &str, image: &str| {
        let mut pod = pod_of(name, None);
        pod["spec"]["containers"] = json!([{"name": "c", "image": image}]);
        pod["metadata"]["annotations"] = json!({"a.image-policy.k8s.io/b": "c", "other": "x"});
        pod
    };
    world.create(pod("a", "jane")).await.unwrap();
    world.create(pod("b", "jane")).await.unwrap();
    assert_eq!(asked.lock().len(), 1, "the answer is remembered");
    let spec = json!({"namespace": "default", "containers": [{"image": "jane"}], "annotations": {"a.image-policy.k8s.io/b": "c"}});
    let review = asked.lock()[0].clone();
    assert_eq!((&review["kind"], &review["spec"]), (&json!("ImageReview"), &spec));
    let refused = world.create(pod("c", "mallory")).await.unwrap_err();
    let why = "pods \"c\" is forbidden: image policy webhook backend denied one or more images: go away";
    assert_eq!((refused.code, refused.message.as_str()), (403, why));
    assert_eq!(world.create(pod("c", "nobody")).await.unwrap_err().code, 403);
    let world = World::with(images(true)).await;
    default_account(&world).await;
    world.create(pod("c", "nobody")).await.unwrap();
}
