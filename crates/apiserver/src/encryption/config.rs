//! The file: which resources, which providers, which keys; with upstream's checks in upstream's words.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Invalid;
use serde_json::{Map, Value};

use super::SEALED;
use super::cipher::Cipher;

/// Why a file is refused.
pub(super) enum Error {
    /// It is not such a file.
    Decoding(String),
    /// What it says makes no sense.
    Invalid(String),
}

/// A value and the form that it was in; or why it does not open.
type Opened = Result<(Vec<u8>, Arc<str>), String>;

/// A resource of a rule: `secrets`, `*.apps`, `*.`, `*.*`.
type Resource = (String, String);

/// Which resources are stored how.
pub(super) struct Config {
    /// Resource and group, and the providers in their order.
    rules: Vec<(Resource, Vec<Arc<Provider>>)>,
}

/// One entry of `providers`.
pub(super) enum Provider {
    /// As it is.
    Identity,
    /// `k8s:enc:aesgcm:v1:`; what upstream calls the transformer; name and key each.
    Keys { prefix: &'static str, called: &'static str, keys: Vec<(Arc<str>, Cipher)> },
}

impl Provider {
    /// What it writes begins with this.
    pub(super) fn form(self: &Arc<Self>) -> Arc<str> {
        self.first().map_or_else(|| "".into(), |(form, _)| form.clone())
    }

    /// The key that it writes with.
    pub(super) fn first(self: &Arc<Self>) -> Option<(&Arc<str>, &Cipher)> {
        match &**self {
            Self::Identity => None,
            Self::Keys { keys, .. } => keys.first().map(|(form, cipher)| (form, cipher)),
        }
    }

    /// The value and its form; `None` when another provider must have written it.
    pub(super) fn open(&self, place: &str, stored: &[u8]) -> Option<Opened> {
        match self {
            Self::Identity => (!stored.starts_with(SEALED)).then(|| Ok((stored.into(), "".into()))),
            Self::Keys { prefix, called, keys } => {
                stored.strip_prefix(prefix.as_bytes())?;
                let mut error = format!("no matching key was found for the provided {called} transformer");
                for (form, cipher) in keys {
                    let Some(sealed) = stored.strip_prefix(form.as_bytes()) else { continue };
                    match cipher.open(sealed, place.as_bytes()) {
                        Ok(value) => return Some(Ok((value, form.clone()))),
                        Err(why) => error = why,
                    }
                }
                Some(Err(error))
            }
        }
    }
}

impl Config {
    /// The providers of a resource; `None`: it is stored as it is.
    pub(super) fn of(&self, resource: &str, group: &str) -> Option<&[Arc<Provider>]> {
        let find = |wanted: (&str, &str)| self.rules.iter().find(|((r, g), _)| (r.as_str(), g.as_str()) == wanted);
        let found = find((resource, group)).or_else(|| find(("*", group))).or_else(|| find(("*", "*")));
        found.map(|(_, providers)| providers.as_slice())
    }
}

/// Reads fields of maps, and notes those that nobody knows.
struct Reader {
    unknown: Vec<String>,
}

impl Reader {
    fn map<'a>(&mut self, value: &'a Value, at: &str, known: &[&str]) -> Result<&'a Map<String, Value>, Error> {
        let Some(map) = value.as_object() else {
            return Err(Error::Decoding(format!("{at}: expected a map")));
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let dot = if at.is_empty() { "" } else { "." };
            self.unknown.push(format!("unknown field \"{at}{dot}{key}\""));
        }
        Ok(map)
    }
}

fn list<'a>(map: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    map.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Reads the file's text.
pub(super) fn parse(text: &str) -> Result<Config, Error> {
    let value: Value = serde_saphyr::from_str(text).map_err(|e| Error::Decoding(e.to_string()))?;
    let (version, kind) = (value["apiVersion"].as_str().unwrap_or(""), value["kind"].as_str().unwrap_or(""));
    if kind != "EncryptionConfiguration" || version != "apiserver.config.k8s.io/v1" {
        return Err(Error::Decoding(format!("no kind {kind:?} is registered for version {version:?}")));
    }
    let mut reader = Reader { unknown: Vec::new() };
    let top = reader.map(&value, "", &["apiVersion", "kind", "resources"])?;
    let mut errors = Vec::new();
    let mut rules: Vec<(Resource, Vec<Arc<Provider>>)> = Vec::new();
    let mut masked = None;
    let entries = list(top, "resources");
    if entries.is_empty() {
        errors.push(Invalid::required("resources", "at least one resources is required"));
    }
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("resources[{index}]");
        let entry = reader.map(entry, &at, &["resources", "providers"])?;
        let names: Vec<&str> = list(entry, "resources").iter().filter_map(Value::as_str).collect();
        check_resources(&names, &format!("{at}.resources"), &mut errors);
        let at = format!("{at}.providers");
        let given = list(entry, "providers");
        if given.is_empty() {
            errors.push(Invalid::required(&at, format!("at least one {at} is required")));
        }
        let mut providers = Vec::new();
        for (index, provider) in given.iter().enumerate() {
            let read = read_provider(&mut reader, provider, &format!("{at}[{index}]"), &mut errors)?;
            providers.extend(read.map(Arc::new));
        }
        for name in names {
            let (resource, group) = name.split_once('.').unwrap_or((name, ""));
            let masks = rules.iter().map(|(rule, _)| rule).find(|(r, g)| r == "*" && (g == group || g == "*"));
            if let Some((r, g)) = masks {
                masked.get_or_insert_with(|| format!("resource {name:?} is masked by earlier rule \"{r}.{g}\""));
            }
            match rules.iter_mut().find(|((r, g), _)| r == resource && g == group) {
                Some((_, known)) => known.extend(providers.iter().cloned()),
                None => rules.push(((resource.into(), group.into()), providers.clone())),
            }
        }
    }
    if !reader.unknown.is_empty() {
        return Err(Error::Decoding(format!("strict decoding error: {}", reader.unknown.join(", "))));
    }
    if !errors.is_empty() {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Error::Invalid(match lines.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        }));
    }
    match masked {
        Some(why) => Err(Error::Invalid(why)),
        None => Ok(Config { rules }),
    }
}

