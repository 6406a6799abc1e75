//! One run of a probe, and the event when it fails.

use std::time::Duration;

use protos::cri::Code;
use protos::cri::v1::ExecSyncRequest;

use super::{ProbeTarget, grpc, http, kind_name, net};
use crate::api::{Container, Probe};
use crate::config::expand;
use crate::events::About;
use crate::pods::plan::ProbeKind;
use crate::shared::Shared;

/// Most of a command's output that an event quotes.
const MOST_OUTPUT: usize = 10 * 1024;

enum Outcome {
    Success,
    /// Success, but something is odd.
    Warning(String),
    Failure(String),
    /// The probe itself could not be made: no result.
    Error(String),
}

/// Success or failure; `None` when the probe could not be made.
pub(crate) async fn run(
    shared: &Shared,
    target: &ProbeTarget,
    container: &Container,
    id: &str,
    kind: ProbeKind,
    probe: &Probe,
) -> Option<bool> {
    let about = || About::container(&target.pod, container);
    let name = kind_name(kind);
    match attempt(shared, target, container, id, probe).await {
        Outcome::Success => Some(true),
        Outcome::Warning(text) => {
            shared.events.warning(about(), "ProbeWarning", format!("{name} probe warning: {text}"));
            Some(true)
        }
        Outcome::Failure(text) => {
            shared.events.warning(about(), "Unhealthy", format!("{name} probe failed: {text}"));
            Some(false)
        }
        Outcome::Error(text) => {
            let message = format!("{name} probe errored and resulted in unknown state: {text}");
            shared.events.warning(about(), "Unhealthy", message);
            None
        }
    }
}

async fn attempt(shared: &Shared, target: &ProbeTarget, container: &Container, id: &str, probe: &Probe) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.max(1)).unwrap_or(1));
    let pod_ip = target.status.pod_ip.as_str();
    let handler = &probe.handler;
    if let Some(action) = &handler.exec {
        let known = |name: &str| container.env.iter().find(|e| e.name == name).map(|e| e.value.clone());
        let command = action.command.iter().map(|word| expand::expand(word, known)).collect();
        return exec(shared, id, command, timeout).await;
    }
    if let Some(action) = &handler.http_get {
        let request = match http::Target::new(action, container, pod_ip, "kube-probe") {
            Ok(request) => request,
            Err(error) => return Outcome::Error(error),
        };
        return match http::get(&request, timeout).await {
            Ok(reply) if (200..300).contains(&reply.status) => Outcome::Success,
            Ok(reply) if (300..400).contains(&reply.status) => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {}", reply.body))
            }
            Ok(reply) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", reply.status)),
            Err(error) => Outcome::Failure(format!("Get \"{}\": {error}", request.url())),
        };
    }
    if let Some(action) = &handler.tcp_socket {
        let host = if action.host.is_empty() { pod_ip } else { &action.host };
        let port = match container.port_number(&action.port) {
            Ok(port) => port,
            Err(error) => return Outcome::Error(error),
        };
        return match net::connect(host, port, timeout).await {
            Ok(_) => Outcome::Success,
            Err(error) => Outcome::Failure(error),
        };
    }
    if let Some(action) = &handler.grpc {
        let service = action.service.as_deref().unwrap_or_default();
        let port = u16::try_from(action.port).unwrap_or(0);
        return match grpc::check(pod_ip, port, service, timeout).await {
            Ok(()) => Outcome::Success,
            Err(error) => Outcome::Failure(error),
        };
    }
    Outcome::Error(format!("missing probe handler for {}:{}", target.pod.full(), container.name))
}

async fn exec(shared: &Shared, id: &str, cmd: Vec<String>, timeout: Duration) -> Outcome {
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(1);
    let words = cmd.join(" ");
    let request = ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds };
    match shared.runtime.exec_sync(request).await {
        Ok(reply) if reply.exit_code == 0 => Outcome::Success,
        Ok(reply) => {
            let mut output = [reply.stdout, reply.stderr].concat();
            output.truncate(MOST_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == Code::DeadlineExceeded => {
            Outcome::Failure(format!("command timed out: {words:?} timed out after {}s", timeout.as_secs()))
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}
