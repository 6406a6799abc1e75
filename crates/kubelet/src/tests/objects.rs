//! ConfigMaps, Secrets, tokens, the environment and the volumes that are made of them.

use super::*;

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns"}, "data": data})
}

#[tokio::test]
async fn a_missing_key_blocks_until_it_is_there() {
    let node = Node::start().await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]);
    node.create("web", one(json!({"env": env})));
    let waiting = |s: &Value| s["containerStatuses"][0]["state"]["waiting"].clone();
    node.until("web", |s| waiting(s)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&node.status("web"))["message"], "configmap \"cm\" not found");
    node.api.seed(config_map("cm", json!({"b": "1"})));
    node.until("web", |s| waiting(s)["message"] == "couldn't find key a in ConfigMap ns/cm").await;
    node.api.modify(&Gvr::new("", "v1", "configmaps"), "ns", "cm", |cm| cm["data"]["a"] = json!("one"));
    node.until_running("web").await;
    let created = node.runtime.created("c").unwrap();
    let env = |name: &str| {
        created.envs.iter().find(|e| e.key == name).map(|e| String::from_utf8_lossy(&e.value).into_owned())
    };
    assert_eq!(env("A").as_deref(), Some("one"));
    assert_eq!(env("KUBERNETES_SERVICE_HOST").as_deref(), Some("10.43.0.1"));
}

#[tokio::test]
async fn volumes_follow_their_objects() {
    let node = Node::start().await;
    node.api.seed(config_map("cm", json!({"file": "one"})));
    let mut spec = one(json!({"volumeMounts": [
        {"name": "cm", "mountPath": "/etc/cm"}, {"name": "tmp", "mountPath": "/tmp"}, {"name": "me", "mountPath": "/me"}]}));
    let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    spec["volumes"] = json!([
        {"name": "cm", "configMap": {"name": "cm"}}, {"name": "tmp", "emptyDir": {}},
        {"name": "me", "downwardAPI": {"items": items}}]);
    node.create("web", spec);
    node.until_running("web").await;
    let created = node.runtime.created("c").unwrap();
    let host = |inside: &str| {
        let mount = created.mounts.iter().find(|m| m.container_path == inside).unwrap();
        std::path::PathBuf::from(&mount.host_path)
    };
    let read = |inside: &str, name: &str| std::fs::read_to_string(host(inside).join(name)).unwrap_or_default();
    assert_eq!(read("/etc/cm", "file"), "one");
    assert_eq!(read("/me", "labels"), "app=\"web\"");
    assert!(host("/tmp").is_dir());
    assert!(std::fs::read_to_string(host("/etc/hosts")).unwrap().contains("10.42.0.2\tweb\n"));
    node.api.modify(&Gvr::new("", "v1", "configmaps"), "ns", "cm", |cm| cm["data"]["file"] = json!("two"));
    wait_for(|| read("/etc/cm", "file") == "two").await;
    node.api.modify(&pods(), "ns", "web", |pod| pod["metadata"]["labels"]["x"] = json!("y"));
    wait_for(|| read("/me", "labels") == "app=\"web\"\nx=\"y\"").await;
    assert_eq!(node.status("web")["containerStatuses"][0]["restartCount"], 0);
}

/// Files have no events of their own: look again and again.
async fn wait_for(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok());
}

#[tokio::test]
async fn a_volume_that_cannot_be_set_up_holds_the_pod_back() {
    let node = Node::start().await;
    let mut spec = one(json!({}));
    spec["volumes"] = json!([{"name": "s", "secret": {"secretName": "none"}}]);
    node.create("secret", spec.clone());
    spec["volumes"] = json!([{"name": "n", "nfs": {"server": "x", "path": "/"}}]);
    node.create("nfs", spec.clone());
    spec["volumes"] = json!([{"name": "h", "hostPath": {"path": "/proc/none", "type": "Directory"}}]);
    node.create("host", spec);
    let failed = "FailedMount: MountVolume.SetUp failed for volume";
    node.until_event("secret", &format!("{failed} \"s\" : secret \"none\" not found")).await;
    node.until_event("nfs", &format!("{failed} \"n\" : volume type \"nfs\" is not supported by this node")).await;
    node.until_event("host", &format!("{failed} \"h\" : hostPath type check failed: /proc/none is not a directory"))
        .await;
    assert_eq!(node.status("nfs")["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    node.api.seed(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "none", "namespace": "ns"}}));
    node.until_running("secret").await;
}

#[tokio::test]
async fn pull_secrets_are_tried() {
    use base64::Engine as _;
    let node = Node::start().await;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let config = json!({"auths": {"r.io": {"auth": encode("joe:secret")}}}).to_string();
    node.api.seed(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reg", "namespace": "ns"},
        "data": {".dockerconfigjson": encode(&config)}}));
    let mut spec = one(json!({"image": "r.io/img:1"}));
    spec["imagePullSecrets"] = json!([{"name": "reg"}]);
    node.create("web", spec);
    node.until_running("web").await;
    assert!(node.runtime.calls().contains(&"pull r.io/img:1 joe".to_owned()), "{:?}", node.runtime.calls());
}

