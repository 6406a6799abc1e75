//! `navarch etcd-snapshot`: copies of everything that the cluster stores, and back again. k3s's verbs, for both stores.
//!
//! A running server has its embedded store for itself; it listens on a socket beside it for who wants a snapshot.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use store::{Backend, Snapshot, StoreError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::datastore;

/// Servers renew their records every five seconds.
const SERVER_LIFE: Duration = Duration::from_secs(16);
/// Longest path in a question.
const MOST_QUESTION: u64 = 4096;

/// `navarch etcd-snapshot ...`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a snapshot, while the server runs or is stopped.
    Save {
        #[command(flatten)]
        place: Place,
        /// What its name begins with; node and date follow.
        #[arg(long, default_value = "on-demand")]
        name: String,
    },
    /// List the snapshots.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Go back to a snapshot. All servers must be stopped; what is there now is kept beside.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The snapshot's name or file.
        snapshot: PathBuf,
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which store, and where its snapshots are.
#[derive(Args)]
pub(crate) struct Place {
    /// Where all state is kept.
    #[arg(long, env = "NAVARCH_DATA_DIR", default_value = "/var/lib/navarch")]
    data_dir: PathBuf,
    /// Where snapshots are; `server/db/snapshots` in the data directory when not given.
    #[arg(long, visible_alias = "etcd-snapshot-dir", env = "NAVARCH_SNAPSHOT_DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    datastore: datastore::DatastoreFlags,
}

impl Place {
    fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| datastore::directory(&self.data_dir).join("snapshots"))
    }
}

/// `2026-11-25T18-10-00Z`: a date that every file system takes.
fn date() -> String {
    base::time::now().replace(':', "-")
}

pub(crate) fn main(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Save { place, name } => save(place, name)?,
        Command::Ls { place } => list(place)?,
        Command::Restore { place, snapshot, dry_run } => restore(place, snapshot, *dry_run)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

#[allow(clippy::print_stderr, reason = "the command line is where people read")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Makes a directory for the eyes of its owner only: secrets are in snapshots. One that is there stays as it is.
fn private_directory(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, mode).with_context(|| format!("cannot protect {}", dir.display()))
}

fn save(place: &Place, name: &str) -> anyhow::Result<()> {
    let dir = place.directory();
    private_directory(&dir)?;
    let dir = std::fs::canonicalize(&dir).with_context(|| format!("cannot find {}", dir.display()))?;
    let host = nix::unistd::gethostname().context("cannot read the host name")?.to_string_lossy().to_lowercase();
    let path = dir.join(format!("{name}-{host}-{}", date()));
    if place.datastore.is_etcd() {
        let store = runtime()?;
        store.block_on(async {
            let etcd = place.datastore.connect(store::Options::default()).await?;
            Ok::<_, anyhow::Error>(etcd.snapshot(&path)?)
        })?;
    } else {
        match Snapshot::of_embedded(&datastore::directory(&place.data_dir)) {
            Ok(snapshot) => snapshot.write(&path)?,
            Err(StoreError::Locked) => ask(&socket(&place.data_dir), &path)?,
            Err(error) => return Err(error.into()),
        }
    }
    let snapshot = Snapshot::read(&path).context("the snapshot cannot be read back")?;
    say(&format!("saved {} objects at revision {}", snapshot.count(), snapshot.revision));
    writeln!(std::io::stdout(), "{}", path.display()).context("cannot write the snapshot's name")
}

fn list(place: &Place) -> anyhow::Result<()> {
    let dir = place.directory();
    let mut rows = Vec::new();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let metadata = entry.metadata().with_context(|| format!("cannot look at {}", entry.path().display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !metadata.is_file() || name.ends_with(".partial") {
            continue;
        }
        let age = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let created = age.and_then(|t| i64::try_from(t.as_secs()).ok()).map(base::time::format_seconds);
        rows.push([name, entry.path().display().to_string(), metadata.len().to_string(), created.unwrap_or_default()]);
    }
    rows.sort_by(|a, b| a[3].cmp(&b[3]));
    rows.insert(0, ["Name", "Location", "Size", "Created"].map(Into::into));
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let (name, location, size) = (width(0), width(1), width(2));
    let mut out = std::io::stdout().lock();
    for row in &rows {
        let text = format!("{:name$} {:location$} {:size$} {}", row[0], row[1], row[2], row[3]);
        if let Err(error) = writeln!(out, "{text}") {
            // Whoever reads has seen enough.
            return if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.into()) };
        }
    }
    Ok(())
}

