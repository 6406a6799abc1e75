//! CRI service: sandboxes, shim, containers, logs, streams.