#[tokio::test]
async fn containers_are_described_in_full() {
    let node = Node::start().await;
    let env = json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "B", "value": "$(IP)!"}]);
    let mut spec = one(json!({"command": ["run", "$(B)"], "env": env,
        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}}, "securityContext": {"runAsUser": 7}}));
    spec["subdomain"] = json!("sub");
    node.create("web", spec);
    node.until_running("web").await;
    let created = node.runtime.created("c").unwrap();
    assert_eq!(created.command, ["run", "10.42.0.2!"]);
    assert_eq!(created.log_path, "c/0.log");
    let linux = created.linux.unwrap();
    let resources = linux.resources.unwrap();
    assert_eq!((resources.memory_limit_in_bytes, resources.cpu_quota, resources.cpu_shares), (64 << 20, 50_000, 512));
    assert_eq!(linux.security_context.unwrap().run_as_user.unwrap().value, 7);
    let sandbox = node.runtime.sandbox_config().unwrap();
    assert_eq!(sandbox.hostname, "web");
    assert_eq!(sandbox.dns_config.unwrap().searches[0], "ns.svc.cluster.local");
    assert!(sandbox.linux.unwrap().cgroup_parent.starts_with("/kubepods/pod"));
    assert!(created.mounts.iter().any(|m| m.container_path == "/dev/termination-log"));
}

#[tokio::test]
async fn service_account_tokens_are_projected() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::start().await;
    node.api.seed(
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "ns"}}),
    );
    node.api.seed(config_map("kube-root-ca.crt", json!({"ca.crt": "CA"})));
    let mut spec = one(json!({"volumeMounts": [{"name": "sa", "mountPath": "/sa", "readOnly": true}],
        "securityContext": {"runAsUser": 0}}));
    spec["serviceAccountName"] = json!("default");
    spec["volumes"] = json!([{"name": "sa", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
    node.create("web", spec);
    node.until_running("web").await;
    let created = node.runtime.created("c").unwrap();
    let mount = created.mounts.iter().find(|m| m.container_path == "/sa").unwrap();
    assert!(mount.readonly);
    let file = |name: &str| std::path::Path::new(&mount.host_path).join(name);
    assert_eq!(std::fs::read_to_string(file("token")).unwrap(), "token-of-default");
    assert_eq!(std::fs::read_to_string(file("ca.crt")).unwrap(), "CA");
    assert_eq!(std::fs::read_to_string(file("namespace")).unwrap(), "ns");
    let mode = |name: &str| std::fs::metadata(file(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("token"), mode("ca.crt")), (0o600, 0o644));
}

#[tokio::test]
async fn termination_messages_are_read_once() {
    let node = Node::start().await;
    let mut spec = one(json!({"terminationMessagePath": "/dev/termination-log"}));
    spec["restartPolicy"] = json!("Never");
    node.create("web", spec);
    node.until_running("web").await;
    let created = node.runtime.created("c").unwrap();
    let mount = created.mounts.iter().find(|m| m.container_path == "/dev/termination-log").unwrap();
    std::fs::write(&mount.host_path, "out of luck").unwrap();
    node.runtime.exit("c", 1);
    let message = |s: &Value| s["containerStatuses"][0]["state"]["terminated"]["message"].clone();
    node.until("web", |s| s["phase"] == "Failed").await;
    assert_eq!(message(&node.status("web")), "out of luck");
    // The file is gone with the pod's directory; what was said of it stays.
    node.runtime.until(|r| r.calls().iter().any(|c| c.starts_with("stop sandbox"))).await;
    let node = node.restart().await;
    node.create("other", one(json!({"name": "d"})));
    node.until_running("other").await;
    assert_eq!(message(&node.status("web")), "out of luck");
}

#[tokio::test]
async fn the_log_tells_when_there_is_no_message() {
    let node = Node::start().await;
    node.runtime.behave("c", ends_with(1));
    let policy =
        json!({"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "FallbackToLogsOnError"});
    let mut spec = one(policy);
    spec["restartPolicy"] = json!("Never");
    node.create("web", spec);
    node.until("web", |s| s["phase"] == "Failed").await;
    assert_eq!(node.status("web")["containerStatuses"][0]["state"]["terminated"]["message"], "hello from c\n");
}
