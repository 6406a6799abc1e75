//! NodeRestriction: a node agent changes its own node and what runs on it, and cannot label itself into other people's workloads.

use object::Status;
use serde_json::Value;

use crate::api::Api;
use crate::authz::node_of;
use crate::user::User;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels that a kubelet may set on itself, of those that are Kubernetes' own.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// A write, as admission looks at it.
pub(crate) struct Write<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// The new object, or what is posted to a subresource; `None` for a delete.
    pub(crate) new: Option<&'a Value>,
    /// The object before; `None` for a create.
    pub(crate) old: Option<&'a Value>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// 403 when the user is a node and the write is not its business.
pub(crate) async fn check(api: &Api, user: &User, write: &Write<'_>) -> Result<(), Status> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let verdict = match (write.group, write.resource) {
        ("", "pods") => pod(api, node, write)?,
        ("", "nodes") => own_node(node, write),
        ("", "persistentvolumeclaims") => claim(node, write),
        ("", "serviceaccounts") => token(api, user, node, write).await?,
        ("coordination.k8s.io", "leases") => lease(node, write),
        ("storage.k8s.io", "csinodes") if write.new.is_some() && write.name != node => {
            Err("can only access CSINode with the same name as the requesting node".into())
        }
        ("resource.k8s.io", "resourceslices") => slice(node, write),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate(node, write),
        _ => Ok(()),
    };
    verdict.map_err(|why| Status::forbidden(write.group, write.resource, write.name, &why))
}

type Verdict = Result<(), String>;

