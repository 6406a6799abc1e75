//! Name rules (RFC 1123, RFC 1035) with upstream's words. Each function returns why a name is wrong.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const SUBDOMAIN_UNDERSCORE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_KEY: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
const VARIABLE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// What is wrong with a name; nothing for a good one.
pub type Problems = Vec<String>;
/// A rule for names.
pub type Rule = fn(&str) -> Problems;

/// All that is wrong in one line.
pub(crate) fn joined(problems: Problems) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join(","))
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} characters")
}

/// The lines whose condition holds.
fn all<const N: usize>(lines: [(bool, &dyn Fn() -> String); N]) -> Problems {
    lines.into_iter().filter(|(wrong, _)| *wrong).map(|(_, line)| line()).collect()
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && text.chars().all(|c| alphanumeric(c) || c == '-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// DNS subdomain: most names.
pub fn subdomain(name: &str) -> Problems {
    all([(name.len() > 253, &|| too_long(253)), (!is_subdomain(name), &|| SUBDOMAIN.into())])
}

/// The same where upstream declares the rule instead of writing it: it counts bytes.
pub fn subdomain_in_bytes(name: &str) -> Problems {
    subdomain(name).into_iter().map(|why| why.replace("than 253 characters", "than 253 bytes")).collect()
}

/// A subdomain in any case: names of CSI drivers.
pub fn caseless_subdomain(name: &str) -> Problems {
    subdomain(&name.to_lowercase())
}

/// A subdomain whose parts may have underscores: search domains.
pub fn subdomain_with_underscore(name: &str) -> Problems {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.split('.').map(|part| part.strip_prefix('_').unwrap_or(part)).all(|part| {
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-' || c == '_')
    });
    all([(name.len() > 253, &|| too_long(253)), (!fits, &|| SUBDOMAIN_UNDERSCORE.into())])
}

/// DNS-1123 label: namespaces, containers, volumes.
pub fn label(name: &str) -> Problems {
    let dotted = is_subdomain(name) && name.contains('.');
    all([
        (name.len() > 63, &|| too_long(63)),
        (dotted, &|| "must not contain dots".into()),
        (!dotted && !is_label(name), &|| LABEL.into()),
    ])
}

/// DNS-1035 label: services.
pub fn label_1035(name: &str) -> Problems {
    let fits = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    all([(name.len() > 63, &|| too_long(63)), (!fits, &|| LABEL_1035.into())])
}

/// A subdomain behind `*.`: hosts of ingresses.
pub fn wildcard(name: &str) -> Problems {
    let fits = name.strip_prefix("*.").is_some_and(is_subdomain);
    all([(name.len() > 253, &|| too_long(253)), (!fits, &|| WILDCARD.into())])
}

/// A name that only needs to fit into a path: RBAC objects.
pub fn path_segment(name: &str) -> Problems {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    all([
        (name.contains('/'), &|| "may not contain '/'".into()),
        (name.contains('%'), &|| "may not contain '%'".into()),
    ])
}

/// Label and annotation keys: optional DNS subdomain prefix, `/`, name of at most 63 characters.
pub fn qualified(key: &str) -> Problems {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.contains('/') {
        return vec![LABEL_KEY.into()];
    }
    let mut problems = match prefix {
        Some("") => vec!["prefix part must be non-empty".to_owned()],
        Some(prefix) => subdomain(prefix).into_iter().map(|why| format!("prefix part {why}")).collect(),
        None => Vec::new(),
    };
    problems.extend(all([
        (name.is_empty(), &|| "name part must be non-empty".into()),
        (name.len() > 63, &|| "name part must be no more than 63 bytes".into()),
        (!label_value_shape(name), &|| QUALIFIED.into()),
    ]));
    problems
}

fn label_value_shape(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Label values.
pub fn label_value(value: &str) -> Problems {
    all([
        (value.len() > 63, &|| "must be no more than 63 bytes".into()),
        (!value.is_empty() && !label_value_shape(value), &|| LABEL_VALUE.into()),
    ])
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(key: &str) -> Problems {
    let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    all([
        (key.len() > 253, &|| too_long(253)),
        (!fits, &|| CONFIG_KEY.into()),
        (key == "." || key == "..", &|| format!("must not be '{key}'")),
        (key.starts_with("..") && key != "..", &|| "must not start with '..'".into()),
    ])
}

/// Names of ports (IANA service names).
pub fn port_name(name: &str) -> Problems {
    let known = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    all([
        (name.len() > 15, &|| too_long(15)),
        (!known || name.is_empty(), &|| {
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into()
        }),
        (!name.chars().any(|c| c.is_ascii_lowercase()), &|| "must contain at least one letter (a-z)".into()),
        (name.contains("--"), &|| "must not contain consecutive hyphens".into()),
        (name.starts_with('-') || name.ends_with('-'), &|| "must not begin or end with a hyphen".into()),
    ])
}

/// Names of environment variables: anything printable but `=`.
pub fn variable(name: &str) -> Problems {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    all([(!name.chars().all(|c| (' '..='~').contains(&c) && c != '='), &|| VARIABLE.into())])
}

/// Names of HTTP headers.
pub fn header(name: &str) -> Problems {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    all([(!fits, &|| HEADER.into())])
}

/// Reasons of conditions: `CamelCase`.
pub fn reason(text: &str) -> Problems {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':');
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(inner);
    all([(!fits, &|| REASON.into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (rule, good, bad) in [
            (subdomain as Rule, &["a", "a.b-c", "1"][..], &["", "A", "a..b", "-a", "a_b", ".a"][..]),
            (label, &["a", "a-b"], &["a.b", "-", "é"]),
            (label_1035, &["a1"], &["1a"]),
            (qualified, &["a", "x.y/a_B.c"], &["", "/a", "x/", "X_y/a", "a/b/c"]),
            (label_value, &["", "a.B_c"], &["-a", "a b"]),
            (config_key, &["a.b", "_x"], &["", "..", "..a", "a/b"]),
            (port_name, &["http", "p2p-1"], &["80", "a--b", "http-", "UP"]),
        ] {
            good.iter().for_each(|n| assert!(rule(n).is_empty(), "{n}"));
            bad.iter().for_each(|n| assert!(!rule(n).is_empty(), "{n}"));
        }
    }
}
