//! Archives that somebody dropped into the images directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::IoContext as _;
use crate::store::Imported;
use crate::{Error, Store};

/// What became of one archive of the directory.
#[derive(Debug)]
pub struct ImportedFile {
    /// The archive.
    pub path: PathBuf,
    /// The names that it brought; empty when it was imported before and is unchanged.
    pub names: Result<Vec<String>, Error>,
}

impl Store {
    /// Imports `*.tar`, `*.tar.gz`, `*.tgz` and `*.tar.zst` of the directory, in the order of their names, and pins the
    /// images, as k3s does: without a registry nobody could bring them back. What is unchanged since its last import
    /// and still has its images is skipped. An absent directory holds nothing. One bad archive does not keep others.
    pub fn import_dir(&self, dir: &Path) -> Result<Vec<ImportedFile>, Error> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().at("list", dir)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).at("list", dir),
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).filter(|p| is_archive(p)).collect();
        paths.sort();
        Ok(paths.into_iter().map(|path| ImportedFile { names: self.import_file(&path), path }).collect())
    }

    fn import_file(&self, path: &Path) -> Result<Vec<String>, Error> {
        let file = File::open(path).at("open", path)?;
        let meta = file.metadata().at("look at", path)?;
        let modified = format!("{:?}", meta.modified().at("look at", path)?);
        let key = path.display().to_string();
        let table = self.table()?;
        let known = table.imported.get(&key).filter(|i| i.size == meta.len() && i.modified == modified);
        if known.is_some_and(|i| i.names.iter().all(|name| table.names.contains_key(name))) {
            return Ok(Vec::new());
        }
        let names = self.import(file, &[])?;
        for name in &names {
            self.pin(name, true)?;
        }
        let imported = Imported { size: meta.len(), modified, names: names.clone() };
        self.update(|table| table.imported.insert(key, imported))?;
        Ok(names)
    }
}

fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    ends && !name.starts_with('.') && path.is_file()
}
