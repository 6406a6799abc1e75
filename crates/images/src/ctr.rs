//! `navarch ctr images ...`: the commands of containerd's `ctr` that people use on images, over the store itself.
//!
//! It needs no running agent, and is safe beside one. Data goes to `out`, words to `err`; the result is the exit code.

mod arguments;
mod list;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Chain;
use parking_lot::Mutex;

use crate::error::IoContext as _;
use crate::{Credentials, Error, Options, Platform, Reference, Registry, RegistryError, Stage};
use arguments::{Arguments, Command, UsageError};

const USAGE: &str = "\
USAGE: ctr [-n NAMESPACE] images COMMAND

COMMANDS:
  import [--digests] [--platform OS/ARCH] FILE|-     import images from a tar (docker save or OCI layout; gzip, zstd)
  export [--platform OS/ARCH] FILE|- REF...          export images to a tar that docker and containerd read
  list, ls [-q]                                      list images
  remove, rm, delete REF...                          remove names; an image goes with its last name
  pull [--user U[:P]] [--platform OS/ARCH] REF       pull an image
  push [--user U[:P]] REMOTE [LOCAL]                 push an image
  tag [--force] REF NEW...                           give an image more names
";

/// A command that failed.
#[derive(Debug, thiserror::Error)]
enum CtrError {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("image {0:?}: already exists")]
    Exists(String),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// Runs one command line (without the program's name).
pub async fn ctr(
    args: &[String],
    registry: &Registry,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> i32 {
    let done = match arguments::parse(args) {
        Ok(parsed) => run(parsed, registry, out, err).await,
        Err(error) => Err(error.into()),
    };
    let words = match done {
        Ok(()) => return 0,
        // The reader went away: it has what it wanted.
        Err(CtrError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => return 0,
        Err(CtrError::Usage(UsageError::Help)) => return i32::from(out.write_all(USAGE.as_bytes()).is_err()),
        Err(CtrError::Usage(error)) => format!("ctr: {error}\n\n{USAGE}"),
        Err(error) => format!("ctr: {}\n", Chain(&error)),
    };
    // Nothing is left to tell an error to.
    let _ = err.write_all(words.as_bytes());
    1
}

async fn run(
    args: Arguments,
    registry: &Registry,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), CtrError> {
    let store = registry.store();
    match args.command {
        Command::List { is_quiet } => list::write(store, is_quiet, out)?,
        Command::Import { file, digests, platform } => {
            let platform = platform.unwrap_or_else(Platform::host);
            for (name, digest) in import(registry, file, digests, platform).await? {
                writeln!(out, "unpacking {name} ({digest})...done")?;
            }
        }
        Command::Export { file, names, platform } if file == Path::new("-") => {
            store.export(&names, BufWriter::new(&mut *out), platform.as_ref())?;
        }
        Command::Export { file, names, platform } => export(registry, &file, &names, platform.as_ref())?,
        Command::Remove { names } => remove(registry, &names, out, err)?,
        Command::Tag { from, names, is_forced } => {
            for name in names {
                let full = Reference::parse(&name)?.to_string();
                if !is_forced && store.names()?.iter().any(|(known, _)| *known == full) {
                    return Err(CtrError::Exists(full));
                }
                writeln!(out, "{}", store.tag(&from, &full)?)?;
            }
        }
        Command::Pull { name, user, platform } => {
            let reference = Reference::parse(&name)?;
            let layers = Arc::new(Mutex::new(Vec::new()));
            let heard = layers.clone();
            let on_progress = move |progress: crate::Progress| {
                if progress.stage == Stage::Unpacked {
                    heard.lock().push(progress.digest);
                }
            };
            let options =
                Options { credentials: user.map(credentials), platform, on_progress: Some(Arc::new(on_progress)) };
            let image = registry.pull(&reference, &options).await?;
            for digest in layers.lock().iter() {
                writeln!(out, "layer-{digest}: done")?;
            }
            writeln!(out, "unpacking {} {}...\ndone: {reference}", image.platform, image.manifest.digest)?;
        }
        Command::Push { remote, local, user } => {
            let reference = Reference::parse(&remote)?;
            let options = Options { credentials: user.map(credentials), ..Options::default() };
            let digest = registry.push(&local.unwrap_or(remote), &reference, &options).await?;
            writeln!(out, "manifest-{digest}: done")?;
        }
    }
    Ok(out.flush()?)
}

async fn import(
    registry: &Registry,
    file: PathBuf,
    digests: bool,
    platform: Platform,
) -> Result<Vec<(String, String)>, Error> {
    let store = registry.store().clone();
    let work = move || -> Result<Vec<(String, String)>, Error> {
        let names = match file == Path::new("-") {
            true => store.import_for(io::stdin().lock(), &[], &platform)?,
            false => store.import_for(File::open(&file).at("open", &file)?, &[], &platform)?,
        };
        let known: std::collections::BTreeMap<_, _> = store.names()?.into_iter().collect();
        let mut done = Vec::new();
        for name in names {
            let Some(record) = known.get(&name) else { continue };
            let target = record.target.digest.clone();
            if digests {
                let by_digest = Reference::parse(&name)?.with_digest(&target);
                store.tag(&name, &by_digest.to_string())?;
            }
            done.push((name, target.to_string()));
        }
        Ok(done)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Cut))
}

/// Written aside first: a failed export leaves no half archive under the name.
fn export(registry: &Registry, file: &Path, names: &[String], platform: Option<&Platform>) -> Result<(), Error> {
    let mut temp = file.as_os_str().to_owned();
    temp.push(format!(".{}.tmp", std::process::id()));
    let temp = PathBuf::from(temp);
    let write = || -> Result<(), Error> {
        let out = File::create(&temp).at("create", &temp)?;
        registry.store().export(names, BufWriter::new(out), platform)?;
        std::fs::rename(&temp, file).at("rename", &temp)
    };
    let done = write();
    if done.is_err() {
        let _ = std::fs::remove_file(&temp); // the first error is the one to tell
    }
    done
}

/// Goes on after a name that is not there; that is said, and is the exit code.
fn remove(
    registry: &Registry,
    names: &[String],
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<(), CtrError> {
    let mut last = Ok(());
    for name in names {
        match registry.store().untag(name) {
            Ok(full) => writeln!(out, "{full}")?,
            Err(error) => {
                if let Err(earlier) = std::mem::replace(&mut last, Err(error)) {
                    writeln!(err, "ctr: {}", Chain(&earlier))?;
                }
            }
        }
    }
    Ok(last?)
}

fn credentials(user: String) -> Credentials {
    let (username, password) =
        user.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned())).unwrap_or((user, String::new()));
    Credentials { username, password, ..Credentials::default() }
}
