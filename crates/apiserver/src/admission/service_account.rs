//! ServiceAccount: every pod has one, and its token, the cluster's CA and the namespace are mounted into every container.

use std::time::Duration;

use object::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::api::Api;
use crate::write::suffix;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A mirror pod stands for what runs on a node anyway.
const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
const VOLUME: &str = "kube-api-access-";
/// Seconds; the kubelet renews in time.
const TOKEN_SECONDS: i64 = 3607;
/// A namespace's default account is made by a controller in a moment: how often it is looked for.
const ATTEMPTS: usize = 10;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// The pod's account; 403 when there is none.
async fn account(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
    let (namespace, name) = (at.namespace, text(&pod["spec"]["serviceAccountName"]));
    if name.is_empty() {
        let pod = text(&pod["metadata"]["name"]);
        return Err(at.forbidden(&format!("no service account specified for pod {namespace}/{pod}")));
    }
    if let Some(why) = object::names::no_segment(name) {
        let message = format!("error looking up service account {namespace}/{name}: {why}");
        return Err(at.forbidden(&message));
    }
    let key = format!("/registry/serviceaccounts/{namespace}/{name}");
    for attempt in 0..if name == "default" { ATTEMPTS } else { 1 } {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(found) = api.store.get(&key) {
            return found.object.value().map_err(Status::internal);
        }
    }
    Err(at
        .forbidden(&format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")))
}

/// Gives a new pod its account and what comes with it.
pub(super) async fn admit(api: &Api, at: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !at.is("", "pods") || !at.subresource.is_empty() || at.operation != Operation::Create || is_mirror(pod) {
        return Ok(());
    }
    let name = pod["spec"].get("serviceAccountName").map(text).filter(|a| !a.is_empty()).unwrap_or("default");
    let name = Value::from(name);
    let spec = &mut pod["spec"];
    spec["serviceAccount"] = name.clone();
    spec["serviceAccountName"] = name;
    let account = account(api, at, pod).await?;
    let spec = &mut pod["spec"];
    let own = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    if own.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount(spec);
    }
    let pull = list(&account["imagePullSecrets"]);
    if !pull.is_empty() && spec.get("imagePullSecrets").is_none_or(|s| list(s).is_empty()) {
        let names = pull.iter().map(|secret| json!({"name": secret["name"]}));
        spec["imagePullSecrets"] = names.collect::<Vec<_>>().into();
    }
    Ok(())
}

/// Whether the pod's account lets it have the secrets that it names.
pub(super) async fn validate(api: &Api, at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !at.is("", "pods") {
        return Ok(());
    }
    let which: &[(&str, &str)] = match (at.operation, at.subresource) {
        (Operation::Create, "") => &[("initContainers", "init container"), ("containers", "container")],
        (Operation::Update, "ephemeralcontainers") => &[("ephemeralContainers", "ephemeral container")],
        _ => return Ok(()),
    };
    if at.operation == Operation::Create && is_mirror(pod) {
        return mirror(pod).map_err(|why| at.forbidden(why));
    }
    let account = account(api, at, pod).await?;
    let enforced = account["metadata"]["annotations"].get(ENFORCE).map(text);
    if !enforced.is_some_and(|e| matches!(e, "1" | "t" | "T" | "TRUE" | "true" | "True")) {
        return Ok(());
    }
    match limited(&account, pod, which) {
        Some(why) if at.operation == Operation::Create => Err(at.forbidden(&why)),
        Some(why) => Err(Status::unexpected(&why)),
        None => Ok(()),
    }
}

/// A mirror pod needs nothing of the API.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    let spec = &pod["spec"];
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|l| list(&spec[l]));
    let in_env = containers.into_iter().any(|c| {
        list(&c["env"]).iter().any(|e| e["valueFrom"]["secretKeyRef"].is_object())
            || list(&c["envFrom"]).iter().any(|e| e["secretRef"].is_object())
    });
    let referring = ["azureFile", "cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos", "csi"];
    let in_volumes = list(&spec["volumes"]).iter().any(|v| {
        v["secret"].is_object()
            || list(&v["projected"]["sources"]).iter().any(|s| s["secret"].is_object())
            || referring.iter().any(|kind| {
                ["secretRef", "secretName", "nodePublishSecretRef"].iter().any(|field| !v[*kind][*field].is_null())
            })
    });
    if !list(&spec["imagePullSecrets"]).is_empty() || in_env || in_volumes {
        return Err("a mirror pod may not reference secrets");
    }
    let projects = |v: &Value| list(&v["projected"]["sources"]).iter().any(|s| s["serviceAccountToken"].is_object());
    if list(&spec["volumes"]).iter().any(projects) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// The first secret that the account does not list.
