//! The node agent: pods, probes, volumes, status.
