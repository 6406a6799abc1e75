//! `config.yaml`: flags by their names, as k3s reads them. `config.yaml.d/*.yaml` come after it in the order of their names; a later
//! value replaces an earlier one, and `key+` appends to it. What the command line says goes before all of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde_json::{Map, Value};

/// Where it is looked for.
pub(super) const PATH: &str = "/etc/navarch/config.yaml";

/// The command line with the file's flags put in before it, or `None` when there are none. `command` is the subcommand that
/// `matches` are of, and the file's path a value of its `config` flag.
pub(crate) fn merged(
    args: &[OsString],
    command: &Command,
    matches: &ArgMatches,
) -> anyhow::Result<Option<Vec<OsString>>> {
    let Some(path) = matches.get_one::<PathBuf>("config") else { return Ok(None) };
    let is_asked_for = matches.value_source("config") != Some(ValueSource::DefaultValue);
    let Some(values) = load(path, is_asked_for)? else { return Ok(None) };
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flags = arguments(&values, command, given).with_context(|| format!("cannot use {}", path.display()))?;
    let (own, rest) = args.split_at(args.len().min(2));
    Ok(Some(own.iter().cloned().chain(flags.into_iter().map(Into::into)).chain(rest.iter().cloned()).collect()))
}

/// The file and what is in its directory of additions.
fn load(path: &Path, is_asked_for: bool) -> anyhow::Result<Option<Map<String, Value>>> {
    let mut files = Vec::new();
    if path.exists() || is_asked_for {
        files.push(path.to_owned());
    }
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    let mut more: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    more.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    more.sort();
    files.extend(more);
    let mut all: Option<Map<String, Value>> = None;
    for file in files {
        let failed = || format!("cannot read {}", file.display());
        let text = std::fs::read(&file).with_context(failed)?;
        let parsed = schema::yaml::parse(&text).map_err(anyhow::Error::msg).with_context(failed)?;
        if let Some(words) = parsed.duplicates.into_iter().next() {
            bail!("{}: {words}", failed());
        }
        let values = match parsed.value {
            Value::Object(values) => values,
            Value::Null => Map::new(),
            _ => bail!("{} is no mapping of flags to values", file.display()),
        };
        add(all.get_or_insert_default(), values);
    }
    Ok(all)
}

fn add(all: &mut Map<String, Value>, more: Map<String, Value>) {
    let list = |value: Value| match value {
        Value::Array(items) => items,
        other => vec![other],
    };
    for (key, value) in more {
        let key_name = key.trim_start_matches('-');
        match key_name.strip_suffix('+') {
            Some(name) => {
                let mut joined = all.remove(name).map_or_else(Vec::new, list);
                joined.extend(list(value));
                all.insert(name.to_owned(), Value::Array(joined));
            }
            None => {
                all.insert(key_name.to_owned(), value);
            }
        }
    }
}