fn pod(api: &Api, node: &str, write: &Write<'_>) -> Result<Verdict, Status> {
    let bound = |pod: &Value| pod["spec"]["nodeName"] == node;
    let only = |yes: bool, why: &str| if yes { Ok(()) } else { Err(format!("node {node:?} {why}")) };
    Ok(match (write.subresource, write.new, write.old) {
        ("", Some(new), None) => match mirror_pod(api, node, new)? {
            None => Ok(()),
            Some(why) => Err(why),
        },
        ("", None, Some(old)) => only(bound(old), "can only delete pods with spec.nodeName set to itself"),
        ("", ..) => {
            Err(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        ("status", Some(new), Some(old)) => {
            only(bound(old), "can only update pod status for pods with spec.nodeName set to itself").and_then(|()| {
                let same = |a: &Value, b: &Value| a == b || (is_empty(a) && is_empty(b));
                let labels = same(&new["metadata"]["labels"], &old["metadata"]["labels"]);
                only(labels, "cannot update labels through pod status")?;
                let claims = |field: &str| same(&new["status"][field], &old["status"][field]);
                only(claims("resourceClaimStatuses"), "cannot update resource claim statues")?;
                only(claims("extendedResourceClaimStatus"), "cannot update extended resource claim status")
            })
        }
        ("eviction", Some(_), _) => {
            let pod = api.stored_value(&format!("/registry/pods/{}/{}", write.namespace, write.name));
            let pod = pod.ok_or_else(|| Status::not_found("", "pods", write.name))?;
            if bound(&pod) {
                Ok(())
            } else {
                Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
        }
        (sub, ..) => Err(format!("unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed")),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Why a node may not create the pod; `None`: it stands for one that the node runs by itself.
fn mirror_pod(api: &Api, node: &str, pod: &Value) -> Result<Option<String>, Status> {
    let refuse = |why: String| Ok(Some(why));
    if pod["metadata"]["annotations"].get(MIRROR).is_none() {
        return refuse(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod["spec"]["nodeName"] != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let owner = match owners.as_slice() {
        [owner] => owner,
        [] => return refuse(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return refuse(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return refuse(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let found = api.store.get(&format!("/registry/minions/{node}"));
    let uid = found.ok_or_else(|| Status::not_found("", "nodes", node))?.object.head.uid.clone();
    if owner["uid"] != uid.as_str() {
        return refuse(format!("node {node} UID mismatch: expected {} got {uid}", text(&owner["uid"])));
    }
    Ok(api_reference(pod).map(|what| format!("node {node:?} can not create pods that reference {what}")))
}

/// What a pod refers to that only the API can give.
fn api_reference(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let containers: Vec<Value> = containers.iter().flat_map(|k| list(&spec[*k])).collect();
    let env = |from: &str, whole: &str| {
        containers.iter().any(|c| {
            list(&c["env"]).iter().any(|e| e["valueFrom"][from].is_object())
                || list(&c["envFrom"]).iter().any(|e| e[whole].is_object())
        })
    };
    if env("secretKeyRef", "secretRef") || !list(&spec["imagePullSecrets"]).is_empty() {
        return Some("secrets");
    }
    if env("configMapKeyRef", "configMapRef") {
        return Some("configmaps");
    }
    if !list(&spec["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    let source = |volume: &Value, field: &str| volume[field].is_object();
    for volume in list(&spec["volumes"]) {
        let found = [
            ("configMap", "configmaps (via configmap volumes)"),
            ("secret", "secrets (via secret volumes)"),
            ("csi", "csidrivers (via CSI volumes)"),
            ("glusterfs", "endpoints (via glusterFS volumes)"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
            ("azureFile", "secrets (via azureFile volumes)"),
        ];
        if let Some((_, what)) = found.iter().find(|(field, _)| source(&volume, field)) {
            return Some(what);
        }
        for projected in list(&volume["projected"]["sources"]) {
            let found = [
                ("configMap", "configmaps (via projected volumes)"),
                ("secret", "secrets (via projected volumes)"),
                ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
                ("clusterTrustBundle", "clustertrustbundles"),
                ("podCertificate", "podcertificates"),
            ];
            if let Some((_, what)) = found.iter().find(|(field, _)| source(&projected, field)) {
                return Some(what);
            }
        }
    }
    None
}

fn own_node(node: &str, write: &Write<'_>) -> Verdict {
    if write.name != node {
        return Err(format!("node {node:?} is not allowed to modify node {:?}", write.name));
    }
    let Some(new) = write.new else { return Ok(()) };
    let labels = |value: &Value| value["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (after, before) = (labels(new), write.old.map(labels).unwrap_or_default());
    let keys = after.keys().chain(before.keys()).filter(|key| after.get(*key) != before.get(*key));
    let mut forbidden: Vec<&str> = keys.map(String::as_str).filter(|key| !may_label(key)).collect();
    forbidden.sort_unstable();
    forbidden.dedup();
    let config = &new["spec"]["configSource"];
    let Some(old) = write.old else {
        if !config.is_null() {
            return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        if !forbidden.is_empty() {
            let labels = forbidden.join(", ");
            return Err(format!("node {node:?} is not allowed to set the following labels: {labels}"));
        }
        return Ok(());
    };
    let same = |a: &Value, b: &Value| a == b || (is_empty(a) && is_empty(b));
    if !config.is_null() && *config != old["spec"]["configSource"] {
        return Err(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource"));
    }
    if !same(&new["spec"]["taints"], &old["spec"]["taints"]) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if !same(&new["metadata"]["ownerReferences"], &old["metadata"]["ownerReferences"]) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    if !forbidden.is_empty() {
        return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
    }
    Ok(())
}

/// True for labels that a node may set on itself.
fn may_label(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let within =
        |domain: &str| namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return false;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    !kubernetes || OWN_LABELS.contains(&key) || OWN_LABEL_NAMESPACES.iter().any(|domain| within(domain))
}

fn claim(node: &str, write: &Write<'_>) -> Verdict {
    let ("status", Some(new), Some(old)) = (write.subresource, write.new, write.old) else {
        return Err("may only update PVC status".into());
    };
    let bare = |value: &Value| {
        let mut value = value.clone();
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            value["status"].as_object_mut().map(|status| status.remove(field));
        }
        for field in ["resourceVersion", "managedFields"] {
            value["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
        }
        value
    };
    if bare(new) == bare(old) {
        return Ok(());
    }
    Err(format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions"))
}

async fn token(api: &Api, user: &User, node: &str, write: &Write<'_>) -> Result<Verdict, Status> {
    let (Some(request), "token") = (write.new, write.subresource) else { return Ok(Ok(())) };
    let bound = &request["spec"]["boundObjectRef"];
    let refuse = |why: &str| Ok(Err(why.to_owned()));
    let name = text(&bound["name"]);
    if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let uid = text(&bound["uid"]);
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid");
    }
    let pod = api.stored_value(&format!("/registry/pods/{}/{name}", write.namespace));
    let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
    if pod["metadata"]["uid"] != uid {
        return Ok(Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    if pod["spec"]["nodeName"] != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    let audiences = request["spec"]["audiences"].as_array().cloned().unwrap_or_default();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => text(one),
        _ => return refuse("node may only request 0 or 1 audiences"),
    };
    if wants_audience(api, &pod, write.namespace, audience) {
        return Ok(Ok(()));
    }
    let asks = rbac::Attributes {
        verb: "request-serviceaccounts-token-audience",
        resource: audience,
        namespace: write.namespace,
        name: write.name,
        ..rbac::Attributes::default()
    };
    if !audience.is_empty() && api.may(user, &asks).await {
        return Ok(Ok(()));
    }
    Ok(Err(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        user.name
    )))
}

/// True when a volume of the pod asks for tokens for the audience.
fn wants_audience(api: &Api, pod: &Value, namespace: &str, audience: &str) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let driver_of = |claim: &str| {
        let claim = api.stored_value(&format!("/registry/persistentvolumeclaims/{namespace}/{claim}"))?;
        let volume = text(&claim["spec"]["volumeName"]).to_owned();
        let volume = api.stored_value(&format!("/registry/persistentvolumes/{volume}"))?;
        Some(text(&volume["spec"]["csi"]["driver"]).to_owned())
    };
    let pod_name = text(&pod["metadata"]["name"]);
    list(&pod["spec"]["volumes"]).iter().any(|volume| {
        let projected = list(&volume["projected"]["sources"]);
        let tokens = projected.iter().map(|s| &s["serviceAccountToken"]).filter(|t| t.is_object());
        if tokens.into_iter().any(|t| text(&t["audience"]) == audience) {
            return true;
        }
        let driver = if volume["csi"].is_object() {
            Some(text(&volume["csi"]["driver"]).to_owned())
        } else if volume["ephemeral"].is_object() {
            driver_of(&format!("{pod_name}-{}", text(&volume["name"])))
        } else {
            volume["persistentVolumeClaim"]["claimName"].as_str().and_then(driver_of)
        };
        let driver = driver.and_then(|d| api.stored_value(&format!("/registry/csidrivers/{d}")));
        driver.is_some_and(|d| list(&d["spec"]["tokenRequests"]).iter().any(|t| text(&t["audience"]) == audience))
    })
}

fn lease(node: &str, write: &Write<'_>) -> Verdict {
    if write.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    if write.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn slice(node: &str, write: &Write<'_>) -> Verdict {
    let of = |slice: Option<&Value>| slice.is_none_or(|slice| slice["spec"]["nodeName"] == node);
    if of(write.new) && of(write.old) {
        return Ok(());
    }
    Err("can only create ResourceSlice with the same NodeName as the requesting node".into())
}

/// A node asks for certificates for itself only.
fn certificate(node: &str, write: &Write<'_>) -> Verdict {
    let (Some(new), None, "") = (write.new, write.old, write.subresource) else { return Ok(()) };
    let signer = text(&new["spec"]["signerName"]);
    if !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let subject = pki::csr::parse(text(&new["spec"]["request"])).map_err(|e| format!("unable to parse csr: {e}"))?;
    let wanted = format!("system:node:{node}");
    if subject.common_name != wanted {
        return Err(format!("can only create a node CSR with CN={wanted}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_steer_workloads_are_not_a_nodes_to_set() {
        let check = |key: &str, wanted: bool| assert_eq!(may_label(key), wanted, "{key}");
        check("team", true);
        check("example.org/team", true);
        check("kubernetes.io/hostname", true);
        check("node.kubernetes.io/anything", true);
        check("sub.kubelet.kubernetes.io/x", true);
        check("node-role.kubernetes.io/control-plane", false);
        check("node-restriction.kubernetes.io/x", false);
        check("a.node-restriction.kubernetes.io/x", false);
        check("k8s.io/x", false);
        check("notkubernetes.io/x", true);
    }
}
