//! Housekeeping: logs that grew, directories of pods that are gone, dead containers nobody looks at, unused images.

pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod pods;

use std::sync::Arc;
use std::time::Duration;

use protos::cri::ImageService;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pods::manager::Wakers;
use crate::shared::Shared;

/// What the housekeeping needs.
pub(crate) struct Housekeeping {
    pub(crate) shared: Arc<Shared>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) image_dir: std::path::PathBuf,
    pub(crate) wakers: Wakers,
    pub(crate) pods_synced: watch::Receiver<bool>,
}

impl Housekeeping {
    /// Runs until cancelled.
    pub(crate) async fn run(self, token: CancellationToken) {
        let work = async {
            let logs = every(Duration::from_secs(10), || logs::rotate(&self.shared));
            let pods = every(Duration::from_secs(60), || async {
                if *self.pods_synced.borrow() {
                    pods::sweep(&self.shared, &self.wakers).await;
                }
            });
            let mut unused = images::Collector::new(self.images.clone(), self.image_dir.clone());
            let images = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(300)).await;
                    unused.collect(&self.shared).await;
                }
            };
            futures::future::join3(logs, pods, images).await;
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = work => {}
        }
    }
}

async fn every<F: Future<Output = ()>>(period: Duration, work: impl Fn() -> F) {
    loop {
        tokio::time::sleep(period).await;
        work().await;
    }
}
