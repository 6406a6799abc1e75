//! Images from a registry that wants to know who asks: Debian's docker-registry.

use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use client::{Client, Resource};
use object::Gvr;
use serde_json::{Value, json};

use crate::harness::{Cluster, is_ready, pod, pods, until, with_cluster};

/// Nothing else listens in the cluster's namespace.
const REGISTRY: &str = "localhost:5000";
const USER: (&str, &str) = ("tester", "secret");

/// Gone when it is dropped.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The namespace is the calling thread's.
fn registry(cluster: &Cluster) -> Registry {
    let dir = cluster.dir.path().join("registry");
    std::fs::create_dir_all(&dir).unwrap();
    let made = Command::new("htpasswd").args(["-Bbn", USER.0, USER.1]).output();
    std::fs::write(dir.join("users"), made.expect("htpasswd is needed (Debian package apache2-utils)").stdout).unwrap();
    let config = json!({"version": 0.1, "storage": {"filesystem": {"rootdirectory": dir.join("data")}},
        "http": {"addr": REGISTRY, "secret": "of the test"}, "auth": {"htpasswd": {"realm": "test", "path": dir.join("users")}}});
    let file = dir.join("config.yml");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut serve = Command::new("docker-registry");
    serve.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    Registry(serve.spawn().expect("docker-registry is needed (Debian package docker-registry)"))
}

async fn push(cluster: &Cluster, name: &str) {
    let store = images::Store::open(cluster.dir.path().join("build")).unwrap();
    let credentials = images::Credentials {
        username: USER.0.into(),
        password: USER.1.into(),
        server: REGISTRY.into(),
        ..Default::default()
    };
    let options = images::Options { credentials: Some(credentials), ..Default::default() };
    let to = images::Reference::parse(name).unwrap();
    let registry = images::Registry::new(store, images::Registries::default());
    until("the registry takes the image", async || registry.push("busybox:1", &to, &options).await.ok()).await;
}

async fn make(client: &Client, name: &str, image: &str, more: Value) {
    let mut spec = json!({"terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image, "command": ["sleep", "1000"]}]});
    object::patch::merge(&mut spec, &more);
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    client.create(&Resource::collection(&pods(), Some("default")), &body).await.unwrap();
}

async fn play(cluster: &mut Cluster) {
    let client = cluster.ready_client().await;
    let _registry = registry(cluster);
    let image = format!("{REGISTRY}/team/busybox:2");
    push(cluster, &image).await;

    let waits = async |name: &str, reason: &str| {
        let why = |pod: Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let waiting = async || pod(&client, name).await.map(why).filter(|w| w["reason"] == reason);
        until(&format!("{name} waits for {reason}"), waiting).await["message"].as_str().unwrap_or_default().to_owned()
    };
    make(&client, "stranger", &image, json!({})).await;
    let message = waits("stranger", "ImagePullBackOff").await;
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")), "{message}");
    make(
        &client,
        "never",
        "nowhere:1",
        json!({"containers": [{"name": "main", "image": "nowhere:1", "imagePullPolicy": "Never"}]}),
    )
    .await;
    let message = waits("never", "ErrImageNeverPull").await;
    assert_eq!(message, "Container image \"nowhere:1\" is not present with pull policy of Never");

    let auth = json!({"auths": {REGISTRY: {"username": USER.0, "password": USER.1}}}).to_string();
    let auth = base64::engine::general_purpose::STANDARD.encode(auth);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": auth}});
    client.create(&Resource::collection(&Gvr::new("", "v1", "secrets"), Some("default")), &secret).await.unwrap();
    // Its own image, and the same as a volume.
    let inside =
        "test -x /image/bin/busybox && /bin/sh -c 'test -x /sub/busybox' && ! touch /image/new && exec sleep 1000";
    let with_volume = |image: &str, sub: &str, secrets: Value| {
        let mounts = json!([{"name": "image", "mountPath": "/image"}, {"name": "image", "mountPath": "/sub", "subPathExpr": sub}]);
        json!({"imagePullSecrets": secrets,
            "volumes": [{"name": "image", "image": {"reference": format!("{REGISTRY}/team/busybox:2"), "pullPolicy": "Always"}}],
            "containers": [{"name": "main", "image": image, "command": ["sh", "-c", inside], "volumeMounts": mounts,
                "env": [{"name": "DIR", "value": "bin"}]}]})
    };
    make(&client, "outsider", "busybox:1", with_volume("busybox:1", "bin", json!([]))).await;
    let message = waits("outsider", "ImagePullBackOff").await;
    assert!(message.starts_with(&format!("Back-off pulling image \"{image}\": ErrImagePull: ")), "{message}");
    let secrets = json!([{"name": "pull"}]);
    make(&client, "lost", "busybox:1", with_volume("busybox:1", "none", secrets.clone())).await;
    let message = waits("lost", "CreateContainerError").await;
    assert!(message.starts_with("ImageVolumeMountFailed: "), "{message}");
    make(&client, "member", &image, with_volume(&image, "$(DIR)", secrets)).await;
    let member = until("the pod with the secret runs", async || pod(&client, "member").await.filter(is_ready)).await;
    let status = &member["status"]["containerStatuses"][0];
    assert_eq!(status["image"], image);
    let digest = status["imageID"].as_str().unwrap_or_default();
    assert!(digest.starts_with(&format!("{REGISTRY}/team/busybox@sha256:")), "{digest}");
    let metrics = client.raw_get(&format!("/api/v1/nodes/{}/proxy/metrics", cluster.name)).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics);
    assert!(metrics.contains("\nkubelet_image_volume_mounted_succeed_total 2\n"), "{metrics}");
}

#[test]
fn images_come_from_a_registry_with_credentials() {
    with_cluster("pull", play);
}
