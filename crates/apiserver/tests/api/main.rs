//! The API server over a real store, without sockets where none are needed: one server per test, on a free loopback port.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod admission;
mod aggregation;
mod authn;
mod authorizers;
mod bad_input;
mod consistency;
mod custom;
mod deletion;
mod encodings;
mod encryption;
mod endpoints;
mod guarded;
mod hooks;
mod kubectl;
mod limits;
mod objects;
mod over_tls;
mod patience;
mod plugins;
mod policies;
mod reads;
mod world;
