//! CertificateSigningRequests: kubelets' are approved when an access review says so, approved ones of Kubernetes' own signers are
//! signed, old ones are removed.

pub mod approving;
pub mod cleaning;
pub mod signing;

use pki::csr::Request;
use serde::Deserialize;

/// The service account of all three.
const NAME: &str = "certificate-controller";

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// What these controllers read of a request.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct View {
    spec: Spec,
    status: State,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    request: String,
    signer_name: String,
    usages: Vec<String>,
    expiration_seconds: Option<u64>,
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: Option<serde_json::Value>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct State {
    certificate: String,
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_update_time: Option<String>,
}

impl View {
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == kind)
    }

    fn is_issued(&self) -> bool {
        !self.status.certificate.is_empty()
    }
}

/// What a signer demands of a request, in upstream's words when it is not met. `None` for signers that are not Kubernetes' own.
fn check(signer: &str, request: &Request, usages: &[String]) -> Option<Result<(), String>> {
    match signer {
        CLIENT => Some(client(usages)),
        KUBELET_CLIENT => Some(kubelet_client(request, usages)),
        KUBELET_SERVING => Some(kubelet_serving(request, usages)),
        _ => None,
    }
}

fn client(usages: &[String]) -> Result<(), String> {
    if let Some(other) =
        usages.iter().find(|u| !matches!(u.as_str(), "digital signature" | "key encipherment" | "client auth"))
    {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|u| u == "client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".into())
}

fn of_node(request: &Request, usages: &[String], purpose: &str) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|u| u == usage);
    let count = 2 + usize::from(has("key encipherment"));
    if !(has("digital signature") && has(purpose) && usages.len() == count) {
        let mut all = ["digital signature", "key encipherment", purpose];
        all.sort_unstable();
        return Err(format!("usages did not match [{}]", all.join(" ")));
    }
    if !request.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with \"system:node:\"".into());
    }
    Ok(())
}

fn organization(request: &Request) -> Result<(), String> {
    if request.organizations == ["system:nodes"] {
        return Ok(());
    }
    Err("subject organization is not system:nodes".into())
}

fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    organization(request)?;
    let sans = [
        (request.dns_names, "DNS subjectAltNames are not allowed"),
        (request.emails, "Email subjectAltNames are not allowed"),
        (request.addresses, "IP subjectAltNames are not allowed"),
        (request.uris, "URI subjectAltNames are not allowed"),
    ];
    if let Some((_, why)) = sans.iter().find(|(count, _)| *count > 0) {
        return Err((*why).into());
    }
    of_node(request, usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    organization(request)?;
    if request.dns_names == 0 && request.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if request.emails > 0 {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if request.uris > 0 {
        return Err("URI subjectAltNames are not allowed".into());
    }
    of_node(request, usages, "server auth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signers_demand() {
        let node = Request {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            ..Request::default()
        };
        let check = |signer: &str, request: &Request, usages: &[&str], wanted: Result<(), &str>| {
            let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
            let found = super::check(signer, request, &usages).unwrap();
            assert_eq!(found, wanted.map_err(str::to_owned), "{signer} {usages:?}");
        };
        check(CLIENT, &node, &["client auth", "digital signature"], Ok(()));
        check(CLIENT, &node, &["server auth"], Err("invalid usage for client certificate: server auth"));
        check(CLIENT, &node, &[], Err("missing required usage for client certificate: client auth"));
        check(KUBELET_CLIENT, &node, &["client auth", "digital signature"], Ok(()));
        check(KUBELET_CLIENT, &node, &["client auth", "digital signature", "key encipherment"], Ok(()));
        let named = Request { dns_names: 1, ..node.clone() };
        check(KUBELET_CLIENT, &named, &["client auth"], Err("DNS subjectAltNames are not allowed"));
        check(KUBELET_SERVING, &named, &["server auth", "digital signature"], Ok(()));
        check(KUBELET_SERVING, &node, &["server auth"], Err("DNS or IP subjectAltName is required"));
        let bob = Request { common_name: "bob".into(), ..named };
        check(
            KUBELET_SERVING,
            &bob,
            &["server auth", "digital signature"],
            Err("subject common name does not begin with \"system:node:\""),
        );
        let masters = Request { organizations: vec!["system:nodes".into(), "system:masters".into()], ..node };
        check(KUBELET_CLIENT, &masters, &["client auth"], Err("subject organization is not system:nodes"));
        assert!(super::check("example.org/x", &bob, &[]).is_none());
    }
}
