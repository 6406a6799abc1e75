//! Ground: what every crate stands on. Owned tasks, back-off, error chains, time stamps. No Kubernetes in here.

pub mod backoff;
pub mod chain;
pub mod metrics;
pub mod percent;
pub mod tasks;
pub mod time;

pub use backoff::Backoff;
pub use chain::Chain;
pub use tasks::Tasks;
