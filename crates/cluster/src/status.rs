//! `navarch status`: what runs, where, and how it is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use client::{ListOptions, Resource};
use object::Gvr;
use serde_json::Value;

use crate::state::{self, State};
use crate::{Cluster, Result, kubeconfig, processes, up};

/// What is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its context.
    pub name: String,
    /// Its data.
    pub dir: PathBuf,
    /// There are data.
    pub exists: bool,
    /// The server's process runs.
    pub is_running: bool,
    /// Its resident memory in bytes.
    pub server_memory: u64,
    /// Sandboxes, and the memory that their shims have for themselves.
    pub sandboxes: (usize, u64),
    /// Where the API is.
    pub url: Option<String>,
    /// The API's version; `None` when it does not answer.
    pub version: Option<String>,
    /// Nodes: what is known of each, and whether it is Ready.
    pub nodes: Vec<(String, bool)>,
    /// Pods by state, as `kubectl get` names it.
    pub pods: BTreeMap<String, usize>,
    /// The kubeconfig that has the context.
    pub kubeconfig: Option<PathBuf>,
}

/// How long the API may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at a cluster.
pub async fn report(cluster: &Cluster) -> Result<Report> {
    let mut report = Report { name: cluster.context(), dir: cluster.dir.clone(), ..Report::default() };
    let Some(known) = State::load(cluster)? else { return Ok(report) };
    report.exists = true;
    let merged = known.merged.map(|m| m.path);
    report.kubeconfig = merged.filter(|path| kubeconfig::contains(path, &cluster.context()));
    let shims = processes::shims(&cluster.dir.join("run/sandboxes"));
    report.sandboxes = (shims.len(), processes::private_sum(&shims));
    let Some(server) = state::server(cluster) else { return Ok(report) };
    report.is_running = true;
    report.server_memory = server.resident_bytes();
    report.url = known.node_address.map(|address| format!("https://{address}:6443"));
    // A server that does not answer is what the report says, not an error of it.
    let _ = tokio::time::timeout(PATIENCE, ask(cluster, &mut report)).await;
    Ok(report)
}

async fn ask(cluster: &Cluster, report: &mut Report) -> Option<()> {
    let connect = |path: &PathBuf, context| client::kubeconfig::connect(Some(path), context, "navarch-status").ok();
    // Only root reads the server's own; others have the context in theirs.
    let theirs = || connect(report.kubeconfig.as_ref()?, Some(report.name.as_str()));
    let client = connect(&cluster.kubeconfig(), None).or_else(theirs)?;
    let version: Value = serde_json::from_slice(&client.raw_get("/version").await.ok()?).ok()?;
    let list = async |resource: &str| {
        let at = Resource::collection(&Gvr::new("", "v1", resource), None);
        let items = client.list(&at, &ListOptions::default()).await.ok()?.items;
        Some(items.iter().filter_map(|o| o.value().ok()).collect::<Vec<Value>>())
    };
    report.nodes = list("nodes").await?.iter().map(|node| (up::about(node), up::is_ready(node))).collect();
    for pod in list("pods").await? {
        *report.pods.entry(pod_state(&pod)).or_default() += 1;
    }
    report.version = version["gitVersion"].as_str().map(Into::into);
    Some(())
}

/// `Running`, `Pending`, `CrashLoopBackOff` ...
fn pod_state(pod: &Value) -> String {
    let status = &pod["status"];
    let reasons = ["initContainerStatuses", "containerStatuses"].iter().filter_map(|list| status[list].as_array());
    let mut waiting = reasons.flatten().filter_map(|c| c["state"]["waiting"]["reason"].as_str());
    let waiting = waiting.find(|r| !matches!(*r, "ContainerCreating" | "PodInitializing"));
    let phase = || status["phase"].as_str().unwrap_or("Unknown");
    match (pod["metadata"]["deletionTimestamp"].is_string(), status["reason"].as_str().or(waiting)) {
        (true, _) => "Terminating".into(),
        (_, Some(reason)) => reason.into(),
        _ if phase() == "Running" && !up::is_ready(pod) => "not ready".into(),
        _ => phase().into(),
    }
}

impl Report {
    /// 0: up, its nodes Ready. 1: it runs, but is not ready. 3: it does not run (as service managers have it).
    pub fn exit_code(&self) -> u8 {
        match (self.is_running, self.version.is_some()) {
            (false, _) => 3,
            (true, true) if !self.nodes.is_empty() && self.nodes.iter().all(|(_, ready)| *ready) => 0,
            _ => 1,
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exists {
            return writeln!(f, "{}  does not exist", self.name);
        }
        if !self.is_running {
            writeln!(f, "{}  stopped", self.name)?;
            return writeln!(f, "  data      {}", self.dir.display());
        }
        let own = env!("CARGO_PKG_VERSION");
        match &self.version {
            Some(version) => writeln!(f, "{}  running   Navarch {own}, Kubernetes {version}", self.name)?,
            None => writeln!(f, "{}  running, but the API does not answer", self.name)?,
        }
        writeln!(f, "  api       {}", self.url.as_deref().unwrap_or("nowhere"))?;
        for (about, ready) in &self.nodes {
            writeln!(f, "  node      {about}  {}", if *ready { "Ready" } else { "NotReady" })?;
        }
        let pods: Vec<String> = self.pods.iter().map(|(state, count)| format!("{count} {state}")).collect();
        if self.version.is_some() {
            writeln!(f, "  pods      {}", if pods.is_empty() { "none".into() } else { pods.join(", ") })?;
        }
        let (count, memory) = self.sandboxes;
        // Others than root are not told.
        if self.server_memory > 0 {
            write!(f, "  memory    server {}", mebibytes(self.server_memory))?;
            if count > 0 {
                write!(f, ", {count} sandboxes {}", mebibytes(memory))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "  data      {}", self.dir.display())?;
        match &self.kubeconfig {
            Some(path) => writeln!(f, "  context   {} in {}", self.name, path.display()),
            None => writeln!(f, "  context   none; `navarch up` adds it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_counted_by_what_kubectl_shows() {
        let check = |pod: Value, wanted: &str| assert_eq!(pod_state(&pod), wanted);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        check(json!({"status": {"phase": "Running", "conditions": ready}}), "Running");
        check(json!({"status": {"phase": "Running"}}), "not ready");
        check(
            json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
            "ErrImagePull",
        );
        check(
            json!({"status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}}),
            "Pending",
        );
        check(json!({"status": {"phase": "Failed", "reason": "Evicted"}}), "Evicted");
        check(json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}), "Terminating");
    }

    #[test]
    fn the_exit_code_says_whether_it_is_up() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 3);
        report.is_running = true;
        assert_eq!(report.exit_code(), 1);
        report.version = Some("v1".into());
        assert_eq!(report.exit_code(), 1);
        report.nodes = vec![("a".into(), true)];
        assert_eq!(report.exit_code(), 0);
        report.nodes.push(("b".into(), false));
        assert_eq!(report.exit_code(), 1);
    }
}
