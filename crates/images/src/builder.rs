//! A small image builder: layers from files, a configuration, a name. For tests, the demo, and images made of a
//! distribution's packages. The same input gives the same image.

mod layer;
mod write;

pub use layer::{Entry, Layer};

use std::io;

use crate::error::IoContext as _;
use crate::{Descriptor, Error, Image, ImageConfig, ImageFile, Manifest, Platform, Reference, RootFs, Store, media};

/// How layers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// What everybody reads.
    #[default]
    Gzip,
    /// Smaller and faster.
    Zstd,
}

/// An image in the making.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = images::Store::open("/tmp/images")?;
/// let layer = images::Layer::new().file("/bin/hello", 0o755, "#!/bin/sh\necho hello\n");
/// images::Builder::new().layer(layer).entrypoint(["/bin/hello"]).env("LANG", "C").build(&store, "hello:1")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    from: Option<String>,
    layers: Vec<Layer>,
    config: ImageConfig,
    compression: Compression,
    platform: Option<Platform>,
    created: Option<String>,
}

impl Builder {
    /// An image without layers.
    pub fn new() -> Self {
        Self::default()
    }
    /// Stands on an image of the store: its layers, and its configuration where nothing else is said.
    pub fn from(mut self, image: &str) -> Self {
        self.from = Some(image.to_owned());
        self
    }
    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }
    /// What is run.
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.config.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }
    /// Its arguments, or what is run when there is no entrypoint.
    pub fn cmd<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.config.cmd = words.into_iter().map(Into::into).collect();
        self
    }
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.config.env.push(format!("{name}={value}"));
        self
    }
    /// `user[:group]`, names or numbers.
    pub fn user(mut self, user: &str) -> Self {
        self.config.user = user.to_owned();
        self
    }
    /// Where it is run.
    pub fn workdir(mut self, path: &str) -> Self {
        self.config.working_dir = path.to_owned();
        self
    }
    /// Declares a port: `80` or `53/udp`.
    pub fn expose(mut self, port: &str) -> Self {
        let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
        self.config.exposed_ports.insert(port, serde_json::json!({}));
        self
    }
    /// Declares a volume.
    pub fn volume(mut self, path: &str) -> Self {
        self.config.volumes.insert(path.to_owned(), serde_json::json!({}));
        self
    }
    /// Sets a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.config.labels.insert(key.to_owned(), value.to_owned());
        self
    }
    /// The signal that asks it to stop.
    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.config.stop_signal = signal.to_owned();
        self
    }
    /// How layers are stored.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }
    /// For another platform than this machine's.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }
    /// The image's date, RFC 3339. Without one there is none, and the same input gives the same image.
    pub fn created(mut self, time: &str) -> Self {
        self.created = Some(time.to_owned());
        self
    }

    /// Builds the image, unpacks it and gives it the name.
    pub fn build(self, store: &Store, name: &str) -> Result<Image, Error> {
        let name = Reference::parse(name)?.to_string();
        let _lease = store.lease()?;
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        let (mut layers, mut file) = self.base(store, &platform)?;
        for layer in &self.layers {
            let (descriptor, diff_id) = write::layer(store, layer, self.compression)?;
            layers.push(descriptor);
            file.rootfs.diff_ids.push(diff_id);
        }
        file.created = self.created.or(file.created);
        merge(&mut file.config, self.config);
        let config = put(store, media::OCI_CONFIG, &file)?;
        let manifest = Manifest { schema_version: 2, media_type: media::OCI_MANIFEST.into(), config, layers };
        let target = put(store, media::OCI_MANIFEST, &manifest)?;
        store.register(&[name], &target, &platform)
    }

    fn base(&self, store: &Store, platform: &Platform) -> Result<(Vec<Descriptor>, ImageFile), Error> {
        if let Some(from) = &self.from {
            let image = store.get(from)?.image;
            let file = store.config(&image)?;
            // Docker's media types may stand in an OCI manifest for the same bytes under OCI's names.
            let layers = image.layers.into_iter().map(|layer| match layer.media_type.as_str() {
                media::DOCKER_LAYER => Descriptor { media_type: media::OCI_LAYER.into(), ..layer },
                media::DOCKER_LAYER_GZIP => Descriptor { media_type: media::OCI_LAYER_GZIP.into(), ..layer },
                _ => layer,
            });
            return Ok((layers.collect(), file));
        }
        let file = ImageFile {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            ..ImageFile::default()
        };
        Ok((Vec::new(), file))
    }
}

/// What is said replaces what the base says; the environment, labels, ports and volumes are added.
fn merge(base: &mut ImageConfig, over: ImageConfig) {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    base.env.retain(|old| !over.env.iter().any(|new| name(new) == name(old)));
    base.env.extend(over.env);
    base.labels.extend(over.labels);
    base.exposed_ports.extend(over.exposed_ports);
    base.volumes.extend(over.volumes);
    if !over.entrypoint.is_empty() {
        base.entrypoint = over.entrypoint;
        // Arguments of another program make no sense.
        base.cmd.clear();
    }
    for (old, new) in [(&mut base.user, over.user), (&mut base.working_dir, over.working_dir)] {
        if !new.is_empty() {
            *old = new;
        }
    }
    if !over.cmd.is_empty() {
        base.cmd = over.cmd;
    }
    if !over.stop_signal.is_empty() {
        base.stop_signal = over.stop_signal;
    }
}

fn put(store: &Store, kind: &str, value: &impl serde::Serialize) -> Result<Descriptor, Error> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::from).at("encode", kind)?;
    Ok(Descriptor::new(kind, store.put_blob(&bytes)?, bytes.len() as u64))
}
