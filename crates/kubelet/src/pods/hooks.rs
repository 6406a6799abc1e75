//! Lifecycle hooks: `postStart` and `preStop`.

use std::time::Duration;

use protos::cri::v1::ExecSyncRequest;

use crate::api::{Container, Handler, Pod};
use crate::probes::{http, net};
use crate::shared::Shared;

/// How long a hook's HTTP request may take when nothing else bounds it.
const HTTP_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the hook of a container that runs under `id`; the error is for the container's status.
pub(crate) async fn run(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    id: &str,
    hook: &Handler,
    ips: &[String],
) -> Result<(), String> {
    let whom = || format!("for Container {:?} in Pod {:?}", container.name, pod.full());
    if let Some(action) = &hook.exec {
        let request = ExecSyncRequest { container_id: id.to_owned(), cmd: action.command.clone(), timeout: 0 };
        let command = format!("[{}]", action.command.join(" "));
        let failed = |error: String, output: &[u8]| {
            let output = String::from_utf8_lossy(output);
            format!("Exec lifecycle hook ({command}) {} failed - error: {error}, message: {output:?}", whom())
        };
        return match shared.runtime.exec_sync(request).await {
            Ok(reply) if reply.exit_code == 0 => Ok(()),
            Ok(reply) => {
                let output = [reply.stdout, reply.stderr].concat();
                Err(failed(format!("command '{}' exited with {}", action.command.join(" "), reply.exit_code), &output))
            }
            Err(error) => Err(failed(error.to_string(), b"")),
        };
    }
    if let Some(action) = &hook.http_get {
        let target = http::Target::new(action, container, ips.first().map_or("", String::as_str), "kube-lifecycle")?;
        return match http::get(&target, HTTP_PATIENCE).await {
            Ok(reply) if reply.status < 400 => Ok(()),
            Ok(reply) => Err(format!(
                "HTTP lifecycle hook ({}) {} failed - error: HTTP status {}",
                action.path,
                whom(),
                reply.status
            )),
            Err(error) => Err(format!("HTTP lifecycle hook ({}) {} failed - error: {error}", action.path, whom())),
        };
    }
    if let Some(action) = &hook.tcp_socket {
        let host = if action.host.is_empty() { ips.first().map_or("", String::as_str) } else { &action.host };
        return net::connect(host, container.port_number(&action.port)?, HTTP_PATIENCE).await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err(format!("invalid handler: {hook:?}"))
}
