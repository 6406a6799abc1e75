//! How exec and attach travel: WebSocket messages whose first byte is a channel (KEP-4006).
//!
//! ```text
//! client <--0 stdin, 1 stdout, 2 stderr, 3 outcome, 4 terminal size, 255 close a channel--> [`Channels::serve`] <--> protos::cri::Session
//! ```
//! What belongs here: the wire forms of streams. What does not: which container, and whether one may.
//!
//! SPDY/3.1, which kubectl before 1.30 and all port-forwards speak, is not here yet: such a client gets a plain answer that says so.

mod channels;
mod outcome;

pub use channels::{Body, Channels, Options};
