//! Log files in the CRI's format: `2026-11-21T01:02:03.000000004Z stdout F the line`; `P` for a piece of a line that goes on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A piece of a line without an end is written from this size on.
const MOST_PIECE: usize = 16 * 1024;

/// A container's log.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// Lines that have not ended: stdout, stderr.
    pending: [Vec<u8>; 2],
}

impl Log {
    /// Opens the file for appending; no path is no log.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut log = Self { path: path.to_owned(), file: None, pending: [Vec::new(), Vec::new()] };
        log.reopen()?;
        Ok(log)
    }

    /// After rotation: a fresh file of the same name.
    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        if self.path.as_os_str().is_empty() {
            return Ok(());
        }
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        self.file = Some(OpenOptions::new().append(true).create(true).open(&self.path)?);
        Ok(())
    }

    /// Adds output.
    pub(super) fn write(&mut self, is_error: bool, bytes: &[u8]) {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let pending = &mut self.pending[usize::from(is_error)];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            pending.extend_from_slice(piece);
            if let Some(line) = pending.strip_suffix(b"\n") {
                record(&mut out, is_error, b'F', line);
                pending.clear();
            } else if pending.len() >= MOST_PIECE {
                record(&mut out, is_error, b'P', pending);
                pending.clear();
            }
        }
        self.append(&out);
    }

    /// The stream is over: what is left of a line that has no end is a piece, as other runtimes write it.
    pub(super) fn end(&mut self, is_error: bool) {
        let rest = std::mem::take(&mut self.pending[usize::from(is_error)]);
        if !rest.is_empty() {
            let mut out = Vec::new();
            record(&mut out, is_error, b'P', &rest);
            self.append(&out);
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            // A full disk loses log lines, not the container.
            let _ = file.write_all(bytes);
        }
    }
}

fn record(out: &mut Vec<u8>, is_error: bool, tag: u8, line: &[u8]) {
    let stream = if is_error { "stderr" } else { "stdout" };
    out.extend_from_slice(format!("{:.9} {stream} ", jiff::Timestamp::now()).as_bytes());
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(line);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path).unwrap();
        log.write(false, b"one\ntw");
        log.write(true, b"err");
        log.write(false, b"o\n");
        log.write(false, &[b'x'; MOST_PIECE + 1]);
        log.end(false);
        log.end(true);
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<(String, String, usize)> = text
            .lines()
            .map(|l| {
                let mut words = l.splitn(4, ' ').skip(1);
                (words.next().unwrap().into(), words.next().unwrap().into(), words.next().unwrap().len())
            })
            .collect();
        let row = |stream: &str, tag: &str, length| (stream.to_owned(), tag.to_owned(), length);
        assert_eq!(
            rows,
            [row("stdout", "F", 3), row("stdout", "F", 3), row("stdout", "P", MOST_PIECE + 1), row("stderr", "P", 3)]
        );
    }
}
