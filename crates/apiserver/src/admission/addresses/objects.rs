//! One `networking.k8s.io/v1 IPAddress` for each cluster IP, written and removed with its service (KEP-1880).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use kinds::Kind;
use object::{Draft, Gvk, Status};
use serde_json::{Value, json};
use store::{Compare, Op, Txn, Versioned};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, store_status};

pub(super) const ADDRESSES: &str = "/registry/ipaddresses/";
pub(super) const SERVICES: &str = "/registry/services/specs/";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// How often addresses and services are compared.
const REPAIR: Duration = Duration::from_secs(30);
/// Seconds for which an address may wait for its service: other servers may write them one after the other.
const GRACE: i64 = 60;

pub(super) fn key(ip: Ipv4Addr) -> Arc<str> {
    format!("{ADDRESSES}{ip}").into()
}

/// The address of a service that has one.
pub(super) fn address_of(service: &Value) -> Option<Ipv4Addr> {
    service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok())
}

/// The object of an address.
pub(super) fn draft(api: &Api, ip: Ipv4Addr, namespace: &str, service: &str) -> Result<Draft, Status> {
    let gvk = Gvk::new("networking.k8s.io", "v1", "IPAddress");
    let kind = kinds::table().by_gvk(&gvk).ok_or_else(|| Status::internal(format!("no kind {gvk}")))?;
    let now = base::time::now();
    let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now,
            "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", MANAGED_BY: MANAGER},
            "managedFields": [{"manager": "kube-apiserver", "operation": "Update", "apiVersion": "networking.k8s.io/v1",
                "time": now, "fieldsType": "FieldsV1", "fieldsV1": {
                    "f:metadata": {"f:labels": {".": {}, "f:ipaddress.kubernetes.io/ip-family": {},
                        "f:ipaddress.kubernetes.io/managed-by": {}}},
                    "f:spec": {"f:parentRef": {".": {}, "f:name": {}, "f:namespace": {}, "f:resource": {}}}}}]},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}}});
    api.draft(kind, &mut object)
}

/// What goes when a service changes, or goes itself.
pub(crate) fn released(kind: &Kind, old: &Value, new: Option<&Value>) -> Option<Op> {
    if kind.kind != "Service" || !kind.group.is_empty() {
        return None;
    }
    let held = address_of(old)?;
    (new.and_then(address_of) != Some(held)).then(|| Op::Delete(key(held)))
}

/// Puts right what others did to addresses, and gives those to services that are older than addresses, until the token is
/// cancelled.
pub(crate) async fn keep(api: Arc<Api>, token: CancellationToken) {
    loop {
        if let Err(status) = repair(&api).await {
            tracing::warn!(error = %status, "the addresses of services are not kept");
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(REPAIR) => {}
        }
    }
}

async fn repair(api: &Api) -> Result<(), Status> {
    let all = |prefix: &str| api.store.range(prefix, None, 0, 0).map(|page| page.items).map_err(|e| store_status(&e));
    // Services last: who has an address by now had its service before.
    let addresses: HashMap<Arc<str>, Versioned> = all(ADDRESSES)?.into_iter().map(|a| (a.key.clone(), a)).collect();
    let mut owners: HashMap<Arc<str>, Versioned> = HashMap::new();
    for service in all(SERVICES)? {
        let value = service.object.value().map_err(Status::internal)?;
        if let Some(ip) = address_of(&value) {
            owners.entry(key(ip)).or_insert(service);
        }
    }
    for (key, service) in &owners {
        let head = &service.object.head;
        let Some(Ok(ip)) = key.strip_prefix(ADDRESSES).map(str::parse::<Ipv4Addr>) else { continue };
        let compare = match addresses.get(key) {
            None => Compare::Absent(key.clone()),
            Some(address) if refers(address, &head.namespace, &head.name)? => continue,
            Some(address) => Compare::ModRevision(key.clone(), address.mod_revision),
        };
        tracing::warn!(%ip, namespace = head.namespace, service = head.name, "a cluster IP was not allocated; repairing");
        let ops = vec![Op::Put(key.clone(), draft(api, ip, &head.namespace, &head.name)?)];
        let unchanged = Compare::ModRevision(service.key.clone(), service.mod_revision);
        settle(api, Txn { compares: vec![compare, unchanged], ops }).await?;
    }
    let now = base::time::now_seconds();
    for (key, address) in addresses.iter().filter(|(key, _)| !owners.contains_key(*key)) {
        let value = address.object.value().map_err(Status::internal)?;
        let created = value["metadata"]["creationTimestamp"].as_str().and_then(base::time::parse_seconds);
        if value["metadata"]["labels"][MANAGED_BY] == MANAGER && created.is_none_or(|at| at + GRACE < now) {
            tracing::warn!(key = &**key, "an address has leaked: cleaning up");
            let compares = vec![Compare::ModRevision(key.clone(), address.mod_revision)];
            settle(api, Txn { compares, ops: vec![Op::Delete(key.clone())] }).await?;
        }
    }
    Ok(())
}

fn refers(address: &Versioned, namespace: &str, name: &str) -> Result<bool, Status> {
    let value = address.object.value().map_err(Status::internal)?;
    let parent = &value["spec"]["parentRef"];
    Ok(parent["resource"] == "services" && parent["namespace"] == namespace && parent["name"] == name)
}

/// Who was faster is right: the next look sees it.
async fn settle(api: &Api, txn: Txn) -> Result<(), Status> {
    match api.store.commit(txn).await {
        Ok(_) | Err(store::StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(store_status(&error)),
    }
}
