//! The demo: a Deployment of a small web server behind a NodePort Service. Its image is this program itself, so that it needs no
//! registry; [`server`] is what it runs.

pub mod libraries;
pub mod server;

use std::collections::BTreeSet;
use std::time::Duration;

use client::{ApplyOptions, Client, Patch, Resource};
use object::Gvr;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::{ClusterError, Progress, Result, Started};

/// The name of everything that the demo makes.
pub const NAME: &str = "demo";
/// Its image; the root makes it.
pub const IMAGE: &str = concat!("navarch.local/demo:", env!("CARGO_PKG_VERSION"));
/// Where the program is in its image.
pub const PROGRAM: &str = "/navarch";
/// The subcommand that the image runs.
pub const COMMAND: &str = "demo-server";

const REPLICAS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

fn deployments() -> Gvr {
    Gvr::new("apps", "v1", "deployments")
}

fn deployment() -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let container = json!({
        "name": "web", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": server::PORT}],
        "env": [{"name": "POD_NAME", "valueFrom": field("metadata.name")}, {"name": "NODE_NAME", "valueFrom": field("spec.nodeName")}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
    });
    let labels = json!({"app": NAME});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "default", "labels": labels},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [container], "terminationGracePeriodSeconds": 5,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            }},
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"app": NAME}},
        "spec": {"type": "NodePort", "selector": {"app": NAME}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// Applies the demo's objects, waits for its pods, and asks it over its Service until every pod has answered. Returns its URL.
pub async fn deploy(cluster: &Started, progress: Progress<'_>) -> Result<String> {
    let begun = Instant::now();
    let client = &cluster.client;
    apply(client, &deployments(), &deployment()).await?;
    let service = apply(client, &Gvr::new("", "v1", "services"), &service()).await?;
    let at = Resource::object(&deployments(), Some("default"), NAME);
    loop {
        let found = client.get(&at).await.map_err(api("look at the demo"))?.value().unwrap_or_default();
        let status = &found["status"];
        let is_current = status["observedGeneration"] == found["metadata"]["generation"];
        let wanted = found["spec"]["replicas"].as_u64();
        if is_current && status["updatedReplicas"].as_u64() == wanted && status["availableReplicas"].as_u64() == wanted
        {
            let seconds = begun.elapsed().as_secs_f64();
            progress("demo", "ready", &format!("{seconds:.1} s   {} pods", wanted.unwrap_or_default()));
            break;
        }
        if begun.elapsed() > PATIENCE {
            let ready = status["readyReplicas"].as_u64().unwrap_or(0);
            let why = format!(
                "{ready} of {} pods are ready; `kubectl describe pod -l app={NAME}` says more",
                wanted.unwrap_or_default()
            );
            return Err(ClusterError::Demo { url: NAME.into(), why });
        }
        tokio::time::sleep(POLL).await;
    }
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap_or_default();
    let host = format!("{}:{port}", cluster.node_address);
    let url = format!("http://{host}");
    let pods = answers(&host, begun).await.map_err(|why| ClusterError::Demo { url: url.clone(), why })?;
    progress("service", "answers", &format!("{url}   from {pods} pods"));
    Ok(url)
}

fn api(operation: &str) -> impl FnOnce(object::Status) -> ClusterError {
    let operation = operation.to_owned();
    move |source| ClusterError::Api { operation, source }
}

async fn apply(client: &Client, gvr: &Gvr, object: &Value) -> Result<Value> {
    let at = Resource::object(gvr, Some("default"), NAME);
    let options = ApplyOptions { field_manager: "navarch-up".into(), force: true };
    // The number of replicas is the user's once it is there.
    let mut object = object.clone();
    if let Some(spec) = object["spec"].as_object_mut()
        && spec.contains_key("replicas")
        && client.get(&at).await.is_ok()
    {
        spec.remove("replicas");
    }
    let applied = client.patch(&at, &Patch::Apply(object, options)).await;
    Ok(applied.map_err(api("deploy the demo"))?.value().unwrap_or_default())
}

/// Asks until two different pods have answered, or one keeps answering for a while; how many did.
async fn answers(host: &str, begun: Instant) -> std::result::Result<usize, String> {
    let mut pods = BTreeSet::new();
    let mut last = "nothing was asked".to_owned();
    for _ in 0..200 {
        match ask(host).await {
            Ok(pod) => {
                pods.insert(pod);
                if pods.len() >= REPLICAS {
                    break;
                }
            }
            Err(error) => {
                last = error.to_string();
                tokio::time::sleep(POLL).await;
            }
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    if pods.is_empty() { Err(last) } else { Ok(pods.len()) }
}

/// One plain request on a connection of its own; the name of the pod that answered.
async fn ask(host: &str) -> std::io::Result<String> {
    let talk = async {
        let mut stream = TcpStream::connect(host).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer).await?;
        let pod = answer.lines().find_map(|l| l.strip_prefix(server::POD_HEADER)?.strip_prefix(": "));
        pod.map(str::to_owned).ok_or_else(|| std::io::Error::other("the answer is not the demo's"))
    };
    timeout(Duration::from_secs(2), talk).await.map_err(|_| std::io::Error::other("no answer within 2 s"))?
}
