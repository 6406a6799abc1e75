//! Unused images are removed when the disk is fuller than 85 %, the longest unused first, until it is below 80 %. On large disks it is
//! the free space that counts: who has 10 GiB left needs no cleaner.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protos::cri::ImageService;
use protos::cri::v1::{
    ContainerStatusRequest, Image, ImageSpec, ListContainersRequest, ListImagesRequest, RemoveImageRequest,
};
use tokio::time::Instant;

use crate::node::facts::{Disk, disk};
use crate::shared::Shared;

/// Free space below which images go, and which is then striven for: in percent, and in bytes that are enough on any disk.
const LEAST_FREE: (i64, i64) = (15, 10 << 30);
const ENOUGH_FREE: (i64, i64) = (20, 13 << 30);
/// A fresh image is left alone for this long.
const LEAST_AGE: Duration = Duration::from_secs(120);

/// Remembers when images were used.
pub(crate) struct Collector {
    images: Arc<dyn ImageService>,
    dir: PathBuf,
    last_used: HashMap<String, Instant>,
    first_seen: HashMap<String, Instant>,
}

impl Collector {
    /// A collector for the images whose files lie below `dir`.
    pub(crate) fn new(images: Arc<dyn ImageService>, dir: PathBuf) -> Self {
        Self { images, dir, last_used: HashMap::new(), first_seen: HashMap::new() }
    }

    /// One round.
    pub(crate) async fn collect(&mut self, shared: &Shared) {
        let Ok(images) = self.images.list_images(ListImagesRequest::default()).await else { return };
        let Ok(containers) = shared.runtime.list_containers(ListContainersRequest::default()).await else { return };
        let named = |c: &protos::cri::v1::Container| {
            [c.image_ref.clone(), c.image_id.clone(), c.image.as_ref().map(|i| i.image.clone()).unwrap_or_default()]
        };
        let mut used: HashSet<String> = containers.containers.iter().flat_map(named).collect();
        for container in &containers.containers {
            let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            // A container that has gone meanwhile uses nothing.
            let status = shared.runtime.container_status(request).await.ok().and_then(|reply| reply.status);
            let mounts = status.map(|status| status.mounts).unwrap_or_default();
            used.extend(mounts.into_iter().filter_map(|mount| mount.image).map(|image| image.image));
        }
        let now = Instant::now();
        let is_used = |image: &Image| {
            let mut names = [&image.id].into_iter().chain(&image.repo_tags).chain(&image.repo_digests);
            names.any(|name| used.contains(name))
        };
        for image in &images.images {
            self.first_seen.entry(image.id.clone()).or_insert(now);
            if is_used(image) {
                self.last_used.insert(image.id.clone(), now);
            }
        }
        let ids: HashSet<&String> = images.images.iter().map(|i| &i.id).collect();
        self.first_seen.retain(|id, _| ids.contains(id));
        self.last_used.retain(|id, _| ids.contains(id));
        let mut wanted = to_free(&disk(&self.dir));
        let mut unused: Vec<&Image> = images.images.iter().filter(|i| !i.pinned && !is_used(i)).collect();
        unused.sort_by_key(|i| self.last_used.get(&i.id).or_else(|| self.first_seen.get(&i.id)).copied());
        for image in unused {
            let age = self.first_seen.get(&image.id).map_or(Duration::ZERO, |t| now.duration_since(*t));
            if wanted <= 0 || age < LEAST_AGE {
                continue;
            }
            let spec = ImageSpec { image: image.id.clone(), ..ImageSpec::default() };
            match self.images.remove_image(RemoveImageRequest { image: Some(spec) }).await {
                Ok(_) => {
                    tracing::info!(image = image.id, "removed an unused image to free space");
                    wanted -= i64::try_from(image.size).unwrap_or(i64::MAX);
                }
                Err(error) => tracing::warn!(image = image.id, %error, "cannot remove an unused image"),
            }
        }
    }
}

/// Bytes to free; zero or less while there is room.
fn to_free(disk: &Disk) -> i64 {
    let bound = |(percent, bytes): (i64, i64)| (disk.bytes / 100 * percent).min(bytes);
    if disk.bytes <= 0 || disk.bytes_free > bound(LEAST_FREE) { 0 } else { bound(ENOUGH_FREE) - disk.bytes_free }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let disk = |bytes_free| Disk { bytes: 1000, bytes_free, ..Disk::default() };
        assert_eq!(to_free(&disk(500)), 0);
        assert_eq!(to_free(&disk(151)), 0);
        assert_eq!(to_free(&disk(100)), 100);
        assert_eq!(to_free(&Disk::default()), 0);
        let large = |bytes_free| Disk { bytes: 1 << 40, bytes_free, ..Disk::default() };
        assert_eq!((to_free(&large(11 << 30)), to_free(&large(9 << 30))), (0, 4 << 30));
    }
}
