//! Query strings, with the leniency of Go's parameter decoding.

use base::percent::form_decoded;

/// Decoded pairs in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=1&b=x%20y`.
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (form_decoded(key), form_decoded(value))
        };
        Self(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }
    /// The first value under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    /// All values under `key`.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }
    /// Go's conversion: present and neither `0` nor `false`.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !matches!(v, "0" | "false" | "False" | "FALSE"))
    }
    /// A whole number; `Err` when it is none or negative.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("invalid {key}: {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        let query = Query::parse("command=sh&command=-c&command=echo%20a+b&stdin=1&tty=false&tailLines=x");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a b"]);
        assert!(query.is_set("stdin") && !query.is_set("tty") && !query.is_set("stdout"));
        assert!(query.number("tailLines").is_err());
    }
}
