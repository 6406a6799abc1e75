//! Certificates, keys and tokens of a cluster.
//!
//! One directory holds three authorities (one signs servers, one signs clients, one the proxies that speak for others, so that
//! no certificate is ever taken for what it is not), the key that signs service account tokens, and leaf certificates, which are renewed when two thirds of
//! their life are over. ECDSA P-256 everywhere.
//!
//! What belongs here: making, keeping and checking key material; rustls configurations; identities of peers. What does not:
//! who may do what; sockets.

mod authority;
pub mod csr;
mod der;
mod files;
pub mod jwt;
mod shared;
mod tls;
mod tokens;

pub use authority::{Authority, Leaf, Pair};
pub use files::write_private;
pub use shared::{Material, SealError, random_token};
pub use tls::{
    Identity, client_config, credulous, credulous_client_config, identity, machine_authorities, server_config,
};
pub use tokens::{Signer, TokenError};

use std::io;
use std::path::{Path, PathBuf};

/// Why key material could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
    #[error("cannot {operation} {path}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A certificate or key could not be made or read.
    #[error("cannot {operation}")]
    Certificate {
        /// What was attempted.
        operation: String,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no {what}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// rustls refused what we have.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The name in the certificates of proxies that may speak for others.
pub const FRONT_PROXY: &str = "system:auth-proxy";

/// The key material of a cluster's servers.
pub struct Pki {
    dir: PathBuf,
    /// Signs the serving certificates of API server and kubelets. Clients trust it.
    pub server_ca: Authority,
    /// Signs client certificates: users, nodes, components.
    pub client_ca: Authority,
    /// Signs the certificates of proxies that have checked their user themselves (`--requestheader-client-ca-file`).
    pub front_proxy_ca: Authority,
    /// Signs and checks service account tokens.
    pub tokens: Signer,
}

impl Pki {
    /// Reads the material in `dir`, making what is missing. The directory is readable by its owner only.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        files::private_dir(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            server_ca: Authority::load_or_create(dir, "server-ca", "navarch-server-ca")?,
            client_ca: Authority::load_or_create(dir, "client-ca", "navarch-client-ca")?,
            front_proxy_ca: Authority::load_or_create(dir, "request-header-ca", "navarch-request-header-ca")?,
            tokens: Signer::load_or_create(&dir.join("service-account.key"))?,
        })
    }

    /// The serving certificate `name`, valid for these names and addresses: the one on disk unless it is old or lacks a name.
    pub fn server(&self, name: &str, subject: &str, names: &[String]) -> Result<Pair, PkiError> {
        let leaf = Leaf { common_name: subject.into(), names: names.to_vec(), server: true, ..Leaf::default() };
        self.server_ca.keep(&self.dir, name, &leaf)
    }

    /// The certificate by which this server proves to extension API servers that it may speak for its users.
    pub fn front_proxy(&self) -> Result<Pair, PkiError> {
        let leaf = Leaf { common_name: FRONT_PROXY.into(), ..Leaf::default() };
        self.front_proxy_ca.keep(&self.dir, "auth-proxy", &leaf)
    }

    /// The client certificate `name` of this user in this group.
    pub fn client(&self, name: &str, user: &str, group: &str) -> Result<Pair, PkiError> {
        let leaf = Leaf { common_name: user.into(), organization: Some(group.into()), ..Leaf::default() };
        self.client_ca.keep(&self.dir, name, &leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create(dir.path()).unwrap();
        let admin = first.client("admin", "system:admin", "system:masters").unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = first.server("apiserver", "kube-apiserver", &names).unwrap();
        let again = Pki::load_or_create(dir.path()).unwrap();
        assert_eq!(again.server_ca.certificate_pem(), first.server_ca.certificate_pem());
        assert_eq!(again.client("admin", "system:admin", "system:masters").unwrap().certificate, admin.certificate);
        assert_eq!(again.server("apiserver", "kube-apiserver", &names).unwrap().certificate, server.certificate);
        let more = [&names[..], &["10.0.0.1".to_owned()]].concat();
        assert_ne!(
            again.server("apiserver", "kube-apiserver", &more).unwrap().certificate,
            server.certificate,
            "a new name"
        );
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(
                mode == 0o600 || entry.path().extension().is_some_and(|e| e == "crt"),
                "{entry:?} has mode {mode:o}"
            );
        }
    }

    #[test]
    fn what_no_longer_fits_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path()).unwrap();
        let names = ["::1".to_owned(), "0:0:0:0:0:0:0:2".to_owned()];
        let first = pki.server("kubelet", "node", &names).unwrap();
        assert_eq!(pki.server("kubelet", "node", &names).unwrap().certificate, first.certificate, "kept");
        // A crash after the new key and before its certificate.
        let stranger = pki.server("other", "node", &names).unwrap();
        std::fs::write(dir.path().join("kubelet.key"), &stranger.key).unwrap();
        let second = pki.server("kubelet", "node", &names).unwrap();
        assert_ne!(second.certificate, first.certificate, "another key");
        assert!(server_config(&second, pki.client_ca.certificate_pem()).is_ok());
        let third = pki.server("kubelet", "renamed", &names).unwrap();
        assert_ne!(third.certificate, second.certificate, "another subject");
        for file in ["server-ca.crt", "server-ca.key"] {
            std::fs::remove_file(dir.path().join(file)).unwrap();
        }
        let pki = Pki::load_or_create(dir.path()).unwrap();
        let fourth = pki.server("kubelet", "renamed", &names).unwrap();
        assert_ne!(fourth.certificate, third.certificate, "another authority");
        assert_eq!(pki.server("kubelet", "renamed", &names).unwrap().certificate, fourth.certificate, "kept");
    }

    #[test]
    fn a_peer_is_who_the_client_authority_says() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path()).unwrap();
        let admin = pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
        let der = admin.certificate_der().unwrap();
        let who = identity(&der).unwrap();
        assert_eq!((who.user.as_str(), who.groups), ("kubernetes-admin", vec!["system:masters".to_owned()]));
        assert_eq!((who.issuer, who.fingerprint.len()), (pki.client_ca.name(), 64));
        assert_ne!(pki.client_ca.name(), pki.front_proxy_ca.name());
    }
}
