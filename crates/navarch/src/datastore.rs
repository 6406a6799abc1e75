//! Where a server's state is: in its own directory, or in an etcd cluster that it shares with other servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use store::{Backend, Embedded, Etcd, EtcdOptions, StoreError};

/// Where the servers of one etcd find the cluster's keys.
const KEYS: &str = "/navarch/bootstrap";

/// How long etcd may take to be there: machines come up in any order.
const START: Duration = Duration::from_secs(60);

/// True when the same etcd may answer later. Such an attempt has waited some seconds already.
fn may_come(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Unavailable(_) | StoreError::TimedOut(_)))
}

/// Flags as k3s has them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DatastoreFlags {
    /// The members of an etcd cluster to keep everything in (https://10.0.0.1:2379,...); this machine's disk when not given.
    #[arg(long, env = "NAVARCH_DATASTORE_ENDPOINT", value_delimiter = ',')]
    pub(crate) datastore_endpoint: Vec<String>,
    /// The authority that signed etcd's certificates.
    #[arg(long, env = "NAVARCH_DATASTORE_CAFILE", requires = "datastore_endpoint")]
    pub(crate) datastore_cafile: Option<PathBuf>,
    /// The certificate to show etcd.
    #[arg(long, env = "NAVARCH_DATASTORE_CERTFILE", requires = "datastore_keyfile")]
    pub(crate) datastore_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "NAVARCH_DATASTORE_KEYFILE", requires = "datastore_certfile")]
    pub(crate) datastore_keyfile: Option<PathBuf>,
}

/// An open store.
pub(crate) enum Datastore {
    Embedded(Arc<Embedded>),
    Etcd(Arc<Etcd>),
}

impl DatastoreFlags {
    pub(crate) fn is_etcd(&self) -> bool {
        !self.datastore_endpoint.is_empty()
    }

    pub(crate) async fn connect(&self, options: store::Options) -> anyhow::Result<Etcd> {
        let etcd = EtcdOptions {
            endpoints: self.datastore_endpoint.clone(),
            ca_file: self.datastore_cafile.clone(),
            cert_file: self.datastore_certfile.clone(),
            key_file: self.datastore_keyfile.clone(),
        };
        let shown = self.datastore_endpoint.join(",");
        Etcd::connect(&etcd, options).await.with_context(|| format!("cannot use the datastore {shown}"))
    }

    /// Opens the store that the flags name.
    pub(crate) async fn open(&self, data_dir: &Path, options: store::Options) -> anyhow::Result<Datastore> {
        if self.is_etcd() {
            let until = Instant::now() + START;
            loop {
                match self.connect(options.clone()).await {
                    Err(error) if Instant::now() < until && may_come(&error) => {
                        tracing::warn!(error = format!("{error:#}"), "it is tried again");
                    }
                    outcome => return Ok(Datastore::Etcd(Arc::new(outcome?))),
                }
            }
        }
        let dir = directory(data_dir);
        let store =
            Embedded::open(&dir, options).with_context(|| format!("cannot open the store in {}", dir.display()))?;
        Ok(Datastore::Embedded(Arc::new(store)))
    }
}

/// The embedded store's directory.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("server/db")
}

impl Datastore {
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Etcd(store) => store.clone(),
        }
    }

    /// The cluster's key material: this server's own, or what all servers on the etcd share under the token.
    pub(crate) async fn keys(&self, data_dir: &Path, token: Option<&str>) -> anyhow::Result<pki::Pki> {
        let dir = data_dir.join("server/tls");
        if let Self::Etcd(etcd) = self {
            share(etcd, &dir, &data_dir.join("server/token"), token).await?;
        }
        Ok(pki::Pki::load_or_create(&dir)?)
    }
}

/// Makes the directory hold the keys of the cluster in etcd; a new cluster gets what the directory has.
async fn share(etcd: &Etcd, dir: &Path, token_file: &Path, given: Option<&str>) -> anyhow::Result<()> {
    let mut sealed = etcd.agreed(KEYS).await.context("cannot read the cluster's keys in etcd")?;
    let known = match given {
        Some(token) => Some(token.trim().to_owned()),
        None => std::fs::read_to_string(token_file).ok().map(|t| t.trim().to_owned()),
    };
    let token = match known.filter(|t| !t.is_empty()) {
        Some(token) => token,
        None if sealed.is_some() => {
            bail!("the etcd holds a cluster: give its --token (on its first server: {})", token_file.display())
        }
        None => pki::random_token().context("cannot make a token")?,
    };
    if sealed.is_none() {
        let ours = pki::Pki::material(dir)?.seal(&token)?;
        sealed = Some(etcd.agree(KEYS, &ours).await.context("cannot write the cluster's keys to etcd")?);
    }
    let material = pki::Material::unseal(&sealed.unwrap_or_default(), &token)
        .context("cannot use the cluster's keys in etcd: check --token")?;
    let beside = dir.with_file_name(format!("tls-before-{}", base::time::now_seconds()));
    if let Some(old) = material.install(dir, &beside)? {
        tracing::warn!(old = %old.display(), "this server takes part in another cluster now; its old keys are kept");
    }
    pki::write_private(token_file, &format!("{token}\n"))?;
    Ok(())
}
