//! What a name in the cluster domain stands for. Pure: caches in, records out.

use std::net::Ipv4Addr;
use std::sync::Arc;

use client::Lister;
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use object::Object;
use serde::Deserialize;

/// Version of the specification that `dns-version.<domain>` announces.
const SCHEMA_VERSION: &str = "1.1.0";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What there is to say about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records of the name asked for.
    Records(Vec<RData>),
    /// The name is an alias: go on with this one.
    Alias(Name),
    /// The name exists, but has no record of this type.
    NoData,
    /// The cluster domain has no such name.
    NoName,
    /// Not a name of the cluster domain.
    NotOurs,
}

/// The cluster domain.
#[derive(Clone)]
pub struct Zone {
    /// `cluster.local`, lower case, without the final dot.
    domain: String,
    services: Lister,
    slices: Lister,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceView {
    spec: SpecView,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecView {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    external_name: String,
    ports: Vec<PortView>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PortView {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SliceView {
    ports: Option<Vec<PortView>>,
    endpoints: Option<Vec<EndpointView>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EndpointView {
    addresses: Vec<String>,
    hostname: Option<String>,
    conditions: ConditionsView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConditionsView {
    ready: Option<bool>,
}

/// One address behind a headless service.
struct Member {
    address: Ipv4Addr,
    /// Its label below the service: the pod's hostname, or the address with dashes.
    label: String,
}

impl Zone {
    /// The zone `domain`, answered from these caches.
    pub fn new(domain: &str, services: Lister, slices: Lister) -> Self {
        Self { domain: domain.trim_end_matches('.').to_ascii_lowercase(), services, slices }
    }

    /// Answers a question about `name` (any case, with or without the final dot).
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            return self.reverse(reversed, kind);
        }
        let Some(relative) = name.strip_suffix(&self.domain) else { return Answer::NotOurs };
        let labels: Vec<&str> = match relative.strip_suffix('.') {
            Some(relative) => relative.rsplit('.').collect(),
            None if relative.is_empty() => Vec::new(),
            None => return Answer::NotOurs,
        };
        match labels.as_slice() {
            [] if kind == RecordType::SOA => Answer::Records(vec![RData::SOA(self.soa())]),
            [] | ["svc"] | ["pod"] => Answer::NoData,
            ["dns-version"] if kind == RecordType::TXT => {
                Answer::Records(vec![RData::TXT(TXT::new(vec![SCHEMA_VERSION.into()]))])
            }
            ["dns-version"] => Answer::NoData,
            ["svc", namespace] if self.services.list_namespace(namespace).is_empty() => Answer::NoName,
            ["svc", _] => Answer::NoData,
            ["svc", namespace, service, rest @ ..] => self.service(namespace, service, rest, kind),
            ["pod", _, dashed] => match dashed.replace('-', ".").parse::<Ipv4Addr>() {
                Ok(address) => of_type(vec![RData::A(A(address))], kind, RecordType::A),
                Err(_) => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    /// `rest` are the labels below the service, nearest first: nothing, a hostname, or protocol and port name.
    fn service(&self, namespace: &str, service: &str, rest: &[&str], kind: RecordType) -> Answer {
        let Some(object) = self.services.get(&format!("{namespace}/{service}")) else { return Answer::NoName };
        let Ok(view) = object.view::<ServiceView>() else { return Answer::NoName };
        if view.spec.kind == "ExternalName" {
            let target = Name::from_ascii(&view.spec.external_name).map(|mut n| {
                n.set_fqdn(true);
                n
            });
            return match (rest, target) {
                ([], Ok(target)) if kind == RecordType::CNAME => Answer::Records(vec![RData::CNAME(CNAME(target))]),
                ([], Ok(target)) => Answer::Alias(target),
                _ => Answer::NoName,
            };
        }
        let headless = view.spec.cluster_ip == "None";
        match rest {
            [] if headless => {
                let members = self.members(&object);
                if members.is_empty() {
                    return Answer::NoName;
                }
                of_type(members.iter().map(|m| RData::A(A(m.address))).collect(), kind, RecordType::A)
            }
            [] => match view.spec.cluster_ip.parse() {
                Ok(address) => of_type(vec![RData::A(A(address))], kind, RecordType::A),
                Err(_) => Answer::NoData,
            },
            [label] if headless && !label.starts_with('_') => {
                let found = self.members(&object).into_iter().filter(|m| m.label == **label);
                let records: Vec<RData> = found.map(|m| RData::A(A(m.address))).collect();
                if records.is_empty() { Answer::NoName } else { of_type(records, kind, RecordType::A) }
            }
            [protocol, port] if protocol.starts_with('_') && port.starts_with('_') => {
                self.ports(&object, &view.spec, &protocol[1..], &port[1..], kind)
            }
            _ => Answer::NoName,
        }
    }

    /// SRV records of a named port.
    fn ports(&self, service: &Object, spec: &SpecView, protocol: &str, port: &str, kind: RecordType) -> Answer {
        let wanted = |p: &PortView| {
            p.name.as_deref() == Some(port) && p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
        };
        let own = format!("{}.{}.svc.{}.", service.head.name, service.head.namespace, self.domain);
        let srv =
            |port: u16, target: String| Name::from_ascii(target).ok().map(|t| RData::SRV(SRV::new(0, 100, port, t)));
        let records: Vec<RData> = if spec.cluster_ip == "None" {
            let slices = self.slices_of(service);
            let ports = slices.iter().flat_map(|s| s.ports.iter().flatten()).filter(|p| wanted(p)).find_map(|p| p.port);
            let members = self.members(service);
            members.iter().filter_map(|m| srv(ports?, format!("{}.{own}", m.label))).collect()
        } else {
            let found = spec.ports.iter().filter(|p| wanted(p)).filter_map(|p| p.port);
            found.filter_map(|number| srv(number, own.clone())).collect()
        };
        if records.is_empty() { Answer::NoName } else { of_type(records, kind, RecordType::SRV) }
    }

    fn slices_of(&self, service: &Object) -> Vec<SliceView> {
        let mine = |o: &Arc<Object>| o.head.labels.get(SERVICE_NAME) == Some(&*service.head.name);
        let slices = self.slices.list_namespace(&service.head.namespace);
        slices.into_iter().filter(mine).filter_map(|o| o.view().ok()).collect()
    }

    /// The ready addresses of a service (the controller counts unready ones as ready where the service publishes them).
    fn members(&self, service: &Object) -> Vec<Member> {
        let slices = self.slices_of(service);
        let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
        let mut members: Vec<Member> = endpoints
            .filter(|e| e.conditions.ready.unwrap_or(true))
            .filter_map(|e| {
                let address: Ipv4Addr = e.addresses.first()?.parse().ok()?;
                let label = e.hostname.clone().unwrap_or_else(|| address.to_string().replace('.', "-"));
                Some(Member { address, label })
            })
            .collect();
        members.sort_by_key(|m| m.address);
        members.dedup_by_key(|m| m.address);
        members
    }

    /// Reverse names of cluster IPs and of named members of headless services.
    fn reverse(&self, reversed: &str, kind: RecordType) -> Answer {
        let octets: Vec<&str> = reversed.rsplit('.').collect();
        let Ok(address) = octets.join(".").parse::<Ipv4Addr>() else { return Answer::NotOurs };
        let text = address.to_string();
        for object in self.services.list() {
            let Ok(view) = object.view::<ServiceView>() else { continue };
            let own = format!("{}.{}.svc.{}.", object.head.name, object.head.namespace, self.domain);
            let name = if view.spec.cluster_ip == text {
                Some(own)
            } else if view.spec.cluster_ip == "None" {
                let members = self.members(&object);
                members.into_iter().find(|m| m.address == address).map(|m| format!("{}.{own}", m.label))
            } else {
                None
            };
            if let Some(name) = name.and_then(|n| Name::from_ascii(n).ok()) {
                return of_type(vec![RData::PTR(PTR(name))], kind, RecordType::PTR);
            }
        }
        Answer::NotOurs
    }

    /// The zone's start of authority, for negative answers.
    pub fn soa(&self) -> SOA {
        let name = |label: &str| Name::from_ascii(format!("{label}.{}.", self.domain)).unwrap_or_else(|_| Name::root());
        SOA::new(name("ns.dns"), name("hostmaster"), 1, 7200, 1800, 86_400, 5)
    }

    /// The zone's own name.
    pub fn origin(&self) -> Name {
        Name::from_ascii(format!("{}.", self.domain)).unwrap_or_else(|_| Name::root())
    }
}

/// The records, if the question was for their type (or any).
fn of_type(records: Vec<RData>, asked: RecordType, is: RecordType) -> Answer {
    if asked == is || asked == RecordType::ANY { Answer::Records(records) } else { Answer::NoData }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A lister of these objects.
    fn lister(objects: &[Value]) -> Lister {
        objects.iter().map(|o| Arc::new(Object::from_value(o).unwrap())).collect()
    }

    fn zone() -> Zone {
        let service = |name: &str, spec: Value| json!({"kind": "Service", "metadata": {"name": name, "namespace": "dev"}, "spec": spec});
        let services = lister(&[
            service(
                "web",
                json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}),
            ),
            service("db", json!({"clusterIP": "None"})),
            service("ext", json!({"type": "ExternalName", "externalName": "example.org"})),
            service("empty", json!({"clusterIP": "None"})),
        ]);
        let slices =
            lister(&[json!({"kind": "EndpointSlice", "ports": [{"name": "sql", "protocol": "TCP", "port": 3306}],
            "metadata": {"name": "db-1", "namespace": "dev", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": [
                {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.6"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.7"], "conditions": {"ready": false}}]})]);
        Zone::new("cluster.local", services, slices)
    }

    fn check(name: &str, kind: RecordType, wanted: &str) {
        let text = match zone().answer(name, kind) {
            Answer::Records(records) => records.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
        };
        assert_eq!(text, wanted, "{name} {kind}");
    }

    #[test]
    fn names_of_the_specification() {
        check("web.dev.svc.cluster.local.", RecordType::A, "10.43.0.9");
        check("WEB.dev.SVC.cluster.local", RecordType::A, "10.43.0.9");
        check("web.dev.svc.cluster.local", RecordType::AAAA, "NoData");
        check("nope.dev.svc.cluster.local", RecordType::A, "NoName");
        check("dev.svc.cluster.local", RecordType::A, "NoData");
        check("nope.svc.cluster.local", RecordType::A, "NoName");
        check("db.dev.svc.cluster.local", RecordType::A, "10.42.0.5; 10.42.0.6");
        check("db-0.db.dev.svc.cluster.local", RecordType::A, "10.42.0.5");
        check("10-42-0-6.db.dev.svc.cluster.local", RecordType::A, "10.42.0.6");
        check("empty.dev.svc.cluster.local", RecordType::A, "NoName");
        check("_http._tcp.web.dev.svc.cluster.local", RecordType::SRV, "0 100 80 web.dev.svc.cluster.local.");
        check(
            "_sql._tcp.db.dev.svc.cluster.local",
            RecordType::SRV,
            "0 100 3306 db-0.db.dev.svc.cluster.local.; 0 100 3306 10-42-0-6.db.dev.svc.cluster.local.",
        );
        check("ext.dev.svc.cluster.local", RecordType::A, "Alias");
        check("ext.dev.svc.cluster.local", RecordType::CNAME, "example.org.");
        check("10-42-0-5.dev.pod.cluster.local", RecordType::A, "10.42.0.5");
        check("9.0.43.10.in-addr.arpa", RecordType::PTR, "web.dev.svc.cluster.local.");
        check("5.0.42.10.in-addr.arpa", RecordType::PTR, "db-0.db.dev.svc.cluster.local.");
        check("dns-version.cluster.local", RecordType::TXT, "1.1.0");
        check("example.org", RecordType::A, "NotOurs");
        check("notcluster.local", RecordType::A, "NotOurs");
    }
}
