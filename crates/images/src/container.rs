//! Root file systems of containers: an overlay of the image's layers and a directory of the container's own.
//!
//! `<root>/containers/<id>/` holds `rootfs.json` (which layers), `upper` and `work` (overlayfs's), `merged` (the mount), and
//! in `images` what it has as volumes.

mod mount;
#[cfg(test)]
mod tests;
mod volume;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::IoContext as _;
use crate::layer::{Usage, chain_ids, usage_of};
use crate::store::Store;
use crate::{Digest, Error, ImageConfig};

/// A mounted root file system and how the image wants to be run.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where the root file system is mounted.
    pub rootfs: PathBuf,
    /// The image's id (`sha256:...`).
    pub image_id: String,
    /// The image's configuration.
    pub config: ImageConfig,
}

/// What must be known to mount it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rootfs {
    image: Digest,
    /// Chain ids, the lowest first.
    layers: Vec<Digest>,
    config: ImageConfig,
}

impl Store {
    /// Mounts a root file system for the container, from an image by any name or id. Called again for the same
    /// container, after a reboot say, it mounts what the container had, whatever became of the image's name.
    pub fn prepare(&self, container_id: &str, image: &str) -> Result<Prepared, Error> {
        let dir = self.container_dir(container_id)?;
        let _lease = self.lease()?;
        let known = match self.rootfs(container_id) {
            Ok(known) => known,
            Err(error) if error.is_not_found() => self.describe(&dir, image)?,
            Err(error) => return Err(error),
        };
        self.mount_rootfs(&dir, known)
    }

    /// Mounts the root file system of a known container again (nothing to do when it is mounted).
    pub fn mount(&self, container_id: &str) -> Result<Prepared, Error> {
        let known = self.rootfs(container_id)?;
        self.mount_rootfs(&self.container_dir(container_id)?, known)
    }

    fn describe(&self, dir: &Path, image: &str) -> Result<Rootfs, Error> {
        let image = self.get(image)?.image;
        let config = self.config(&image)?.config;
        // Usually done at the pull; a layer that was lost since is unpacked anew.
        self.unpack(&image.layers, &image.diff_ids)?;
        for name in ["upper", "work", "merged"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).at("create", &path)?;
        }
        let rootfs = Rootfs { layers: chain_ids(&image.diff_ids), image: image.id, config };
        mount::copy_root_attributes(self, &rootfs.layers, &dir.join("upper"))?;
        write_document(&dir.join("rootfs.json"), &rootfs)?;
        Ok(rootfs)
    }

    fn mount_rootfs(&self, dir: &Path, rootfs: Rootfs) -> Result<Prepared, Error> {
        let merged = dir.join("merged");
        if !mount::is_mounted(&merged) {
            mount::mount_overlay(self, &rootfs.layers, dir)?;
        }
        Ok(Prepared { rootfs: merged, image_id: rootfs.image.to_string(), config: rootfs.config })
    }

    fn rootfs(&self, container_id: &str) -> Result<Rootfs, Error> {
        let path = self.container_dir(container_id)?.join("rootfs.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { name: format!("of container {container_id}") });
            }
            Err(e) => return Err(e).at("read", &path),
        };
        let what = || path.display().to_string();
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: what(), source })
    }

    /// Unmounts and forgets the container's root file system. Idempotent.
    pub fn remove(&self, container_id: &str) -> Result<(), Error> {
        let dir = self.container_dir(container_id)?;
        self.unmount(container_id)?;
        self.unmount_images(container_id)?;
        // First the description, so that an interrupted removal is never mistaken for a container.
        crate::store::remove(&dir.join("rootfs.json"))?;
        crate::store::remove(&dir)
    }

    /// Unmounts the container's root file system and keeps its content. Idempotent.
    pub fn unmount(&self, container_id: &str) -> Result<(), Error> {
        mount::unmount(&self.container_dir(container_id)?.join("merged"))
    }

    /// What the container has written: bytes and inodes.
    pub fn usage(&self, container_id: &str) -> Result<Usage, Error> {
        let dir = self.container_dir(container_id)?;
        if !dir.is_dir() {
            return Err(Error::NotFound { name: format!("of container {container_id}") });
        }
        Ok(usage_of(&dir.join("upper")))
    }

    /// The containers that have a root file system here, mounted or not, halfway removed ones included.
    pub fn containers(&self) -> Result<Vec<String>, Error> {
        let dir = self.root().join("containers");
        let names = |read: fs::ReadDir| read.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>();
        let names = fs::read_dir(&dir).and_then(names).at("list", &dir)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Unmounts the root file systems of all containers and forgets them. Goes on after an error; returns the first.
    pub fn purge(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for id in self.containers()? {
            if let Err(error) = self.remove(&id) {
                tracing::warn!(container = id, error = %base::Chain(&error), "cannot remove a root file system");
                first = first.and(Err(error));
            }
        }
        first
    }

    /// Names of the snapshots that containers stand on.
    pub(crate) fn snapshots_of_containers(&self) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        for id in self.containers()? {
            out.extend(self.layers_of_volumes(&id)?.iter().map(|chain| chain.hex().to_owned()));
            match self.rootfs(&id) {
                Ok(rootfs) => out.extend(rootfs.layers.iter().map(|chain| chain.hex().to_owned())),
                Err(error) if error.is_not_found() => {}
                // Not knowing what is used, nothing must be removed.
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn container_dir(&self, id: &str) -> Result<PathBuf, Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.chars().all(fits) {
            return Err(Error::InvalidContainer { text: id.to_owned() });
        }
        Ok(self.root().join("containers").join(id))
    }
}

/// Writes what a mount is made of. A document that a loss of power emptied would keep the container from coming back.
fn write_document(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value)
        .map_err(|source| Error::Document { what: "the container's layers".into(), source })?;
    let temp = path.with_extension("json.tmp");
    let mut file = fs::File::create(&temp).at("create", &temp)?;
    file.write_all(&text).and_then(|()| file.sync_all()).at("write", &temp)?;
    fs::rename(&temp, path).at("rename", &temp)
}
