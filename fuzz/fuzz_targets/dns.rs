#![no_main]
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use serde_json::json;

static ZONE: LazyLock<dns::Zone> = LazyLock::new(|| {
    let read = |value| Arc::new(object::Object::from_value(&value).expect("an object"));
    let service = |name: &str, spec| {
        read(json!({"kind": "Service", "metadata": {"name": name, "namespace": "dev"}, "spec": spec}))
    };
    let services = [
        service("web", json!({"clusterIP": "10.43.0.9", "ports": [{"name": "http", "protocol": "TCP", "port": 80}]})),
        service("db", json!({"clusterIP": "None"})),
        service("ext", json!({"type": "ExternalName", "externalName": "web.dev.svc.cluster.local"})),
        service("self", json!({"type": "ExternalName", "externalName": "self.dev.svc.cluster.local"})),
    ];
    let slices = [read(json!({"kind": "EndpointSlice", "ports": [{"name": "sql", "protocol": "TCP", "port": 3306}],
        "metadata": {"name": "db-1", "namespace": "dev", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": [{"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}}]}))];
    dns::Zone::new("cluster.local", services.into_iter().collect(), slices.into_iter().collect())
});

fuzz_target!(|packet: &[u8]| {
    if let Some(answer) = dns::answer(ZONE.clone(), packet) {
        assert!(answer.len() <= 512);
    }
});
