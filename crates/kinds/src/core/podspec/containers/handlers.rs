//! Probes and hooks.

use crate::core::podspec::Pod;
use crate::names;
use crate::spot::{Errors, Spot};

pub(super) fn lifecycle(container: &Spot, pod: &Pod, errors: &mut Errors) {
    let lifecycle = container.at("lifecycle");
    for hook in ["postStart", "preStop"].into_iter().filter(|h| lifecycle.at(h).is_set()) {
        handler(&lifecycle.at(hook), &["exec", "httpGet", "tcpSocket", "sleep"], pod, errors);
    }
}

pub(super) fn probes(container: &Spot, pod: &Pod, errors: &mut Errors) {
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.at(kind);
        if !probe.is_set() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], pod, errors);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            probe.at(field).not_negative(errors);
        }
        let grace = probe.at("terminationGracePeriodSeconds");
        if grace.number().is_some_and(|s| s <= 0) {
            grace.fail("must be greater than 0", errors);
        }
        let once = probe.at("successThreshold");
        match kind {
            "readinessProbe" if grace.is_set() => grace.fail("must not be set for readinessProbes", errors),
            "readinessProbe" => {}
            _ if once.number().is_some_and(|n| n != 1) => once.fail("must be 1", errors),
            _ => {}
        }
    }
}

fn handler(action: &Spot, kinds: &[&'static str], pod: &Pod, errors: &mut Errors) {
    let mut count = 0;
    for kind in kinds.iter().filter(|k| action.at(k).is_set()) {
        let this = action.at(kind);
        if count > 0 {
            this.forbid("may not specify more than 1 handler type", errors);
            continue;
        }
        count += 1;
        match *kind {
            "exec" => drop(this.at("command").require(errors)),
            "httpGet" => {
                this.at("path").require(errors);
                this.at("port").port(errors);
                this.at("scheme").exactly_one_of(&["HTTP", "HTTPS"], errors);
                for header in this.list("httpHeaders") {
                    let all = this.at("httpHeaders");
                    let name = header.at("name").text();
                    names::header(name).into_iter().for_each(|why| all.fail_as(name, why, errors));
                }
            }
            "sleep" => {
                let (seconds, grace) = (this.at("seconds").count(), pod.grace);
                if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                    let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    this.fail_as(seconds, detail, errors);
                }
            }
            "grpc" => this.at("port").port_number(errors),
            _ => this.at("port").port(errors),
        }
    }
    if count == 0 {
        action.missing("must specify a handler type", errors);
    }
}
