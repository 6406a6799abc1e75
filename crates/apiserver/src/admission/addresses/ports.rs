//! Ports of the nodes for one service: those that it asks for, and free ones. As upstream, ports of one number share a port of the
//! nodes when a service is made, and a service's own ports are taken, too, until the write is done.

use std::collections::{HashMap, HashSet};

use object::{Invalid, Status};
use serde_json::Value;

use super::{NODE_PORTS, Pending, Reserved};

/// A number that is not given out; the words say why.
pub(super) enum Refused {
    /// It is a fault of the request.
    Invalid(Invalid),
    /// There are none, or the one for health checks is taken.
    Internal(String),
    /// Upstream has no reason for it.
    Unexpected(String),
}

impl Refused {
    pub(super) fn status(self, name: &str) -> Status {
        match self {
            Self::Invalid(error) => Status::invalid("", "Service", name, &[error]),
            Self::Internal(words) => Status::internal(words),
            Self::Unexpected(words) => Status::unexpected(&words),
        }
    }
}

/// The ports under way for one service.
pub(super) struct Ports<'a> {
    /// What other services have.
    pub(super) taken: &'a HashSet<u16>,
    pub(super) pending: &'a mut Pending,
    pub(super) reserved: &'a mut Reserved,
    /// A dry run may be told numbers out of the range.
    pub(super) dry_run: bool,
}

fn number(port: &Value, field: &str) -> i64 {
    port.get(field).and_then(Value::as_i64).unwrap_or(0)
}

/// Ports outside the cluster are wanted for each port, unless the service says otherwise.
pub(super) fn are_wanted(spec: &Value) -> bool {
    spec["type"] == "NodePort" || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false)
}

