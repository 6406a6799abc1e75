//! From blobs to an image: find the manifest for the platform, unpack the layers, name it.

use super::{Image, Record, Store};
use crate::{Descriptor, Digest, Error, ImageFile, Index, Manifest, Platform, layer, media};

/// Indexes inside indexes: nobody needs more.
const DEPTH: usize = 4;

impl Store {
    /// The manifest below `target` for `platform`, following indexes whose blobs are here.
    pub fn select(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor, Error> {
        let mut at = target.clone();
        for _ in 0..DEPTH {
            if !media::is_index(&kind_of(self, &at)?) {
                return Ok(at);
            }
            let index: Index = self.document(&at.digest, "index")?;
            let found = index.select(platform).cloned();
            at = found.ok_or_else(|| Error::Platform { digest: at.digest, platform: platform.to_string() })?;
        }
        Err(Error::malformed(target.digest.as_str(), "indexes are nested too deep"))
    }

    /// Makes an image of content that is complete in the store: checks it, unpacks what is not unpacked yet, and sets
    /// the names (complete references). The caller holds a [`super::Lease`].
    pub fn register(&self, names: &[String], target: &Descriptor, platform: &Platform) -> Result<Image, Error> {
        let manifest_at = self.select(target, platform)?;
        let manifest: Manifest = self.document(&manifest_at.digest, "manifest")?;
        let file: ImageFile = self.document(&manifest.config.digest, "image configuration")?;
        let diff_ids = &file.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let why = format!("{} layers, but {} digests in its configuration", manifest.layers.len(), diff_ids.len());
            return Err(Error::malformed(manifest_at.digest.as_str(), why));
        }
        self.unpack(&manifest.layers, diff_ids)?;
        let layers = manifest.layers.iter().map(|l| l.size).sum::<u64>();
        let image = Image {
            id: manifest.config.digest.clone(),
            size: layers + manifest_at.size + manifest.config.size,
            manifest: manifest_at,
            config: manifest.config,
            layers: manifest.layers,
            platform: file.platform().to_string(),
            user: file.config.user,
            diff_ids: file.rootfs.diff_ids,
            pinned: false,
        };
        let record = Record { target: target.clone(), image: image.id.clone(), created: base::time::now() };
        self.update(|table| {
            let pinned = table.images.get(&image.id).is_some_and(|known| known.pinned);
            table.images.insert(image.id.clone(), Image { pinned, ..image.clone() });
            for name in names {
                table.names.insert(name.clone(), record.clone());
            }
        })?;
        Ok(image)
    }

    /// Unpacks the layers that are not unpacked yet, lowest first.
    pub(crate) fn unpack(&self, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<(), Error> {
        let chain = layer::chain_ids(diff_ids);
        for (at, descriptor) in layers.iter().enumerate() {
            self.unpack_layer(descriptor, &diff_ids[at], &chain[..=at])?;
        }
        Ok(())
    }
}

/// The media type, read from the document when the descriptor does not tell.
fn kind_of(store: &Store, descriptor: &Descriptor) -> Result<String, Error> {
    if media::is_index(&descriptor.media_type) || media::is_manifest(&descriptor.media_type) {
        return Ok(descriptor.media_type.clone());
    }
    Ok(sniff(&store.read_blob(&descriptor.digest)?).to_owned())
}

/// What a document is, by what it says or by its shape.
pub(crate) fn sniff(bytes: &[u8]) -> &'static str {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        #[serde(default)]
        media_type: String,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_slice::<Shape>(bytes) {
        Ok(s) if s.media_type == media::DOCKER_LIST => media::DOCKER_LIST,
        Ok(s) if s.media_type == media::DOCKER_MANIFEST => media::DOCKER_MANIFEST,
        Ok(s) if s.manifests.is_some() && s.config.is_none() => media::OCI_INDEX,
        Ok(s) if s.config.is_some() => media::OCI_MANIFEST,
        _ => "",
    }
}
