//! `navarch up`: from nothing, or from what a crash left, to a node that is Ready and a context that is selected.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Client, Resource};
use object::Gvr;
use serde_json::Value;
use tokio::time::Instant;

use crate::kubeconfig::{self, Place};
use crate::preflight::{self, Wanted};
use crate::state::{self, State};
use crate::{Cluster, ClusterError, Result, Wire};

/// How to start.
#[derive(Clone, Debug)]
pub struct Up {
    /// The program that becomes the server; it is copied, so that it may be rebuilt or removed.
    pub program: PathBuf,
    /// Its arguments; the data directory is appended.
    pub arguments: Vec<String>,
    /// Where the user's kubeconfig is.
    pub place: Place,
}

/// A cluster that is up.
pub struct Started {
    /// A client of it, as its administrator.
    pub client: Client,
    /// The node's address, reachable from here.
    pub node_address: String,
    /// The user's kubeconfig.
    pub kubeconfig: PathBuf,
    /// It ran before.
    pub was_running: bool,
    /// It was started by another build of this program.
    pub is_other_build: bool,
}

/// Hears what is done: a step's name, its state, and more about it.
pub type Progress<'a> = &'a mut (dyn FnMut(&str, &str, &str) + Send);

/// How long a node may take to become Ready.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(10);
/// The cluster's own copy of the program, below its directory.
const PROGRAM: &str = "bin/navarch";

/// Starts the cluster, or finds it running.
pub async fn up(cluster: &Cluster, options: &Up, wire: &dyn Wire, progress: Progress<'_>) -> Result<Started> {
    if State::load(cluster)?.is_none() && cluster.dir.join("server/db").exists() {
        return Err(ClusterError::Foreign { dir: cluster.dir.clone() });
    }
    kubeconfig::check(&options.place)?;
    let mut child = None;
    let called = Instant::now();
    while state::is_ending(cluster) && called.elapsed() < PATIENCE {
        tokio::time::sleep(POLL).await;
    }
    let was_running = state::server(cluster).is_some();
    if !was_running {
        preflight::run(&Wanted { data_dir: cluster.dir.clone(), agent: true, local: true, ..Wanted::default() })?;
        progress("preflight", "ok", &format!("{} checks", preflight::CHECKS));
    }
    fs::create_dir_all(&cluster.dir).map_err(ClusterError::io(format!("create {}", cluster.dir.display())))?;
    let _lock = state::work_lock(cluster)?;
    let mut known = State::load(cluster)?.unwrap_or_default();
    let (begun, since) = (Instant::now(), base::time::now());
    if !was_running {
        // From here on it is a cluster, and `down` knows what to take back.
        known.save(cluster)?;
        connect(cluster, &mut known, wire).await?;
        child = Some(spawn(cluster, options)?);
    }
    let mut waiting = Waiting { cluster, child, begun, since };
    let client = waiting.control_plane().await?;
    if !was_running {
        progress("control plane", "ready", &waiting.seconds());
    }
    let node = waiting.node(&client).await?;
    let node_address = known.node_address.clone().unwrap_or_default();
    if !was_running {
        progress("node", "ready", &format!("{}   {}  {node_address}", waiting.seconds(), about(&node)));
    }
    let ours = kubeconfig_document(cluster)?;
    let merged = kubeconfig::merge(&options.place, &cluster.context(), &ours, known.merged.as_ref())?;
    let kubeconfig = merged.path.clone();
    known.merged = Some(merged);
    known.save(cluster)?;
    let is_other_build = was_running && !is_same(&options.program, &cluster.dir.join(PROGRAM));
    Ok(Started { client, node_address, kubeconfig, was_running, is_other_build })
}

/// The namespace and the pair: the network of before while it is free, else another.
async fn connect(cluster: &Cluster, known: &mut State, wire: &dyn Wire) -> Result<()> {
    let failed = || ClusterError::io("connect the node's network with this machine's");
    let run_dir = cluster.run_dir();
    fs::create_dir_all(&run_dir).map_err(ClusterError::io(format!("create {}", run_dir.display())))?;
    // Two clusters that start at once must not choose the same network.
    let turn = cluster.run_root.join("lock");
    let turn = File::create(&turn).and_then(|file| file.lock().map(|()| file)).map_err(failed())?;
    let link = cluster.host_link();
    let routes = preflight::routes(&fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default());
    let avoid = routes.iter().filter(|r| r.network.prefix > 0 && r.link != link).map(|r| r.network);
    let avoid: Vec<preflight::Network> = avoid.collect();
    let fits = |text: &String| {
        let network = preflight::Network::parse(text);
        network.is_some_and(|network| !avoid.iter().any(|other| other.overlaps(network)))
    };
    // A pair that a crash or a killed `up` left would count as taken. The namespace stays: pods of a server that was killed
    // hang on it.
    wire.cut(None, &link).await.map_err(failed())?;
    let network = match known.network.take().filter(fits) {
        Some(network) => network,
        None => {
            let avoid: Vec<String> = avoid.iter().map(ToString::to_string).collect();
            wire.choose(&avoid).await.map_err(failed())?
        }
    };
    let made = wire.join(&cluster.namespace(), &link, &network).await.map_err(failed())?;
    drop(turn);
    (known.network, known.node_address) = (Some(network), Some(made.node.to_string()));
    known.save(cluster)
}

