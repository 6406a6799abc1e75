//! Approves kubelets' client certificates, for those of whom an access review says that they may have one.
//!
//! A loop of its own, since it asks the API: `certificatesigningrequests/selfnodeclient` for a node that renews its certificate,
//! `.../nodeclient` for whoever introduces a new node.

use base::Tasks;
use client::{Change, Client, Informer, ListOptions, Resource, WorkQueue};
use object::{Gvr, Object, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{KUBELET_CLIENT, View, kubelet_client};
use crate::kinds::CERTIFICATE_REQUESTS;

/// The rights that let a request be approved, and what is said then; the first that is granted counts. None for requests that are
/// not a kubelet's, or decided.
fn rights(view: &View) -> Vec<(&'static str, &'static str)> {
    let is_decided = ["Approved", "Denied"].iter().any(|kind| view.condition(kind).is_some());
    if view.is_issued() || is_decided || view.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(asked) = pki::csr::parse(&view.spec.request) else { return Vec::new() };
    if kubelet_client(&asked, &view.spec.usages).is_err() {
        return Vec::new();
    }
    let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    let new = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    if asked.common_name == view.spec.username { vec![own, new] } else { vec![new] }
}

/// Follows requests as `follow` and approves as `writer`, until `stop` is cancelled.
pub async fn run(follow: Client, writer: Client, stop: CancellationToken) {
    let at = Resource::collection(&CERTIFICATE_REQUESTS.gvr(), None);
    let mut informer = Informer::new(follow, at, ListOptions::default());
    let (mut changes, lister) = (informer.subscribe(), informer.lister());
    let queue: WorkQueue<String> = WorkQueue::new();
    let mut tasks = Tasks::new(&stop);
    let token = tasks.token().clone();
    tasks.spawn("certificate-informer", informer.run(token));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            change = changes.recv() => match change {
                Some(Change::Applied { new, .. }) => queue.add(new.head.name.clone()),
                Some(Change::Deleted(_)) => {}
                None => break,
            },
            Some(name) = queue.get() => {
                match lister.get(&name) {
                    Some(request) => match approve(&writer, &request).await {
                        Ok(()) => queue.forget(&name),
                        Err(error) => {
                            tracing::debug!(name, %error, "a certificate request is looked at again later");
                            queue.add_rate_limited(name.clone());
                        }
                    },
                    None => queue.forget(&name),
                }
                queue.done(&name);
            }
        }
    }
    queue.shut_down();
    tasks.shutdown().await;
}

async fn approve(client: &Client, request: &Object) -> client::Result<()> {
    let view: View = request.view().map_err(Status::internal)?;
    for (right, message) in rights(&view) {
        if !may(client, &view, right).await? {
            continue;
        }
        let mut value = request.value().map_err(Status::internal)?;
        let mut conditions = match value["status"]["conditions"].take() {
            Value::Array(conditions) => conditions,
            _ => Vec::new(),
        };
        conditions.push(json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}));
        value["status"]["conditions"] = conditions.into();
        return client.update(&CERTIFICATE_REQUESTS.at(request).sub("approval"), &value).await.map(drop);
    }
    Ok(())
}

async fn may(client: &Client, view: &View, right: &str) -> client::Result<bool> {
    let reviews = Resource::collection(&Gvr::new("authorization.k8s.io", "v1", "subjectaccessreviews"), None);
    let spec = &view.spec;
    let wanted = json!({"group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
        "subresource": right, "version": "*"});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra.clone().unwrap_or(json!({})),
        "resourceAttributes": wanted}});
    let answer = client.create(&reviews, &review).await?;
    Ok(answer.value().map_err(Status::internal)?["status"]["allowed"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kubelets_requests_are_looked_at() {
        let check = |user: &str, asked_by: &str, signer: &str, conditions: Value, wanted: &[&str]| {
            let (request, _) = pki::csr::request(user, "system:nodes", &[]).unwrap();
            let view: View =
                serde_json::from_value(json!({"spec": {"request": request, "signerName": signer, "username": asked_by,
                "usages": ["client auth", "digital signature"]}, "status": {"conditions": conditions}}))
                .unwrap();
            let found: Vec<&str> = rights(&view).into_iter().map(|(right, _)| right).collect();
            assert_eq!(found, wanted, "{user} {asked_by} {signer}");
        };
        let node = "system:node:n1";
        check(node, node, KUBELET_CLIENT, json!([]), &["selfnodeclient", "nodeclient"]);
        check(node, "system:bootstrap:abcdef", KUBELET_CLIENT, json!([]), &["nodeclient"]);
        check("bob", "bob", KUBELET_CLIENT, json!([]), &[]);
        check(node, node, "kubernetes.io/kube-apiserver-client", json!([]), &[]);
        check(node, node, KUBELET_CLIENT, json!([{"type": "Denied", "status": "True"}]), &[]);
    }
}
