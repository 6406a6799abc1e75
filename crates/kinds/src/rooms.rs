//! Which room has a kind's rules: one line per room.

use crate::kind::{NO_RULES, Rules};
use crate::{
    admissionregistration, apps, autoscaling, batch, certificates, core, extensions, flowcontrol, networking, policy,
    rbac, resource, scheduling, storage,
};

/// The rules of a kind; kinds without a room have [`NO_RULES`].
pub(crate) fn rules(group: &str, kind: &str) -> Rules {
    match (group, kind) {
        ("", "ComponentStatus") => core::componentstatus::RULES,
        ("", "ConfigMap") => core::configmap::RULES,
        ("", "Endpoints") => core::endpoints::RULES,
        ("events.k8s.io", "Event") => core::event::RULES,
        // As upstream: events of old may be called anything that fits into a path.
        ("", "Event") => crate::kind::Rules { name: crate::names::path_segment, ..core::event::RULES },
        ("", "LimitRange") => core::limitrange::RULES,
        ("", "Namespace") => core::namespace::RULES,
        ("", "Node") => core::node::RULES,
        ("", "PersistentVolume") => core::volume::RULES,
        ("", "PersistentVolumeClaim") => core::claim::RULES,
        ("", "Pod") => core::pod::RULES,
        ("", "PodTemplate") => core::podtemplate::RULES,
        ("", "ReplicationController") => apps::replicaset::CONTROLLER_RULES,
        ("", "ResourceQuota") => core::resourcequota::RULES,
        ("", "Secret") => core::secret::RULES,
        ("", "ServiceAccount") => core::serviceaccount::RULES,
        ("", "Service") => core::service::RULES,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            admissionregistration::WEBHOOK_RULES
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicy") => {
            admissionregistration::POLICY_RULES
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding") => {
            admissionregistration::BINDING_RULES
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => extensions::definition::RULES,
        ("apiregistration.k8s.io", "APIService") => extensions::SERVICE_RULES,
        ("apps", "ControllerRevision") => apps::revision::RULES,
        ("apps", "DaemonSet") => apps::daemonset::RULES,
        ("apps", "Deployment") => apps::deployment::RULES,
        ("apps", "ReplicaSet") => apps::replicaset::RULES,
        ("apps", "StatefulSet") => apps::statefulset::RULES,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::RULES,
        ("batch", "CronJob") => batch::cronjob::RULES,
        ("batch", "Job") => batch::job::RULES,
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::RULES,
        ("coordination.k8s.io", "Lease") => scheduling::LEASE_RULES,
        ("discovery.k8s.io", "EndpointSlice") => core::endpoints::slice::RULES,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flowcontrol::SCHEMA_RULES,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flowcontrol::LEVEL_RULES,
        ("networking.k8s.io", "ServiceCIDR") => networking::NETWORK_RULES,
        ("networking.k8s.io", "IPAddress") => networking::ADDRESS_RULES,
        ("networking.k8s.io", "Ingress") => networking::ingress::RULES,
        ("networking.k8s.io", "IngressClass") => networking::ingressclass::RULES,
        ("networking.k8s.io", "NetworkPolicy") => networking::policy::RULES,
        ("node.k8s.io", "RuntimeClass") => scheduling::RUNTIME_RULES,
        ("policy", "PodDisruptionBudget") => policy::RULES,
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::CLUSTER_ROLE_RULES,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::CLUSTER_BINDING_RULES,
        ("rbac.authorization.k8s.io", "Role") => rbac::ROLE_RULES,
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::BINDING_RULES,
        ("resource.k8s.io", "DeviceClass") => resource::CLASS_RULES,
        ("resource.k8s.io", "ResourceSlice") => resource::SLICE_RULES,
        ("resource.k8s.io", "ResourceClaim") => resource::CLAIM_RULES,
        ("resource.k8s.io", "ResourceClaimTemplate") => resource::TEMPLATE_RULES,
        ("scheduling.k8s.io", "PriorityClass") => scheduling::PRIORITY_RULES,
        ("storage.k8s.io", "CSIDriver") => storage::driver::RULES,
        ("storage.k8s.io", "CSINode") => storage::NODE_RULES,
        ("storage.k8s.io", "CSIStorageCapacity") => storage::CAPACITY_RULES,
        ("storage.k8s.io", "VolumeAttributesClass") => storage::ATTRIBUTES_RULES,
        ("storage.k8s.io", "StorageClass") => storage::class::RULES,
        ("storage.k8s.io", "VolumeAttachment") => storage::ATTACHMENT_RULES,
        _ => NO_RULES,
    }
}