/// The values as flags, without those that the command line gives itself.
fn arguments(
    values: &Map<String, Value>,
    command: &Command,
    given: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<String>> {
    let mut out = Vec::new();
    for (key, value) in values {
        let flag = command.get_arguments().find(|a| a.get_long() == Some(key)).filter(|_| key != "config");
        let Some(flag) = flag else {
            bail!("there is no flag {key:?}{}", similar(key, command));
        };
        if given(flag.get_id().as_str()) {
            continue;
        }
        let takes_value = flag.get_action().takes_values();
        let one = |value: &Value| -> anyhow::Result<Option<String>> {
            match (value, takes_value) {
                (Value::Bool(is_on), false) => Ok(is_on.then(|| format!("--{key}"))),
                (Value::String(text), true) => Ok(Some(format!("--{key}={text}"))),
                (Value::Number(_) | Value::Bool(_), true) => Ok(Some(format!("--{key}={value}"))),
                (_, true) => bail!("{key} takes a text or a number, not {value}"),
                (_, false) => bail!("{key} is true or false, not {value}"),
            }
        };
        match value {
            Value::Array(items) => {
                for item in items {
                    out.extend(one(item)?);
                }
            }
            Value::Null => {}
            value => out.extend(one(value)?),
        }
    }
    Ok(out)
}

/// `; did you mean "data-dir"?`
fn similar(key: &str, command: &Command) -> String {
    let spelled = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let close = |flag: &&str| {
        let (a, b) = (spelled(flag), spelled(key));
        a == b || (b.len() > 3 && (a.starts_with(&b) || b.starts_with(&a))) || one_off(&a, &b)
    };
    let found = command.get_arguments().filter_map(clap::Arg::get_long).find(close);
    found.map(|flag| format!("; did you mean {flag:?}?")).unwrap_or_default()
}

/// Whether one letter more, less or other makes them equal.
fn one_off(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = short.bytes().zip(long.bytes()).take_while(|(x, y)| x == y).count();
    let rest = &long.as_bytes()[(same + 1).min(long.len())..];
    let other = if short.len() == long.len() { (same + 1).min(short.len()) } else { same };
    short.as_bytes()[other..] == *rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::flags::Flags;

    fn flags(dir: &Path, args: &[&str]) -> anyhow::Result<Flags> {
        let path = dir.join("config.yaml");
        let mut line: Vec<OsString> = ["navarch", "server", "--config"].map(Into::into).to_vec();
        line.push(path.into());
        line.extend(args.iter().map(Into::into));
        cli::server_flags(&line)
    }

    #[test]
    fn a_file_stands_for_flags() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("config.yaml.d")).unwrap();
        put(
            "config.yaml",
            "node-label:\n- a=1\n- b=2\nwrite-kubeconfig-mode: \"0644\"\ndisable-agent: true\ntls-san: x\nhttps-listen-port: 7443\nnode-taint: k=v:NoSchedule\n",
        );
        put("config.yaml.d/10-more.yaml", "node-label+: c=3\ntls-san: [b.example, c.example]\n");
        put("config.yaml.d/ignored.txt", "{");
        let read = flags(dir.path(), &["--https-listen-port", "8443"]).unwrap();
        let labels: Vec<String> = read.labels().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["a=1", "b=2", "c=3", "node-role.kubernetes.io/control-plane=true"]);
        assert_eq!((read.write_kubeconfig_mode, read.disable_agent, read.https_listen_port), (0o644, true, 8443));
        assert_eq!(read.tls_san, ["b.example", "c.example"]);
        assert_eq!(read.node_taint, [serde_json::json!({"key": "k", "value": "v", "effect": "NoSchedule"})]);
        let read = flags(dir.path(), &["--node-label", "only=this"]).unwrap();
        assert_eq!(read.labels().len(), 2, "the command line replaces a whole list");
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |text: &str| {
            std::fs::write(dir.path().join("config.yaml"), text).unwrap();
            format!("{:#}", flags(dir.path(), &[]).unwrap_err()).replace(&*dir.path().to_string_lossy(), "")
        };
        assert_eq!(
            told("data_dir: /x"),
            "cannot use /config.yaml: there is no flag \"data_dir\"; did you mean \"data-dir\"?"
        );
        assert_eq!(told("node-lable: a=b"), "cannot use /config.yaml: there is no flag \"node-lable\"");
        assert_eq!(
            told("node-labl: a=b"),
            "cannot use /config.yaml: there is no flag \"node-labl\"; did you mean \"node-label\"?"
        );
        assert_eq!(told("disable-agent: 3"), "cannot use /config.yaml: disable-agent is true or false, not 3");
        assert_eq!(
            told("data-dir: {a: b}"),
            "cannot use /config.yaml: data-dir takes a text or a number, not {\"a\":\"b\"}"
        );
        assert_eq!(told("- a"), "/config.yaml is no mapping of flags to values");
        assert!(told("a: [").starts_with("cannot read /config.yaml: yaml: "));
        std::fs::remove_file(dir.path().join("config.yaml")).unwrap();
        assert!(
            format!("{:#}", flags(dir.path(), &[]).unwrap_err()).contains("cannot read"),
            "a file that was asked for"
        );
        assert!(one_off("abc", "abd") && one_off("abc", "ab") && one_off("bc", "abc") && !one_off("abc", "xbd"));
    }
}
