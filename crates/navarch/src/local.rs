//! `navarch up`, `status`, `down`: the `cluster` crate with the network, the images and the server plugged in.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use clap::Args;
use cluster::outside::Outside;
use cluster::{Cluster, Link, Wire, demo};

use crate::cli::{self, Which};
use crate::server;

/// The hidden command that is the background process.
pub(crate) const NODE_COMMAND: &str = "cluster-node";

/// Flags of `navarch up`.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpFlags {
    #[command(flatten)]
    which: Which,
    /// Deploy the demo application, and check that it answers.
    #[arg(long)]
    demo: bool,
}

/// Flags of `navarch down`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DownFlags {
    #[command(flatten)]
    which: Which,
    /// Remove the data too: nothing is left.
    #[arg(long)]
    purge: bool,
}

/// Namespace and veth pair by the `cni` crate.
struct Links;

fn other(error: cni::CniError) -> io::Error {
    io::Error::other(base::Chain(&error).to_string())
}

#[async_trait]
impl Wire for Links {
    async fn choose(&self, avoid: &[String]) -> io::Result<String> {
        let avoid: Vec<cni::Cidr> = avoid.iter().filter_map(|text| text.parse().ok()).collect();
        Ok(cni::free_uplink("", &avoid).await.map_err(other)?.network.to_string())
    }

    async fn join(&self, namespace: &Path, host_link: &str, network: &str) -> io::Result<Link> {
        let uplink = cni::Uplink { host_link: host_link.into(), network: network.parse().map_err(other)? };
        cni::namespace::create(namespace).await.map_err(other)?;
        uplink.create(namespace).await.map_err(other)?;
        Ok(Link { host: uplink.host_address(), node: uplink.node_address() })
    }

    async fn cut(&self, namespace: Option<&Path>, host_link: &str) -> io::Result<()> {
        let uplink = cni::Uplink { host_link: host_link.into(), network: "198.18.0.0/30".parse().map_err(other)? };
        uplink.delete().await.map_err(other)?;
        namespace.map_or(Ok(()), cni::namespace::remove).map_err(other)
    }
}

/// The way to registries, name servers and the Internet: the host's network.
#[derive(Clone, Debug)]
pub(crate) struct HostNetwork(pub(crate) Outside);

impl images::Dial for HostNetwork {
    fn dial(&self, host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
        self.0.connect(host, port, limit)
    }
}

impl dns::Sockets for HostNetwork {
    fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        self.0.datagrams(server)
    }

    fn tcp(&self, server: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.0.connect(&server.ip().to_string(), server.port(), limit)
    }
}

/// A reader who went away keeps nothing from being done.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// One line of progress: what, how it is, more about it.
fn progress(what: &str, state: &str, more: &str) {
    say(format!("  {what:<13}  {state:<8}  {more}").trim_end());
}

/// `navarch up`.
pub(crate) fn up(flags: &UpFlags) -> anyhow::Result<ExitCode> {
    let cluster = flags.which.cluster()?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut arguments = vec![NODE_COMMAND.to_owned()];
    arguments.extend(flags.which.name().map(|name| format!("--name={name}")));
    let place = cluster::kubeconfig::Place::discover()?;
    let options = cluster::Up { program: program.clone(), arguments, place };
    cli::runtime()?.block_on(async {
        let started = cluster::up(&cluster, &options, &Links, &mut progress).await?;
        let url = match flags.demo {
            true => {
                demo_image(&cluster, &program).context("cannot make the demo's image")?;
                Some(demo::deploy(&started, &mut progress).await?)
            }
            false => None,
        };
        say(&farewell(&cluster, &started, url.as_deref()));
        Ok(ExitCode::SUCCESS)
    })
}

