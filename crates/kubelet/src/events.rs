//! What the kubelet's events are about.

use client::ObjectReference;

use crate::api::{Container, Pod, Role};

/// The recorder; writing is its own task.
pub(crate) type Events = client::Recorder;

/// References to what events are about.
pub(crate) struct About;

impl About {
    /// A pod.
    pub(crate) fn pod(pod: &Pod) -> ObjectReference {
        let m = &pod.metadata;
        ObjectReference {
            kind: "Pod".into(),
            namespace: m.namespace.clone(),
            name: m.name.clone(),
            uid: m.uid.clone(),
            api_version: "v1".into(),
            resource_version: m.resource_version.clone(),
            field_path: String::new(),
        }
    }

    /// A container of a pod.
    pub(crate) fn container(pod: &Pod, container: &Container) -> ObjectReference {
        let list = match pod.container(&container.name).map(|(role, _)| role) {
            Some(Role::Init) => "initContainers",
            Some(Role::Ephemeral) => "ephemeralContainers",
            _ => "containers",
        };
        ObjectReference { field_path: format!("spec.{list}{{{}}}", container.name), ..Self::pod(pod) }
    }

    /// The node itself; its uid is its name, as upstream's kubelet has it.
    pub(crate) fn node(name: &str) -> ObjectReference {
        ObjectReference { kind: "Node".into(), name: name.into(), uid: name.into(), ..ObjectReference::default() }
    }
}
