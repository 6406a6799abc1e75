//! Cluster IPs and node ports: allocated for services, one owner each.
//!
//! The store is the truth; what was given out and is not stored yet is remembered until its write ends. The lock is held
//! only while numbers are chosen.

mod objects;
mod ports;
mod ranges;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use object::{Draft, Invalid, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Compare, Op, Txn};

use crate::api::{Api, store_status};
use crate::metrics::addresses as metrics;
use crate::servers::is_shared;
use ranges::{Range, ranges};

pub(crate) use objects::{keep, released};

use ports::Ports;

const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Written with every service that is given numbers, where other servers give out numbers, too: of two that chose without
/// knowing of each other, one must choose again.
const GUARD: &str = "/registry/ranges/services";

/// True for a key whose conflict means that numbers have to be chosen again.
pub(crate) fn is_contended(key: &str) -> bool {
    key == GUARD || key.starts_with(objects::ADDRESSES)
}

/// What is given out but not stored yet, and what was stored at the last look, by key.
#[derive(Default)]
struct Pending {
    ips: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
    stored: HashMap<Arc<str>, Numbers>,
}

/// The configured service network, and what is under way.
pub(crate) struct Addresses {
    own: Range,
    pending: Arc<Mutex<Pending>>,
}

/// Numbers reserved for one write; free again when dropped.
#[derive(Default)]
pub(crate) struct Reserved {
    ips: Vec<Ipv4Addr>,
    ports: Vec<u16>,
    /// Namespace and name of the service.
    owner: [String; 2],
    pending: Option<Arc<Mutex<Pending>>>,
    /// The revision of [`GUARD`] when the numbers were chosen (0: it is not there), if it counts.
    guard: Option<u64>,
}

impl Reserved {
    /// Adds the objects of the addresses to the write. It fails with a conflict on one of them, or on [`GUARD`], if another
    /// server has given out numbers in the meantime: see [`is_contended`].
    pub(crate) fn claim(&self, api: &Api, txn: &mut Txn) -> Result<(), Status> {
        let [namespace, name] = &self.owner;
        for ip in &self.ips {
            txn.compares.push(Compare::Absent(objects::key(*ip)));
            txn.ops.push(Op::Put(objects::key(*ip), objects::draft(api, *ip, namespace, name)?));
        }
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
        Some(Self { own: Range::parse(cidr)?, pending: Arc::default() })
    }

    /// The network, `10.43.0.0/16`.
    pub(crate) fn cidr(&self) -> String {
        self.own.cidr()
    }

    /// The first address: the API's own service.
    pub(crate) fn first(&self) -> Ipv4Addr {
        self.own.first()
    }
}

/// What a stored service holds.
struct Numbers {
    /// The state of the service that they were read from.
    revision: u64,
    ip: Option<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Numbers {
    fn of(service: &Value, revision: u64) -> Self {
        let spec = &service["spec"];
        let all = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        let ports = all.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64);
        Self {
            revision,
            ip: objects::address_of(service),
            ports: ports.filter_map(|port| u16::try_from(port).ok()).collect(),
        }
    }
}

/// Cluster IPs and node ports of stored services, but for `except`'s own, and addresses that are objects. Only services that have
/// changed since the last look are read.
fn taken(api: &Api, pending: &mut Pending, except: &str) -> Result<(HashSet<Ipv4Addr>, HashSet<u16>), Status> {
    let page = api.store.range(objects::SERVICES, None, 0, 0).map_err(|e| store_status(&e))?;
    let mut before = std::mem::take(&mut pending.stored);
    let (mut ips, mut ports) = (HashSet::new(), HashSet::new());
    for item in page.items {
        let known = before.remove(&item.key).filter(|known| known.revision == item.mod_revision);
        let numbers = match known {
            Some(known) => known,
            None => Numbers::of(&item.object.value().map_err(Status::internal)?, item.mod_revision),
        };
        if item.object.head.uid != except {
            ips.extend(numbers.ip);
            ports.extend(&numbers.ports);
        }
        pending.stored.insert(item.key, numbers);
    }
    let page = api.store.range(objects::ADDRESSES, None, 0, 0).map_err(|e| store_status(&e))?;
    let named =
        page.items.iter().filter_map(|item| item.key.strip_prefix(objects::ADDRESSES)?.parse::<Ipv4Addr>().ok());
    ips.extend(named);
    Ok((ips, ports))
}

