//! kubeconfig files, `KUBECONFIG` with several of them, and the configuration inside a pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::credential::exec::{ExecConfig, Plugin};
use crate::{Client, Credential, Https, Server};

/// Where a pod finds its token, authority and namespace.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: std::io::Error,
    },
    /// A file is not a kubeconfig.
    #[error("{path} is not a kubeconfig")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: serde_saphyr::Error,
    },
    /// There is no file, and we are not in a pod.
    #[error("no kubeconfig: neither KUBECONFIG nor ~/.kube/config names one, and this is not a pod")]
    Nowhere,
    /// A name that nothing bears.
    #[error("{what} {name:?} does not exist in the kubeconfig")]
    Unknown {
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Data that is not base64.
    #[error("{field} is not base64")]
    Base64 {
        /// The field.
        field: &'static str,
        /// How it fails.
        #[source]
        source: base64::DecodeError,
    },
    /// A way to authenticate that is not supported here.
    #[error("user {user:?} authenticates by {how}, which is not supported")]
    Unsupported {
        /// The user.
        user: String,
        /// `auth-provider`.
        how: &'static str,
    },
    /// A credential plugin that cannot be used.
    #[error("user {user:?}: {why}")]
    Plugin {
        /// The user.
        user: String,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS material does not work.
    #[error("cannot set up TLS for {url}")]
    Tls {
        /// The server.
        url: String,
        /// How it fails.
        #[source]
        source: crate::https::TlsError,
    },
}

type Result<T> = std::result::Result<T, KubeconfigError>;

/// Everything that one or several kubeconfig files say; the first file that says something wins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// The context used when none is asked for.
    pub current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<ExecConfig>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

/// A context, resolved: where, who, and which namespace when none is named.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The API server.
    pub server: Server,
    /// Who we are there.
    pub credential: Credential,
    /// The context's namespace; `default` when it names none.
    pub namespace: String,
}

impl Resolved {
    /// A client under this identity; writes are recorded under `manager`.
    pub fn client(&self, manager: &str) -> Result<Client> {
        let https = Https::open(&self.server, self.credential.clone(), manager)
            .map_err(|source| KubeconfigError::Tls { url: self.server.url.clone(), source })?;
        Ok(Client::new(Arc::new(https), manager))
    }

