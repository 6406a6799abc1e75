//! Reading a container's log: the last lines, from a time on, following it across rotation until the container ends.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::{Entry, parse};

const CHUNK: usize = 64 * 1024;
/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What of a log is wanted (`v1/PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// Entries before this (nanoseconds since the epoch) are left out.
    pub(crate) since: Option<i128>,
    /// `Stdout` or `Stderr`; both when absent.
    pub(crate) stream: Option<String>,
}

/// Sends the wanted part of the log at `path` until its end, or, when following, until `is_running` says that nothing
/// more will come. Ends early when the receiver is gone.
pub(crate) async fn send<F, Fut>(
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<Bytes>,
    is_running: F,
) -> std::io::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let mut file = open(&path, &options).await?;
    let mut writer = Writer { limit: options.limit_bytes, was_partial: false, options: &options, out };
    let mut pending = Vec::new();
    loop {
        // Asked before reading: what is written until the end is then surely read.
        let more_to_come = options.follow && is_running().await;
        if !copy(&mut file, &mut pending, &mut writer).await? {
            return Ok(());
        }
        if let Some(fresh) = rotated(&path, &file).await {
            // The last lines of the old file, written while it was being renamed.
            if !copy(&mut file, &mut pending, &mut writer).await? {
                return Ok(());
            }
            file = fresh;
            continue;
        }
        if !more_to_come {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = writer.out.closed() => return Ok(()),
        }
    }
}

async fn open(path: &Path, options: &Options) -> std::io::Result<File> {
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let path = path.to_owned();
        let offset = tokio::task::spawn_blocking(move || tail_offset(&path, lines)).await??;
        file.seek(SeekFrom::Start(offset)).await?;
    }
    Ok(file)
}

/// Where the last `lines` lines begin.
fn tail_offset(path: &Path, lines: u64) -> std::io::Result<u64> {
    let mut file = std::fs::File::open(path)?;
    let mut end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut block = vec![0; CHUNK];
    let length = end;
    while end > 0 {
        let size = end.min(CHUNK as u64);
        let start = end - size;
        file.seek(SeekFrom::Start(start))?;
        let block = &mut block[..size as usize];
        file.read_exact(block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = start + index as u64;
            // The newline that ends the last line begins none.
            if *byte == b'\n' && at + 1 < length {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The file that took this one's name, if one did.
async fn rotated(path: &Path, file: &File) -> Option<File> {
    use std::os::unix::fs::MetadataExt;
    let here = file.metadata().await.ok()?;
    let there = tokio::fs::metadata(path).await.ok()?;
    if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
        return None;
    }
    File::open(path).await.ok()
}

/// Copies whole lines up to the end of the file; false when no more is wanted.
async fn copy(file: &mut File, pending: &mut Vec<u8>, writer: &mut Writer<'_>) -> std::io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            return Ok(true);
        }
        pending.extend_from_slice(&chunk[..read]);
        let Some(end) = pending.iter().rposition(|b| *b == b'\n') else { continue };
        let rest = pending.split_off(end + 1);
        let lines = std::mem::replace(pending, rest);
        if !writer.write(&lines[..end]).await {
            return Ok(false);
        }
    }
}

struct Writer<'a> {
    limit: Option<u64>,
    was_partial: bool,
    options: &'a Options,
    out: mpsc::Sender<Bytes>,
}

impl Writer<'_> {
    async fn write(&mut self, lines: &[u8]) -> bool {
        let mut text = Vec::with_capacity(lines.len());
        for entry in lines.split(|b| *b == b'\n').filter_map(parse) {
            if self.wants(&entry) {
                self.format(&entry, &mut text);
            }
        }
        if let Some(limit) = &mut self.limit {
            text.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
            *limit -= text.len() as u64;
        }
        let sent = text.is_empty() || self.out.send(text.into()).await.is_ok();
        sent && self.limit != Some(0)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let stream = self.options.stream.as_deref();
        let of_stream = stream.is_none_or(|s| s.eq_ignore_ascii_case(entry.stream) || s.eq_ignore_ascii_case("all"));
        let recent = self
            .options
            .since
            .is_none_or(|since| entry.time.parse::<jiff::Timestamp>().is_ok_and(|time| time.as_nanosecond() >= since));
        of_stream && recent
    }

    fn format(&mut self, entry: &Entry, text: &mut Vec<u8>) {
        if self.options.timestamps && !self.was_partial {
            text.extend_from_slice(entry.time.as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(entry.text);
        if !entry.is_partial {
            text.push(b'\n');
        }
        self.was_partial = entry.is_partial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n\
                       2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    async fn read(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        send(path, options, sender, || async { false }).await.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn selections() {
        let all = Options::default;
        assert_eq!(read(all()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { tail_lines: Some(1), ..all() }).await, "three\n");
        assert_eq!(read(Options { tail_lines: Some(0), ..all() }).await, "");
        assert_eq!(read(Options { tail_lines: Some(99), ..all() }).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { limit_bytes: Some(5), ..all() }).await, "one\nt");
        assert_eq!(read(Options { stream: Some("Stderr".into()), ..all() }).await, "two\n");
        let since = "2026-01-01T00:00:03Z".parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        assert_eq!(read(Options { since: Some(since), ..all() }).await, "three\n");
        let stamped = read(Options { timestamps: true, ..all() }).await;
        assert!(stamped.contains("2026-01-01T00:00:02Z two\n"), "{stamped}");
    }

    #[tokio::test]
    async fn following_survives_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "t stdout F one\n").unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let (sender, mut receiver) = mpsc::channel(16);
        let (followed, state) = (path.clone(), running.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let options = Options { follow: true, ..Options::default() };
            send(followed, options, sender, || async { state.load(Ordering::SeqCst) }).await
        });
        assert_eq!(receiver.recv().await.unwrap(), "one\n");
        std::fs::rename(&path, dir.path().join("0.log.old")).unwrap();
        std::fs::write(&path, "t stdout F two\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "two\n");
        running.store(false, Ordering::SeqCst);
        assert_eq!(receiver.recv().await, None);
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}
