//! Lists: all are served from memory, which is what upstream's watch cache is.

use std::sync::LazyLock;

use base::metrics::{IntCounterVec, counters};
use kinds::Kind;

static TOTAL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of LIST requests served from watch cache";
    counters("apiserver_cache_list_total", help, &["group", "index", "resource"])
});

static FETCHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of objects read from watch cache in the course of serving a LIST request";
    counters("apiserver_cache_list_fetched_objects_total", help, &["group", "index", "resource"])
});

static RETURNED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of objects returned for a LIST request from watch cache";
    counters("apiserver_cache_list_returned_objects_total", help, &["group", "resource"])
});

/// One list: how many objects were looked at, how many are in it.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) fetched: usize,
    pub(crate) returned: usize,
}

impl Lists {
    pub(crate) fn count(&self, kind: &Kind) {
        let labels = [kind.group.as_str(), "", kind.plural.as_str()];
        TOTAL.with_label_values(&labels).inc();
        FETCHED.with_label_values(&labels).inc_by(self.fetched as u64);
        RETURNED.with_label_values(&[kind.group.as_str(), kind.plural.as_str()]).inc_by(self.returned as u64);
    }
}
