//! Export: one tar that docker (`manifest.json`), containerd and OCI tools (`index.json`) all read.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::IoContext as _;
use crate::{Descriptor, Digest, Error, Image, Index, Platform, Reference, Store, media};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Store {
    /// Writes these images to an uncompressed tar. `platform` must be that of the images, when it is given.
    pub fn export(&self, names: &[String], writer: impl Write, platform: Option<&Platform>) -> Result<(), Error> {
        let _lease = self.lease()?;
        let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
        for name in names {
            let image = self.get(name)?.image;
            let is_right = |wanted| Platform::parse(&image.platform).is_some_and(|own| own.serves(wanted));
            if let Some(wanted) = platform.filter(|wanted| !is_right(wanted)) {
                return Err(Error::Platform { digest: image.manifest.digest, platform: wanted.to_string() });
            }
            // An id is no reference: the image is then exported without a name.
            let reference = Reference::parse(name).ok();
            match images.iter_mut().find(|(known, _)| known.id == image.id) {
                Some((_, references)) => references.extend(reference),
                None => images.push((image, reference.into_iter().collect())),
            }
        }
        self.write_archive(&images, writer).at("write", Path::new("the archive"))?
    }

    fn write_archive(
        &self,
        images: &[(Image, Vec<Reference>)],
        writer: impl Write,
    ) -> Result<Result<(), Error>, std::io::Error> {
        let mut out = tar::Builder::new(writer);
        let mut blobs = BTreeSet::new();
        for (image, _) in images {
            let all = image.layers.iter().chain([&image.config, &image.manifest]);
            blobs.extend(all.map(|d| d.digest.clone()));
        }
        directory(&mut out, "blobs/")?;
        directory(&mut out, "blobs/sha256/")?;
        for digest in &blobs {
            let (file, size) = match self.open_blob(digest) {
                Ok(open) => open,
                Err(error) => return Ok(Err(error)),
            };
            file_entry(&mut out, &place(digest), size, file)?;
        }
        json(&mut out, "index.json", &index(images))?;
        json(&mut out, "manifest.json", &images.iter().map(docker_image).collect::<Vec<_>>())?;
        json(&mut out, "oci-layout", &serde_json::json!({"imageLayoutVersion": "1.0.0"}))?;
        out.into_inner()?.flush()?;
        Ok(Ok(()))
    }
}

fn index(images: &[(Image, Vec<Reference>)]) -> Index {
    let mut manifests = Vec::new();
    for (image, references) in images {
        let bare = Descriptor { platform: Platform::parse(&image.platform), ..image.manifest.clone() };
        for reference in references {
            let mut named = bare.clone();
            named.annotations.insert("io.containerd.image.name".into(), reference.to_string());
            if let Some(tag) = reference.tag() {
                named.annotations.insert("org.opencontainers.image.ref.name".into(), tag.to_owned());
            }
            manifests.push(named);
        }
        if references.is_empty() {
            manifests.push(bare);
        }
    }
    Index { schema_version: 2, media_type: media::OCI_INDEX.into(), manifests }
}

fn docker_image((image, references): &(Image, Vec<Reference>)) -> DockerImage {
    DockerImage {
        config: place(&image.id),
        repo_tags: references.iter().filter(|r| r.tag().is_some()).map(familiar).collect(),
        layers: image.layers.iter().map(|layer| place(&layer.digest)).collect(),
    }
}

/// As docker shows it: without its own registry and library.
fn familiar(reference: &Reference) -> String {
    let full = reference.to_string();
    let short = full.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.map(str::to_owned).unwrap_or(full)
}

fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn directory(out: &mut tar::Builder<impl Write>, path: &str) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    out.append_data(&mut header, path, std::io::empty())
}

fn file_entry(out: &mut tar::Builder<impl Write>, path: &str, size: u64, from: impl Read) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    out.append_data(&mut header, path, from)
}

fn json(out: &mut tar::Builder<impl Write>, path: &str, value: &impl Serialize) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    file_entry(out, path, bytes.len() as u64, bytes.as_slice())
}
