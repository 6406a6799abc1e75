//! The pods of this node, and finding one of them.

use serde_json::{Value, json};

use super::Refusal;
use crate::api::ContainerStatus;
use crate::shared::{Known, Shared};

/// A `PodList` with the newest statuses.
pub(crate) fn list(shared: &Shared, only_running: bool) -> Value {
    let known: Vec<Known> = shared.registry.read().values().cloned().collect();
    let is_running = |k: &Known| k.status.container_statuses.iter().any(|c| c.state.running.is_some());
    let mut items: Vec<Value> = known
        .iter()
        .filter(|k| !only_running || is_running(k))
        .map(|known| {
            let mut pod = known.object.value().unwrap_or_default();
            pod["status"] = serde_json::to_value(&*known.status).unwrap_or_default();
            pod
        })
        .collect();
    items.sort_by_key(|pod| {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        (text("namespace"), text("name"), text("uid"))
    });
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// The pod called `namespace/name`, with this uid when one is given.
pub(crate) fn find(shared: &Shared, namespace: &str, name: &str, uid: Option<&str>) -> Result<Known, Refusal> {
    let registry = shared.registry.read();
    let is_it = |k: &&Known| {
        let m = &k.pod.metadata;
        m.namespace == namespace && m.name == name && uid.is_none_or(|uid| uid == m.uid)
    };
    // Of two incarnations the one that is not on its way out.
    let found = registry.values().filter(is_it).min_by_key(|k| k.pod.is_terminating()).cloned();
    found.ok_or_else(|| Refusal::not_found(format!("pod {name:?} does not exist")))
}

/// The id of a container that runs.
pub(crate) fn running_container(known: &Known, name: &str) -> Result<String, Refusal> {
    let status = known.status.container(name).filter(|c| c.state.running.is_some());
    match status {
        Some(status) => Ok(bare_id(&status.container_id).to_owned()),
        None => Err(Refusal::internal(format!("container not found ({name:?})"))),
    }
}

/// The id of the container whose log is asked for.
pub(crate) fn logged_container(known: &Known, name: &str, previous: bool) -> Result<String, Refusal> {
    let pod = &known.pod.metadata.name;
    let refuse = |text: String| Err(Refusal::bad_request(format!("container {name:?} in pod {pod:?} {text}")));
    let Some(status) = known.status.container(name) else { return refuse("is not available".into()) };
    let last = last_id(status);
    if previous {
        return match last {
            Some(id) => Ok(id),
            None => {
                Err(Refusal::bad_request(format!("previous terminated container {name:?} in pod {pod:?} not found")))
            }
        };
    }
    if status.state.running.is_some() {
        return Ok(bare_id(&status.container_id).to_owned());
    }
    if let Some(terminated) = &status.state.terminated {
        let own = Some(bare_id(&terminated.container_id).to_owned()).filter(|id| !id.is_empty());
        return own.or(last).map_or_else(|| refuse("is terminated".into()), Ok);
    }
    if let Some(id) = last {
        return Ok(id);
    }
    match &status.state.waiting {
        Some(waiting) => refuse(format!(
            "is waiting to start: {}",
            match waiting.reason.as_str() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            }
        )),
        None => refuse("is waiting to start - no logs yet".into()),
    }
}

fn last_id(status: &ContainerStatus) -> Option<String> {
    let terminated = status.last_state.terminated.as_ref()?;
    Some(bare_id(&terminated.container_id).to_owned()).filter(|id| !id.is_empty())
}

fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}
