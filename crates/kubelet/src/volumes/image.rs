//! `image`: the runtime mounts it, container by container. What is counted of that.

use std::sync::atomic::{AtomicU64, Ordering};

/// Image volumes that containers asked for, and what came of their mounts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requested: AtomicU64,
    mounted: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// A container was started, or was not, with so many of its pod's image volumes at so many places.
    pub(crate) fn count(&self, volumes: usize, mounts: usize, has_failed: bool) {
        let add = |to: &AtomicU64, more: usize| to.fetch_add(u64::try_from(more).unwrap_or(0), Ordering::Relaxed);
        add(&self.requested, volumes);
        add(if has_failed { &self.failed } else { &self.mounted }, mounts);
    }

    /// Names, what they mean, and values.
    pub(crate) fn metrics(&self) -> [(&'static str, &'static str, u64); 3] {
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        [
            ("kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts.", of(&self.failed)),
            (
                "kubelet_image_volume_mounted_succeed_total",
                "Number of successful image volume mounts.",
                of(&self.mounted),
            ),
            ("kubelet_image_volume_requested_total", "Number of requested image volumes.", of(&self.requested)),
        ]
    }
}
