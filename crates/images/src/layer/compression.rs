//! Compressed streams, told by their first bytes: media types and file names lie.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// A stream of any of the compressions that images come in.
pub(crate) enum Decoder<R: BufRead> {
    /// As it is.
    Plain(Whole<R>),
    /// gzip, several members included.
    Gzip(MultiGzDecoder<Whole<R>>),
    /// zstd, several frames included.
    Zstd(zstd::Decoder<'static, Whole<R>>),
}

/// Looks at the first bytes and decodes accordingly.
pub(crate) fn decoder<R: Read>(from: R) -> io::Result<Decoder<BufReader<R>>> {
    let mut from = BufReader::with_capacity(128 << 10, from);
    let mut start = vec![0; 4];
    let mut filled = 0;
    while filled < start.len() {
        match from.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    start.truncate(filled);
    let is_gzip = start.starts_with(&[0x1f, 0x8b]);
    let is_zstd = start == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = Cursor::new(start).chain(from);
    Ok(match (is_gzip, is_zstd) {
        (true, _) => Decoder::Gzip(MultiGzDecoder::new(whole)),
        (_, true) => Decoder::Zstd(zstd::Decoder::with_buffer(whole)?),
        _ => Decoder::Plain(whole),
    })
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buf),
            Self::Gzip(r) => r.read(buf),
            Self::Zstd(r) => r.read(buf),
        }
    }
}
