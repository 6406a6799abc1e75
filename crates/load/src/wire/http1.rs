//! HTTP/1.1, as little of it as a load client needs: one request at a time, replies with a length or in chunks.

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Reply, Request};

/// Read at a time.
const READ_BYTES: usize = 64 << 10;

/// A connection.
pub(crate) struct Http1 {
    stream: TlsStream<TcpStream>,
    /// What follows the method and path in each request.
    common: String,
    /// Read and not consumed yet.
    buffer: BytesMut,
    out: Vec<u8>,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
}

impl Http1 {
    pub(super) fn new(stream: TlsStream<TcpStream>, authority: &str, token: Option<&str>) -> Self {
        let mut common = format!(" HTTP/1.1\r\nhost: {authority}\r\nuser-agent: load\r\n");
        if let Some(token) = token {
            common.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        Self { stream, common, buffer: BytesMut::with_capacity(READ_BYTES), out: Vec::new() }
    }

    async fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        self.out.clear();
        for part in [request.method, " ", &request.path, &self.common, "accept: ", request.accept, "\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        if !request.body.is_empty() {
            let length = request.body.len().to_string();
            for part in ["content-type: ", request.content_type, "\r\ncontent-length: ", &length, "\r\n"] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&request.body);
        self.stream.write_all(&self.out).await.context("cannot send")?;
        self.stream.flush().await.context("cannot send")
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.buffer).await.context("cannot receive")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }

    /// Reads a reply's head off the buffer.
    async fn head(&mut self) -> anyhow::Result<(u16, Framing)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = response.parse(&self.buffer)? {
                let status = response.code.unwrap_or(0);
                let mut framing = Framing::Length(0);
                for header in response.headers.iter() {
                    if header.name.eq_ignore_ascii_case("content-length") {
                        framing = Framing::Length(std::str::from_utf8(header.value)?.parse()?);
                    } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                        framing = Framing::Chunked;
                    }
                }
                self.buffer.advance(length);
                return Ok((status, framing));
            }
            self.fill().await?;
        }
    }

    /// Takes `length` bytes of a body off the wire.
    async fn take(&mut self, length: usize, mut into: Option<&mut Vec<u8>>) -> anyhow::Result<()> {
        let mut missing = length;
        while missing > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let here = missing.min(self.buffer.len());
            if let Some(into) = &mut into {
                into.extend_from_slice(&self.buffer[..here]);
            }
            self.buffer.advance(here);
            missing -= here;
        }
        Ok(())
    }

    /// The size of the next chunk; 0 for the last.
    async fn chunk_size(&mut self) -> anyhow::Result<usize> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = std::str::from_utf8(&self.buffer[..end])?.trim();
                let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16).context("a chunk's size")?;
                self.buffer.advance(end + 1);
                return Ok(size);
            }
            self.fill().await?;
        }
    }

    /// Sends a request and reads its reply. Of a failure's body the text is kept, of a success's only with `keep`.
    pub(crate) async fn call(&mut self, request: &Request, keep: bool) -> anyhow::Result<Reply> {
        self.send(request).await?;
        let (status, framing) = self.head().await?;
        let mut reply = Reply { status, ..Reply::default() };
        let keep = keep || status >= 300;
        match framing {
            Framing::Length(length) => {
                self.take(length, keep.then_some(&mut reply.body)).await?;
                reply.length = length;
            }
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                self.take(size, keep.then_some(&mut reply.body)).await?;
                self.take(2, None).await?;
                reply.length += size;
                if size == 0 {
                    break;
                }
            },
        }
        Ok(reply)
    }

    /// Begins a watch.
    pub(crate) async fn watch(&mut self, request: &Request) -> anyhow::Result<()> {
        self.send(request).await?;
        match self.head().await? {
            (200, Framing::Chunked) => Ok(()),
            (status, _) => bail!("a watch was answered by {status}"),
        }
    }

    /// How many lines the watch's next chunk completes; `look` sees the chunk.
    pub(crate) async fn lines(&mut self, look: &mut impl FnMut(&[u8])) -> anyhow::Result<usize> {
        let size = self.chunk_size().await?;
        if size == 0 {
            bail!("the watch ended");
        }
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let chunk = &self.buffer[..size];
        let lines = memchr::memchr_iter(b'\n', chunk).count();
        look(chunk);
        self.buffer.advance(size + 2);
        Ok(lines)
    }
}