fn is_health_checked(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

/// The numbers that a stored service has for its ports.
fn held(spec: &Value) -> Vec<i64> {
    spec["ports"].as_array().into_iter().flatten().map(|p| number(p, "nodePort")).filter(|n| *n != 0).collect()
}

impl Ports<'_> {
    /// Takes this number; `own`: what the service has already.
    fn take(&mut self, wanted: i64, own: &[i64]) -> Result<(), String> {
        let Some(valid) = u16::try_from(wanted).ok().filter(|n| NODE_PORTS.contains(n)) else {
            let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            return if self.dry_run { Ok(()) } else { Err(why) };
        };
        if self.taken.contains(&valid) || own.contains(&wanted) || !self.pending.ports.insert(valid) {
            return Err("provided port is already allocated".into());
        }
        self.reserved.ports.push(valid);
        Ok(())
    }

    /// Takes a number that nobody has.
    fn take_any(&mut self, own: &[i64]) -> Option<i64> {
        let span = u32::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
        let start = rand::random_range(0..span);
        let mut all = (0..span).map(|n| i64::from(u32::from(*NODE_PORTS.start()) + (start + n) % span));
        all.find(|wanted| self.take(*wanted, own).is_ok())
    }

    fn any_for_port(&mut self, own: &[i64]) -> Result<i64, Refused> {
        self.take_any(own).ok_or_else(|| Refused::Internal("failed to allocate a nodePort: range is full".into()))
    }

    /// Gives a service and its ports what they need.
    pub(super) fn give(&mut self, spec: &mut Value, old: Option<&Value>) -> Result<(), Refused> {
        let outside = spec["type"] == "NodePort" || spec["type"] == "LoadBalancer";
        let mut own = old.map_or(Vec::new(), |old| held(&old["spec"]));
        let checked =
            old.filter(|old| is_health_checked(&old["spec"])).map(|old| number(&old["spec"], "healthCheckNodePort"));
        let held = own.clone();
        own.extend(checked.filter(|n| *n != 0));
        if outside {
            let all = are_wanted(spec);
            let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
            let ports = ports.map_or(&mut [][..], Vec::as_mut_slice);
            match old {
                None => self.give_new(ports, all)?,
                Some(_) => self.give_changed(ports, all, &held, &own)?,
            }
        }
        if !is_health_checked(spec) {
            return Ok(());
        }
        match (number(spec, "healthCheckNodePort"), checked) {
            // It cannot be changed: that is validation's to report.
            (0, Some(had)) if had != 0 => spec["healthCheckNodePort"] = had.into(),
            (_, Some(_)) => {}
            (0, None) => {
                let free = self.take_any(&own);
                let full = || Refused::Internal("failed to allocate a HealthCheck NodePort 0: range is full".into());
                spec["healthCheckNodePort"] = free.ok_or_else(full)?.into();
            }
            (wanted, None) => self.take(wanted, &own).map_err(|why| {
                Refused::Internal(format!("failed to allocate requested HealthCheck NodePort {wanted}: {why}"))
            })?,
        }
        Ok(())
    }

    fn give_new(&mut self, ports: &mut [Value], all: bool) -> Result<(), Refused> {
        let mut shared: HashMap<i64, i64> = HashMap::new();
        for index in 0..ports.len() {
            let (port, asked) = (number(&ports[index], "port"), number(&ports[index], "nodePort"));
            if asked == 0 && !all {
                continue;
            }
            let refuse = |asked: i64, why: String| {
                Refused::Invalid(Invalid::invalid(&format!("spec.ports[{index}].nodePort"), &asked.into(), why))
            };
            let given = match shared.get(&port) {
                Some(given) if asked == 0 || asked == *given => *given,
                Some(_) => {
                    self.take(asked, &[]).map_err(|why| refuse(asked, why))?;
                    asked
                }
                None => {
                    let twins = ports.iter().filter(|twin| number(twin, "port") == port);
                    let given = match twins.map(|twin| number(twin, "nodePort")).find(|asked| *asked != 0) {
                        Some(asked) => {
                            self.take(asked, &[]).map_err(|why| refuse(asked, why))?;
                            asked
                        }
                        None => self.any_for_port(&[])?,
                    };
                    shared.insert(port, given);
                    given
                }
            };
            ports[index]["nodePort"] = given.into();
        }
        Ok(())
    }

    fn give_changed(&mut self, ports: &mut [Value], all: bool, held: &[i64], own: &[i64]) -> Result<(), Refused> {
        let (mut given, mut taken) = (Vec::new(), Vec::new());
        for (index, port) in ports.iter_mut().enumerate() {
            let mut wanted = number(port, "nodePort");
            if wanted == 0 && !all {
                continue;
            }
            if wanted == 0 {
                wanted = self.any_for_port(own)?;
                port["nodePort"] = wanted.into();
            } else if !held.contains(&wanted) && !taken.contains(&wanted) {
                self.take(wanted, own).map_err(|why| {
                    Refused::Invalid(Invalid::invalid(&format!("spec.ports[{index}].nodePort"), &wanted.into(), why))
                })?;
                taken.push(wanted);
            }
            let one = (port["protocol"].as_str().unwrap_or("").to_owned(), wanted);
            if given.contains(&one) {
                return Err(Refused::Unexpected(format!("duplicate nodePort: {{{} {}}}", one.0, one.1)));
            }
            given.push(one);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a service is given, or the words of the refusal.
    fn give(mut spec: Value, old: Option<&Value>, dry_run: bool) -> Result<Value, String> {
        let (taken, mut pending, mut reserved) = (HashSet::from([30_500]), Pending::default(), Reserved::default());
        let mut ports = Ports { taken: &taken, pending: &mut pending, reserved: &mut reserved, dry_run };
        match ports.give(&mut spec, old) {
            Ok(()) => Ok(spec),
            Err(refused) => Err(refused.status("s").message),
        }
    }

    fn service(ports: Value, rest: Value) -> Value {
        let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports});
        spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        spec
    }

    #[test]
    fn one_number_serves_all_protocols_of_a_port() {
        let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP", "nodePort": 30001}]);
        let given = give(service(ports, json!({"healthCheckNodePort": 30002})), None, false).unwrap();
        assert_eq!([&given["ports"][0]["nodePort"], &given["ports"][1]["nodePort"]], [30001, 30001]);
        let twice = json!([{"port": 80, "nodePort": 30001}, {"port": 81, "protocol": "UDP", "nodePort": 30001}]);
        let words = give(service(twice, json!({})), None, false).unwrap_err();
        assert!(
            words.ends_with("spec.ports[1].nodePort: Invalid value: 30001: provided port is already allocated"),
            "{words}"
        );
    }

    #[test]
    fn health_checks_have_a_port_of_their_own() {
        let of = |port: i64| service(json!([{"port": 80, "nodePort": 30001}]), json!({"healthCheckNodePort": port}));
        let refused = "Internal error occurred: failed to allocate requested HealthCheck NodePort";
        for (port, why) in [
            (30001, "provided port is already allocated"),
            (30500, "provided port is already allocated"),
            (5, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
        ] {
            assert_eq!(give(of(port), None, false), Err(format!("{refused} {port}: {why}")));
        }
        assert!(give(of(5), None, true).is_ok());
        // What the service has already is taken, too.
        let before = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30001}]}});
        assert!(give(of(30001), Some(&before), false).unwrap_err().starts_with(refused));
        assert_eq!(give(of(30003), Some(&before), false), Ok(of(30003)));
    }

    #[test]
    fn a_number_twice_in_an_update() {
        let before =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30001}, {"port": 81, "protocol": "TCP", "nodePort": 30001}]);
        let spec = json!({"type": "NodePort", "ports": ports});
        assert_eq!(give(spec, Some(&before), false), Err("duplicate nodePort: {TCP 30001}".into()));
    }
}
