//! Cluster IPs and node ports: allocated for services, one owner each.
//!
//! The store is the truth; what was given out and is not stored yet is remembered until its write ends. The lock is held
//! only while numbers are chosen.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use object::{Draft, Invalid, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Compare, Op, Txn};

use crate::api::{Api, store_status};
use crate::servers::is_shared;

const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Written with every service that is given numbers, where other servers give out numbers, too: of two that chose without
/// knowing of each other, one must choose again.
pub(crate) const GUARD: &str = "/registry/ranges/services";

/// What is given out but not stored yet.
#[derive(Default)]
struct Pending {
    ips: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

/// The service network, and what is under way.
pub(crate) struct Addresses {
    base: u32,
    size: u32,
    pending: Arc<Mutex<Pending>>,
}

/// Numbers reserved for one write; free again when dropped.
#[derive(Default)]
pub(crate) struct Reserved {
    ips: Vec<Ipv4Addr>,
    ports: Vec<u16>,
    pending: Option<Arc<Mutex<Pending>>>,
    /// The revision of [`GUARD`] when the numbers were chosen (0: it is not there), if it counts.
    guard: Option<u64>,
}

impl Reserved {
    /// Makes the write fail with a conflict on [`GUARD`] if another server has given out numbers in the meantime.
    pub(crate) fn guard(&self, txn: &mut Txn) -> Result<(), Status> {
        let Some(revision) = self.guard.filter(|_| !self.ips.is_empty() || !self.ports.is_empty()) else {
            return Ok(());
        };
        let mut value = json!({"apiVersion": "v1", "kind": "RangeAllocation", "metadata": {"name": "services"}});
        let draft = Draft::new(&mut value).map_err(Status::internal)?;
        txn.compares.push(match revision {
            0 => Compare::Absent(GUARD.into()),
            revision => Compare::ModRevision(GUARD.into(), revision),
        });
        txn.ops.push(Op::Put(GUARD.into(), draft));
        Ok(())
    }

    /// The write succeeded: the store remembers from now on.
    pub(crate) fn keep(self) {
        drop(self);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(pending) = &self.pending {
            let mut pending = pending.lock();
            pending.ips.retain(|ip| !self.ips.contains(ip));
            pending.ports.retain(|port| !self.ports.contains(port));
        }
    }
}

impl Addresses {
    /// The network `10.43.0.0/16`; `None` when it is no IPv4 network.
    pub(crate) fn new(cidr: &str) -> Option<Self> {
        let (address, prefix) = cidr.split_once('/')?;
        let prefix: u32 = prefix.parse().ok().filter(|p| (1..=30).contains(p))?;
        let size = 1u32 << (32 - prefix);
        let base = u32::from(address.parse::<Ipv4Addr>().ok()?) & !(size - 1);
        Some(Self { base, size, pending: Arc::default() })
    }

    /// The network, `10.43.0.0/16`.
    pub(crate) fn cidr(&self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), 32 - self.size.trailing_zeros())
    }

    /// The first address: the API's own service.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip).wrapping_sub(self.base) < self.size
    }
}

/// Cluster IPs and node ports of stored services, but for `except`'s own.
fn taken(api: &Api, except: &str) -> Result<(HashSet<Ipv4Addr>, HashSet<u16>), Status> {
    let page = api.store.range("/registry/services/specs/", None, 0, 0).map_err(|e| store_status(&e))?;
    let (mut ips, mut ports) = (HashSet::new(), HashSet::new());
    for item in page.items.into_iter().filter(|v| v.object.head.uid != except) {
        let service = item.object.value().map_err(Status::internal)?;
        ips.extend(service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
        let all = service["spec"]["ports"].as_array().into_iter().flatten();
        ports.extend(all.filter_map(|p| p["nodePort"].as_u64()).filter_map(|p| u16::try_from(p).ok()));
        ports.extend(service["spec"]["healthCheckNodePort"].as_u64().and_then(|p| u16::try_from(p).ok()));
    }
    Ok((ips, ports))
}

/// Gives a service what its type needs, and takes away what it does not.
pub(crate) async fn admit(api: &Api, service: &mut Value, old: Option<&Value>) -> Result<Reserved, Status> {
    if let Some(old) = old {
        carry_over(service, old);
    }
    let kind = service["spec"]["type"].as_str().unwrap_or("").to_owned();
    let name = service["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let uid = service["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let invalid = |error: Invalid| Status::invalid("", "Service", &name, &[error]);
    // Looked at before the services are.
    let guard = is_shared(api).then(|| api.store.get(GUARD).map_or(0, |v| v.mod_revision));
    let pending = Some(api.addresses.pending.clone());
    let mut reserved = Reserved { ips: Vec::new(), ports: Vec::new(), pending, guard };
    let spec = &mut service["spec"];
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.as_object_mut().and_then(|s| s.remove(field));
        }
        return Ok(reserved);
    }
    let (ips, ports) = taken(api, &uid)?;
    let mut pending = api.addresses.pending.lock();
    let given = match spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()) {
        Some(ip) => Some(ip.to_owned()),
        None => spec["clusterIPs"][0].as_str().filter(|ip| !ip.is_empty()).map(Into::into),
    };
    let unchanged = old.is_some_and(|o| o["spec"]["clusterIP"].as_str() == given.as_deref() && given.is_some());
    let ip = match given.as_deref() {
        Some("None") => "None".to_owned(),
        Some(text) if unchanged => text.to_owned(),
        Some(text) => {
            // A malformed address is validation's to report.
            if let Ok(ip) = text.parse::<Ipv4Addr>() {
                let at = "spec.clusterIPs";
                if !api.addresses.contains(ip) {
                    let detail =
                        format!("failed to allocate IP {ip}: the provided network does not match the current range");
                    return Err(invalid(Invalid::invalid(at, &json!([text]), detail)));
                }
                if ips.contains(&ip) || !pending.ips.insert(ip) {
                    let detail = format!("failed to allocate IP {ip}: provided IP is already allocated");
                    return Err(invalid(Invalid::invalid(at, &json!([text]), detail)));
                }
                reserved.ips.push(ip);
            }
            text.to_owned()
        }
        None => {
            // The first sixteenth (256 at most) is left to those who ask for an address by name (KEP-3070).
            let low = (api.addresses.size / 16).clamp(16.min(api.addresses.size / 2), 256);
            let free = |n: &u32| {
                let ip = Ipv4Addr::from(api.addresses.base + n);
                !ips.contains(&ip) && !pending.ips.contains(&ip)
            };
            let upper = api.addresses.size - 1;
            let start = rand::random_range(low..upper);
            let found = (start..upper).chain(low..start).chain(2..low).find(free);
            let Some(n) = found else {
                return Err(Status::internal("failed to allocate a serviceIP: range is full"));
            };
            let ip = Ipv4Addr::from(api.addresses.base + n);
            pending.ips.insert(ip);
            reserved.ips.push(ip);
            ip.to_string()
        }
    };
    spec["clusterIP"] = ip.as_str().into();
    spec["clusterIPs"] = json!([ip]);
    for (field, value) in [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", json!("SingleStack"))] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    let wants_ports = kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
    node_ports(spec, wants_ports, old, &ports, &mut pending, &mut reserved).map_err(invalid)?;
    Ok(reserved)
}

