//! `navarch scheduler`, `navarch controller-manager`: one component by itself, at any API server of Kubernetes, as upstream's
//! `kube-scheduler` and `kube-controller-manager` are.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use base::Tasks;
use clap::Args;
use client::credential::account::AccountTokens;
use client::kubeconfig::Resolved;
use client::{Credential, Https};

use crate::server::{TOKENS, foreground, lead, stopped};

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
    fn at(&self) -> anyhow::Result<Resolved> {
        client::kubeconfig::find(self.kubeconfig.as_deref(), None).context("cannot reach an API server")
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
    /// Give each controller the rights of its own service account in kube-system.
    #[arg(long)]
    use_service_account_credentials: bool,
}

pub(crate) fn scheduler(flags: &ComponentFlags) -> anyhow::Result<ExitCode> {
    const NAME: &str = "kube-scheduler";
    let candidate = flags.candidate()?;
    foreground(async {
        let stopped = stopped()?;
        let client = flags.at()?.client(NAME)?;
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

/// Whose rights controllers have: those of this process, or each its own account's, as upstream. The one that makes accounts'
/// tokens keeps those of this process.
fn identities(at: &Resolved, own: &client::Client, by_account: bool) -> anyhow::Result<controllers::Identities> {
    let own = own.clone();
    if !by_account {
        return Ok(Arc::new(move |_| own.clone()));
    }
    let anonymous = Https::open(&at.server, Credential::None, own.manager())?;
    Ok(Arc::new(move |name| {
        if name == TOKENS {
            return own.clone();
        }
        let tokens = AccountTokens::new(own.clone(), "kube-system", name);
        let transport = anonymous.with_source(Arc::new(tokens));
        client::Client::new(Arc::new(transport), own.manager())
    }))
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
        let at = flags.component.at()?;
        let client = at.client(NAME)?;
        let mut tasks = Tasks::new(&Default::default());
        let identities = identities(&at, &client, flags.use_service_account_credentials)?;
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
