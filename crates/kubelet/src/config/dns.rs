//! A pod's resolver configuration by `dnsPolicy` and `dnsConfig`.

use protos::cri::v1;

use super::NodeFacts;
use crate::api::Pod;

/// What `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The pod's resolver; `host` is the text of the node's `resolv.conf`.
pub(crate) fn resolver(pod: &Pod, node: &NodeFacts, host: &str) -> v1::DnsConfig {
    let policy = pod.spec.dns_policy.as_str();
    let cluster_first = match policy {
        "None" | "Default" => false,
        "ClusterFirstWithHostNet" => true,
        _ => !pod.spec.host_network,
    };
    let mut out = if policy == "None" {
        Resolver::default()
    } else if cluster_first && !node.cluster_dns.is_empty() {
        cluster(pod, node, parse(host))
    } else {
        parse(host)
    };
    if policy != "None" && !cluster_first && out.servers.is_empty() {
        // As upstream: without any resolver the pod would ask itself; loopback makes that explicit.
        out.servers = vec!["127.0.0.1".into()];
        out.searches = vec![".".into()];
    }
    if let Some(more) = &pod.spec.dns_config {
        append_new(&mut out.servers, &more.nameservers);
        append_new(&mut out.searches, &more.searches);
        for option in &more.options {
            let prefix = format!("{}:", option.name);
            out.options.retain(|o| *o != option.name && !o.starts_with(&prefix));
            out.options.push(match &option.value {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name.clone(),
            });
        }
    }
    v1::DnsConfig { servers: out.servers, searches: out.searches, options: out.options }
}

fn cluster(pod: &Pod, node: &NodeFacts, host: Resolver) -> Resolver {
    let domain = &node.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        let namespace = &pod.metadata.namespace;
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    }
    append_new(&mut searches, &host.searches);
    Resolver { servers: node.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
}

fn append_new(to: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

fn parse(text: &str) -> Resolver {
    let mut out = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => out.servers.extend(words.next()),
            // The last line of a kind counts.
            Some("search") => out.searches = words.filter(|w| w != ".").map(|w| trim_dot(&w)).collect(),
            Some("options") => out.options = words.collect(),
            _ => {}
        }
    }
    out
}

fn trim_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, servers: &[&str], searches: &[&str], options: &[&str]) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
        let node = NodeFacts {
            cluster_dns: vec!["10.43.0.10".into()],
            cluster_domain: "cluster.local".into(),
            ..NodeFacts::default()
        };
        let out = resolver(&pod, &node, "# x\nnameserver 8.8.8.8\nsearch corp.\noptions timeout:2 rotate\n");
        assert_eq!(out.servers, servers);
        assert_eq!(out.searches, searches);
        assert_eq!(out.options, options);
    }

    #[test]
    fn policies() {
        let cluster = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"];
        check(json!({"dnsPolicy": "ClusterFirst"}), &["10.43.0.10"], &cluster, &["ndots:5"]);
        check(
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            &["8.8.8.8"],
            &["corp"],
            &["timeout:2", "rotate"],
        );
        check(
            json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
            &["10.43.0.10"],
            &cluster,
            &["ndots:5"],
        );
        check(json!({"dnsPolicy": "Default"}), &["8.8.8.8"], &["corp"], &["timeout:2", "rotate"]);
        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(json!({"dnsPolicy": "None", "dnsConfig": config}), &["1.1.1.1"], &["x"], &["ndots:2", "edns0"]);
        check(
            json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
            &["10.43.0.10"],
            &cluster,
            &["ndots:1"],
        );
    }
}