fn restore(place: &Place, given: &Path, dry_run: bool) -> anyhow::Result<()> {
    let path = if given.exists() { given.to_owned() } else { place.directory().join(given) };
    let snapshot = Snapshot::read(&path)?;
    let beside = place.data_dir.join(format!("server/db-before-{}", date()));
    let target = if place.datastore.is_etcd() {
        format!("the etcd at {}", place.datastore.datastore_endpoint.join(","))
    } else {
        datastore::directory(&place.data_dir).display().to_string()
    };
    say(&format!(
        "{}: {} objects at revision {} will be everything in {target}; what is there now will be kept in {}",
        path.display(),
        snapshot.count(),
        snapshot.revision,
        beside.display()
    ));
    if dry_run {
        return Ok(());
    }
    if place.datastore.is_etcd() {
        runtime()?.block_on(restore_etcd(place, &snapshot, &beside))?;
    } else {
        private_directory(&beside)?;
        let restored = snapshot.restore_embedded(&datastore::directory(&place.data_dir), &beside);
        // It goes only if nothing is in it.
        let _ = std::fs::remove_dir(&beside);
        match restored {
            Err(StoreError::Locked) => bail!("a server runs on {}: stop it first", place.data_dir.display()),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    say("restored; start the server");
    Ok(())
}

async fn restore_etcd(place: &Place, snapshot: &Snapshot, beside: &Path) -> anyhow::Result<()> {
    let etcd = place.datastore.connect(store::Options::default()).await?;
    let records = etcd.range(apiserver::SERVER_RECORDS, None, 0, 0)?;
    if !records.items.is_empty() {
        say("looking whether a server runs on this etcd ...");
        let mut changes = etcd.watch(apiserver::SERVER_RECORDS, records.revision)?;
        if tokio::time::timeout(SERVER_LIFE, changes.next()).await.is_ok() {
            let names: Vec<&str> = records.items.iter().map(|v| v.object.head.name.as_str()).collect();
            bail!("servers run on this etcd: stop them first ({})", names.join(", "));
        }
    }
    private_directory(beside)?;
    etcd.snapshot(&beside.join("etcd"))?;
    Ok(etcd.restore(snapshot).await?)
}

fn socket(data_dir: &Path) -> PathBuf {
    datastore::directory(data_dir).join("snapshot.sock")
}

/// Asks the running server to write a snapshot.
fn ask(socket: &Path, path: &Path) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("a process uses the store, and does not listen on {}", socket.display()))?;
    writeln!(stream, "{}", path.display()).context("cannot ask the server")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the server does not answer")?;
    match answer.trim() {
        "ok" => Ok(()),
        "" => bail!("the server has closed the connection"),
        why => bail!("{why}"),
    }
}

/// Answers [`ask`] until the token is cancelled. Who may open the store's directory may ask.
pub(crate) async fn serve(store: Arc<dyn Backend>, data_dir: PathBuf, token: CancellationToken) {
    let path = socket(&data_dir);
    // Left by a server that was killed; the store's lock says that none runs.
    let _ = std::fs::remove_file(&path);
    let listener = match tokio::net::UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no snapshots while the server runs");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        // One at a time: a snapshot reads everything.
        let answered = tokio::time::timeout(Duration::from_secs(600), answer(stream, &store)).await;
        if let Ok(Err(error)) = answered {
            tracing::warn!(%error, "a snapshot's asker went away");
        }
    }
    let _ = std::fs::remove_file(&path);
}

async fn answer(stream: tokio::net::UnixStream, store: &Arc<dyn Backend>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    tokio::io::BufReader::new(read.take(MOST_QUESTION)).read_line(&mut question).await?;
    let path = PathBuf::from(question.trim_end_matches('\n'));
    let (to, source) = (path.clone(), store.clone());
    let text = match tokio::task::spawn_blocking(move || source.snapshot(&to)).await {
        Ok(Ok(())) => {
            tracing::info!(path = %path.display(), "a snapshot is saved");
            "ok\n".to_owned()
        }
        Ok(Err(error)) => format!("{}\n", base::Chain(&error)),
        Err(error) => format!("{error}\n"),
    };
    write.write_all(text.as_bytes()).await
}
