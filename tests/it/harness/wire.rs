//! The least HTTP/1 that both ends of a test need: a head as it came, and the three ways a body ends.
//! It keeps the raw bytes beside what it read from them, since tests compare both.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A connection of any kind: TCP, or TLS over it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Start line and header fields, in the order in which they came.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// Request line or status line.
    pub(crate) first: String,
    /// Names as written, values trimmed.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> Self {
        let text: String = raw.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self { first, fields }
    }

    /// The only value of a field; a panic when it came twice, which no answer of ours may do.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came {} times: {:?}", values.len(), self.fields);
        values.first().copied()
    }

    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let code = self.first.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("not a status line: {:?}", self.first))
    }

    /// Method and target of a request.
    pub(crate) fn request_line(&self) -> (&str, &str) {
        let mut words = self.first.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// How long the body is.
    pub(crate) fn framing(&self) -> Framing {
        if self.all("transfer-encoding").iter().any(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        match self.all("content-length").first() {
            Some(length) => Framing::Length(length.parse().expect("a length is a number")),
            None => Framing::Absent,
        }
    }
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    /// No body in a request; up to the end of the connection in an answer.
    Absent,
}

/// The reading half of a connection with what was read too far.
pub(crate) struct Wire<S> {
    pub(crate) io: S,
    ahead: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, ahead: Vec::new() }
    }

    /// One read of the socket into the buffer; 0 at the end.
    pub(crate) async fn fill(&mut self) -> Result<usize> {
        self.io.read_buf(&mut self.ahead).await
    }

    /// The next head, or `None` when the connection ended before its first byte.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&raw[..end])));
            }
            if self.fill().await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(cut("inside a head")) };
            }
        }
    }

    /// Exactly `length` bytes.
    pub(crate) async fn exact(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < length {
            if self.fill().await? == 0 {
                return Err(cut("inside a body"));
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// The payload of the next HTTP chunk, or `None` for the last one.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16)
            .map_err(|_| Error::new(ErrorKind::InvalidData, format!("not a chunk size: {line:?}")))?;
        if length == 0 {
            while !self.line().await?.is_empty() {}
            return Ok(None);
        }
        let payload = self.exact(length).await?;
        match self.line().await?.as_str() {
            "" => Ok(Some(payload)),
            more => Err(Error::new(ErrorKind::InvalidData, format!("chunk goes on with {more:?}"))),
        }
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// The same, where the connection may also end in disorder.
    pub(crate) async fn remains(&mut self) -> Vec<u8> {
        while self.fill().await.is_ok_and(|read| read > 0) {}
        std::mem::take(&mut self.ahead)
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let raw: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&raw[..end]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(cut("inside chunk framing"));
            }
        }
    }
}

/// Where `needle` starts.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn cut(place: &str) -> Error {
    Error::new(ErrorKind::UnexpectedEof, format!("connection ended {place}"))
}
