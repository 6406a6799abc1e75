//! Service environment variables: `NAME_SERVICE_HOST`, `NAME_PORT`, and the Docker link form.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::Object;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Port {
    name: String,
    port: i64,
    protocol: String,
}

/// The variables that a pod in `namespace` sees. `kubernetes` in `default` is always there.
pub(crate) fn environment(services: &[Arc<Object>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let is_master = |o: &Object| o.head.namespace == "default" && o.head.name == "kubernetes";
    let of_namespace = |o: &Object| links && o.head.namespace == namespace && !is_master(o);
    let shadowed = services.iter().any(|o| of_namespace(o) && o.head.name == "kubernetes");
    for service in services {
        let wanted = of_namespace(service) || (is_master(service) && !shadowed);
        if !wanted {
            continue;
        }
        if let Ok(view) = crate::api::view::<Service>(service) {
            add(&mut out, &service.head.name, &view.spec);
        }
    }
    out
}

fn add(out: &mut BTreeMap<String, String>, name: &str, spec: &Spec) {
    let ip = &spec.cluster_ip;
    let Some(first) = spec.ports.first().filter(|_| !ip.is_empty() && ip != "None") else { return };
    let prefix = name.to_uppercase().replace('-', "_");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    let mut set = |key: String, value: String| drop(out.insert(key, value));
    set(format!("{prefix}_SERVICE_HOST"), ip.clone());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in spec.ports.iter().filter(|p| !p.name.is_empty()) {
        let suffix = port.name.to_uppercase().replace('-', "_");
        set(format!("{prefix}_SERVICE_PORT_{suffix}"), port.port.to_string());
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol.to_lowercase());
        set(format!("{link}_PORT"), port.port.to_string());
        set(format!("{link}_ADDR"), ip.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links() {
        let service = |ns: &str, name: &str, ip: &str| {
            let ports = json!([{"name": "http-x", "port": 80}, {"name": "m", "port": 9, "protocol": "UDP"}]);
            let tree = json!({"metadata": {"name": name, "namespace": ns}, "spec": {"clusterIP": ip, "ports": ports}});
            Arc::new(Object::from_value(&tree).unwrap())
        };
        let all = [
            service("default", "kubernetes", "10.43.0.1"),
            service("a", "my-web", "10.43.0.2"),
            service("a", "headless", "None"),
            service("b", "other", "10.43.0.3"),
        ];
        let seen = environment(&all, "a", true);
        assert_eq!(seen["KUBERNETES_SERVICE_HOST"], "10.43.0.1");
        assert_eq!(seen["MY_WEB_SERVICE_PORT_HTTP_X"], "80");
        assert_eq!(seen["MY_WEB_PORT"], "tcp://10.43.0.2:80");
        assert_eq!(seen["MY_WEB_PORT_9_UDP"], "udp://10.43.0.2:9");
        assert!(!seen.keys().any(|k| k.starts_with("HEADLESS") || k.starts_with("OTHER")));
        assert!(environment(&all, "a", false).keys().all(|k| k.starts_with("KUBERNETES_")));
    }
}
