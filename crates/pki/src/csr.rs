//! Certificate signing requests (PKCS #10): what they ask for, and the certificates that an authority makes of them.

use std::time::Duration;

use rcgen::SigningKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::authority::Authority;
use crate::der;

/// What a request says of its sender. Its signature holds: the sender has the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Subject CN.
    pub common_name: String,
    /// Subject O.
    pub organizations: Vec<String>,
    /// Alternative names.
    pub dns_names: usize,
    /// Alternative addresses.
    pub addresses: usize,
    /// Alternative mail addresses.
    pub emails: usize,
    /// Alternative URIs, and names of other kinds.
    pub uris: usize,
}

/// Why a request cannot be read or granted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CsrError {
    /// Not base64 of PEM with a request in it.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// The request's structure.
    #[error("the certificate request is malformed")]
    Malformed,
    /// Whoever asks does not have the key.
    #[error("the certificate request's signature is wrong")]
    Signature,
    /// A usage that this authority gives nobody.
    #[error("unrecognized usage values: [{0:?}]")]
    Usage(String),
    /// The authority itself is too old, or has a key that it cannot sign with.
    #[error("the signer has expired")]
    Authority,
}

/// Certificates are valid from a little before they are made.
const BACKDATE: Duration = Duration::from_secs(300);
/// Shorter certificates end when they were asked to, without regard to their backdated beginning.
const SHORT: Duration = Duration::from_secs(8 * 3600);

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `id-kp`; the last byte says which.
const PURPOSE: [u8; 7] = [0x2b, 6, 1, 5, 5, 7, 3];

/// The DER of a request that is base64 of PEM, as `spec.request` holds it.
fn der_of(request: &str) -> Result<Vec<u8>, CsrError> {
    use base64::Engine;
    let pem = base64::engine::general_purpose::STANDARD.decode(request).map_err(|_| CsrError::Pem)?;
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(&pem).map_err(|_| CsrError::Pem)?;
    Ok(der.to_vec())
}

fn checked(der: &[u8]) -> Result<X509CertificationRequest<'_>, CsrError> {
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(request)
}

/// Reads a request as `spec.request` of a CertificateSigningRequest holds it (base64 of PEM).
pub fn parse(request: &str) -> Result<Request, CsrError> {
    let der = der_of(request)?;
    let request = checked(&der)?;
    let subject = &request.certification_request_info.subject;
    if subject.iter_common_name().count() > 1 {
        // Which of them is the user? Readers differ.
        return Err(CsrError::Malformed);
    }
    let mut found = Request {
        common_name: subject.iter_common_name().filter_map(|v| v.as_str().ok()).next().unwrap_or("").to_owned(),
        organizations: subject.iter_organization().filter_map(|v| v.as_str().ok()).map(Into::into).collect(),
        ..Request::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(_) => found.dns_names += 1,
                GeneralName::IPAddress(_) => found.addresses += 1,
                GeneralName::RFC822Name(_) => found.emails += 1,
                _ => found.uris += 1,
            }
        }
    }
    Ok(found)
}

/// A request (base64 of PEM) for a client certificate of this user in this group, and the key, PEM.
pub fn request(user: &str, group: &str, names: &[String]) -> Result<(String, String), crate::PkiError> {
    use base64::Engine;
    let failed =
        |source| crate::PkiError::Certificate { operation: format!("ask for a certificate for {user}"), source };
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    let pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    Ok((base64::engine::general_purpose::STANDARD.encode(pem), key.serialize_pem()))
}

/// The second when a PEM certificate ends.
pub fn ends(certificate_pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    Some(X509Certificate::from_der(&der).ok()?.1.validity().not_after.timestamp())
}

/// The two usage extensions.
fn usages(wanted: &[String]) -> Result<Vec<Vec<u8>>, CsrError> {
    let (mut bits, mut purposes) = (0_u8, Vec::new());
    for usage in wanted {
        match usage.as_str() {
            "signing" | "digital signature" => bits |= 0x80,
            "content commitment" => bits |= 0x40,
            "key encipherment" => bits |= 0x20,
            "data encipherment" => bits |= 0x10,
            "key agreement" => bits |= 0x08,
            "server auth" => purposes.push(1),
            "client auth" => purposes.push(2),
            other => return Err(CsrError::Usage(other.into())),
        }
    }
    purposes.sort_unstable();
    purposes.dedup();
    let mut extensions = Vec::new();
    if bits != 0 {
        let content = der::bits(&[bits], bits.trailing_zeros() as u8);
        extensions.push(der::extension(KEY_USAGE, true, &content));
    }
    if !purposes.is_empty() {
        let ids: Vec<Vec<u8>> =
            purposes.iter().map(|last| der::value(der::OBJECT_ID, &[&PURPOSE[..], &[*last]].concat())).collect();
        extensions.push(der::extension(EXTENDED_KEY_USAGE, false, &der::compound(der::SEQUENCE, &ids)));
    }
    Ok(extensions)
}

/// The AlgorithmIdentifier of an authority's signatures.
fn algorithm(key: &rcgen::KeyPair) -> Option<Vec<u8>> {
    let id: (&[u8], bool) = match key.algorithm() {
        a if *a == rcgen::PKCS_ECDSA_P256_SHA256 => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], false),
        a if *a == rcgen::PKCS_ECDSA_P384_SHA384 => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], false),
        a if *a == rcgen::PKCS_ED25519 => (&[0x2b, 0x65, 0x70], false),
        a if *a == rcgen::PKCS_RSA_SHA256 => (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b], true),
        _ => return None,
    };
    let mut parts = vec![der::value(der::OBJECT_ID, id.0)];
    if id.1 {
        parts.push(vec![5, 0]);
    }
    Some(der::compound(der::SEQUENCE, &parts))
}

