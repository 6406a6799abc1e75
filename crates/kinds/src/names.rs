//! Name rules (RFC 1123, RFC 1035) with upstream's words. Each function returns why a name is wrong.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && text.chars().all(|c| alphanumeric(c) || c == '-')
}

/// DNS subdomain: most names.
pub fn subdomain(name: &str) -> Option<String> {
    match name {
        name if name.len() > 253 => Some(too_long(253)),
        name if !name.split('.').all(is_label) => Some(SUBDOMAIN.into()),
        _ => None,
    }
}

/// DNS-1123 label: namespaces, containers, volumes.
pub fn label(name: &str) -> Option<String> {
    match name {
        name if name.len() > 63 => Some(too_long(63)),
        name if !is_label(name) => Some(LABEL.into()),
        _ => None,
    }
}

/// DNS-1035 label: services.
pub fn label_1035(name: &str) -> Option<String> {
    match name {
        name if name.len() > 63 => Some(too_long(63)),
        name if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) => Some(LABEL_1035.into()),
        _ => None,
    }
}

/// A subdomain behind `*.`: hosts of ingresses.
pub fn wildcard(name: &str) -> Option<String> {
    match name.strip_prefix("*.") {
        Some(rest) if subdomain(rest).is_none() && name.len() <= 253 => None,
        _ if name.len() > 253 => Some(too_long(253)),
        _ => Some("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into()),
    }
}

/// A name that only needs to fit into a path: RBAC objects.
pub fn path_segment(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        name if name.contains('/') => Some("may not contain '/'".into()),
        name if name.contains('%') => Some("may not contain '%'".into()),
        _ => None,
    }
}

/// Label and annotation keys: optional DNS subdomain prefix, `/`, name of at most 63 characters.
pub fn qualified(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        return Some(
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                .into(),
        );
    }
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".into());
        }
        if let Some(why) = subdomain(prefix) {
            return Some(format!("prefix part {why}"));
        }
    }
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".into());
    }
    if label_value_shape(name) { None } else { Some(QUALIFIED.into()) }
}

fn label_value_shape(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Label values.
pub fn label_value(value: &str) -> Option<String> {
    match value {
        "" => None,
        value if value.len() > 63 => Some("must be no more than 63 bytes".into()),
        value if !label_value_shape(value) => Some(LABEL_VALUE.into()),
        _ => None,
    }
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(key: &str) -> Option<String> {
    if key.len() > 253 {
        return Some(too_long(253));
    }
    if key == "." || key == ".." || key.starts_with("..") {
        return Some(if key.starts_with("..") && key != ".." {
            "must not start with '..'".into()
        } else {
            format!("must not be '{key}'")
        });
    }
    let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    (!fits).then(|| "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".into())
}

/// Names of ports (IANA service names).
pub fn port_name(name: &str) -> Option<String> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters".into());
    }
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens".into());
    }
    (name.starts_with('-') || name.ends_with('-')).then(|| "must not begin or end with a hyphen".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (rule, good, bad) in [
            (
                subdomain as fn(&str) -> Option<String>,
                &["a", "a.b-c", "1"][..],
                &["", "A", "a..b", "-a", "a_b", ".a"][..],
            ),
            (label, &["a", "a-b"], &["a.b", "-", "é"]),
            (label_1035, &["a1"], &["1a"]),
            (qualified, &["a", "x.y/a_B.c"], &["", "/a", "x/", "X_y/a", "a/b/c"]),
            (label_value, &["", "a.B_c"], &["-a", "a b"]),
            (config_key, &["a.b", "_x"], &["", "..", "..a", "a/b"]),
            (port_name, &["http", "p2p-1"], &["80", "a--b", "http-", "UP"]),
        ] {
            good.iter().for_each(|n| assert_eq!(rule(n), None, "{n}"));
            bad.iter().for_each(|n| assert!(rule(n).is_some(), "{n}"));
        }
    }
}
