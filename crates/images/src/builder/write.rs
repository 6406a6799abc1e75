//! A layer as a tar stream in the store.

use std::fs::File;
use std::io::{self, Write};

use tar::EntryType;

use super::Compression;
use super::layer::{Content, Entry, Layer};
use crate::digest::Hashing;
use crate::error::IoContext as _;
use crate::{Descriptor, Digest, Error, Store, media};

/// A compressed stream that is being written.
enum Encoder<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    fn new(to: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(to),
            Compression::Gzip => Self::Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(to, 9)?),
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(to) => Ok(to),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(w) => w.write(buf),
            Self::Gzip(w) => w.write(buf),
            Self::Zstd(w) => w.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(w) => w.flush(),
            Self::Gzip(w) => w.flush(),
            Self::Zstd(w) => w.flush(),
        }
    }
}

/// Writes the layer; returns what points to it and the digest of its tar stream.
pub(super) fn layer(store: &Store, layer: &Layer, compression: Compression) -> Result<(Descriptor, Digest), Error> {
    let temp = store.temp_path();
    let write = || -> io::Result<(Hashing<File>, Digest)> {
        let file = File::options().write(true).create_new(true).open(&temp)?;
        let mut out = tar::Builder::new(Hashing::new(Encoder::new(Hashing::new(file), compression)?));
        // A hard link comes after what it links to.
        let is_link = |entry: &Entry| matches!(entry.content, Content::HardLink(_));
        let files = layer.entries.iter().filter(|(_, entry)| !is_link(entry));
        for (path, entry) in files.chain(layer.entries.iter().filter(|(_, entry)| is_link(entry))) {
            append(&mut out, path, entry)?;
        }
        let (encoder, diff_id, _) = out.into_inner()?.finish();
        Ok((encoder.finish()?, diff_id))
    };
    let done = write().at("write", &temp).and_then(|(compressed, diff_id)| {
        let (file, digest, size) = compressed.finish();
        store.commit(&file, &temp, &digest)?;
        let kind = match compression {
            Compression::None => media::OCI_LAYER,
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
        };
        Ok((Descriptor::new(kind, digest, size), diff_id))
    });
    if done.is_err() {
        let _ = crate::store::remove(&temp); // the first error is the one to tell
    }
    done
}

fn append(out: &mut tar::Builder<impl Write>, path: &std::path::Path, entry: &Entry) -> io::Result<()> {
    if !entry.xattrs.is_empty() {
        let keys: Vec<String> = entry.xattrs.iter().map(|(key, _)| format!("SCHILY.xattr.{key}")).collect();
        let pairs = keys.iter().zip(&entry.xattrs).map(|(key, (_, value))| (key.as_str(), value.as_slice()));
        out.append_pax_extensions(pairs)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(entry.modified);
    header.set_size(0);
    match &entry.content {
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            out.append_data(&mut header, path, bytes.as_slice())
        }
        Content::HostFile(from) => {
            let file = File::open(from)?;
            header.set_size(file.metadata()?.len());
            out.append_data(&mut header, path, file)
        }
        Content::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            out.append_link(&mut header, path, target)
        }
        Content::HardLink(target) => {
            header.set_entry_type(EntryType::Link);
            out.append_link(&mut header, path, target)
        }
        Content::Directory => {
            header.set_entry_type(EntryType::Directory);
            // The root has no name of its own.
            let path = if path.as_os_str().is_empty() { std::path::Path::new("./") } else { path };
            out.append_data(&mut header, path, io::empty())
        }
        Content::Device { is_block, major, minor } => {
            header.set_entry_type(if *is_block { EntryType::Block } else { EntryType::Char });
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            out.append_data(&mut header, path, io::empty())
        }
        Content::Fifo => {
            header.set_entry_type(EntryType::Fifo);
            out.append_data(&mut header, path, io::empty())
        }
    }
}
