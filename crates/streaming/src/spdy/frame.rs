//! Frames, to and from bytes.
//!
//! ```text
//! control: 1, version (15 bits) | type (16) | flags (8) | length (24) | payload
//! data:    0, stream (31 bits)              | flags (8) | length (24) | payload
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Deflater, Headers, Inflater};

/// Payload of a control frame; those of clients have about a hundred bytes.
const MOST_CONTROL: usize = 64 * 1024;
const MOST_SETTINGS: usize = 64;
/// What a length has room for.
const MOST_DATA: usize = 0xff_ffff;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const INITIAL_WINDOW: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// `RST_STREAM`: the other side did what it must not.
pub const PROTOCOL_ERROR: u32 = 1;
/// `RST_STREAM`: the stream is not taken.
pub const REFUSED_STREAM: u32 = 3;
/// `RST_STREAM`: whoever made the stream needs it no more.
pub const CANCEL: u32 = 5;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version than 3.
    #[error("not a frame of SPDY/3")]
    Version,
    /// Lengths that do not fit each other.
    #[error("a malformed frame")]
    Malformed,
    /// More than a connection may ask for.
    #[error("a frame is too large")]
    TooLarge,
    /// Both sides' compression is out of step.
    #[error("headers cannot be decompressed")]
    Compression,
}

/// A frame. Data come in pieces, the last one with the frame's `fin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    Open { stream: u32, fin: bool, headers: Headers },
    /// It is accepted.
    Reply { stream: u32, fin: bool, headers: Headers },
    /// Bytes of a stream.
    Data { stream: u32, fin: bool, bytes: Bytes },
    /// A stream is over, whatever is under way.
    Reset { stream: u32, code: u32 },
    /// Settings: of interest is how large windows begin.
    Settings { initial_window: Option<u32> },
    /// To be sent back.
    Ping(u32),
    /// No new streams.
    GoAway { last: u32 },
    /// More headers of a stream.
    Headers { stream: u32, fin: bool, headers: Headers },
    /// Room for more bytes; stream 0 is the whole connection.
    Window { stream: u32, more: u32 },
    /// A kind of control frame that is not known.
    Unknown(u16),
}

/// Frames out of bytes that arrive in any portions.
pub struct Decoder {
    inflater: Inflater,
    /// The rest of a data frame: (stream, fin, bytes).
    data: Option<(u32, bool, usize)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Takes the next frame out of `buffer`; `None` when more must be read first.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if let Some((stream, fin, left)) = self.data {
            return Ok(self.piece(buffer, stream, fin, left));
        }
        let Some(head) = buffer.first_chunk::<8>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if first >> 31 == 0 {
            buffer.advance(8);
            let (stream, fin) = (first, flags & FIN != 0);
            if length == 0 {
                return Ok(Some(Frame::Data { stream, fin, bytes: Bytes::new() }));
            }
            return Ok(self.piece(buffer, stream, fin, length));
        }
        if (first >> 16) as u16 & 0x7fff != VERSION {
            return Err(Error::Version);
        }
        if length > MOST_CONTROL {
            return Err(Error::TooLarge);
        }
        if buffer.len() < 8 + length {
            return Ok(None);
        }
        buffer.advance(8);
        let payload = buffer.split_to(length).freeze();
        self.control(first as u16, flags & FIN != 0, payload).map(Some)
    }

    fn piece(&mut self, buffer: &mut BytesMut, stream: u32, fin: bool, left: usize) -> Option<Frame> {
        let count = left.min(buffer.len());
        let rest = left - count;
        self.data = (rest > 0).then_some((stream, fin, rest));
        let bytes = buffer.split_to(count).freeze();
        (count > 0).then_some(Frame::Data { stream, fin: fin && rest == 0, bytes })
    }

    fn control(&mut self, kind: u16, fin: bool, mut payload: Bytes) -> Result<Frame, Error> {
        let mut number = || payload.try_get_u32().map_err(|_| Error::Malformed);
        let stream = |n: u32| n & 0x7fff_ffff;
        Ok(match kind {
            SYN_STREAM => {
                let stream = stream(number()?);
                // The stream that it belongs to, priority and slot: of no use here.
                number()?;
                payload.try_get_u16().map_err(|_| Error::Malformed)?;
                Frame::Open { stream, fin, headers: self.inflater.read(&payload)? }
            }
            SYN_REPLY => Frame::Reply { stream: stream(number()?), fin, headers: self.inflater.read(&payload)? },
            RST_STREAM => Frame::Reset { stream: stream(number()?), code: number()? },
            SETTINGS => {
                let count = number()? as usize;
                if count > MOST_SETTINGS {
                    return Err(Error::TooLarge);
                }
                let mut initial_window = None;
                for _ in 0..count {
                    let (id, value) = (number()? & 0xff_ffff, number()?);
                    if id == INITIAL_WINDOW {
                        initial_window = Some(value);
                    }
                }
                Frame::Settings { initial_window }
            }
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway { last: stream(number()?) },
            HEADERS => Frame::Headers { stream: stream(number()?), fin, headers: self.inflater.read(&payload)? },
            WINDOW_UPDATE => Frame::Window { stream: stream(number()?), more: number()? & 0x7fff_ffff },
            other => Frame::Unknown(other),
        })
    }
}

/// Bytes out of frames.
pub struct Encoder(Deflater);

fn head(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(fin) << 24 | length as u32);
}

impl Encoder {
    /// With fresh compression.
    pub fn new() -> Result<Self, Error> {
        Deflater::new().map(Self)
    }

    /// Appends a frame.
    pub fn write(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::Open { stream, fin, headers } => {
                let block = self.0.write(headers)?;
                head(out, SYN_STREAM, *fin, 10 + block.len());
                out.put_u32(*stream);
                out.put_slice(&[0; 6]);
                out.put_slice(&block);
            }
            Frame::Reply { stream, fin, headers } => self.with_headers(SYN_REPLY, *stream, *fin, headers, out)?,
            Frame::Headers { stream, fin, headers } => self.with_headers(HEADERS, *stream, *fin, headers, out)?,
            Frame::Data { stream, fin, bytes } => {
                let mut rest: &[u8] = bytes;
                loop {
                    let (piece, after) = rest.split_at(rest.len().min(MOST_DATA));
                    out.put_u32(*stream);
                    out.put_u32(u32::from(*fin && after.is_empty()) << 24 | piece.len() as u32);
                    out.put_slice(piece);
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            Frame::Reset { stream, code } => numbers(out, RST_STREAM, &[*stream, *code]),
            Frame::Settings { initial_window: None } => numbers(out, SETTINGS, &[0]),
            Frame::Settings { initial_window: Some(size) } => numbers(out, SETTINGS, &[1, INITIAL_WINDOW, *size]),
            Frame::Ping(id) => numbers(out, PING, &[*id]),
            Frame::GoAway { last } => numbers(out, GOAWAY, &[*last, 0]),
            Frame::Window { stream, more } => numbers(out, WINDOW_UPDATE, &[*stream, *more]),
            Frame::Unknown(kind) => head(out, *kind, false, 0),
        }
        Ok(())
    }

    fn with_headers(
        &mut self,
        kind: u16,
        stream: u32,
        fin: bool,
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let block = self.0.write(headers)?;
        head(out, kind, fin, 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
        Ok(())
    }
}

fn numbers(out: &mut BytesMut, kind: u16, numbers: &[u32]) {
    head(out, kind, false, 4 * numbers.len());
    for number in numbers {
        out.put_u32(*number);
    }
}
