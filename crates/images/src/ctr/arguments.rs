//! The command line of `ctr images`.

use std::path::PathBuf;

use crate::Platform;

/// A command line that makes no sense, or asks for help.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum UsageError {
    #[error("help")]
    Help,
    #[error("unknown command {0:?}")]
    Command(String),
    #[error("flag provided but not defined: {0}")]
    Flag(String),
    #[error("flag needs an argument: {0}")]
    Value(String),
    #[error("{0:?} is not a platform such as linux/amd64")]
    Platform(String),
    #[error("namespace {0:?} is not served: images of pods are in k8s.io")]
    Namespace(String),
    #[error("{0}")]
    Operands(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) command: Command,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Import { file: PathBuf, digests: bool, platform: Option<Platform> },
    Export { file: PathBuf, names: Vec<String>, platform: Option<Platform> },
    List { is_quiet: bool },
    Remove { names: Vec<String> },
    Pull { name: String, user: Option<String>, platform: Option<Platform> },
    Push { remote: String, local: Option<String>, user: Option<String> },
    Tag { from: String, names: Vec<String>, is_forced: bool },
}

/// Flags of a command: which stand alone, which take a value. What makes no difference here is accepted, so that
/// scripts written for containerd carry over.
struct Flags {
    alone: &'static [&'static str],
    valued: &'static [&'static str],
}

/// Words and flags of a command line, sorted out.
#[derive(Default)]
struct Sorted {
    operands: Vec<String>,
    set: Vec<(String, String)>,
}

impl Sorted {
    fn read(args: &[String], flags: &Flags) -> Result<Self, UsageError> {
        let mut out = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                out.operands.push(arg.clone());
                continue;
            };
            if name == "-" {
                out.operands.extend(args.by_ref().cloned());
                break;
            }
            let name = name.trim_start_matches('-');
            let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
            if matches!(name, "h" | "help") {
                return Err(UsageError::Help);
            }
            let value = match value {
                Some(value) if flags.alone.contains(&name) || flags.valued.contains(&name) => value,
                None if flags.alone.contains(&name) => "true".to_owned(),
                None if flags.valued.contains(&name) => {
                    args.next().cloned().ok_or_else(|| UsageError::Value(arg.clone()))?
                }
                _ => return Err(UsageError::Flag(arg.clone())),
            };
            out.set.push((name.to_owned(), value));
        }
        Ok(out)
    }

    fn value(&self, names: &[&str]) -> Option<String> {
        self.set.iter().rev().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| value.clone())
    }
    fn has(&self, names: &[&str]) -> bool {
        self.value(names).is_some_and(|value| value != "false")
    }
    fn platform(&self) -> Result<Option<Platform>, UsageError> {
        let text = self.value(&["platform"]);
        text.map(|t| Platform::parse(&t).ok_or(UsageError::Platform(t))).transpose()
    }
}

pub(super) fn parse(args: &[String]) -> Result<Arguments, UsageError> {
    let (globals, rest) = split_globals(args)?;
    if let Some(namespace) = globals.filter(|n| n != "k8s.io" && n != "default") {
        return Err(UsageError::Namespace(namespace));
    }
    let mut words = rest.iter();
    match words.next().map(String::as_str) {
        Some("images" | "image" | "i") => {}
        None | Some("help" | "-h" | "--help") => return Err(UsageError::Help),
        Some(other) => return Err(UsageError::Command(other.to_owned())),
    }
    let Some(command) = words.next() else { return Err(UsageError::Help) };
    let command = match command.as_str() {
        "import" => import(words.as_slice()),
        "export" => export(words.as_slice()),
        "list" | "ls" => {
            let sorted = Sorted::read(words.as_slice(), &Flags { alone: &["q", "quiet"], valued: &[] })?;
            Ok(Command::List { is_quiet: sorted.has(&["q", "quiet"]) })
        }
        "remove" | "rm" | "delete" | "del" => {
            let sorted = Sorted::read(words.as_slice(), &Flags { alone: &["sync"], valued: &[] })?;
            needs(!sorted.operands.is_empty(), "which images should be removed?")?;
            Ok(Command::Remove { names: sorted.operands })
        }
        "pull" => pull(words.as_slice()),
        "push" => push(words.as_slice()),
        "tag" => {
            let sorted = Sorted::read(words.as_slice(), &Flags { alone: &["force", "local"], valued: &[] })?;
            needs(sorted.operands.len() >= 2, "please provide an image and at least one new name")?;
            let is_forced = sorted.has(&["force"]);
            let mut operands = sorted.operands.into_iter();
            Ok(Command::Tag { from: operands.next().unwrap_or_default(), names: operands.collect(), is_forced })
        }
        "help" | "-h" | "--help" => Err(UsageError::Help),
        other => Err(UsageError::Command(other.to_owned())),
    }?;
    Ok(Arguments { command })
}

