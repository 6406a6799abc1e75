//! The kinds that controllers read and write.

use client::Resource;
use object::{Gvr, OwnerReference};
use serde_json::{Value, json};

use object::Object;

/// A kind as a controller names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural resource; unique among the kinds of this file.
    pub resource: &'static str,
    /// Kind.
    pub kind: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $group:literal / $version:literal $resource:literal $kind:literal;)*) => {
        $(#[doc = concat!("`", $resource, "`.")]
        pub static $name: Kind = Kind { group: $group, version: $version, resource: $resource, kind: $kind };)*
        /// All of them.
        #[cfg(test)]
        pub static ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    CERTIFICATE_REQUESTS = "certificates.k8s.io" / "v1" "certificatesigningrequests" "CertificateSigningRequest";
    CLUSTER_ROLES = "rbac.authorization.k8s.io" / "v1" "clusterroles" "ClusterRole";
    CONFIG_MAPS = "" / "v1" "configmaps" "ConfigMap";
    CONTROLLER_REVISIONS = "apps" / "v1" "controllerrevisions" "ControllerRevision";
    CRON_JOBS = "batch" / "v1" "cronjobs" "CronJob";
    DAEMON_SETS = "apps" / "v1" "daemonsets" "DaemonSet";
    DEPLOYMENTS = "apps" / "v1" "deployments" "Deployment";
    DISRUPTION_BUDGETS = "policy" / "v1" "poddisruptionbudgets" "PodDisruptionBudget";
    ENDPOINTS = "" / "v1" "endpoints" "Endpoints";
    ENDPOINT_SLICES = "discovery.k8s.io" / "v1" "endpointslices" "EndpointSlice";
    IP_ADDRESSES = "networking.k8s.io" / "v1" "ipaddresses" "IPAddress";
    JOBS = "batch" / "v1" "jobs" "Job";
    LEASES = "coordination.k8s.io" / "v1" "leases" "Lease";
    NAMESPACES = "" / "v1" "namespaces" "Namespace";
    NODES = "" / "v1" "nodes" "Node";
    PERSISTENT_VOLUME_CLAIMS = "" / "v1" "persistentvolumeclaims" "PersistentVolumeClaim";
    PERSISTENT_VOLUMES = "" / "v1" "persistentvolumes" "PersistentVolume";
    PODS = "" / "v1" "pods" "Pod";
    RESOURCE_QUOTAS = "" / "v1" "resourcequotas" "ResourceQuota";
    SECRETS = "" / "v1" "secrets" "Secret";
    REPLICATION_CONTROLLERS = "" / "v1" "replicationcontrollers" "ReplicationController";
    REPLICA_SETS = "apps" / "v1" "replicasets" "ReplicaSet";
    SERVICES = "" / "v1" "services" "Service";
    SERVICE_ACCOUNTS = "" / "v1" "serviceaccounts" "ServiceAccount";
    SERVICE_CIDRS = "networking.k8s.io" / "v1" "servicecidrs" "ServiceCIDR";
    STORAGE_CLASSES = "storage.k8s.io" / "v1" "storageclasses" "StorageClass";
    STATEFUL_SETS = "apps" / "v1" "statefulsets" "StatefulSet";
    VOLUME_ATTRIBUTES_CLASSES = "storage.k8s.io" / "v1" "volumeattributesclasses" "VolumeAttributesClass";
}

impl Kind {
    /// Its resource.
    pub fn gvr(&self) -> Gvr {
        Gvr::new(self.group, self.version, self.resource)
    }
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        object::names::api_version(self.group, self.version)
    }
    /// The place of this object.
    pub fn at(&self, object: &Object) -> Resource {
        Resource::object(&self.gvr(), Some(&object.head.namespace), &object.head.name)
    }
    /// True when `owner` refers to an object of this kind, of whatever version.
    pub fn is(&self, owner: &OwnerReference) -> bool {
        owner.kind == self.kind && object::names::split_api_version(&owner.api_version).0 == self.group
    }
    /// The reference by which `owner`, of this kind, controls something.
    pub fn controller_reference(&self, owner: &Object) -> Value {
        json!({
            "apiVersion": self.api_version(), "kind": self.kind, "name": owner.head.name, "uid": owner.head.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }
}