fn node_ports(
    spec: &mut Value,
    wanted: bool,
    old: Option<&Value>,
    taken: &HashSet<u16>,
    pending: &mut Pending,
    reserved: &mut Reserved,
) -> Result<(), Invalid> {
    let had: Vec<u64> = old
        .iter()
        .flat_map(|o| o["spec"]["ports"].as_array().into_iter().flatten())
        .filter_map(|p| p["nodePort"].as_u64())
        .collect();
    let mut mine: Vec<(u16, String)> = Vec::new();
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else { return Ok(()) };
    for (index, port) in ports.iter_mut().enumerate() {
        let given = port["nodePort"].as_u64().filter(|p| *p != 0);
        port.as_object_mut().and_then(|p| p.remove("nodePort"));
        if !wanted {
            continue;
        }
        let at = format!("spec.ports[{index}].nodePort");
        let protocol = port["protocol"].as_str().unwrap_or("").to_owned();
        let number = match given {
            Some(number) => {
                let shown: Value = number.into();
                let valid = u16::try_from(number).ok().filter(|n| NODE_PORTS.contains(n));
                let Some(valid) = valid else {
                    let detail = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        NODE_PORTS.start(),
                        NODE_PORTS.end()
                    );
                    return Err(Invalid::invalid(&at, &shown, detail));
                };
                // The same number may serve TCP and UDP of one service.
                let shared = mine.iter().any(|(n, p)| *n == valid && *p != protocol);
                if !shared && !had.contains(&number) {
                    if taken.contains(&valid) || !pending.ports.insert(valid) {
                        return Err(Invalid::invalid(&at, &shown, "provided port is already allocated"));
                    }
                    reserved.ports.push(valid);
                }
                valid
            }
            None => {
                let span = u32::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
                let start = rand::random_range(0..span);
                let candidates =
                    (0..span).filter_map(|n| u16::try_from(u32::from(*NODE_PORTS.start()) + (start + n) % span).ok());
                let mut free = candidates.filter(|n| !taken.contains(n) && !pending.ports.contains(n));
                let Some(number) = free.next() else {
                    return Err(Invalid::invalid(&at, &0.into(), "failed to allocate a nodePort: range is full"));
                };
                drop(free);
                pending.ports.insert(number);
                reserved.ports.push(number);
                number
            }
        };
        port["nodePort"] = number.into();
        mine.push((number, protocol));
    }
    Ok(())
}

/// An update that does not mention what was allocated keeps it.
fn carry_over(new: &mut Value, old: &Value) {
    let (new, old) = (&mut new["spec"], &old["spec"]);
    if new["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let missing = new.get(field).is_none_or(|v| v.is_null() || v == "" || v.as_array().is_some_and(Vec::is_empty));
        if missing && let Some(value) = old.get(field) {
            new[field] = value.clone();
        }
    }
    if new["type"] == "ClusterIP" {
        return;
    }
    let Some(ports) = new.get_mut("ports").and_then(Value::as_array_mut) else { return };
    for port in ports.iter_mut().filter(|p| p.get("nodePort").is_none_or(|n| *n == 0)) {
        let twin = old["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        if let Some(number) = twin.and_then(|t| t.get("nodePort")) {
            port["nodePort"] = number.clone();
        }
    }
}
