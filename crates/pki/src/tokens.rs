//! JSON Web Tokens of service accounts: ES256 (RFC 7518), signed and checked with one key.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::jwt::{Parts, decode, json};
use crate::{PkiError, files};

/// DER of a P-256 SubjectPublicKeyInfo up to the point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a token is not one of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT.
    #[error("not a JSON Web Token")]
    Malformed,
    /// The algorithm or key is not ours.
    #[error("the token was signed with another key")]
    OtherKey,
    /// The signature does not hold.
    #[error("the token's signature is wrong")]
    Signature,
}

/// Signs and checks tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

impl Signer {
    /// The key in the PEM file `path`, made when it is not there.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, PkiError> {
        let malformed = || PkiError::Malformed { path: path.into(), what: "ECDSA P-256 key" };
        let pem = match files::read(path)? {
            Some(pem) => pem,
            None => {
                let made = rcgen::KeyPair::generate();
                let key = made.map_err(|source| PkiError::Certificate { operation: "make a key".into(), source })?;
                files::write(path, &key.serialize_pem(), 0o600)?;
                key.serialize_pem()
            }
        };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|_| malformed())?;
        // As upstream: the unpadded URL-safe base64 of the SHA-256 of the public key's DER.
        let spki = [&SPKI_PREFIX[..], key.public_key().as_ref()].concat();
        let key_id = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &spki));
        Ok(Self { key, random, key_id })
    }

    /// The compact form of a token with these claims; `None` only if the system has no randomness.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key signed. Times, issuer and audience are the caller's to check.
    pub fn verify(&self, token: &str) -> Result<Value, TokenError> {
        let Parts { signed, header, claims, signature } = Parts::of(token)?;
        if header["alg"] != "ES256" || header["kid"].as_str().is_some_and(|kid| kid != self.key_id) {
            return Err(TokenError::OtherKey);
        }
        let key = UnparsedPublicKey::new(
            &ECDSA_P256_SHA256_FIXED as &dyn signature::VerificationAlgorithm,
            self.key.public_key(),
        );
        key.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;
        json(claims)
    }

    /// The public key as a JSON Web Key Set, for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..65]);
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ours_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::load_or_create(&dir.path().join("a.key")).unwrap();
        let token = signer.sign(&json!({"sub": "system:serviceaccount:default:default"})).unwrap();
        assert_eq!(signer.verify(&token).unwrap()["sub"], "system:serviceaccount:default:default");
        let again = Signer::load_or_create(&dir.path().join("a.key")).unwrap();
        assert!(again.verify(&token).is_ok(), "the key is kept");
        assert_eq!(again.jwks(), signer.jwks());
        let other = Signer::load_or_create(&dir.path().join("b.key")).unwrap();
        assert_eq!(other.verify(&token), Err(TokenError::OtherKey));
        let (head, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        assert_eq!(signer.verify(&forged), Err(TokenError::Signature));
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert_eq!(signer.verify(&none), Err(TokenError::OtherKey));
        for bad in ["", "a.b", "a.b.c", "...."] {
            assert!(signer.verify(bad).is_err(), "{bad}");
        }
    }
}