fn check_resources(names: &[&str], at: &str, errors: &mut Vec<Invalid>) {
    if names.is_empty() {
        errors.push(Invalid::required(at, format!("at least one {at} is required")));
    }
    let shown = Value::from(names.to_vec());
    let mut seen = HashSet::new();
    if !names.iter().all(|name| seen.insert(*name)) {
        errors.push(Invalid::invalid(at, &shown, "the same resource cannot be specified multiple times"));
    }
    let group_of = |name: &str| name.split_once('.').map_or(String::new(), |(_, group)| group.to_owned());
    let has_all = names.contains(&"*.*");
    let overlaps = names.iter().any(|name| {
        (has_all && *name != "*.*")
            || (!name.starts_with("*.") && names.contains(&format!("*.{}", group_of(name)).as_str()))
    });
    if overlaps {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
        errors.push(Invalid::invalid(at, &shown, why));
    }
    for (index, name) in names.iter().enumerate() {
        let group = group_of(name);
        let why = if *name == "*" {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        } else if name.chars().any(char::is_uppercase) {
            "resource name should not contain capital letters"
        } else if group == "extensions" {
            "'extensions' group has been removed and cannot be used for encryption"
        } else if matches!(*name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
            "resources which do not have REST API/s cannot be encrypted"
        } else if group == "events.k8s.io" {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
        } else {
            continue;
        };
        errors.push(Invalid::invalid(&format!("{at}[{index}]"), &Value::from(*name), why));
    }
}

/// Kinds of providers: the field; the prefix; what upstream calls the transformer; lengths of keys; the cipher.
type Known = (&'static str, &'static str, &'static str, &'static [usize], fn(&[u8]) -> Option<Cipher>);

const AES: &[usize] = &[16, 24, 32];
const KNOWN: [Known; 3] = [
    ("aesgcm", "k8s:enc:aesgcm:v1:", "AES", AES, Cipher::gcm),
    ("aescbc", "k8s:enc:aescbc:v1:", "AES", AES, Cipher::cbc),
    ("secretbox", "k8s:enc:secretbox:v1:", "Secretbox", &[32], Cipher::secret_box),
];

fn read_provider(
    reader: &mut Reader,
    value: &Value,
    at: &str,
    errors: &mut Vec<Invalid>,
) -> Result<Option<Provider>, Error> {
    let map = reader.map(value, at, &["aesgcm", "aescbc", "secretbox", "identity", "kms"])?;
    let given: Vec<&String> = map.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
    match given.len() {
        0 => {
            let why =
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
            errors.push(Invalid::invalid(at, &Value::Object(Map::new()), why));
            return Ok(None);
        }
        1 => {}
        _ => {
            let why = "more than one provider specified in a single element, should split into different list elements";
            // What was given has keys in it.
            errors.push(Invalid::invalid(at, &Value::from("REDACTED"), why));
        }
    }
    if map.contains_key("identity") {
        return Ok(Some(Provider::Identity));
    }
    if map.contains_key("kms") {
        let why = "key management services are not supported: use aesgcm, aescbc or secretbox";
        errors.push(Invalid::invalid(&format!("{at}.kms"), &Value::from("kms"), why));
        return Ok(None);
    }
    let Some((field, prefix, called, lengths, cipher)) = KNOWN.iter().find(|(field, ..)| map.contains_key(*field))
    else {
        // It is among the unknown fields.
        return Ok(None);
    };
    let at = format!("{at}.{field}");
    let keys = list(reader.map(&map[*field], &at, &["keys"])?, "keys");
    if keys.is_empty() {
        errors.push(Invalid::required(&format!("{at}.keys"), "at least one keys is required"));
    }
    let mut read = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let at = format!("{at}.keys[{index}]");
        let key = reader.map(key, &at, &["name", "secret"])?;
        let text = |field: &str| key.get(field).and_then(Value::as_str).unwrap_or("");
        let (name, secret) = (text("name"), text("secret"));
        if name.is_empty() {
            errors.push(Invalid::required(&format!("{at}.name"), "name is a mandatory field for a key"));
        }
        let secret_at = format!("{at}.secret");
        if secret.is_empty() {
            errors.push(Invalid::required(&secret_at, "secret is a mandatory field for a key"));
            continue;
        }
        let why = match STANDARD.decode(secret) {
            Err(_) => "secrets must be base64 encoded".to_owned(),
            Ok(bytes) if !lengths.contains(&bytes.len()) => {
                let expected: Vec<String> = lengths.iter().map(ToString::to_string).collect();
                let (got, expected) = (bytes.len(), expected.join(" "));
                format!("secret is not of the expected length, got {got}, expected one of [{expected}]")
            }
            Ok(bytes) => match cipher(&bytes) {
                Some(cipher) => {
                    read.push((format!("{prefix}{name}:").into(), cipher));
                    continue;
                }
                None => "the key cannot be used".into(),
            },
        };
        errors.push(Invalid::invalid(&secret_at, &Value::from("REDACTED"), why));
    }
    Ok(Some(Provider::Keys { prefix, called, keys: read }))
}
