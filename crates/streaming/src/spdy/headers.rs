//! Blocks of names and values, compressed by one zlib stream a direction that lives as long as the connection.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;
use super::frame::Error;

/// Decompressed size of a block.
const MOST_BYTES: usize = 64 * 1024;
const MOST_HEADERS: usize = 256;

/// Names, in small letters, and their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value under `name`, which is compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect())
    }
}

/// Writes blocks.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Result<Self, Error> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&DICTIONARY).map_err(|_| Error::Compression)?;
        Ok(Self(zlib))
    }

    pub(super) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let mut block = Vec::new();
        block.put_u32(headers.0.len() as u32);
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(block.len() + 64);
        let mut rest = block.as_slice();
        loop {
            let before = self.0.total_in();
            let status = self.0.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(|_| Error::Compression)?;
            rest = &rest[(self.0.total_in() - before) as usize..];
            // Room that is left over says that everything is out.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            if status == Status::StreamEnd {
                return Err(Error::Compression);
            }
            out.reserve(256);
        }
    }
}

/// Reads blocks.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn read(&mut self, mut compressed: &[u8]) -> Result<Headers, Error> {
        let mut block = Vec::with_capacity(1024);
        loop {
            let (before, filled) = (self.0.total_in(), block.len());
            let result = self.0.decompress_vec(compressed, &mut block, FlushDecompress::Sync);
            compressed = &compressed[(self.0.total_in() - before) as usize..];
            match result {
                Ok(Status::StreamEnd) => return Err(Error::Compression),
                Ok(_) if compressed.is_empty() && block.len() < block.capacity() => break,
                Ok(_) if block.len() >= MOST_BYTES => return Err(Error::TooLarge),
                Ok(_) if block.len() < block.capacity() && self.0.total_in() == before && block.len() == filled => {
                    return Err(Error::Compression);
                }
                Ok(_) => block.reserve(4096),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| Error::Compression)?;
                }
                Err(_) => return Err(Error::Compression),
            }
        }
        parse(&block)
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    let count = block.try_get_u32().map_err(|_| Error::Malformed)? as usize;
    if count > MOST_HEADERS {
        return Err(Error::TooLarge);
    }
    let mut text = || -> Result<String, Error> {
        let length = block.try_get_u32().map_err(|_| Error::Malformed)? as usize;
        let (text, rest) = block.split_at_checked(length).ok_or(Error::Malformed)?;
        block = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    let mut headers = Headers::default();
    for _ in 0..count {
        headers.0.push((text()?, text()?));
    }
    Ok(headers)
}
