//! The key material that the servers of one cluster have in common, and how it lies in a datastore: encrypted with the
//! cluster's token.
//!
//! ```text
//! 1 (version), 16 bytes of salt, 12 bytes of nonce, AES-256-GCM(JSON: file name -> text)
//! key = PBKDF2-HMAC-SHA256(token, salt)
//! ```

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Pki, PkiError, files};

/// What servers share. Leaf certificates are each server's own.
const FILES: [&str; 7] = [
    "server-ca.crt",
    "server-ca.key",
    "client-ca.crt",
    "client-ca.key",
    "request-header-ca.crt",
    "request-header-ca.key",
    "service-account.key",
];
const VERSION: u8 = 1;
const SALT: usize = 16;
const ROUNDS: NonZeroU32 = NonZeroU32::new(200_000).expect("not zero");

/// The shared files of a cluster: name to text.
#[derive(Clone, PartialEq, Eq)]
pub struct Material(BTreeMap<String, String>);

/// Why sealed material cannot be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// The token is another one, or the bytes were changed.
    #[error("the cluster's keys are locked with another token")]
    OtherToken,
    /// Not what [`Material::seal`] writes.
    #[error("the cluster's keys are of a form that this version does not know")]
    Malformed,
    /// The system gives no random numbers.
    #[error("the system has no randomness")]
    NoRandomness,
}

fn key_of(token: &str, salt: &[u8]) -> Result<LessSafeKey, SealError> {
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, token.as_bytes(), &mut key);
    UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(|_| SealError::Malformed)
}

/// A token for a cluster: 32 random hexadecimal digits.
pub fn random_token() -> Result<String, SealError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Material {
    /// What is in a server's directory, which [`Pki::load_or_create`] has filled.
    pub fn read(dir: &Path) -> Result<Self, PkiError> {
        let mut material = BTreeMap::new();
        for name in FILES {
            let path = dir.join(name);
            let text = files::read(&path)?.ok_or(PkiError::Malformed { path, what: "key material" })?;
            material.insert(name.to_owned(), text);
        }
        Ok(Self(material))
    }

    /// Encrypted with the token. Takes a moment, on purpose.
    pub fn seal(&self, token: &str) -> Result<Vec<u8>, SealError> {
        let random = SystemRandom::new();
        let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
        random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| SealError::NoRandomness)?;
        let mut text = serde_json::to_vec(&self.0).map_err(|_| SealError::Malformed)?;
        let key = key_of(token, &salt)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from([VERSION]), &mut text)
            .map_err(|_| SealError::Malformed)?;
        Ok([&[VERSION][..], &salt, &nonce, &text].concat())
    }

    /// Decrypted with the token.
    pub fn unseal(bytes: &[u8], token: &str) -> Result<Self, SealError> {
        let rest = bytes.strip_prefix(&[VERSION]).ok_or(SealError::Malformed)?;
        let (salt, rest) = rest.split_at_checked(SALT).ok_or(SealError::Malformed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        let mut text = text.to_vec();
        let key = key_of(token, salt)?;
        let text = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from([VERSION]), &mut text)
            .map_err(|_| SealError::OtherToken)?;
        let material: BTreeMap<String, String> = serde_json::from_slice(text).map_err(|_| SealError::Malformed)?;
        // Names become paths: none but the known ones.
        let known = material.len() == FILES.len() && FILES.iter().all(|name| material.contains_key(*name));
        if known { Ok(Self(material)) } else { Err(SealError::Malformed) }
    }

    /// Puts the material into a server's directory. What was there and differs goes to `beside` as a whole, which is then
    /// returned.
    pub fn install(&self, dir: &Path, beside: &Path) -> Result<Option<PathBuf>, PkiError> {
        let mut moved = None;
        for (name, text) in &self.0 {
            if files::read(&dir.join(name))?.is_some_and(|present| present != *text) {
                let failed = |source| PkiError::File { operation: "move away", path: dir.to_owned(), source };
                std::fs::rename(dir, beside).map_err(failed)?;
                moved = Some(beside.to_owned());
                break;
            }
        }
        files::private_dir(dir)?;
        for (name, text) in &self.0 {
            files::write(&dir.join(name), text, if name.ends_with(".crt") { 0o644 } else { 0o600 })?;
        }
        Ok(moved)
    }
}

impl Pki {
    /// Reads or makes the material in `dir` and returns it for others.
    pub fn material(dir: &Path) -> Result<Material, PkiError> {
        Self::load_or_create(dir)?;
        Material::read(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_share_what_the_token_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let material = Pki::material(&a).unwrap();
        let sealed = material.seal("secret").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"BEGIN"), "nothing is readable");
        assert_eq!(Material::unseal(&sealed, "other").err(), Some(SealError::OtherToken));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(Material::unseal(&changed, "secret").err(), Some(SealError::OtherToken));
        for cut in [0, 1, 20, 28] {
            assert_eq!(Material::unseal(&sealed[..cut], "secret").err(), Some(SealError::Malformed));
        }
        let opened = Material::unseal(&sealed, "secret").unwrap();
        Pki::load_or_create(&b).unwrap();
        let old = opened.install(&b, &dir.path().join("old")).unwrap();
        assert!(old.is_some_and(|old| old.join("server-ca.key").exists()), "its own keys are kept");
        assert_eq!(opened.install(&b, &dir.path().join("old")).unwrap(), None, "nothing changes any more");
        let (a, b) = (Pki::load_or_create(&a).unwrap(), Pki::load_or_create(&b).unwrap());
        assert_eq!(a.client_ca.certificate_pem(), b.client_ca.certificate_pem());
        let token = a.tokens.sign(&serde_json::json!({"sub": "x"})).unwrap();
        assert!(b.tokens.verify(&token).is_ok());
    }
}
