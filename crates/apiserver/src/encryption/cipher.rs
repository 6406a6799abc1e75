//! The ciphers, with the layouts that upstream stores.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use salsa20::XSalsa20;

const GCM_NONCE: usize = 12;
const CBC_BLOCK: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

/// One key and what is done with it.
pub(super) enum Cipher {
    /// Nonce, sealed value, tag; the value's place in the store is authenticated with it.
    Gcm(Gcm),
    /// Initialization vector, padded value. Nothing is authenticated.
    Cbc(Vec<u8>),
    /// NaCl's secretbox: nonce, tag, value.
    SecretBox([u8; 32]),
}

/// AES-GCM with the key's length.
pub(super) enum Gcm {
    Aes128(Box<AesGcm<Aes128, U12>>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<AesGcm<Aes256, U12>>),
}

fn bytes<const N: usize>() -> Result<[u8; N], String> {
    use rand::TryRng;
    let mut bytes = [0; N];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| format!("no random numbers: {e}"))?;
    Ok(bytes)
}

/// Runs `$body` with `$Aes` being the type for the key's length.
macro_rules! by_length {
    ($key:expr, $Aes:ident => $body:expr) => {
        match $key.len() {
            16 => {
                type $Aes = Aes128;
                $body
            }
            24 => {
                type $Aes = Aes192;
                $body
            }
            _ => {
                type $Aes = Aes256;
                $body
            }
        }
    };
}

impl Cipher {
    /// AES-GCM; the key has 16, 24 or 32 bytes.
    pub(super) fn gcm(key: &[u8]) -> Option<Self> {
        let gcm = match key.len() {
            16 => Gcm::Aes128(Box::new(AesGcm::new_from_slice(key).ok()?)),
            24 => Gcm::Aes192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            _ => Gcm::Aes256(Box::new(AesGcm::new_from_slice(key).ok()?)),
        };
        Some(Self::Gcm(gcm))
    }

    /// AES-CBC; the key has 16, 24 or 32 bytes.
    pub(super) fn cbc(key: &[u8]) -> Option<Self> {
        matches!(key.len(), 16 | 24 | 32).then(|| Self::Cbc(key.into()))
    }

    /// Secretbox; the key has 32 bytes.
    pub(super) fn secret_box(key: &[u8]) -> Option<Self> {
        key.try_into().ok().map(Self::SecretBox)
    }

    /// Appends the sealed value. `place` is the key in the store.
    pub(super) fn seal(&self, value: &[u8], place: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let unusable = |_| "the key cannot be used".to_owned();
        match self {
            Self::Gcm(gcm) => {
                let nonce = bytes::<GCM_NONCE>()?;
                let message = Payload { msg: value, aad: place };
                let sealed = match gcm {
                    Gcm::Aes128(aes) => aes.encrypt(&nonce.into(), message),
                    Gcm::Aes192(aes) => aes.encrypt(&nonce.into(), message),
                    Gcm::Aes256(aes) => aes.encrypt(&nonce.into(), message),
                };
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed.map_err(|_| "the value is too large".to_owned())?);
            }
            Self::Cbc(key) => {
                let vector = bytes::<CBC_BLOCK>()?;
                let sealed = by_length!(key, Aes => {
                    let cipher = cbc::Encryptor::<Aes>::new_from_slices(key, &vector).map_err(unusable)?;
                    cipher.encrypt_padded_vec::<Pkcs7>(value)
                });
                out.extend_from_slice(&vector);
                out.extend_from_slice(&sealed);
            }
            Self::SecretBox(key) => {
                let nonce = bytes::<BOX_NONCE>()?;
                let (mut stream, poly) = secret_box(key, &nonce)?;
                let mut sealed = value.to_vec();
                stream.apply_keystream(&mut sealed);
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&poly.compute_unpadded(&sealed));
                out.extend_from_slice(&sealed);
            }
        }
        Ok(())
    }

    /// The value of what [`Cipher::seal`] has made for the same place.
    pub(super) fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        let short = || "the stored data was shorter than the required size".to_owned();
        match self {
            Self::Gcm(gcm) => {
                let (nonce, rest) = sealed.split_first_chunk::<GCM_NONCE>().ok_or_else(short)?;
                let message = Payload { msg: rest, aad: place };
                let opened = match gcm {
                    Gcm::Aes128(aes) => aes.decrypt(&(*nonce).into(), message),
                    Gcm::Aes192(aes) => aes.decrypt(&(*nonce).into(), message),
                    Gcm::Aes256(aes) => aes.decrypt(&(*nonce).into(), message),
                };
                opened.map_err(|_| "cipher: message authentication failed".to_owned())
            }
            Self::Cbc(key) => {
                let (vector, rest) = sealed.split_first_chunk::<CBC_BLOCK>().ok_or_else(short)?;
                if rest.is_empty() || rest.len() % CBC_BLOCK != 0 {
                    return Err("the stored data is not a multiple of the block size".into());
                }
                by_length!(key, Aes => {
                    let cipher = cbc::Decryptor::<Aes>::new_from_slices(key, vector);
                    let cipher = cipher.map_err(|_| "the key cannot be used".to_owned())?;
                    cipher.decrypt_padded_vec::<Pkcs7>(rest).map_err(|_| "invalid padding on input".to_owned())
                })
            }
            Self::SecretBox(key) => {
                let (nonce, rest) = sealed.split_first_chunk::<BOX_NONCE>().ok_or_else(short)?;
                let (tag, rest) = rest.split_first_chunk::<BOX_TAG>().ok_or_else(short)?;
                let (mut stream, poly) = secret_box(key, nonce)?;
                if !is_equal(&poly.compute_unpadded(rest), tag) {
                    return Err("the stored data could not be decrypted".into());
                }
                let mut value = rest.to_vec();
                stream.apply_keystream(&mut value);
                Ok(value)
            }
        }
    }
}

/// The stream of a message, and the authenticator that its first 32 bytes are the key of.
fn secret_box(key: &[u8; 32], nonce: &[u8; BOX_NONCE]) -> Result<(XSalsa20, Poly1305), String> {
    let mut stream = XSalsa20::new_from_slices(key, nonce).map_err(|e| e.to_string())?;
    let mut poly = [0; 32];
    stream.apply_keystream(&mut poly);
    Ok((stream, Poly1305::new_from_slice(&poly).map_err(|e| e.to_string())?))
}

/// Compares in a time that does not depend on where they differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
