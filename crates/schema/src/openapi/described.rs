//! Descriptions of types and fields: compressed in the binary, unpacked at the first document, parsed type by type.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::LazyLock;

const PACKED: &[u8] = include_bytes!("../../data/descriptions.json.z");

/// The unpacked text: a JSON map with one type on each line, sorted.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(PACKED)
        .read_to_string(&mut text)
        .expect("data/descriptions.json.z is part of the source and covered by a test");
    text
});

static LINES: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    let entries = TEXT.lines().filter_map(|line| {
        let (name, fields) = line.trim_end_matches(',').strip_prefix('"')?.split_once("\":")?;
        Some((name, fields))
    });
    entries.collect()
});

/// A type's descriptions by field; its own under the empty name.
pub(super) fn of(name: &str) -> BTreeMap<String, String> {
    LINES.get(name).and_then(|fields| serde_json::from_str(fields).ok()).unwrap_or_default()
}

/// A number that changes with the descriptions.
pub(super) fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    PACKED.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;

    #[test]
    fn types_and_fields_are_described() {
        let whole: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&TEXT).unwrap();
        assert_eq!(whole.len(), LINES.len());
        for (name, fields) in &whole {
            assert_eq!(&of(name), fields);
        }
        assert!(of("io.k8s.api.apps.v1.DeploymentSpec")["replicas"].starts_with("Number of desired pods."));
        let (mut all, mut silent) = (0, 0);
        for (name, declared) in table() {
            let texts = of(name);
            all += declared.fields.len();
            silent += declared.fields.keys().filter(|field| !texts.contains_key(*field)).count();
        }
        assert!(silent * 40 < all, "{silent} of {all} fields have no description");
    }
}
