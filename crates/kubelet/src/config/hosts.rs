//! The `/etc/hosts` that a pod's containers share, and the pod's host name.

use std::io;
use std::path::Path;

use crate::api::{HostAlias, Pod};

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_OF_HOST: &str = "# Kubernetes-managed hosts file (host network).\n";

/// The pod's host name and, with a subdomain, its domain.
pub(crate) fn host_name(pod: &Pod, cluster_domain: &str) -> (String, String) {
    if let Some(name) = &pod.spec.hostname_override {
        return (truncated(name), String::new());
    }
    let spec = &pod.spec;
    let name = if spec.hostname.is_empty() { &pod.metadata.name } else { &spec.hostname };
    let domain = match spec.subdomain.as_str() {
        "" => String::new(),
        sub => format!("{sub}.{}.svc.{cluster_domain}", pod.metadata.namespace),
    };
    (truncated(name), domain)
}

/// The kernel takes 63 characters.
fn truncated(name: &str) -> String {
    let end = name.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= 63).last().unwrap_or(0);
    let cut = &name[..end];
    if cut.len() == name.len() { cut.to_owned() } else { cut.trim_end_matches(['-', '.']).to_owned() }
}

/// What the host name is set to: the short name, or all of it when asked.
pub(crate) fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = host_name(pod, cluster_domain);
    if !pod.spec.set_hostname_as_fqdn || domain.is_empty() {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 \
                            characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// Writes the file.
pub(crate) fn write(path: &Path, pod: &Pod, ips: &[String], cluster_domain: &str) -> io::Result<()> {
    let text = if pod.spec.host_network {
        format!("{HEADER_OF_HOST}{}{}", std::fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases(pod))
    } else {
        managed(pod, ips, cluster_domain)
    };
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text)
}

fn managed(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let (name, domain) = host_name(pod, cluster_domain);
    let mut text = String::from(HEADER);
    text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
    for ip in ips {
        text.push_str(&match domain.as_str() {
            "" => format!("{ip}\t{name}\n"),
            domain => format!("{ip}\t{name}.{domain}\t{name}\n"),
        });
    }
    text + &aliases(pod)
}

fn aliases(pod: &Pod) -> String {
    if pod.spec.host_aliases.is_empty() {
        return String::new();
    }
    let line = |a: &HostAlias| format!("{}\t{}\n", a.ip, a.hostnames.join("\t"));
    let lines: String = pod.spec.host_aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_files() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"},
            "spec": {"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true,
                "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}}))
        .unwrap();
        assert_eq!(kernel_name(&pod, "cluster.local").unwrap(), "h.s.ns.svc.cluster.local");
        let text = managed(&pod, &["10.42.0.9".into()], "cluster.local");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with(
                "10.42.0.9\th.s.ns.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
            )
        );
        assert_eq!(truncated(&format!("{}-x", "a".repeat(62))), "a".repeat(62));
    }
}
