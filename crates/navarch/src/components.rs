//! `navarch scheduler`, `navarch controller-manager`: one component by itself, at any API server of Kubernetes, as upstream's
//! `kube-scheduler` and `kube-controller-manager` are.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use base::Tasks;
use clap::Args;

use crate::server::{foreground, lead, stopped};

/// What both need to know.
#[derive(Args, Clone, Debug)]
pub(crate) struct ComponentFlags {
    /// How to reach the API server [default: what KUBECONFIG names, or the pod's own account].
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Wait for the component's lease in kube-system, and work only while holding it.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    leader_elect: bool,
}

impl ComponentFlags {
    fn client(&self, name: &str) -> anyhow::Result<client::Client> {
        client::kubeconfig::connect(self.kubeconfig.as_deref(), None, name).context("cannot reach an API server")
    }

    /// Who runs for the lease: this process.
    fn candidate(&self) -> anyhow::Result<Option<String>> {
        let host = nix::unistd::gethostname().context("cannot read the host name")?;
        let identity = format!("{}_{}", host.to_string_lossy(), std::process::id());
        Ok(self.leader_elect.then_some(identity))
    }
}

/// Flags of `navarch controller-manager`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControllerFlags {
    #[command(flatten)]
    component: ComponentFlags,
    /// The authority in PEM that pods shall believe the API server by: published in every namespace as `kube-root-ca.crt`.
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
}

pub(crate) fn scheduler(flags: &ComponentFlags) -> anyhow::Result<ExitCode> {
    const NAME: &str = "kube-scheduler";
    let candidate = flags.candidate()?;
    foreground(async {
        let stopped = stopped()?;
        let client = flags.client(NAME)?;
        let mut tasks = Tasks::new(&Default::default());
        let of = client.clone();
        let run = move |stop| scheduler::run(of.clone(), scheduler::Options::default(), stop);
        let stop = tasks.token().clone();
        tasks.spawn("scheduler", lead(client, NAME, candidate, stop, run));
        stopped.await;
        tasks.shutdown().await;
        Ok(())
    })
}

pub(crate) fn controllers(flags: &ControllerFlags) -> anyhow::Result<ExitCode> {
    const NAME: &str = "kube-controller-manager";
    let candidate = flags.component.candidate()?;
    let ca_pem = match &flags.root_ca_file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => String::new(),
    };
    foreground(async {
        let stopped = stopped()?;
        let client = flags.component.client(NAME)?;
        let mut tasks = Tasks::new(&Default::default());
        // As upstream without `--use-service-account-credentials`: all controllers have the rights of this one's credentials.
        let shared = client.clone();
        let identities: controllers::Identities = Arc::new(move |_| shared.clone());
        let options = controllers::Options { ca_pem, ..Default::default() };
        let of = client.clone();
        let run = move |stop| controllers::run(of.clone(), identities.clone(), options.clone(), stop);
        let stop = tasks.token().clone();
        tasks.spawn("controllers", lead(client, NAME, candidate, stop, run));
        stopped.await;
        tasks.shutdown().await;
        Ok(())
    })
}