    /// The configuration of a pod that has a service account, if this process runs in one.
    pub fn in_cluster() -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            return Err(KubeconfigError::Nowhere);
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let dir = Path::new(IN_CLUSTER);
        let namespace = std::fs::read_to_string(dir.join("namespace")).unwrap_or_else(|_| "default".into());
        Ok(Self {
            server: Server {
                url: format!("https://{host}:{port}"),
                ca_pem: Some(read(&dir.join("ca.crt"))?),
                ..Server::default()
            },
            credential: Credential::TokenFile(dir.join("token")),
            namespace: namespace.trim().into(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| KubeconfigError::Read { path: path.into(), source })
}

/// The bytes given as base64 or as a file; the data win, as upstream.
fn material(data: &Option<String>, file: &Option<PathBuf>, field: &'static str) -> Result<Option<Vec<u8>>> {
    match (data.as_deref().filter(|d| !d.is_empty()), file) {
        (Some(data), _) => {
            BASE64_STANDARD.decode(data).map(Some).map_err(|source| KubeconfigError::Base64 { field, source })
        }
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}

impl Kubeconfig {
    /// Reads one file. Relative paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let mut config: Self = serde_saphyr::from_slice(&text)
            .map_err(|source| KubeconfigError::Malformed { path: path.into(), source })?;
        let dir = path.parent().unwrap_or(Path::new(""));
        for user in &mut config.users {
            let user = &mut user.user;
            for file in [&mut user.client_certificate, &mut user.client_key, &mut user.token_file] {
                absolute(file, dir);
            }
            if let Some(exec) = &mut user.exec {
                exec.absolute(dir);
            }
        }
        for cluster in &mut config.clusters {
            absolute(&mut cluster.cluster.certificate_authority, dir);
        }
        Ok(config)
    }

    /// The files that `KUBECONFIG` names (those that exist), or `~/.kube/config`.
    pub fn discover() -> Result<Self> {
        let listed = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
        let files: Vec<PathBuf> = match (&listed, std::env::var_os("HOME")) {
            (Some(listed), _) => std::env::split_paths(listed).filter(|p| !p.as_os_str().is_empty()).collect(),
            (None, Some(home)) => vec![Path::new(&home).join(".kube/config")],
            (None, None) => Vec::new(),
        };
        let mut merged: Option<Self> = None;
        for file in files.iter().filter(|file| file.exists()) {
            let next = Self::load(file)?;
            merged = Some(match merged {
                None => next,
                Some(first) => first.merge(next),
            });
        }
        merged.ok_or(KubeconfigError::Nowhere)
    }

    /// What `self` lacks is taken from `other`.
    fn merge(mut self, other: Self) -> Self {
        if self.current_context.is_empty() {
            self.current_context = other.current_context;
        }
        // Lookups take the first entry of a name.
        self.contexts.extend(other.contexts);
        self.clusters.extend(other.clusters);
        self.users.extend(other.users);
        self
    }

    /// The context of that name, or the current one.
    pub fn resolve(&self, context: Option<&str>) -> Result<Resolved> {
        let name = context.unwrap_or(&self.current_context);
        let unknown = |what, name: &str| KubeconfigError::Unknown { what, name: name.into() };
        let found = self.contexts.iter().find(|c| c.name == name).ok_or_else(|| unknown("context", name))?;
        let context = &found.context;
        let cluster = self.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster.ok_or_else(|| unknown("cluster", &context.cluster))?.cluster;
        let ca = material(
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
            "certificate-authority-data",
        )?;
        let server = Server {
            url: cluster.server.clone(),
            ca_pem: ca,
            tls_server_name: cluster.tls_server_name.clone(),
            insecure: cluster.insecure_skip_tls_verify,
        };
        let user = self.users.iter().find(|u| u.name == context.user);
        let credential = match user {
            Some(user) => user.credential(&server)?,
            None if context.user.is_empty() => Credential::None,
            None => return Err(unknown("user", &context.user)),
        };
        Ok(Resolved {
            server,
            credential,
            namespace: Some(context.namespace.clone()).filter(|ns| !ns.is_empty()).unwrap_or_else(|| "default".into()),
        })
    }
}

fn absolute(file: &mut Option<PathBuf>, dir: &Path) {
    *file = file.take().filter(|f| !f.as_os_str().is_empty()).map(|f| dir.join(f));
}

impl NamedUser {
    fn credential(&self, server: &Server) -> Result<Credential> {
        let user = &self.user;
        if user.auth_provider.is_some() {
            return Err(KubeconfigError::Unsupported { user: self.name.clone(), how: "auth-provider" });
        }
        let cert = material(&user.client_certificate_data, &user.client_certificate, "client-certificate-data")?;
        let key = material(&user.client_key_data, &user.client_key, "client-key-data")?;
        Ok(match (cert, key, &user.token_file, &user.token) {
            (Some(cert_pem), Some(key_pem), _, _) => Credential::Certificate { cert_pem, key_pem },
            (_, _, Some(file), _) => Credential::TokenFile(file.clone()),
            (_, _, _, Some(token)) if !token.is_empty() => Credential::Token(token.clone()),
            _ => match (&user.username, &user.exec) {
                (Some(username), _) if !username.is_empty() => {
                    let password = user.password.clone().unwrap_or_default();
                    Credential::Basic { username: username.clone(), password }
                }
                (_, Some(exec)) => {
                    let wrong = |why| KubeconfigError::Plugin { user: self.name.clone(), why };
                    exec.check().map_err(wrong)?;
                    Credential::Source(Arc::new(Plugin::new(exec.clone(), server)))
                }
                _ => Credential::None,
            },
        })
    }
}

/// A client from `path` or, without one, from where [`find`] looks.
pub fn connect(path: Option<&Path>, context: Option<&str>, manager: &str) -> Result<Client> {
    find(path, context)?.client(manager)
}

/// What `path` says or, without one, `KUBECONFIG`, `~/.kube/config` or the pod that we run in.
pub fn find(path: Option<&Path>, context: Option<&str>) -> Result<Resolved> {
    let config = match path {
        Some(path) => Kubeconfig::load(path),
        None => Kubeconfig::discover(),
    };
    match config {
        Ok(config) => config.resolve(context),
        Err(KubeconfigError::Nowhere) => Resolved::in_cluster(),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: a
contexts:
- {name: a, context: {cluster: one, user: cert, namespace: dev}}
- {name: b, context: {cluster: one, user: token}}
- {name: c, context: {cluster: one, user: plugin}}
- {name: d, context: {cluster: two, user: token}}
- {name: e, context: {cluster: one, user: wrong}}
- {name: f, context: {cluster: one, user: basic}}
clusters:
- name: one
  cluster: {server: 'https://h:6443', certificate-authority-data: Y2E=, tls-server-name: other}
users:
- {name: cert, user: {client-certificate-data: Y2VydA==, client-key: key.pem}}
- {name: token, user: {token: abc}}
- {name: plugin, user: {exec: {command: ./x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}}}
- {name: wrong, user: {exec: {command: x, apiVersion: v1}}}
- {name: basic, user: {username: jane, password: secret}}
";

    #[test]
    fn contexts_resolve() {
        let dir = std::env::temp_dir().join(format!("kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config"), FILE).unwrap();
        std::fs::write(dir.join("key.pem"), "key").unwrap();
        let config = Kubeconfig::load(&dir.join("config")).unwrap();
        let a = config.resolve(None).unwrap();
        assert_eq!((a.server.url.as_str(), a.namespace.as_str()), ("https://h:6443", "dev"));
        assert_eq!(a.server.ca_pem.as_deref(), Some(&b"ca"[..]));
        assert!(
            matches!(a.credential, Credential::Certificate { cert_pem, key_pem } if cert_pem == b"cert" && key_pem == b"key")
        );
        let b = config.resolve(Some("b")).unwrap();
        assert_eq!(b.namespace, "default");
        assert!(matches!(b.credential, Credential::Token(token) if token == "abc"));
        assert!(matches!(config.resolve(Some("c")).unwrap().credential, Credential::Source(_)));
        assert!(matches!(config.resolve(Some("e")), Err(KubeconfigError::Plugin { .. })));
        let f = config.resolve(Some("f")).unwrap().credential;
        assert!(matches!(f, Credential::Basic { username, password } if username == "jane" && password == "secret"));
        assert!(matches!(config.resolve(Some("d")), Err(KubeconfigError::Unknown { what: "cluster", .. })));
        assert!(matches!(config.resolve(Some("x")), Err(KubeconfigError::Unknown { what: "context", .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
