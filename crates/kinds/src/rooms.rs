//! Which room has a kind's rules: one line per room.

use crate::kind::{NO_RULES, Rules};
use crate::{apps, batch, core, names};

/// The rules of a kind; kinds without a room have [`NO_RULES`] (RBAC objects with their looser names).
pub(crate) fn rules(group: &str, kind: &str) -> Rules {
    match (group, kind) {
        ("", "ConfigMap") => core::configmap::RULES,
        ("", "Endpoints") => core::endpoints::RULES,
        ("" | "events.k8s.io", "Event") => core::event::RULES,
        ("", "Namespace") => core::namespace::RULES,
        ("", "Node") => core::node::RULES,
        ("", "Pod") => core::pod::RULES,
        ("", "ReplicationController") => apps::replicaset::CONTROLLER_RULES,
        ("", "ResourceQuota") => core::resourcequota::RULES,
        ("", "Secret") => core::secret::RULES,
        ("", "Service") => core::service::RULES,
        ("", "PodTemplate") => core::podtemplate::RULES,
        ("apps", "DaemonSet") => apps::daemonset::RULES,
        ("apps", "Deployment") => apps::deployment::RULES,
        ("apps", "ReplicaSet") => apps::replicaset::RULES,
        ("apps", "StatefulSet") => apps::statefulset::RULES,
        ("batch", "CronJob") => batch::cronjob::RULES,
        ("batch", "Job") => batch::job::RULES,
        ("discovery.k8s.io", "EndpointSlice") => core::endpoints::SLICE_RULES,
        ("networking.k8s.io", "NetworkPolicy") => core::networkpolicy::RULES,
        ("rbac.authorization.k8s.io" | "flowcontrol.apiserver.k8s.io", _) => {
            Rules { name: names::path_segment, ..NO_RULES }
        }
        _ => NO_RULES,
    }
}
