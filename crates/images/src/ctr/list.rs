//! `ctr images ls`, in containerd's columns.

use std::io::{self, Write};

use super::CtrError;
use crate::{Index, Record, Store, media};

/// Writes the table, or the names alone.
pub(super) fn write(store: &Store, is_quiet: bool, out: &mut (dyn Write + Send)) -> Result<(), CtrError> {
    let names = store.names()?;
    if is_quiet {
        for (name, _) in &names {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    }
    let mut rows = vec![["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"].map(str::to_owned)];
    let images = store.list()?;
    for (name, record) in names {
        let image = images.iter().map(|l| &l.image).find(|i| i.id == record.image);
        let platforms =
            platforms(store, &record).unwrap_or_else(|| image.map(|i| i.platform.clone()).unwrap_or_default());
        let mut labels = vec!["io.cri-containerd.image=managed"];
        if image.is_some_and(|i| i.pinned) {
            labels.push("io.cri-containerd.pinned=pinned");
        }
        let size = image.map_or(0, |i| i.size);
        let (kind, digest) = (record.target.media_type, record.target.digest.to_string());
        rows.push([name, kind, digest, human(size), platforms, labels.join(",")]);
    }
    Ok(table(&rows, out)?)
}

/// What an index offers; `None` for a single manifest.
fn platforms(store: &Store, record: &Record) -> Option<String> {
    if !media::is_index(&record.target.media_type) {
        return None;
    }
    let index: Index = serde_json::from_slice(&store.read_blob(&record.target.digest).ok()?).ok()?;
    let mut all: Vec<String> =
        index.manifests.iter().filter_map(|m| m.platform.as_ref()).map(ToString::to_string).collect();
    all.retain(|platform| platform != "unknown/unknown");
    all.sort();
    all.dedup();
    (!all.is_empty()).then(|| all.join(","))
}

/// Columns as wide as their widest cell and a blank.
fn table(rows: &[[String; 6]], out: &mut (dyn Write + Send)) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 1;
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            write!(out, "{cell:width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `2.7 MiB`.
fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].iter().peekable();
    while let Some(unit) = units.next() {
        if size < 1024.0 || units.peek().is_none() {
            return format!("{size:.1} {unit}");
        }
        size /= 1024.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes() {
        for (bytes, expect) in
            [(0, "0.0 B"), (1023, "1023.0 B"), (1536, "1.5 KiB"), (54 << 20, "54.0 MiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(human(bytes), expect);
        }
    }
}
