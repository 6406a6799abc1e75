//! What every cluster begins with: namespaces, policy, priority classes, flow control objects, the API's own service.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use client::Resource;
use futures::StreamExt;
use object::{Gvk, Gvr, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::user::User;
use crate::write::{Body, Part, WriteQuery};

const OBJECTS: &str = include_str!("../data/bootstrap.json");

/// The pause before first namespaces that could not be made are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Creates what is missing. Present objects stay as their owners left them.
pub(crate) async fn run(api: &Api) -> Result<(), Status> {
    namespaces(api).await?;
    let rest: Vec<Value> = serde_json::from_str(OBJECTS).map_err(Status::internal)?;
    // All at once: they share the store's syncs.
    let objects = rbac::bootstrap_objects().into_iter().chain(rest);
    futures::future::try_join_all(objects.map(|object| ensure(api, object))).await?;
    aggregate(api).await?;
    api.reload_policy();
    trust(api).await?;
    track_legacy_tokens(api).await?;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    ensure(api, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": api.addresses.first().to_string(), "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": api.port}]}}))
        .await?;
    service_network(api).await
}

/// The default schemas and levels of priority and fairness.
pub(crate) fn flow_objects() -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(OBJECTS).unwrap_or_default();
    all.into_iter().filter(|o| o["apiVersion"] == "flowcontrol.apiserver.k8s.io/v1").collect()
}

async fn namespaces(api: &Api) -> Result<(), Status> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(api, namespace).await?;
    }
    Ok(())
}

/// Makes the first namespaces again when somebody deletes them (nodes keep their leases in one), until the token is
/// cancelled.
pub(crate) async fn keep_namespaces(api: Arc<Api>, token: CancellationToken) {
    loop {
        // Watched from before the look, so that no deletion falls between the two.
        let Ok(mut changes) = api.store.watch("/registry/namespaces/", api.store.revision()) else { return };
        let made = namespaces(&api).await;
        if let Err(error) = &made {
            tracing::warn!(%error, "the first namespaces cannot be made");
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(AGAIN), if made.is_err() => {}
            // The stream ends only with the store.
            change = changes.next() => if change.is_none() { return },
        }
    }
}

/// Since when the use of tokens in Secrets is noted: what was not used since may be removed one day.
async fn track_legacy_tokens(api: &Api) -> Result<(), Status> {
    let metadata = json!({"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"});
    let data = json!({"since": base::time::now()[..10]});
    ensure(api, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})).await
}

/// What extension API servers and joining nodes must know to believe this one.
async fn trust(api: &Api) -> Result<(), Status> {
    let (client_ca, proxy_ca) = (api.pki.client_ca.certificate_pem(), api.pki.front_proxy_ca.certificate_pem());
    let list = |name: &str| json!([name]).to_string();
    replace(
        api,
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": client_ca, "requestheader-client-ca-file": proxy_ca,
            "requestheader-allowed-names": list(pki::FRONT_PROXY),
            "requestheader-username-headers": list("X-Remote-User"), "requestheader-uid-headers": list("X-Remote-Uid"),
            "requestheader-group-headers": list("X-Remote-Group"),
            "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
        }}),
    )
    .await?;
    let ca = base64::engine::general_purpose::STANDARD.encode(api.pki.server_ca.certificate_pem());
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": {
        "certificate-authority-data": ca, "server": format!("https://{}:{}", api.advertise, api.port)}}],
        "contexts": null, "current-context": "", "preferences": {}, "users": null});
    let metadata = json!({"name": "cluster-info", "namespace": "kube-public"});
    let data = json!({"kubeconfig": kubeconfig.to_string()});
    ensure(api, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})).await
}

pub(crate) fn place(object: &Value) -> Result<Resource, Status> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let gvk = Gvk::from_api_version(&text(&object["apiVersion"]), &text(&object["kind"]));
    let kind = kinds::table().by_gvk(&gvk).ok_or_else(|| Status::internal(format!("no kind {gvk}")))?;
    let gvr: Gvr = kind.gvr();
    Ok(Resource::object(&gvr, object["metadata"]["namespace"].as_str(), &text(&object["metadata"]["name"])))
}

