//! Import: every file of the archive becomes a blob on the way past; then the archive's lists say which are images.
//!
//! The reader need not be seekable and files may come in any order. What turns out to be of no use is collected after.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use tar::EntryType;

use crate::error::IoContext as _;
use crate::layer::compression::decoder;
use crate::store::sniff;
use crate::{Descriptor, Digest, Error, Index, Manifest, Platform, Reference, Store, media};

const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One entry of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image that the archive offers.
struct Offer {
    target: Descriptor,
    names: Vec<String>,
}

impl Store {
    /// Imports the images of an archive and unpacks them. `names` replaces the names that the archive has for its (then
    /// only) image. Returns the complete names that were set.
    pub fn import(&self, reader: impl Read, names: &[String]) -> Result<Vec<String>, Error> {
        self.import_for(reader, names, &Platform::host())
    }

    /// As [`Store::import`], choosing the image for `platform` from an index.
    pub fn import_for(&self, reader: impl Read, names: &[String], platform: &Platform) -> Result<Vec<String>, Error> {
        let lease = self.lease()?;
        let files = Files::read(self, reader)?;
        let mut offers = files.offers(self)?;
        if !names.is_empty() {
            let [offer] = offers.as_mut_slice() else {
                return Err(Error::malformed("archive", format!("{} images, but one name was given", offers.len())));
            };
            offer.names = names.to_vec();
        }
        let mut set = Vec::new();
        for offer in offers {
            let complete = |name: &String| Reference::parse(name).map(|r| r.to_string());
            let mut names = offer.names.iter().map(complete).collect::<Result<Vec<_>, _>>()?;
            if names.is_empty() {
                let day: String = base::time::now().chars().take(10).collect();
                names.push(Reference::parse(&format!("import-{day}@{}", offer.target.digest))?.to_string());
            }
            self.register(&names, &offer.target, platform)?;
            set.extend(names);
        }
        drop(lease);
        self.prune()?;
        Ok(set)
    }
}

/// The archive's files, which are blobs now, by path.
#[derive(Default)]
struct Files {
    blobs: BTreeMap<PathBuf, (Digest, u64)>,
    /// Older archives share layers between images by links.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Files {
    fn read(store: &Store, reader: impl Read) -> Result<Self, Error> {
        let mut files = Self::default();
        let at = Path::new("the archive");
        let mut archive = tar::Archive::new(decoder(reader).at("read", at)?);
        for entry in archive.entries().at("read", at)? {
            let mut entry = entry.at("read", at)?;
            let path = clean(Path::new(""), &PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned())));
            let link = |entry: &tar::Entry<'_, _>| entry.link_name_bytes().map(|b| OsString::from_vec(b.into_owned()));
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let blob = store.ingest(&mut entry, None)?;
                    files.blobs.insert(path, blob);
                }
                EntryType::Symlink => {
                    let to =
                        clean(path.parent().unwrap_or(Path::new("")), Path::new(&link(&entry).unwrap_or_default()));
                    files.links.insert(path, to);
                }
                EntryType::Link => {
                    let to = clean(Path::new(""), Path::new(&link(&entry).unwrap_or_default()));
                    files.links.insert(path, to);
                }
                _ => {}
            }
        }
        Ok(files)
    }

    fn find(&self, path: &str) -> Result<(Digest, u64), Error> {
        let mut path = clean(Path::new(""), Path::new(path));
        for _ in 0..8 {
            if let Some(blob) = self.blobs.get(&path) {
                return Ok(blob.clone());
            }
            match self.links.get(&path) {
                Some(to) => path = to.clone(),
                None => break,
            }
        }
        Err(Error::malformed("archive", format!("{} is missing", path.display())))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, store: &Store, path: &str) -> Result<Option<T>, Error> {
        let Some((digest, _)) = self.blobs.get(Path::new(path)) else { return Ok(None) };
        store.document(digest, path).map(Some)
    }

    fn offers(&self, store: &Store) -> Result<Vec<Offer>, Error> {
        let docker: Option<Vec<DockerImage>> = self.json(store, "manifest.json")?;
        let index: Option<Index> = self.json(store, "index.json")?;
        let offers = match (index, docker) {
            (Some(index), docker) => oci_offers(store, index, docker.unwrap_or_default())?,
            (None, Some(docker)) => docker.iter().map(|d| self.docker_offer(store, d)).collect::<Result<_, _>>()?,
            (None, None) => {
                let why = "neither index.json (OCI layout) nor manifest.json (docker save) is in it";
                return Err(Error::malformed("archive", why));
            }
        };
        if offers.is_empty() {
            return Err(Error::malformed("archive", "no images are in it"));
        }
        Ok(offers)
    }

    /// Docker's list has no manifest: it is made from what the list says.
    fn docker_offer(&self, store: &Store, image: &DockerImage) -> Result<Offer, Error> {
        let (config, size) = self.find(&image.config)?;
        let mut layers = Vec::with_capacity(image.layers.len());
        for path in &image.layers {
            let (digest, size) = self.find(path)?;
            layers.push(Descriptor::new(layer_kind(store, &digest)?, digest, size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::DOCKER_MANIFEST.into(),
            config: Descriptor::new(media::DOCKER_CONFIG, config, size),
            layers,
        };
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|source| Error::Document { what: "the manifest made for the archive".into(), source })?;
        let target = Descriptor::new(media::DOCKER_MANIFEST, store.put_blob(&bytes)?, bytes.len() as u64);
        Ok(Offer { target, names: image.repo_tags.clone().unwrap_or_default() })
    }
}

fn oci_offers(store: &Store, index: Index, docker: Vec<DockerImage>) -> Result<Vec<Offer>, Error> {
    let mut offers: Vec<Offer> = Vec::new();
    for mut target in index.manifests {
        if !media::is_index(&target.media_type) && !media::is_manifest(&target.media_type) {
            target.media_type = sniff(&store.read_blob(&target.digest)?).to_owned();
        }
        let annotations = std::mem::take(&mut target.annotations);
        let full = annotations.get(NAME).cloned();
        // The reference name is a tag or a whole reference, as its writer liked.
        let loose = annotations.get(REF_NAME).filter(|name| name.contains(['/', ':'])).cloned();
        let mut names: Vec<String> = full.or(loose).into_iter().collect();
        if names.is_empty() && media::is_manifest(&target.media_type) {
            let manifest: Manifest = store.document(&target.digest, "manifest")?;
            let same = docker.iter().filter(|d| d.config.contains(manifest.config.digest.hex()));
            names.extend(same.flat_map(|d| d.repo_tags.clone().unwrap_or_default()));
        }
        match offers.iter_mut().find(|o| o.target.digest == target.digest) {
            Some(known) => known.names.extend(names),
            None => offers.push(Offer { target, names }),
        }
    }
    Ok(offers)
}

fn layer_kind(store: &Store, digest: &Digest) -> Result<&'static str, Error> {
    let (mut file, _) = store.open_blob(digest)?;
    let mut start = [0; 4];
    let n = file.read(&mut start).at("read", store.blob_path(digest))?;
    Ok(match &start[..n] {
        [0x1f, 0x8b, ..] => media::DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::OCI_LAYER_ZSTD,
        _ => media::DOCKER_LAYER,
    })
}

/// A path inside the archive: `./` and `..` resolved by words. It only ever serves as a key.
fn clean(base: &Path, path: &Path) -> PathBuf {
    let mut out = if path.is_absolute() { PathBuf::new() } else { base.to_owned() };
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}
