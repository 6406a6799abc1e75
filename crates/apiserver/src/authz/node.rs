//! The Node authorizer: a node agent reads what its own pods refer to, and nothing else of that kind.
//!
//! Upstream keeps a graph of these references beside the state. Here the state itself is asked, in memory and always current:
//! the pods of the one namespace that are bound to the node, or the volume that a claim is bound to. There is no moment at which
//! a pod is bound and its secret is not yet allowed.

use object::Object;
use rbac::{Attributes, Rule};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

use crate::api::Api;
use crate::user::User;

/// The node that a user is; `None` for others.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    let is_node = user.groups.iter().any(|g| g == "system:nodes");
    user.name.strip_prefix("system:node:").filter(|_| is_node)
}

/// What every node may (upstream's `NodeRules`).
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |verbs: &str, group: &str, resources: &str| {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect();
        Rule { verbs: list(verbs), api_groups: vec![group.to_owned()], resources: list(resources), ..Rule::default() }
    };
    vec![
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
        rule("get list watch", "", "services"),
        rule("create update patch", "", "events"),
        rule("create update patch", "events.k8s.io", "events"),
        rule("get", "", "endpoints"),
        rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
        rule("get list watch", "storage.k8s.io", "csidrivers"),
        rule("get list watch", "node.k8s.io", "runtimeclasses"),
        rule("get list watch", "certificates.k8s.io", "clustertrustbundles"),
    ]
});

/// A pod's field that names objects of some kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refers {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    Account,
}

/// Why not.
type Refusal = String;

