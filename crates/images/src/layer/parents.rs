//! Directories that a layer's tar leaves out: they look like those of the layers below.

use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;

use super::tree::{Attributes, Tree};

/// The layers below, the nearest first.
pub(crate) struct Below {
    trees: Vec<Tree>,
}

impl Below {
    pub(crate) fn open(dirs: &[PathBuf]) -> std::io::Result<Self> {
        Ok(Self { trees: dirs.iter().map(|dir| Tree::open(dir)).collect::<Result<_, _>>()? })
    }

    /// What the directory at `path` looks like from above; that of a new one when there is none.
    pub(crate) fn directory(&self, path: &Path) -> Attributes {
        self.find(path).unwrap_or(Attributes { mode: 0o755, ..Attributes::default() })
    }

    fn find(&self, path: &Path) -> Option<Attributes> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        for tree in &self.trees {
            // A layer without the parent says nothing about the directory.
            let Ok(parent) = tree.dir_without_links(parent) else { continue };
            let place = super::tree::Place { parent, name: name.to_owned() };
            if let Ok(Some(stat)) = place.stat() {
                let is_dir = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
                // Something else hides what is further below.
                return is_dir.then(|| place.attributes(&stat));
            }
        }
        None
    }
}
