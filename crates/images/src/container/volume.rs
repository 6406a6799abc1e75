//! Images as volumes of containers: all of an image, read-only, without a directory of anybody's own above it.
//!
//! `<root>/containers/<container>/images/<hex of the image's id>/` holds `layers.json` and `merged`, the mount. They go with the
//! container.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{mount, write_document};
use crate::error::IoContext as _;
use crate::layer::chain_ids;
use crate::store::Store;
use crate::{Digest, Error};

const LAYERS: &str = "layers.json";

impl Store {
    /// Mounts an image, by any name or id, for a container that [`Store::prepare`] knows; where `sub` (empty: the image's root)
    /// is in it. Links inside the image stay inside it.
    pub fn mount_image(&self, container_id: &str, image: &str, sub: &str) -> Result<PathBuf, Error> {
        let _lease = self.lease()?;
        let image = self.get(image)?.image;
        self.unpack(&image.layers, &image.diff_ids)?;
        let dir = self.container_dir(container_id)?.join("images").join(image.id.hex());
        let merged = dir.join("merged");
        fs::create_dir_all(&merged).at("create", &merged)?;
        let layers = chain_ids(&image.diff_ids);
        write_document(&dir.join(LAYERS), &layers)?;
        if !mount::is_mounted(&merged) {
            mount::mount_layers(self, &layers, &merged)?;
        }
        if sub.is_empty() {
            return Ok(merged);
        }
        let find = || -> io::Result<PathBuf> {
            let root = linux::rooted::open_root(&merged)?;
            let found = linux::rooted::open(&root, Path::new(sub), OFlag::O_PATH.bits(), 0)?;
            // Nobody can change what is mounted read-only: the path stays true.
            fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        };
        find().at("open the image's", Path::new(sub))
    }

    /// Unmounts the images of a container. Idempotent.
    pub(super) fn unmount_images(&self, container_id: &str) -> Result<(), Error> {
        for dir in image_dirs(&self.container_dir(container_id)?)? {
            mount::unmount(&dir.join("merged"))?;
        }
        Ok(())
    }

    /// The layers that a container's image volumes stand on.
    pub(super) fn layers_of_volumes(&self, container_id: &str) -> Result<Vec<Digest>, Error> {
        let mut out = Vec::new();
        for dir in image_dirs(&self.container_dir(container_id)?)? {
            let path = dir.join(LAYERS);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Its making was interrupted: nothing is mounted there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("read", &path),
            };
            let layers: Vec<Digest> = serde_json::from_slice(&bytes)
                .map_err(|source| Error::Document { what: path.display().to_string(), source })?;
            out.extend(layers);
        }
        Ok(out)
    }
}

fn image_dirs(container: &Path) -> Result<Vec<PathBuf>, Error> {
    let dir = container.join("images");
    match fs::read_dir(&dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>().at("list", &dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).at("list", &dir),
    }
}
