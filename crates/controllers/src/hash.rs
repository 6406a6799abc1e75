//! Stable hashes of trees, printed in the alphabet of generated names.

use serde_json::Value;

/// Consonants and digits that make no words and are not mistaken for each other.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// Feeds a tree with its maps in key order, whatever the order in memory.
    fn tree(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                self.write(b"{");
                for key in keys {
                    self.write(key.as_bytes());
                    self.write(&[0]);
                    self.tree(&map[key]);
                }
                self.write(b"}");
            }
            Value::Array(items) => {
                self.write(b"[");
                items.iter().for_each(|item| self.tree(item));
                self.write(b"]");
            }
            Value::String(text) => {
                self.write(text.as_bytes());
                self.write(&[1]);
            }
            other => {
                self.write(other.to_string().as_bytes());
                self.write(&[2]);
            }
        }
    }
}

/// The hash of a tree, told apart by the number of collisions.
pub fn hash(value: &Value, collisions: Option<i64>) -> u32 {
    let mut fnv = Fnv(0x811c_9dc5);
    fnv.tree(value);
    if let Some(collisions) = collisions {
        fnv.write(&(collisions as u32).to_le_bytes());
    }
    fnv.0
}

/// A text in the alphabet of generated names (upstream's `SafeEncodeString`).
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The hash of a tree as it stands in names and labels.
pub fn label(value: &Value, collisions: Option<i64>) -> String {
    safe_encode(&hash(value, collisions).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_values_and_upstreams_alphabet() {
        let mut fnv = Fnv(0x811c_9dc5);
        fnv.write(b"foobar");
        assert_eq!(fnv.0, 0xbf9c_f968);
        assert_eq!(safe_encode("1234567890"), "56789bcdf4");
        assert!(safe_encode("3141592653").chars().all(|c| ALPHABET.contains(&(c as u8))));
    }

    #[test]
    fn key_order_does_not_matter_and_structure_does() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":"x"}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":{"c":"x"},"a":1}"#).unwrap();
        assert_eq!(hash(&a, None), hash(&b, None));
        assert_ne!(hash(&a, None), hash(&a, Some(1)));
        assert_ne!(hash(&json!(["ab"]), None), hash(&json!(["a", "b"]), None));
        assert_ne!(hash(&json!("1"), None), hash(&json!(1), None));
    }
}
