//! Blobs: written aside, verified, synced, renamed to their digest. What has its name has its content.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::Store;
use super::table::sync_parent;
use crate::digest::Hashing;
use crate::error::IoContext as _;
use crate::{Descriptor, Digest, Error};

/// Manifests and configurations are read into memory; nothing sane comes near this.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;

impl Store {
    /// Where the blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Opens the blob and tells its length.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64), Error> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::MissingBlob { digest: digest.clone() }),
            Err(e) => return Err(e).at("open", &path),
        };
        let size = file.metadata().at("look at", &path)?.len();
        Ok((file, size))
    }

    /// A small blob (manifest, configuration), verified again.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let (file, size) = self.open_blob(digest)?;
        if size > DOCUMENT_LIMIT {
            return Err(Error::malformed(digest.as_str(), format!("{size} bytes are too many for a document")));
        }
        let mut bytes = Vec::new();
        BufReader::new(file).read_to_end(&mut bytes).at("read", self.blob_path(digest))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::Mismatch { what: "stored content".into(), expected: digest.clone(), found });
        }
        Ok(bytes)
    }

    pub(crate) fn document<T: DeserializeOwned>(&self, digest: &Digest, what: &str) -> Result<T, Error> {
        let bytes = self.read_blob(digest)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: format!("{what} {digest}"), source })
    }

    /// Stores these bytes.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            self.ingest(bytes, None)?;
        }
        Ok(digest)
    }

    /// Stores what the reader gives, and refuses it when it is not what was expected.
    pub fn ingest(&self, reader: impl Read, expected: Option<&Descriptor>) -> Result<(Digest, u64), Error> {
        let temp = self.temp_path();
        let done = self.ingest_at(&temp, reader, expected);
        if done.is_err() {
            let _ = fs::remove_file(&temp); // the first error is the one to tell
        }
        done
    }

    fn ingest_at(
        &self,
        temp: &Path,
        mut reader: impl Read,
        expected: Option<&Descriptor>,
    ) -> Result<(Digest, u64), Error> {
        let file = File::options().write(true).create_new(true).open(temp).at("create", temp)?;
        let mut out = Hashing::new(file);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).at("read content for", temp),
            };
            out.write_all(&buffer[..n]).at("write", temp)?;
            if expected.is_some_and(|e| out.count() > e.size) {
                break;
            }
        }
        let (file, digest, size) = out.finish();
        if let Some(expected) = expected {
            verify("content", expected, &digest, size)?;
        }
        self.commit(&file, temp, &digest)?;
        Ok((digest, size))
    }

    /// Gives a complete, verified file its place.
    pub(crate) fn commit(&self, file: &File, temp: &Path, digest: &Digest) -> Result<(), Error> {
        file.sync_all().at("sync", temp)?;
        let path = self.blob_path(digest);
        fs::rename(temp, &path).at("rename", temp)?;
        sync_parent(&path)
    }
}

/// Compares content with its descriptor.
pub(crate) fn verify(what: &str, expected: &Descriptor, digest: &Digest, size: u64) -> Result<(), Error> {
    if size != expected.size {
        return Err(Error::Length { what: what.into(), expected: expected.size, found: size });
    }
    if *digest != expected.digest {
        return Err(Error::Mismatch { what: what.into(), expected: expected.digest.clone(), found: digest.clone() });
    }
    Ok(())
}
