//! What all pod workers of the node work with.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Lister};
use parking_lot::{Mutex, RwLock};
use protos::cri::RuntimeService;
use tokio::sync::watch;

use crate::api::{Pod, PodStatus};
use crate::clock::Clock;
use crate::config::NodeFacts;
use crate::events::Events;
use crate::images::Puller;
use crate::node::facts::CpuMeter;
use crate::objects::Objects;
use crate::pods::backoff::Backoffs;
use crate::volumes::Volumes;

/// A pod and the status that this kubelet last made of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) pod: Arc<Pod>,
    pub(crate) object: Arc<object::Object>,
    pub(crate) status: Arc<PodStatus>,
}

/// The pods of this node by uid: written by the workers, read by the server and the node status.
pub(crate) type Registry = Arc<RwLock<HashMap<String, Known>>>;

/// The node's means.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    /// Prefix of container ids: `navarch`.
    pub(crate) runtime_name: String,
    pub(crate) node: NodeFacts,
    pub(crate) cpu: CpuMeter,
    pub(crate) volumes: Volumes,
    pub(crate) objects: Objects,
    pub(crate) services: Lister,
    pub(crate) services_synced: watch::Receiver<bool>,
    pub(crate) events: Events,
    pub(crate) puller: Puller,
    pub(crate) image_volumes: crate::volumes::image::Counts,
    pub(crate) crashes: Mutex<Backoffs>,
    pub(crate) clock: Clock,
    pub(crate) seccomp_root: PathBuf,
    pub(crate) registry: Registry,
    /// Links for log collectors: `/var/log/containers`.
    pub(crate) links_dir: PathBuf,
}

/// The crash loop's back-off as upstream has it.
pub(crate) fn crash_backoffs() -> Mutex<Backoffs> {
    Mutex::new(Backoffs::new(Duration::from_secs(10), Duration::from_secs(300)))
}