fn farewell(cluster: &Cluster, started: &cluster::Started, demo: Option<&str>) -> String {
    let (context, kubeconfig) = (cluster.context(), started.kubeconfig.display());
    let flags = cluster.flags();
    let first = match started.was_running {
        true if started.is_other_build => format!(
            "{context} is running already, another build of Navarch: navarch down{flags} and up again switch to this one."
        ),
        true => format!("{context} is running already; its context is selected in {kubeconfig}."),
        false => format!("Context \"{context}\" added to {kubeconfig} and selected."),
    };
    let next = match demo {
        Some(url) => {
            format!("  curl {url}\n  kubectl get pods -o wide\n  kubectl scale deployment {} --replicas=5", demo::NAME)
        }
        None => format!("  kubectl get nodes -o wide\n  navarch up --demo{flags}\n  navarch status{flags}"),
    };
    format!("{first}\nNext:\n{next}\nTo end: navarch down{flags}, or navarch down --purge{flags} with all its data.")
}

/// The image: this program, and the libraries that it is linked with, if any.
fn demo_image(cluster: &Cluster, program: &Path) -> anyhow::Result<()> {
    let store = images::Store::open(cluster.dir().join("agent/images-store"))?;
    let bytes = std::fs::read(program)?;
    let mut layer = images::Layer::new().copy(program, demo::PROGRAM)?;
    let libraries = demo::libraries::of_this_process()?;
    for library in &libraries {
        layer = layer.copy(library, library)?;
    }
    if let Some(loader) = demo::libraries::loader(&bytes)
        && let Ok(real) = loader.canonicalize()
        && real != loader
    {
        layer = layer.symlink(&loader, real);
    }
    let directories: std::collections::BTreeSet<_> =
        libraries.iter().filter_map(|l| l.parent()).map(|d| d.display().to_string()).collect();
    let path = directories.into_iter().collect::<Vec<_>>().join(":");
    let builder = images::Builder::new().layer(layer).compression(images::Compression::None).user("65534:65534");
    let builder = if path.is_empty() { builder } else { builder.env("LD_LIBRARY_PATH", &path) };
    builder.entrypoint([demo::PROGRAM, demo::COMMAND]).expose("8080").build(&store, demo::IMAGE)?;
    // Nobody could pull it again.
    store.pin(demo::IMAGE, true)?;
    Ok(())
}

/// `navarch status`.
pub(crate) fn status(which: &Which) -> anyhow::Result<ExitCode> {
    let report = cli::runtime()?.block_on(cluster::report(&which.cluster()?))?;
    say(report.to_string().trim_end());
    Ok(ExitCode::from(report.exit_code()))
}

/// `navarch down`.
pub(crate) fn down(flags: &DownFlags) -> anyhow::Result<ExitCode> {
    let cluster = flags.which.cluster()?;
    let had = cli::runtime()?.block_on(cluster::down(&cluster, flags.purge, &Links, &mut progress))?;
    let context = cluster.context();
    say(&match (had, flags.purge) {
        (false, _) => format!("There is no cluster {context}: nothing to do."),
        (true, false) => format!("{context} is down; `navarch up{}` brings it back as it was.", cluster.flags()),
        (true, true) => format!("{context} is gone."),
    });
    Ok(ExitCode::SUCCESS)
}

/// The process in the background: a session and the node's network of its own, then as `navarch server`.
pub(crate) fn node(name: Option<&str>, dir: &Path) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::new(name, Some(dir))?;
    // It fails when we lead a process group: then somebody started us by hand, and may keep us.
    let _ = nix::unistd::setsid();
    let _running = cluster::Running::announce(cluster.dir())?;
    let outside = Outside::here().context("cannot hold on to the host's network")?;
    // No other thread is there yet: all of them will be in the node's network.
    cni::namespace::enter(&cluster.namespace())?;
    let kubeconfig = cluster.kubeconfig();
    let context = cluster.context();
    let mut line: Vec<OsString> = ["navarch", "server", "--node-name", &context].map(Into::into).to_vec();
    let mut put = |flag: &str, path: PathBuf| line.extend([flag.into(), path.into_os_string()]);
    put("--data-dir", cluster.dir().to_owned());
    put("--write-kubeconfig", kubeconfig);
    let own = cluster.dir().join("config.yaml");
    // The machine's configuration is for `navarch server`; a cluster may have one of its own.
    put("--config", if own.exists() { own } else { "/dev/null".into() });
    server::main(&cli::server_flags(&line)?, Some(HostNetwork(outside)))
}