impl Api {
    /// Whether a node may; upstream's reason when it may not.
    pub(super) fn node_may(&self, node: &str, wanted: &Attributes<'_>) -> Result<(), Refusal> {
        let unrelated = || format!("no relationship found between node '{node}' and this object");
        let related = |yes: bool| match wanted.name {
            "" => Err("No Object name found".to_owned()),
            _ if yes => Ok(()),
            _ => Err(unrelated()),
        };
        let own = |name: &str| wanted.verb == "create" || wanted.name == name;
        let (namespace, name, verb, sub) = (wanted.namespace, wanted.name, wanted.verb, wanted.subresource);
        let reads = matches!(verb, "get" | "list" | "watch");
        match (wanted.group, wanted.resource) {
            ("", resource @ ("secrets" | "configmaps")) => {
                single_read(wanted, reads, "can only read resources of this type")?;
                let refers = if resource == "secrets" { Refers::Secret } else { Refers::ConfigMap };
                let by_volume = || refers == Refers::Secret && self.volume_names(node, namespace, name);
                related(self.pod_names(node, namespace, refers, name) || by_volume())
            }
            ("", "persistentvolumeclaims") => {
                match sub {
                    "status" if matches!(verb, "update" | "patch") => {}
                    "status" => return Err("can only get/update/patch this type".into()),
                    _ => get_only(wanted)?,
                }
                related(self.pod_names(node, namespace, Refers::Claim, name))
            }
            ("", "persistentvolumes") => {
                get_only(wanted)?;
                let volume = self.stored_value(&format!("/registry/persistentvolumes/{name}"));
                related(volume.is_some_and(|volume| self.is_claimed(node, &volume)))
            }
            ("resource.k8s.io", "resourceclaims") => {
                get_only(wanted)?;
                related(self.pod_names(node, namespace, Refers::ResourceClaim, name))
            }
            ("storage.k8s.io", "volumeattachments") => {
                get_only(wanted)?;
                let attachment = self.stored_value(&format!("/registry/volumeattachments/{name}"));
                related(attachment.is_some_and(|a| a["spec"]["nodeName"] == node))
            }
            ("", "serviceaccounts") => {
                if !(verb == "get" && sub.is_empty()) {
                    if verb != "create" || name.is_empty() {
                        return Err("can only create tokens for individual service accounts".into());
                    }
                    if sub != "token" {
                        return Err("can only create token subresource of serviceaccount".into());
                    }
                }
                related(self.pod_names(node, namespace, Refers::Account, name))
            }
            ("coordination.k8s.io", "leases") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    return Err("can only get, create, update, patch, or delete a node lease".into());
                }
                if namespace != "kube-node-lease" {
                    return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
                }
                let why = "can only access node lease with the same name as the requesting node";
                if own(node) { Ok(()) } else { Err(why.into()) }
            }
            ("storage.k8s.io", "csinodes") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    return Err("can only get, create, update, patch, or delete a CSINode".into());
                }
                if !sub.is_empty() {
                    return Err("cannot authorize CSINode subresources".into());
                }
                let why = "can only access CSINode with the same name as the requesting node";
                if own(node) { Ok(()) } else { Err(why.into()) }
            }
            ("resource.k8s.io", "resourceslices") => self.slice(node, wanted, related),
            ("", "nodes") => match (sub, verb) {
                ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
                ("", "get" | "list" | "watch") => match name {
                    "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
                    name if name == node => Ok(()),
                    name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
                },
                _ => Err(String::new()),
            },
            ("", "pods") => match (sub, verb) {
                // Which ones is NodeRestriction's business.
                ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
                ("", "list" | "watch") if selects(wanted, "spec.nodeName", node) => Ok(()),
                ("", "list" | "watch") if name.is_empty() => {
                    Err("can only list/watch pods with spec.nodeName field selector".into())
                }
                ("", "get" | "list" | "watch") => related(self.is_bound(node, namespace, name)),
                _ => Err(String::new()),
            },
            _ if RULES.iter().any(|rule| rule.allows(wanted)) => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn slice(
        &self,
        node: &str,
        wanted: &Attributes<'_>,
        related: impl Fn(bool) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if !wanted.subresource.is_empty() {
            return Err("cannot authorize ResourceSlice subresources".into());
        }
        match wanted.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                let slice = self.stored_value(&format!("/registry/resourceslices/{}", wanted.name));
                related(slice.is_some_and(|slice| slice["spec"]["nodeName"] == node))
            }
            _ if selects(wanted, "spec.nodeName", node) => Ok(()),
            _ => Err("can only list/watch/deletecollection resourceslices with nodeName field selector".into()),
        }
    }

    pub(crate) fn stored_value(&self, key: &str) -> Option<Value> {
        self.store.get(key)?.object.value().ok()
    }

    /// The pods of a namespace that are bound to the node, but for those that only stand for what the node runs by itself.
    fn pods_of(&self, node: &str, namespace: &str) -> impl Iterator<Item = (Arc<Object>, Value)> {
        let page = self.store.range(&format!("/registry/pods/{namespace}/"), None, 0, 0);
        let objects = page.map(|page| page.items).unwrap_or_default().into_iter().map(|v| v.object);
        let node = node.to_owned();
        objects
            .filter(move |pod| pod.head.fields.get("spec.nodeName").is_some_and(|on| *on == node))
            .filter_map(|pod| pod.value().ok().map(|value| (pod, value)))
            .filter(|(_, value)| value["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_none())
    }

    /// True when a pod on the node refers to the object.
    fn pod_names(&self, node: &str, namespace: &str, refers: Refers, name: &str) -> bool {
        !namespace.is_empty()
            && !name.is_empty()
            && self.pods_of(node, namespace).any(|(_, pod)| references(&pod, refers, name))
    }

    fn is_bound(&self, node: &str, namespace: &str, name: &str) -> bool {
        let pod = self.store.get(&format!("/registry/pods/{namespace}/{name}"));
        pod.is_some_and(|pod| pod.object.head.fields.get("spec.nodeName").is_some_and(|on| on == node))
    }

    /// True when a pod on the node uses the claim that the volume is bound to.
    fn is_claimed(&self, node: &str, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        let (namespace, name) = (claim["namespace"].as_str().unwrap_or(""), claim["name"].as_str().unwrap_or(""));
        self.pod_names(node, namespace, Refers::Claim, name)
    }

    /// True when a volume that the node uses refers to the secret.
    fn volume_names(&self, node: &str, namespace: &str, secret: &str) -> bool {
        let page = self.store.range("/registry/persistentvolumes/", None, 0, 0);
        let volumes = page.map(|page| page.items).unwrap_or_default().into_iter();
        volumes.filter_map(|v| v.object.value().ok()).any(|volume| {
            let home = volume["spec"]["claimRef"]["namespace"].as_str().unwrap_or("");
            volume_refers(&volume["spec"], home, namespace, secret) && self.is_claimed(node, &volume)
        })
    }
}

fn single_read(wanted: &Attributes<'_>, reads: bool, why: &str) -> Result<(), Refusal> {
    if !reads {
        return Err(why.into());
    }
    if !wanted.subresource.is_empty() {
        return Err("cannot read subresource".into());
    }
    if wanted.namespace.is_empty() {
        return Err("can only read namespaced object of this type".into());
    }
    if wanted.name.is_empty() {
        return Err("No Object name found".into());
    }
    Ok(())
}

fn get_only(wanted: &Attributes<'_>) -> Result<(), Refusal> {
    if wanted.verb != "get" {
        return Err("can only get individual resources of this type".into());
    }
    if !wanted.subresource.is_empty() {
        return Err("cannot get subresource".into());
    }
    if wanted.name.is_empty() { Err("No Object name found".into()) } else { Ok(()) }
}

/// True when the request is limited to objects whose field has the value.
fn selects(wanted: &Attributes<'_>, field: &str, value: &str) -> bool {
    wanted.fields.iter().any(|(f, equals, v)| *equals && f == field && v == value)
}

/// True when the pod refers to the object of that name.
fn references(pod: &Value, refers: Refers, name: &str) -> bool {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let volumes = list(&spec["volumes"]);
    let env = |from: &str, whole: &str| {
        let kinds = ["containers", "initContainers", "ephemeralContainers"];
        kinds.iter().flat_map(|k| list(&spec[*k])).any(|container| {
            list(&container["env"]).iter().any(|e| e["valueFrom"][from]["name"] == name)
                || list(&container["envFrom"]).iter().any(|e| e[whole]["name"] == name)
        })
    };
    let projected =
        |source: &str| volumes.iter().flat_map(|v| list(&v["projected"]["sources"])).any(|s| s[source]["name"] == name);
    match refers {
        Refers::Secret => {
            let volume = |v: &Value| {
                v["secret"]["secretName"] == name
                    || v["azureFile"]["secretName"] == name
                    || v["csi"]["nodePublishSecretRef"]["name"] == name
                    || v.as_object().into_iter().flatten().any(|(_, source)| source["secretRef"]["name"] == name)
            };
            list(&spec["imagePullSecrets"]).iter().any(|s| s["name"] == name)
                || env("secretKeyRef", "secretRef")
                || projected("secret")
                || volumes.iter().any(volume)
        }
        Refers::ConfigMap => {
            env("configMapKeyRef", "configMapRef")
                || projected("configMap")
                || volumes.iter().any(|v| v["configMap"]["name"] == name)
        }
        Refers::Claim => {
            let own = pod["metadata"]["name"].as_str().unwrap_or("");
            let ephemeral =
                |v: &Value| v["ephemeral"].is_object() && name == format!("{own}-{}", v["name"].as_str().unwrap_or(""));
            volumes.iter().any(|v| v["persistentVolumeClaim"]["claimName"] == name || ephemeral(v))
        }
        Refers::ResourceClaim => {
            list(&spec["resourceClaims"]).iter().any(|c| c["resourceClaimName"] == name)
                || list(&status["resourceClaimStatuses"]).iter().any(|c| c["resourceClaimName"] == name)
                || status["extendedResourceClaimStatus"]["resourceClaimName"] == name
        }
        Refers::Account => spec["serviceAccountName"] == name,
    }
}

/// True when a volume's source names the secret; in the claim's namespace unless it says otherwise.
fn volume_refers(spec: &Value, home: &str, namespace: &str, secret: &str) -> bool {
    let is = |reference: &Value, name: &str, space: &str| {
        let at = reference[space].as_str().filter(|n| !n.is_empty()).unwrap_or(home);
        reference[name] == secret && at == namespace
    };
    let sources = spec.as_object().into_iter().flatten();
    sources.filter(|(key, _)| *key != "claimRef").any(|(_, source)| {
        let fields = source.as_object().into_iter().flatten();
        let refs = fields.filter(|(key, _)| key.ends_with("ecretRef"));
        is(source, "secretName", "secretNamespace") || refs.into_iter().any(|(_, r)| is(r, "name", "namespace"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_refers_to() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "serviceAccountName": "bot", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s1"}}}], "envFrom": [{"configMapRef": {"name": "c1"}}]}],
            "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c2"}}}], "envFrom": [{"secretRef": {"name": "s2"}}]}],
            "volumes": [{"secret": {"secretName": "s3"}}, {"configMap": {"name": "c3"}}, {"cephfs": {"secretRef": {"name": "s4"}}},
                {"projected": {"sources": [{"secret": {"name": "s5"}}, {"configMap": {"name": "c4"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "s6"}}}, {"persistentVolumeClaim": {"claimName": "p1"}},
                {"name": "tmp", "ephemeral": {}}],
            "resourceClaims": [{"resourceClaimName": "r1"}]}});
        for name in ["pull", "s1", "s2", "s3", "s4", "s5", "s6"] {
            assert!(references(&pod, Refers::Secret, name), "{name}");
            assert!(!references(&pod, Refers::ConfigMap, name), "{name}");
        }
        for name in ["c1", "c2", "c3", "c4"] {
            assert!(references(&pod, Refers::ConfigMap, name) && !references(&pod, Refers::Secret, name), "{name}");
        }
        assert!(references(&pod, Refers::Claim, "p1") && references(&pod, Refers::Claim, "web-tmp"));
        assert!(references(&pod, Refers::ResourceClaim, "r1") && references(&pod, Refers::Account, "bot"));
        let volume = json!({"claimRef": {"namespace": "a", "name": "p1"}, "csi": {"nodeStageSecretRef": {"name": "s", "namespace": "b"}}});
        assert!(volume_refers(&volume, "a", "b", "s") && !volume_refers(&volume, "a", "a", "s"));
        let volume = json!({"azureFile": {"secretName": "s"}});
        assert!(volume_refers(&volume, "a", "a", "s"));
    }
}