/// Tells the metrics how much is given out.
pub(crate) fn tell(api: &Api) {
    let taken = taken(api, &mut api.addresses.pending.lock(), "");
    // What cannot be read now is told at the next look.
    let Ok((ips, ports)) = taken else { return };
    let range = usize::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
    for network in ranges(api, api.addresses.own).unwrap_or_default() {
        let given = ips.iter().filter(|ip| network.holds(**ip)).count();
        metrics::told(&network.cidr(), (given, network.hosts()), (ports.len(), range));
    }
}

/// Gives a service what its type needs. A dry run may be told numbers that are not free.
pub(crate) async fn admit(
    api: &Api,
    service: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Reserved, Status> {
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
    let owner = [service["metadata"]["namespace"].as_str().unwrap_or("").to_owned(), name.clone()];
    let mut reserved = Reserved { ips: Vec::new(), ports: Vec::new(), owner, pending, guard };
    if kind == "ExternalName" {
        return Ok(reserved);
    }
    families(service, old).map_err(|errors| Status::invalid("", "Service", &name, &errors))?;
    let spec = &mut service["spec"];
    // Locked before the services are looked at: one that is stored in between is no longer pending.
    let mut pending = api.addresses.pending.lock();
    let began = tokio::time::Instant::now();
    let (ips, ports) = taken(api, &mut pending, &uid)?;
    let networks = ranges(api, api.addresses.own)?;
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
                let Some(network) = networks.iter().find(|network| network.holds(ip)) else {
                    let detail =
                        format!("failed to allocate IP {ip}: the provided network does not match the current range");
                    return Err(invalid(Invalid::invalid(at, &json!([text]), detail)));
                };
                if !dry_run {
                    if ips.contains(&ip) || !pending.ips.insert(ip) {
                        let detail = format!("failed to allocate IP {ip}: provided IP is already allocated");
                        return Err(invalid(Invalid::invalid(at, &json!([text]), detail)));
                    }
                    reserved.ips.push(ip);
                    metrics::allocated(&network.cidr(), true, began.elapsed());
                }
            }
            text.to_owned()
        }
        None => {
            let free = |ip: Ipv4Addr| !ips.contains(&ip) && !pending.ips.contains(&ip);
            let found = networks.iter().find_map(|network| Some((network, network.choose(free)?)));
            let Some((network, ip)) = found else {
                return Err(Status::internal("failed to allocate a serviceIP: range is full"));
            };
            pending.ips.insert(ip);
            reserved.ips.push(ip);
            metrics::allocated(&network.cidr(), false, began.elapsed());
            ip.to_string()
        }
    };
    spec["clusterIP"] = ip.as_str().into();
    spec["clusterIPs"] = json!([ip]);
    let mut given = Ports { taken: &ports, pending: &mut pending, reserved: &mut reserved, dry_run };
    given.give(spec, old).map_err(|refused| refused.status(&name))?;
    Ok(reserved)
}

