//! Rooms of the networking group.

pub(crate) mod ingress;
pub(crate) mod ingressclass;
pub(crate) mod policy;

use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::text;

/// `networking.k8s.io/v1 IPAddress`: its name is the address.
pub(crate) const ADDRESS_RULES: Rules = Rules { name: address_name, row: address_row, ..NO_RULES };

fn address_name(name: &str) -> Option<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(address) if address.to_string() == name => None,
        Ok(_) => Some("must be a canonical form IP address".into()),
        Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
    }
}

fn address_row(address: &Value, _: i64) -> Vec<Value> {
    let parent = &address["spec"]["parentRef"];
    let shown = if parent.is_object() {
        let resource = object::names::group_resource(text(&parent["group"]), text(&parent["resource"])).to_lowercase();
        let parts = [resource.as_str(), text(&parent["namespace"]), text(&parent["name"])];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")
    } else {
        "<none>".into()
    };
    vec![address["metadata"]["name"].clone(), shown.into()]
}
