//! ServiceAccount: every pod has one, and its token, the cluster's CA and the namespace are mounted into every container.

use object::Status;
use serde_json::{Value, json};

use crate::api::Api;
use crate::user::User;
use crate::write::suffix;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A mirror pod stands for what runs on a node anyway.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Seconds; the kubelet renews in time.
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn admit(api: &Api, _user: &User, pod: &mut Value) -> Result<(), Status> {
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return Ok(());
    }
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let spec = &mut pod["spec"];
    let account = spec["serviceAccountName"].as_str().filter(|a| !a.is_empty()).unwrap_or("default").to_owned();
    spec["serviceAccountName"] = account.as_str().into();
    spec["serviceAccount"] = account.as_str().into();
    let found = api.store.get(&format!("/registry/serviceaccounts/{namespace}/{account}"));
    let Some(found) = found else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(Status::forbidden("", "pods", &pod_name, &why));
    };
    let object = found.object.value().map_err(Status::internal)?;
    let pull_secrets = object["imagePullSecrets"].as_array().filter(|s| !s.is_empty());
    if let Some(secrets) = pull_secrets.filter(|_| spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)) {
        spec["imagePullSecrets"] = secrets.clone().into();
    }
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(object["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount(spec);
    }
    for field in ["imagePullSecrets", "automountServiceAccountToken"] {
        if spec[field].is_null() {
            spec.as_object_mut().and_then(|s| s.remove(field));
        }
    }
    Ok(())
}

fn mount(spec: &mut Value) {
    let name = format!("kube-api-access-{}", suffix());
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mut mounts = mounts;
            mounts.push(json!({"name": name, "mountPath": MOUNT_PATH, "readOnly": true}));
            container["volumeMounts"] = mounts.into();
            used = true;
        }
    }
    if !used {
        return;
    }
    let volume = json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let mut volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    volumes.push(volume);
    spec["volumes"] = volumes.into();
}