/// Which families of addresses the service has: here there is IPv4 only.
fn families(service: &mut Value, old: Option<&Value>) -> Result<(), Vec<Invalid>> {
    let before = old.map_or(&Value::Null, |old| &old["spec"]);
    let spec = &mut service["spec"];
    let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty());
    let open_headless = spec["clusterIP"] == "None" && !selects;
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = match before["ipFamilyPolicy"].as_str() {
            Some(policy) => policy.into(),
            None if open_headless => "RequireDualStack".into(),
            None => "SingleStack".into(),
        };
    }
    // Clients of old change the one address and leave the list.
    let given = spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty());
    if old.is_some() && given && spec["clusterIP"] != before["clusterIP"] && spec["clusterIPs"] == before["clusterIPs"]
    {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    if spec["clusterIPs"].is_null() && spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty()) {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    let mut errors = Vec::new();
    kinds::validate_service_addresses(service, old, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let spec = &mut service["spec"];
    for field in ["clusterIP", "clusterIPs", "ipFamilies"] {
        // Looking at what is not there has put a `null` in its place.
        if spec[field].is_null() {
            spec.as_object_mut().and_then(|s| s.remove(field));
        }
    }
    let policy = spec["ipFamilyPolicy"].clone();
    let single = policy == "SingleStack";
    let count = |spec: &Value, field: &str| spec.get(field).and_then(Value::as_array).map_or(0, Vec::len);
    for (field, called) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if single && count(spec, field) == 2 {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {called} are specified");
            errors.push(Invalid::invalid("spec.ipFamilyPolicy", &policy, detail));
        }
    }
    if count(spec, "ipFamilies") == 0 {
        spec["ipFamilies"] = json!(["IPv4"]);
        let all = spec.get("clusterIPs").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, _) in all.iter().enumerate().filter(|(_, ip)| ip.as_str().is_some_and(|ip| ip.contains(':'))) {
            let detail = "IPv6 is not configured on this cluster";
            errors.push(Invalid::invalid(&format!("spec.clusterIPs[{index}]"), &all.clone().into(), detail));
        }
    }
    if open_headless && errors.is_empty() {
        if count(spec, "ipFamilies") < 2 && !single {
            let other = if spec["ipFamilies"][0] == "IPv4" { "IPv6" } else { "IPv4" };
            spec["ipFamilies"] = json!([spec["ipFamilies"][0], other]);
        }
        return Ok(());
    }
    if policy == "RequireDualStack" && errors.is_empty() {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(Invalid::invalid("spec.ipFamilyPolicy", &policy, detail));
    }
    for (index, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate().filter(|(_, f)| *f == "IPv6")
    {
        let at = format!("spec.ipFamilies[{index}]");
        errors.push(Invalid::invalid(&at, family, "not configured on this cluster"));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// An update that does not mention what was allocated keeps it.
fn carry_over(new: &mut Value, old: &Value) {
    let (new, old) = (&mut new["spec"], &old["spec"]);
    if new["type"] == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let empty =
            |v: &Value| v.is_null() || (v == "" && field == "clusterIP") || v.as_array().is_some_and(Vec::is_empty);
        let missing = new.get(field).is_none_or(empty);
        if missing && let Some(value) = old.get(field) {
            new[field] = value.clone();
        }
    }
    if !ports::are_wanted(new) || !ports::are_wanted(old) {
        return;
    }
    // By the port's name, unless another port has the number by now.
    let numbers = |spec: &Value| -> Vec<(String, u64)> {
        let ports = spec["ports"].as_array().into_iter().flatten();
        let number = |port: &Value| port["nodePort"].as_u64().filter(|n| *n != 0);
        ports.filter_map(|p| Some((p["name"].as_str().unwrap_or("").to_owned(), number(p)?))).collect()
    };
    let (was, is) = (numbers(old), numbers(new));
    let Some(ports) = new.get_mut("ports").and_then(Value::as_array_mut) else { return };
    for port in ports.iter_mut().filter(|p| p.get("nodePort").is_none_or(|n| *n == 0)) {
        let name = port["name"].as_str().unwrap_or("");
        let twin = was.iter().rev().find(|(known, _)| known == name).map(|(_, number)| *number);
        if let Some(number) = twin.filter(|number| !is.iter().any(|(_, used)| used == number)) {
            port["nodePort"] = number.into();
        }
    }
}
