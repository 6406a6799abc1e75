//! The file: a line of JSON for each event, set aside when it is large.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::AuditOptions;

const DEFAULT_MEGABYTES: u64 = 100;
/// Lines that are written at a time.
const BATCH: usize = 256;

/// The open log.
pub(super) struct File {
    path: PathBuf,
    file: Option<fs::File>,
    written: u64,
    most_bytes: u64,
    max_backups: usize,
    max_days: u64,
}

impl File {
    pub(super) fn open(path: &Path, options: &AuditOptions) -> io::Result<Self> {
        let megabytes = if options.max_megabytes == 0 { DEFAULT_MEGABYTES } else { options.max_megabytes };
        let mut file = Self {
            path: path.to_owned(),
            file: None,
            written: 0,
            most_bytes: megabytes << 20,
            max_backups: options.max_backups,
            max_days: options.max_days,
        };
        if path != Path::new("-") {
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                fs::create_dir_all(parent)?;
            }
            file.reopen()?;
        }
        Ok(file)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        self.written = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        if self.file.is_none() {
            let mut out = io::stdout().lock();
            return lines.iter().try_for_each(|line| writeln!(out, "{line}"));
        }
        for line in lines {
            if self.written > 0 && self.written + line.len() as u64 >= self.most_bytes {
                self.rotate()?;
            }
            if let Some(file) = &mut self.file {
                file.write_all(format!("{line}\n").as_bytes())?;
                self.written += line.len() as u64 + 1;
            }
        }
        Ok(())
    }

    /// Sets the file aside under the time, and removes what is too old or too much.
    fn rotate(&mut self) -> io::Result<()> {
        let stamp = base::time::now_micros().replace(':', "-");
        fs::rename(&self.path, self.beside(&stamp))?;
        self.reopen()?;
        let mut backups = self.backups()?;
        backups.sort();
        let too_many = if self.max_backups == 0 { 0 } else { backups.len().saturating_sub(self.max_backups) };
        for (index, backup) in backups.iter().enumerate() {
            let age = fs::metadata(backup).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            let too_old = self.max_days > 0 && age.is_some_and(|age| age.as_secs() > self.max_days * 86_400);
            if index < too_many || too_old {
                fs::remove_file(backup)?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = text(self.path.extension());
        (text(self.path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
    }

    fn beside(&self, stamp: &str) -> PathBuf {
        let (stem, extension) = self.parts();
        self.path.with_file_name(format!("{stem}-{stamp}{extension}"))
    }

    fn backups(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, extension) = self.parts();
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let prefix = format!("{stem}-");
        let is_backup = |name: &str| name.starts_with(&prefix) && name.ends_with(&extension);
        let entries = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
        Ok(entries.filter(|p| p.file_name().is_some_and(|n| is_backup(&n.to_string_lossy()))).collect())
    }
}

/// Writes what comes until the token is cancelled and the queue is empty.
pub(super) async fn write(mut file: File, mut queue: mpsc::Receiver<String>, token: CancellationToken) {
    loop {
        let mut lines = Vec::new();
        tokio::select! {
            biased;
            count = queue.recv_many(&mut lines, BATCH) => if count == 0 { return },
            () = token.cancelled() => return,
        }
        let written = tokio::task::spawn_blocking(move || {
            let outcome = file.write(&lines);
            (file, outcome)
        });
        match written.await {
            Ok((back, outcome)) => {
                file = back;
                if let Err(error) = outcome {
                    tracing::error!(%error, "cannot write the audit log");
                }
            }
            Err(error) => {
                tracing::error!(%error, "the audit log ended");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let options = AuditOptions { max_megabytes: 1, max_backups: 2, ..AuditOptions::default() };
        let mut file = File::open(&path, &options).unwrap();
        let line = "x".repeat(300_000);
        for _ in 0..14 {
            file.write(std::slice::from_ref(&line)).unwrap();
        }
        assert_eq!(file.backups().unwrap().len(), 2);
        assert!(fs::metadata(&path).unwrap().len() <= 1 << 20);
        drop(file);
        let again = File::open(&path, &options).unwrap();
        assert!(again.written > 0, "what is there stays");
    }
}
