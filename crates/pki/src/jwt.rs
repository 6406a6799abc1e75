//! JSON Web Tokens that others signed (OpenID Connect), checked against their key sets; and signatures by a shared secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::{Value, json};

use crate::TokenError;

/// The claims of a token, unchecked: good only to find out who is to check it.
pub fn peek(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// A token, taken apart: its header is read, claims and signature stand as they came.
pub(crate) struct Parts<'a> {
    pub(crate) signed: &'a str,
    pub(crate) header: Value,
    pub(crate) claims: &'a str,
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(token: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        Ok(Self { signed, header: json(header)?, claims, signature })
    }
}

pub(crate) fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

pub(crate) fn json(part: &str) -> Result<Value, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Malformed)
}

/// The claims of a token that one of the `keys` (the `keys` of a JSON Web Key Set) signed, by one of `algorithms`. Times, issuer
/// and audience are the caller's to check. `OtherKey` when no key of the set is the token's.
pub fn verify(token: &str, keys: &[Value], algorithms: &[String]) -> Result<Value, TokenError> {
    let Parts { signed, header, claims, signature } = Parts::of(token)?;
    let algorithm = header["alg"].as_str().unwrap_or("");
    if !algorithms.iter().any(|a| a == algorithm) {
        return Err(TokenError::OtherKey);
    }
    let signature = decode(signature)?;
    let mut outcome = TokenError::OtherKey;
    for key in keys {
        let named = header["kid"].is_null() || key["kid"].is_null() || header["kid"] == key["kid"];
        let fits = key["alg"].as_str().is_none_or(|a| a == algorithm) && key["use"].as_str().is_none_or(|u| u == "sig");
        if !named || !fits {
            continue;
        }
        match holds(key, algorithm, signed.as_bytes(), &signature) {
            Some(true) => return json(claims),
            Some(false) => outcome = TokenError::Signature,
            None => {}
        }
    }
    Err(outcome)
}

/// Whether the signature is the key's; `None` when the key is not for this algorithm.
fn holds(key: &Value, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?.trim_end_matches('=')).ok();
    let rsa = |parameters: &'static signature::RsaParameters| {
        let (n, e) = (part("n")?, part("e")?);
        Some(RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok())
    };
    let curve = |name: &str, size: usize, algorithm: &'static dyn VerificationAlgorithm| {
        let (x, y) = (part("x")?, part("y")?);
        if key["crv"] != name || x.len() > size || y.len() > size {
            return None;
        }
        // An uncompressed point: 4, x, y, each padded on the left.
        let mut point = vec![4];
        for coordinate in [x, y] {
            point.resize(point.len() + size - coordinate.len(), 0);
            point.extend(coordinate);
        }
        Some(UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok())
    };
    match (key["kty"].as_str()?, algorithm) {
        ("RSA", "RS256") => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        ("RSA", "RS384") => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        ("RSA", "RS512") => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        ("RSA", "PS256") => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        ("RSA", "PS384") => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        ("RSA", "PS512") => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        ("EC", "ES256") => curve("P-256", 32, &signature::ECDSA_P256_SHA256_FIXED),
        ("EC", "ES384") => curve("P-384", 48, &signature::ECDSA_P384_SHA384_FIXED),
        ("OKP", "EdDSA") if key["crv"] == "Ed25519" => {
            Some(UnparsedPublicKey::new(&signature::ED25519, part("x")?).verify(message, signature).is_ok())
        }
        _ => None,
    }
}

/// The signature of `content` by a bootstrap token, without the content (`header..signature`, HS256): who knows the token can
/// tell that the content comes from the cluster.
pub fn detached(content: &str, token_id: &str, token_secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": token_id}).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token_secret.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, appendix A.3, and its key.
    const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

    #[test]
    fn tokens_of_others() {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let es256 = ["ES256".to_owned()];
        assert_eq!(verify(SIGNED, std::slice::from_ref(&key), &es256).unwrap()["iss"], "joe");
        assert_eq!(peek(SIGNED).unwrap()["iss"], "joe");
        assert_eq!(verify(SIGNED, std::slice::from_ref(&key), &["RS256".into()]), Err(TokenError::OtherKey));
        assert_eq!(verify(SIGNED, &[], &es256), Err(TokenError::OtherKey));
        let forged = SIGNED.replace(".DtEh", ".EtEh");
        assert_eq!(verify(&forged, &[key], &es256), Err(TokenError::Signature));
        for bad in ["", "a", "a.b", "a.b.c", "..", "e30.e30."] {
            assert!(verify(bad, &[json!({"kty": "RSA"})], &es256).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_signs_without_the_content() {
        let content = "Hello from the other side. I must have called a thousand times.";
        let signature = detached(content, "joshua", "my voice is my passcode");
        assert_eq!(signature, "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8");
    }
}
