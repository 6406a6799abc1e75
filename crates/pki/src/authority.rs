//! A certificate authority and what it signs.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::{PkiError, files};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;
/// Clocks differ: certificates are valid from a little before they are made.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl Pair {
    /// The certificate's DER; `None` when the PEM holds none.
    pub fn certificate_der(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()
    }
    /// The key's DER; `None` when the PEM holds none.
    pub fn key_der(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()
    }
}

/// What a leaf certificate says.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    /// Subject CN: the user of a client certificate.
    pub common_name: String,
    /// Subject O: the group of a client certificate (rcgen writes at most one).
    pub organization: Option<String>,
    /// DNS names and IP addresses of a server.
    pub names: Vec<String>,
    /// For serving; otherwise for clients.
    pub server: bool,
}

/// Signs certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn failed(operation: impl Into<String>) -> impl FnOnce(rcgen::Error) -> PkiError {
    let operation = operation.into();
    move |source| PkiError::Certificate { operation, source }
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + DAY * days;
}

impl Authority {
    /// The authority in `<dir>/<name>.crt` and `.key`, made when it is not there.
    pub(crate) fn load_or_create(dir: &Path, name: &str, common_name: &str) -> Result<Self, PkiError> {
        let (crt, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let (Some(certificate), Some(key)) = (files::read(&crt)?, files::read(&key_path)?) {
            let key = KeyPair::from_pem(&key).map_err(failed(format!("read the key {}", key_path.display())))?;
            let issuer = Issuer::from_ca_cert_pem(&certificate, key)
                .map_err(failed(format!("read the certificate {}", crt.display())))?;
            return Ok(Self { certificate, issuer });
        }
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        valid_for(&mut params, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key).map_err(failed(format!("sign {common_name}")))?.pem();
        files::write(&key_path, &key.serialize_pem(), 0o600)?;
        files::write(&crt, &certificate, 0o644)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The authority's name as its certificates carry it, DER.
    pub fn name(&self) -> Vec<u8> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let parsed = der.ok().and_then(|der| Some(X509Certificate::from_der(&der).ok()?.1.subject().as_raw().to_vec()));
        parsed.unwrap_or_default()
    }

    /// A fresh certificate.
    pub fn issue(&self, leaf: &Leaf) -> Result<Pair, PkiError> {
        let operation = || failed(format!("sign a certificate for {}", leaf.common_name));
        let key = KeyPair::generate().map_err(failed("make a key"))?;
        let mut params = CertificateParams::new(leaf.names.clone()).map_err(operation())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = &leaf.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, &leaf.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![if leaf.server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let certificate = params.signed_by(&key, &self.issuer).map_err(operation())?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The certificate in `<dir>/<name>.crt` and `.key` if it is ours, fits its key, still says this and has a third of its
    /// life left; else a fresh one, written there.
    pub(crate) fn keep(&self, dir: &Path, name: &str, leaf: &Leaf) -> Result<Pair, PkiError> {
        let (crt, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let (Some(certificate), Some(key)) = (files::read(&crt)?, files::read(&key_path)?) {
            let pair = Pair { certificate, key };
            if pair.certificate_der().is_some_and(|der| self.serves(&der, &pair.key, leaf)) {
                return Ok(pair);
            }
        }
        let pair = self.issue(leaf)?;
        files::write(&key_path, &pair.key, 0o600)?;
        files::write(&crt, &pair.certificate, 0o644)?;
        Ok(pair)
    }

    fn serves(&self, der: &[u8], key: &str, leaf: &Leaf) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        // A crash between the writes of key and certificate leaves two that do not belong together.
        let fits =
            KeyPair::from_pem(key).is_ok_and(|key| key.subject_public_key_info() == certificate.public_key().raw);
        fits && self.signed(&certificate) && is_fresh(&certificate) && says(&certificate, leaf)
    }

    /// False when the certificate names another authority's key.
    fn signed(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(own) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else { return false };
        let Ok((_, own)) = X509Certificate::from_der(&own) else { return false };
        let named = certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        });
        let ours = own.iter_extensions().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
        // An authority made elsewhere may have no identifier: then its name must do.
        certificate.issuer() == own.subject() && (ours.is_none() || named == ours)
    }
}

/// True while two thirds of its life are not over.
fn is_fresh(certificate: &X509Certificate<'_>) -> bool {
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    (from..=from + (to - from) * 2 / 3).contains(&now)
}

/// True when subject and alternative names are the leaf's.
fn says(certificate: &X509Certificate<'_>, leaf: &Leaf) -> bool {
    let subject = certificate.subject();
    let first = |mut values: Box<dyn Iterator<Item = &str> + '_>| values.next().map(str::to_owned);
    let common_name = first(Box::new(subject.iter_common_name().filter_map(|v| v.as_str().ok())));
    let organization = first(Box::new(subject.iter_organization().filter_map(|v| v.as_str().ok())));
    if common_name.as_deref() != Some(&leaf.common_name) || organization != leaf.organization {
        return false;
    }
    let present: Vec<String> = match certificate.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().filter_map(alternative_name).collect(),
        _ => Vec::new(),
    };
    let plain = |name: &String| name.parse().map_or_else(|_| name.clone(), |ip: std::net::IpAddr| ip.to_string());
    leaf.names.iter().all(|name| present.contains(&plain(name)))
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}