/// Starts the server's process. It enters the namespace, and a session of its own, by itself.
fn spawn(cluster: &Cluster, options: &Up) -> Result<Child> {
    let _ = fs::remove_file(cluster.kubeconfig()); // that of an earlier start would pass for this one's
    let program = install(cluster, &options.program)?;
    let log = cluster.log();
    let open = || -> std::io::Result<(File, File)> {
        // One earlier log is kept: it says why the last one ended.
        if log.exists() {
            fs::rename(&log, log.with_extension("log.old"))?;
        }
        let file = File::options().create(true).append(true).open(&log)?;
        Ok((file.try_clone()?, file))
    };
    let (out, err) = open().map_err(ClusterError::io(format!("open {}", log.display())))?;
    let mut command = Command::new(program);
    command.args(&options.arguments).arg(&cluster.dir).current_dir("/");
    // The user's environment is not the cluster's; variables would be read as flags.
    command.env_clear();
    for name in ["PATH", "NAVARCH_LOG"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    command.spawn().map_err(ClusterError::io("start the server"))
}

/// A copy of the program of the cluster's own.
fn install(cluster: &Cluster, program: &Path) -> Result<PathBuf> {
    let (path, beside) = (cluster.dir.join(PROGRAM), cluster.dir.join("bin/navarch.new"));
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(cluster.dir.join("bin"))?;
        fs::copy(program, &beside)?;
        fs::rename(&beside, &path)
    };
    copy().map_err(ClusterError::io(format!("copy this program to {}", path.display())))?;
    Ok(path)
}

/// Whether two files have the same content, as far as that can be told.
fn is_same(a: &Path, b: &Path) -> bool {
    let length = |path| fs::metadata(path).map(|m| m.len()).ok();
    length(a) == length(b) && fs::read(a).ok() == fs::read(b).ok()
}

struct Waiting<'a> {
    cluster: &'a Cluster,
    /// The server, if it was started here.
    child: Option<Child>,
    begun: Instant,
    /// The same as a time stamp: what a node said before is not what is waited for.
    since: String,
}

impl Waiting<'_> {
    fn seconds(&self) -> String {
        format!("{:.1} s", self.begun.elapsed().as_secs_f64())
    }

    /// A moment; an error when the server has ended or the time is up.
    async fn pause(&mut self, what: &str) -> Result<()> {
        let log = || self.cluster.log();
        let ended = match &mut self.child {
            Some(child) => child.try_wait().ok().flatten().is_some(),
            None => state::server(self.cluster).is_none(),
        };
        if ended {
            return Err(ClusterError::Ended { last: last_words(&log()), log: log() });
        }
        if self.begun.elapsed() > PATIENCE {
            return Err(ClusterError::Slow { what: what.into(), seconds: PATIENCE.as_secs(), log: log() });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    /// Until the API answers.
    async fn control_plane(&mut self) -> Result<Client> {
        let kubeconfig = self.cluster.kubeconfig();
        while !kubeconfig.exists() {
            self.pause("the API does not answer").await?;
        }
        let client = client::kubeconfig::connect(Some(&kubeconfig), None, "navarch-up")?;
        while client.raw_get("/readyz").await.is_err() {
            self.pause("the API is not ready").await?;
        }
        Ok(client)
    }

    /// Until the node is Ready.
    async fn node(&mut self, client: &Client) -> Result<Value> {
        let at = Resource::object(&Gvr::new("", "v1", "nodes"), None, &self.cluster.context());
        loop {
            let node = client.get(&at).await.ok().and_then(|n| n.value().ok()).filter(is_ready);
            if let Some(node) = node
                && (self.child.is_none() || last_heard(&node) >= self.since.as_str())
            {
                return Ok(node);
            }
            self.pause("the node is not Ready").await?;
        }
    }
}

/// Whether a node or pod has the condition Ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// When the kubelet last told the node's state; RFC 3339 in UTC, which sorts as it is.
fn last_heard(node: &Value) -> &str {
    let ready = node["status"]["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
    ready.and_then(|c| c["lastHeartbeatTime"].as_str()).unwrap_or_default()
}

/// `laptop  6 CPU  15.5 Gi`
pub(crate) fn about(node: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let capacity = &node["status"]["capacity"];
    let memory = object::Quantity::parse(&text(&capacity["memory"])).map_or(0, object::Quantity::units) as f64;
    format!(
        "{}  {} CPU  {:.1} Gi",
        text(&node["metadata"]["name"]),
        text(&capacity["cpu"]),
        memory / f64::from(1 << 30)
    )
}

/// The last line of a log that looks like an error, else the last one.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines = text.lines().rev().filter(|l| !l.trim().is_empty());
    let told = lines.clone().find_map(|l| l.strip_prefix("error: "));
    told.or_else(|| lines.next()).unwrap_or("it said nothing").to_owned()
}

fn kubeconfig_document(cluster: &Cluster) -> Result<Value> {
    let path = cluster.kubeconfig();
    let failed = || format!("read {}", path.display());
    let text = fs::read(&path).map_err(ClusterError::io(failed()))?;
    serde_json::from_slice(&text).map_err(|e| ClusterError::io(failed())(e.into()))
}
