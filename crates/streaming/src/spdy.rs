//! SPDY/3.1: streams multiplexed over one connection.
//!
//! ```text
//! transport -> Decoder -> a queue per stream -> Reader
//! Writer -> window -> one queue -> Encoder -> transport
//! ```
//! Kubernetes' clients know neither windows nor settings: they are sent to without regard for windows until they show
//! that they have any, and are held up by the connection itself, which is not read while a stream's queue is full.

mod connection;
mod control;
mod dictionary;
pub(crate) mod frame;
mod headers;
mod window;

pub use connection::{Connection, Reader, Role, Stream, Writer};
pub use frame::Error;
pub use headers::Headers;

#[cfg(test)]
mod tests;