/// The namespace, and what follows the global flags.
fn split_globals(args: &[String]) -> Result<(Option<String>, &[String]), UsageError> {
    let mut namespace = None;
    let mut rest = args;
    while let [first, tail @ ..] = rest {
        if !first.starts_with('-') || matches!(first.as_str(), "-h" | "--help") {
            break;
        }
        let name = first.trim_start_matches('-');
        let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
        rest = tail;
        if name == "debug" {
            continue;
        }
        // The address is that of a daemon, which there is none of.
        if !matches!(name, "n" | "namespace" | "a" | "address" | "timeout" | "connect-timeout") {
            return Err(UsageError::Flag(first.clone()));
        }
        let value = match (value, tail) {
            (Some(value), _) => value,
            (None, [value, tail @ ..]) => {
                rest = tail;
                value.clone()
            }
            (None, []) => return Err(UsageError::Value(first.clone())),
        };
        if matches!(name, "n" | "namespace") {
            namespace = Some(value);
        }
    }
    Ok((namespace, rest))
}

fn import(args: &[String]) -> Result<Command, UsageError> {
    let flags = Flags {
        alone: &[
            "digests",
            "all-platforms",
            "no-unpack",
            "local",
            "compress-blobs",
            "discard-unpacked-layers",
            "sync-fs",
        ],
        valued: &["platform", "base-name", "snapshotter", "index-name"],
    };
    let sorted = Sorted::read(args, &flags)?;
    let platform = sorted.platform()?;
    needs(sorted.operands.len() == 1, "please provide one archive to import")?;
    let digests = sorted.has(&["digests"]);
    Ok(Command::Import { file: sorted.operands.into_iter().next().unwrap_or_default().into(), digests, platform })
}

fn export(args: &[String]) -> Result<Command, UsageError> {
    let alone = &["skip-manifest-json", "skip-non-distributable", "all-platforms", "local"];
    let sorted = Sorted::read(args, &Flags { alone, valued: &["platform"] })?;
    let platform = sorted.platform()?;
    needs(sorted.operands.len() >= 2, "please provide an archive and at least one image")?;
    let mut operands = sorted.operands.into_iter();
    Ok(Command::Export { file: operands.next().unwrap_or_default().into(), names: operands.collect(), platform })
}

fn pull(args: &[String]) -> Result<Command, UsageError> {
    let flags = Flags { alone: &["all-platforms", "local"], valued: &["user", "u", "platform", "snapshotter"] };
    let sorted = Sorted::read(args, &flags)?;
    let (user, platform) = (sorted.value(&["user", "u"]), sorted.platform()?);
    needs(sorted.operands.len() == 1, "please provide one image to pull")?;
    Ok(Command::Pull { name: sorted.operands.into_iter().next().unwrap_or_default(), user, platform })
}

fn push(args: &[String]) -> Result<Command, UsageError> {
    let sorted = Sorted::read(args, &Flags { alone: &["local"], valued: &["user", "u"] })?;
    let user = sorted.value(&["user", "u"]);
    needs(matches!(sorted.operands.len(), 1 | 2), "please provide a remote name, and a local one if it differs")?;
    let mut operands = sorted.operands.into_iter();
    Ok(Command::Push { remote: operands.next().unwrap_or_default(), local: operands.next(), user })
}

fn needs(holds: bool, otherwise: &'static str) -> Result<(), UsageError> {
    if holds { Ok(()) } else { Err(UsageError::Operands(otherwise)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, UsageError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words).map(|a| a.command)
    }

    #[test]
    fn lines() {
        assert_eq!(read("-n k8s.io images ls -q"), Ok(Command::List { is_quiet: true }));
        assert_eq!(read("--namespace=k8s.io i list"), Ok(Command::List { is_quiet: false }));
        let import = Command::Import { file: "x.tar".into(), digests: true, platform: None };
        assert_eq!(read("images import --digests=true --base-name a x.tar"), Ok(import));
        let platform = Platform::parse("linux/amd64");
        let export = Command::Export { file: "-".into(), names: vec!["a".into(), "b".into()], platform };
        assert_eq!(read("images export --platform linux/amd64 - a b"), Ok(export));
        let tag = Command::Tag { from: "a".into(), names: vec!["b".into()], is_forced: true };
        assert_eq!(read("images tag a b --force"), Ok(tag));
        assert_eq!(read("-n moby images ls"), Err(UsageError::Namespace("moby".into())));
        assert_eq!(read("images ls --nope"), Err(UsageError::Flag("--nope".into())));
        assert_eq!(read("images pull --user"), Err(UsageError::Value("--user".into())));
        assert_eq!(read("images frobnicate"), Err(UsageError::Command("frobnicate".into())));
        assert_eq!(read("containers ls"), Err(UsageError::Command("containers".into())));
        assert!(matches!(read("images rm"), Err(UsageError::Operands(_))));
        assert_eq!(read("images export --platform amd64 - a"), Err(UsageError::Platform("amd64".into())));
        assert_eq!(read(""), Err(UsageError::Help));
    }
}