fn limited(account: &Value, pod: &Value, which: &[(&str, &str)]) -> Option<String> {
    let name = text(&account["metadata"]["name"]);
    let knows = |field: &str, secret: &str| list(&account[field]).iter().any(|s| s["name"] == secret);
    let refused = |what: String| {
        Some(format!("{what} is not allowed because service account {name} does not reference that secret"))
    };
    let spec = &pod["spec"];
    let is_new = which.len() > 1;
    for volume in list(&spec["volumes"]).iter().filter(|v| is_new && v["secret"].is_object()) {
        let secret = text(&volume["secret"]["secretName"]);
        if !knows("secrets", secret) {
            return refused(format!("volume with secret.secretName={secret:?}"));
        }
    }
    for (field, what) in which {
        for container in list(&spec[*field]) {
            let of = text(&container["name"]);
            for variable in list(&container["env"]).iter().filter(|e| e["valueFrom"]["secretKeyRef"].is_object()) {
                let secret = text(&variable["valueFrom"]["secretKeyRef"]["name"]);
                if !knows("secrets", secret) {
                    let variable = text(&variable["name"]);
                    return refused(format!(
                        "{what} {of} with envVar {variable} referencing secret.secretName={secret:?}"
                    ));
                }
            }
            for source in list(&container["envFrom"]).iter().filter(|e| e["secretRef"].is_object()) {
                let secret = text(&source["secretRef"]["name"]);
                if !knows("secrets", secret) {
                    return refused(format!("{what} {of} with envFrom referencing secret.secretName={secret:?}"));
                }
            }
        }
    }
    let pull = list(&spec["imagePullSecrets"]).iter().enumerate().filter(|_| is_new);
    let mut unknown = pull.filter(|(_, secret)| !knows("imagePullSecrets", text(&secret["name"])));
    let (index, secret) = unknown.next()?;
    Some(format!(
        "imagePullSecrets[{index}].name={:?} is not allowed because service account {name} does not reference that imagePullSecret",
        text(&secret["name"])
    ))
}

fn mount(spec: &mut Value) {
    let given = list(&spec["volumes"]).iter().map(|v| text(&v["name"])).find(|name| name.starts_with(VOLUME));
    let has_volume = given.is_some();
    let name = given.map_or_else(|| format!("{VOLUME}{}", suffix()), str::to_owned);
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "mountPath": MOUNT_PATH, "readOnly": true}));
            container["volumeMounts"] = mounts.into();
            used = true;
        }
    }
    if has_volume || !used {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_limit_secrets_where_they_say_so() {
        let account =
            json!({"metadata": {"name": "a"}, "secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}]});
        let new: &[(&str, &str)] = &[("initContainers", "init container"), ("containers", "container")];
        let check = |spec: Value| limited(&account, &json!({"spec": spec}), new).unwrap_or_default();
        assert_eq!(
            check(json!({"volumes": [{"secret": {"secretName": "s"}}], "imagePullSecrets": [{"name": "p"}]})),
            ""
        );
        assert_eq!(
            check(json!({"volumes": [{"secret": {"secretName": "x"}}]})),
            "volume with secret.secretName=\"x\" is not allowed because service account a does not reference that secret"
        );
        assert_eq!(
            check(
                json!({"initContainers": [{"name": "i", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x"}}}]}]})
            ),
            "init container i with envVar E referencing secret.secretName=\"x\" is not allowed because service account a does not reference that secret"
        );
        assert_eq!(
            check(json!({"imagePullSecrets": [{"name": "p"}, {"name": "q"}]})),
            "imagePullSecrets[1].name=\"q\" is not allowed because service account a does not reference that imagePullSecret"
        );
    }

    #[test]
    fn mirror_pods_have_no_secrets() {
        let check = |spec: Value| mirror(&json!({"spec": spec}));
        assert!(check(json!({"volumes": [{"emptyDir": {}}]})).is_ok());
        assert!(check(json!({"imagePullSecrets": [{"name": "p"}]})).is_err());
        assert!(check(json!({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]})).is_err());
        assert!(check(json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]})).is_err());
    }
}
