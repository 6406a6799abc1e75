//! The endpoints of the service `kubernetes`: every server that lives, as upstream's lease reconciler keeps them.
//!
//! With a store that servers share, each renews a record of itself. A record counts as long as it changes: clocks of other
//! machines are not asked. Whoever sees an endpoint that is missing or dead puts it right.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use object::{Draft, Status};
use serde_json::{Value, json};
use store::{Compare, Op, Txn};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, store_status};
use crate::bootstrap;

/// Where servers that share a store keep a record of themselves, renewed every five seconds: upstream's place.
pub const SERVER_RECORDS: &str = "/registry/masterleases/";
/// How often a server renews its record.
const RENEW: Duration = Duration::from_secs(5);
/// How long a record counts that does not change: upstream's 15 s.
const LIFE: Duration = Duration::from_secs(15);

/// A record's key and revision.
type Record = (Arc<str>, u64);

/// When each record was last seen to change, by our clock.
#[derive(Default)]
struct Seen(HashMap<Arc<str>, (u64, Instant)>);

impl Seen {
    /// Which of the records (key, revision) still count, and which have not changed for too long.
    fn judge(&mut self, records: &[Record], now: Instant) -> (Vec<Arc<str>>, Vec<Record>) {
        self.0.retain(|key, _| records.iter().any(|(k, _)| k == key));
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for (key, revision) in records {
            let (last, at) = self.0.entry(key.clone()).or_insert((*revision, now));
            if last != revision {
                (*last, *at) = (*revision, now);
            }
            if now.duration_since(*at) < LIFE {
                live.push(key.clone());
            } else {
                dead.push((key.clone(), *revision));
            }
        }
        (live, dead)
    }
}

fn address_of(key: &str) -> Option<Ipv4Addr> {
    key.strip_prefix(SERVER_RECORDS)?.parse().ok()
}

/// Keeps the endpoints right until the token is cancelled; then without this server.
pub(crate) async fn keep(api: Arc<Api>, token: CancellationToken) {
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            () = tokio::time::sleep(RENEW) => {}
        }
        if let Err(status) = round(&api, &mut seen).await {
            tracing::warn!(error = %status, "the endpoints of the service kubernetes are not kept");
        }
    }
    let gone = async {
        let txn = Txn { compares: Vec::new(), ops: vec![Op::Delete(own_key(&api))] };
        api.store.commit(txn).await.map_err(|e| store_status(&e))?;
        reconcile(&api, &mut seen).await
    };
    match tokio::time::timeout(Duration::from_secs(3), gone).await {
        Ok(Ok(())) => {}
        _ => tracing::warn!("this server leaves its endpoint behind"),
    }
}

/// The endpoints at the start of this server.
pub(crate) async fn begin(api: &Api) -> Result<(), Status> {
    if api.advertise.is_loopback() {
        // No endpoint may be a loopback address: nothing but this host could reach it.
        tracing::warn!(
            "the server has no address that pods could reach: the service `kubernetes` stays without endpoints"
        );
        return Ok(());
    }
    if is_shared(api) { round(api, &mut Seen::default()).await } else { publish(api, &[api.advertise].into()).await }
}

/// True when other servers may write to the store.
pub(crate) fn is_shared(api: &Api) -> bool {
    api.store.sync().is_some()
}

fn own_key(api: &Api) -> Arc<str> {
    format!("{SERVER_RECORDS}{}", api.advertise).into()
}

async fn round(api: &Api, seen: &mut Seen) -> Result<(), Status> {
    let mut record = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": api.advertise.to_string(), "annotations": {"renewTime": base::time::now_micros()}},
        "subsets": [{"addresses": [{"ip": api.advertise.to_string()}]}]});
    let draft = Draft::new(&mut record).map_err(Status::internal)?;
    let txn = Txn { compares: Vec::new(), ops: vec![Op::Put(own_key(api), draft)] };
    api.store.commit(txn).await.map_err(|e| store_status(&e))?;
    reconcile(api, seen).await
}

/// Drops dead records and publishes the living.
async fn reconcile(api: &Api, seen: &mut Seen) -> Result<(), Status> {
    let page = api.store.range(SERVER_RECORDS, None, 0, 0).map_err(|e| store_status(&e))?;
    let records: Vec<Record> = page.items.into_iter().map(|v| (v.key, v.mod_revision)).collect();
    let (live, dead) = seen.judge(&records, Instant::now());
    for (key, revision) in dead {
        tracing::info!(key = &*key, "a server is gone");
        let txn = Txn { compares: vec![Compare::ModRevision(key.clone(), revision)], ops: vec![Op::Delete(key)] };
        // Renewed or removed by another one in the meantime: the next round sees.
        let _ = api.store.commit(txn).await;
    }
    publish(api, &live.iter().filter_map(|key| address_of(key)).collect()).await
}

/// The object at a key of the store.
fn stored(api: &Api, key: &str) -> Value {
    api.store.get(key).and_then(|v| v.object.value().ok()).unwrap_or_default()
}

/// Makes these the endpoints, if they are not.
async fn publish(api: &Api, addresses: &BTreeSet<Ipv4Addr>) -> Result<(), Status> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let ports = json!([{"name": "https", "port": api.port, "protocol": "TCP"}]);
    let listed: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let subsets = if listed.is_empty() { json!([]) } else { json!([{"addresses": listed, "ports": ports}]) };
    let metadata = json!({"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
    if stored(api, "/registry/services/endpoints/default/kubernetes")["subsets"] != subsets {
        let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
        bootstrap::replace(api, endpoints).await?;
    }
    let slice = stored(api, "/registry/endpointslices/default/kubernetes");
    let listed_there = slice["endpoints"].as_array().into_iter().flatten();
    let present: Vec<&str> = listed_there.filter_map(|e| e["addresses"][0].as_str()).collect();
    if slice.is_null() || present != addresses || slice["ports"] != ports {
        let listed: Vec<Value> =
            addresses.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        let metadata = json!({"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}});
        bootstrap::replace(
            api,
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "endpoints": listed, "ports": ports}),
        )
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_while_it_changes() {
        let mut seen = Seen::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let both = |of_a, of_b| [(a.clone(), of_a), (b.clone(), of_b)];
        assert_eq!(seen.judge(&both(1, 2), start).0.len(), 2, "nobody is dead at first sight");
        assert_eq!(seen.judge(&both(3, 2), later(10)).0.len(), 2);
        let (live, dead) = seen.judge(&both(4, 2), later(16));
        assert_eq!((live, dead), (vec![a.clone()], vec![(b.clone(), 2)]));
        assert_eq!(seen.judge(&both(4, 9), later(17)).0.len(), 2, "it has come back");
        assert_eq!(seen.judge(&[(b.clone(), 9)], later(18)).0, std::slice::from_ref(&b));
        assert_eq!(address_of("/registry/masterleases/192.0.2.7"), Some(Ipv4Addr::new(192, 0, 2, 7)));
    }
}
