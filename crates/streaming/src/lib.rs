//! How exec, attach and port-forward travel: SPDY/3.1, WebSocket channels, and SPDY within WebSockets (KEP-4006).
//!
//! ```text
//! request --upgrade--> SPDY/3.1 --spdy--------> streams  --\
//!                      WebSocket --websocket--> channels ---+--> session: protos::cri::Session
//!                           \--tunnel--> spdy -> streams --/ \-> forward: connections to ports
//! ```
//! What belongs here: the wire forms of streams. What does not: which container, and whether one may.
//!
//! kubectl before 1.30 execs over SPDY, newer ones over `v5.channel.k8s.io`; it forwards ports over SPDY up to 1.30, and through the
//! tunnel since. Other clients speak older channels. Nothing is buffered without bound: a stream whose taker is slow holds up
//! its connection. A connection's tasks are owned by its session's, and that by [`Streams`]: when one side is gone, all of it ends.
//!
//! Start reading at `streams.rs`; then `session.rs`, `forward.rs`; then `spdy/connection.rs` and `websocket.rs`.

mod forward;
mod outcome;
mod queue;
mod session;
pub mod spdy;
mod streams;
mod upgrade;
mod websocket;
mod wire;

pub use forward::OpenPort;
pub use session::Options;
pub use streams::Streams;
pub use upgrade::{Asked, Body, is_upgrade, take_websocket};
pub use wire::Gone;
