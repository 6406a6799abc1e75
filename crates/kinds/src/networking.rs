//! Rooms of the networking group.

pub(crate) mod ingress;
pub(crate) mod ingressclass;
pub(crate) mod policy;

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::text;
use crate::{addresses, names};

/// `networking.k8s.io/v1 IPAddress`: its name is the address.
pub(crate) const ADDRESS_RULES: Rules =
    Rules { validate: validate_address, name: address_name, row: address_row, ..NO_RULES };
/// `networking.k8s.io/v1 ServiceCIDR`: a network that services have their addresses of.
pub(crate) const NETWORK_RULES: Rules =
    Rules { validate: validate_network, prepare_status: crate::kind::keep_most_metadata, ..NO_RULES };

fn address_name(name: &str) -> names::Problems {
    addresses::canonical_ip(name)
}

/// A reference to an object beside.
pub(crate) fn local_reference(reference: &Spot, errors: &mut Errors) {
    if reference.at("apiGroup").is_set() {
        reference.at("apiGroup").obey(names::subdomain, errors);
    }
    reference.at("kind").must_obey(names::path_segment, errors);
    reference.at("name").must_obey(names::path_segment, errors);
}

fn validate_address(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let parent = spec.at("parentRef");
    match parent.is_set() {
        false => parent.missing("", errors),
        true => {
            parent.at("group").named(names::subdomain, errors);
            parent.at("resource").must_obey(names::path_segment, errors);
            parent.at("name").must_obey(names::path_segment, errors);
            parent.at("namespace").named(names::path_segment, errors);
        }
    }
    crate::checks::immutable(new, old, &["spec.parentRef"], errors);
}

fn validate_network(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let all = spec.at("cidrs");
    if let Some(old) = old {
        let (now, was) = (crate::tree::list(all.value), crate::tree::list(&old["spec"]["cidrs"]));
        let grown = was.len() == 1 && now.len() == 2;
        if now.len() != was.len() && !grown {
            all.fail("field is immutable", errors);
            return;
        }
        for (network, _) in spec.list("cidrs").zip(was).filter(|(now, was)| now.value != *was) {
            network.fail("field is immutable", errors);
        }
        if !grown {
            return;
        }
    }
    match all.len() {
        0 => return all.missing("at least one CIDR required", errors),
        3.. => {
            let shown = crate::checks::shown("networking.v1.ServiceCIDRSpec", spec.value);
            return errors.push(Invalid::shown(&all.path(), shown, "may only hold up to 2 values"));
        }
        _ => {}
    }
    spec.list("cidrs").for_each(|network| network.obey(addresses::canonical_network, errors));
    let sixth = |network: Spot| addresses::network_of(network.text()).map(|(address, _)| address.is_ipv6());
    let families: Vec<_> = spec.list("cidrs").map(sixth).collect();
    if matches!(families.as_slice(), [Some(one), Some(other)] if one == other) {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        all.fail(detail, errors);
    }
}

fn address_row(address: &Value, now: i64) -> Vec<Value> {
    let parent = &address["spec"]["parentRef"];
    let shown = if parent.is_object() {
        let resource = object::names::group_resource(text(&parent["group"]), text(&parent["resource"])).to_lowercase();
        let parts = [resource.as_str(), text(&parent["namespace"]), text(&parent["name"])];
        parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")
    } else {
        "<none>".into()
    };
    let age = crate::age::since(&address["metadata"]["creationTimestamp"], now);
    vec![address["metadata"]["name"].clone(), shown.into(), age.into()]
}