impl Authority {
    /// A certificate (PEM) for the request (base64 of PEM): its subject, key and alternative names, these usages, for so long,
    /// but never longer than the authority itself lives. Whether the sender may have it is the caller's to check.
    pub fn sign(&self, request: &str, wanted: &[String], lasts: Duration) -> Result<String, CsrError> {
        let der = der_of(request)?;
        let request = checked(&der)?;
        let info = &request.certification_request_info;
        let own = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes()).map_err(|_| CsrError::Authority)?;
        let (_, own) = X509Certificate::from_der(&own).map_err(|_| CsrError::Authority)?;
        let now = OffsetDateTime::now_utc();
        let last = own.validity().not_after.to_datetime();
        if now >= last {
            return Err(CsrError::Authority);
        }
        let wanted_end = now + lasts - if lasts < SHORT { Duration::ZERO } else { BACKDATE };
        let mut extensions = usages(wanted)?;
        extensions.push(der::extension(BASIC_CONSTRAINTS, true, &der::compound(der::SEQUENCE, &[])));
        let key_id = own.iter_extensions().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        if let Some(id) = key_id {
            let content = der::compound(der::SEQUENCE, &[der::value(0x80, &id)]);
            extensions.push(der::extension(AUTHORITY_KEY, false, &content));
        }
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else { continue };
            let names = asked.extensions.iter().find(|e| e.oid.as_bytes() == ALTERNATIVE_NAMES);
            extensions.extend(names.map(|e| der::extension(ALTERNATIVE_NAMES, false, e.value)));
        }
        let algorithm = algorithm(self.key()).ok_or(CsrError::Authority)?;
        let mut serial = [0; 16];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial)
            .map_err(|_| CsrError::Authority)?;
        // Positive, and no byte more than needed.
        serial[0] = serial[0] & 0x7f | 0x40;
        let body = der::compound(
            der::SEQUENCE,
            &[
                der::compound(0xa0, &[der::value(der::INTEGER, &[2])]),
                der::value(der::INTEGER, &serial),
                algorithm.clone(),
                own.subject().as_raw().to_vec(),
                der::compound(der::SEQUENCE, &[der::time(now - BACKDATE), der::time(wanted_end.min(last))]),
                info.subject.as_raw().to_vec(),
                info.subject_pki.raw.to_vec(),
                der::compound(0xa3, &[der::compound(der::SEQUENCE, &extensions)]),
            ],
        );
        let signature = self.key().sign(&body).map_err(|_| CsrError::Authority)?;
        let certificate = der::compound(der::SEQUENCE, &[body, algorithm, der::bits(&signature, 0)]);
        Ok(pem("CERTIFICATE", &certificate))
    }
}

/// RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;
    use crate::{Pki, identity};

    fn request(names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        super::request("system:node:n1", "system:nodes", &names).unwrap().0
    }

    #[test]
    fn a_request_becomes_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path()).unwrap();
        let asked = request(&["n1", "10.0.0.1"]);
        let said = parse(&asked).unwrap();
        assert_eq!((said.common_name.as_str(), said.dns_names, said.addresses), ("system:node:n1", 1, 1));
        let usages = ["digital signature", "client auth"].map(String::from);
        let certificate = pki.client_ca.sign(&asked, &usages, Duration::from_secs(3600)).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let who = identity(&der).unwrap();
        assert_eq!((who.user.as_str(), who.groups), ("system:node:n1", vec!["system:nodes".to_owned()]));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let ca = CertificateDer::from_pem_slice(pki.client_ca.certificate_pem().as_bytes()).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        parsed.verify_signature(Some(ca.public_key())).unwrap();
        assert!(parsed.key_usage().unwrap().unwrap().value.digital_signature());
        assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        let lasts = ends(&certificate).unwrap() - OffsetDateTime::now_utc().unix_timestamp();
        assert!((3590..=3600).contains(&lasts), "{lasts}");
        let ages = pki.client_ca.sign(&asked, &usages, Duration::from_secs(100 * 365 * 86_400)).unwrap();
        assert_eq!(ends(&ages), ends(pki.client_ca.certificate_pem()), "no longer than its authority");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        assert_eq!(parse("?"), Err(CsrError::Pem));
        assert_eq!(parse(&encode(b"x")), Err(CsrError::Pem));
        let asked = request(&[]);
        let pem = base64::engine::general_purpose::STANDARD.decode(&asked).unwrap();
        let mut der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(&pem).unwrap().to_vec();
        let count = der.len();
        der[count - 1] ^= 1;
        assert_eq!(parse(&encode(super::pem("CERTIFICATE REQUEST", &der).as_bytes())), Err(CsrError::Signature));
        der.truncate(count / 2);
        assert_eq!(parse(&encode(super::pem("CERTIFICATE REQUEST", &der).as_bytes())), Err(CsrError::Malformed));
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path()).unwrap();
        let refused = pki.client_ca.sign(&asked, &["cert sign".into()], Duration::from_secs(60));
        assert_eq!(refused, Err(CsrError::Usage("cert sign".into())));
    }
}