/// The network of the services, as an object of the API.
async fn service_network(api: &Api) -> Result<(), Status> {
    let network = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [api.addresses.cidr()]}});
    ensure(api, network.clone()).await?;
    let at = place(&network)?;
    let ready = |old: &Value| {
        let mut new = old.clone();
        if old["status"]["conditions"].as_array().is_none_or(Vec::is_empty) {
            new["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "",
                "message": "Kubernetes default Service CIDR is ready", "lastTransitionTime": base::time::now()}]);
        }
        Ok(new)
    };
    let kind = &*api.stored_kind_of(&at.gvr)?;
    api.change(&User::superuser(), kind, &at, Part::Status, &WriteQuery::default(), ready).await.map(drop)
}

pub(crate) async fn ensure(api: &Api, object: Value) -> Result<(), Status> {
    let at = place(&object)?;
    if api.get(&at).is_ok() {
        return Ok(());
    }
    let bytes = Bytes::from(object.to_string());
    let body = Body { bytes: &bytes, content_type: "application/json" };
    let collection = Resource { name: None, ..at.clone() };
    match api.create(&User::superuser(), &collection, body, &WriteQuery::default()).await {
        Ok(_) => Ok(()),
        Err(status) => {
            // Another server may have made it meanwhile, and taken its address; what follows must see it here.
            api.fresh(None).await?;
            api.get(&at).map(drop).map_err(|_| status)
        }
    }
}

pub(crate) async fn replace(api: &Api, object: Value) -> Result<(), Status> {
    ensure(api, object.clone()).await?;
    let at = place(&object)?;
    let kind = &*api.stored_kind_of(&at.gvr)?;
    let change = |old: &Value| {
        let mut new = object.clone();
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        Ok(new)
    };
    api.change(&User::superuser(), kind, &at, Part::Main, &WriteQuery::default(), change).await.map(drop)
}

fn roles_gvr() -> Gvr {
    Gvr::new("rbac.authorization.k8s.io", "v1", "clusterroles")
}

/// Fills in the rules of aggregated roles, so that the default policy is whole before any controller runs.
async fn aggregate(api: &Api) -> Result<(), Status> {
    let roles = roles_gvr();
    let kind = &*api.stored_kind_of(&roles)?;
    // Roles aggregate roles that aggregate: admin gathers edit, which gathers view.
    for _ in 0..3 {
        let all = api.list(&Resource::collection(&roles, None), &Default::default())?;
        let mut changes = Vec::new();
        for role in &all.items {
            let value = role.value().map_err(Status::internal)?;
            let rules = rbac::aggregate(&value, all.items.iter().map(|o| &**o));
            let Some(rules) = rules.filter(|rules| *rules != value["rules"]) else { continue };
            changes.push(async move {
                let at = Resource::object(&roles_gvr(), None, &role.head.name);
                let change = |old: &Value| {
                    let mut new = old.clone();
                    new["rules"] = rules.clone();
                    Ok(new)
                };
                api.change(&User::superuser(), kind, &at, Part::Main, &WriteQuery::default(), change).await
            });
        }
        if changes.is_empty() {
            return Ok(());
        }
        futures::future::try_join_all(changes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_cluster_begins_with_is_valid() {
        let rest: Vec<Value> = serde_json::from_str(OBJECTS).unwrap();
        for mut object in rbac::bootstrap_objects().into_iter().chain(rest) {
            let at = place(&object).unwrap();
            let kind = kinds::table().by_gvr(&at.gvr).unwrap();
            (kind.rules.default)(&mut object);
            (kind.rules.prepare_create)(&mut object);
            let mut errors = Vec::new();
            kinds::validate_metadata(kind, &object, None, &mut errors);
            (kind.rules.validate)(&object, None, &mut errors);
            assert!(errors.is_empty(), "{}: {errors:?}", object["metadata"]["name"]);
        }
    }
}
