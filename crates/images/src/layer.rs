//! Layers: a tar stream, compressed or not, becomes a directory that overlayfs can stack.
//!
//! A layer is unpacked once per chain of layers below it (`<root>/snapshots/<chain id>/fs`), because directories that
//! its tar leaves out take their owner and mode from the layers below.

pub(crate) mod compression;
mod parents;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod unpack;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Hashing;
use crate::error::IoContext as _;
use crate::store::Store;
use crate::{Descriptor, Digest, Error};

/// Disk use of a directory tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of the blocks that are taken.
    pub bytes: u64,
    /// Inodes that are taken.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// The chain ids of a stack of layers, as the OCI image specification defines them.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

impl Store {
    /// The unpacked directory of a layer.
    pub(crate) fn snapshot_fs(&self, chain: &Digest) -> PathBuf {
        self.snapshot_dir(chain).join("fs")
    }

    /// Unpacks one layer unless that is done. `chain` ends with this layer's id; those before it are unpacked.
    pub(crate) fn unpack_layer(&self, layer: &Descriptor, diff_id: &Digest, chain: &[Digest]) -> Result<(), Error> {
        let Some((own, below)) = chain.split_last() else { return Ok(()) };
        let place = self.snapshot_dir(own);
        if place.is_dir() {
            return Ok(());
        }
        let _one_at_a_time = self.unpacking().lock();
        if place.is_dir() {
            return Ok(());
        }
        let (blob, _) = self.open_blob(&layer.digest)?;
        let temp = self.root().join("snapshots").join(format!(".{}-{}", &own.hex()[..16], crate::store::unique()));
        let below: Vec<PathBuf> = below.iter().rev().map(|c| self.snapshot_fs(c)).collect();
        let done = unpack_into(&temp, blob, diff_id, &below).and_then(|()| place_snapshot(&temp, &place));
        if done.is_err() {
            let _ = crate::store::remove(&temp); // the first error is the one to tell
        }
        done.map_err(|source| Error::Layer { diff_id: diff_id.clone(), source: Box::new(source) })
    }

    /// What the unpacked layer takes on the disk.
    pub(crate) fn snapshot_usage(&self, dir: &Path) -> Usage {
        let bytes = fs::read(dir.join("usage.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_else(|_| usage_of(&dir.join("fs")))
    }
}

fn unpack_into(temp: &Path, blob: File, diff_id: &Digest, below: &[PathBuf]) -> Result<(), Error> {
    let fs_dir = temp.join("fs");
    fs::create_dir_all(&fs_dir).at("create", &fs_dir)?;
    fs::set_permissions(&fs_dir, fs::Permissions::from_mode(0o755)).at("change the mode of", &fs_dir)?;
    let plain = compression::decoder(BufReader::with_capacity(256 << 10, blob)).at("read", temp)?;
    let mut reader = Hashing::new(plain);
    unpack::unpack(&mut reader, &fs_dir, below)?;
    // What follows the end mark counts for the digest.
    io::copy(&mut reader, &mut io::sink()).at("read the end of the layer for", temp)?;
    let (_, found, _) = reader.finish();
    if found != *diff_id {
        return Err(Error::Mismatch { what: "unpacked layer".into(), expected: diff_id.clone(), found });
    }
    let usage = serde_json::to_vec(&usage_of(&fs_dir)).unwrap_or_default();
    fs::write(temp.join("usage.json"), usage).at("write", temp)
}

/// Synced as a whole before it gets its name: after a loss of power a layer is complete or absent.
fn place_snapshot(temp: &Path, place: &Path) -> Result<(), Error> {
    let dir = File::open(temp).at("open", temp)?;
    nix::unistd::syncfs(&dir).at("sync", temp)?;
    match fs::rename(temp, place) {
        // Another process was faster: equal content has the same id.
        Err(_) if place.is_dir() => crate::store::remove(temp),
        done => done.at("rename", temp),
    }
}

/// Adds up a tree; files with several names count once. What vanishes meanwhile does not count.
pub(crate) fn usage_of(dir: &Path) -> Usage {
    use std::os::unix::fs::MetadataExt as _;
    let mut usage = Usage::default();
    let mut seen = std::collections::HashSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if !meta.is_dir() && meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        usage += Usage { bytes: meta.blocks() * 512, inodes: 1 };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    usage
}
