//! Container logs in CRI's format: `2026-11-21T02:00:00.123456789Z stdout F text`. Parsing, tailing; rotation names.

pub(crate) mod follow;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// One entry of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    /// The line goes on in the next entry of its stream.
    pub(crate) is_partial: bool,
    pub(crate) text: &'a [u8],
}

/// Parses a line (without its newline); `None` when it is none.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = std::str::from_utf8(parts.next()?).ok()?;
    let text = parts.next().unwrap_or_default();
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let is_partial = tags.split(':').next() == Some("P");
    Some(Entry { time, stream, is_partial, text })
}

/// The last lines of a log as text, at most `lines` and `bytes`.
pub(crate) fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(raw) = last_bytes(path, (bytes * 4) as u64) else { return String::new() };
    let mut out = Vec::new();
    let entries: Vec<Entry> = raw.split(|b| *b == b'\n').filter_map(parse).collect();
    let skip = entries.len().saturating_sub(lines);
    for entry in &entries[skip..] {
        out.extend_from_slice(entry.text);
        if !entry.is_partial {
            out.push(b'\n');
        }
    }
    let cut = out.len().saturating_sub(bytes);
    String::from_utf8_lossy(&out[cut..]).into_owned()
}

fn last_bytes(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut out = Vec::new();
    file.take(most).read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let entry = parse(b"2026-11-21T02:00:00Z stdout P hello  world").unwrap();
        assert_eq!((entry.stream, entry.is_partial, entry.text), ("stdout", true, b"hello  world".as_slice()));
        assert_eq!(parse(b"2026-11-21T02:00:00Z stderr F ").unwrap().text, b"");
        assert!(!parse(b"2026-11-21T02:00:00Z stderr F:x y").unwrap().is_partial);
        for bad in ["", "x", "t stdin F x", "t stdout"] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn tails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "t stdout F one\nt stdout P tw\nt stdout F o\nt stderr F three\n").unwrap();
        assert_eq!(tail_text(&path, 80, 2048), "one\ntwo\nthree\n");
        assert_eq!(tail_text(&path, 1, 2048), "three\n");
        assert_eq!(tail_text(&path, 80, 4), "ree\n");
    }
}
