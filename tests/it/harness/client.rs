//! A client that writes the bytes it is given and reports the bytes it got, over TCP or TLS.

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::request::Request;
use super::sse;
use super::wire::{Framing, Head, Io, Wire};
use super::within;

/// A whole answer, or as much of it as came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing promised.
    pub(crate) is_whole: bool,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The body as text, for messages and comparisons.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that this is an error in OpenAI's shape with this status and code, and gives its `error` object.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.head.get("content-type"), Some("application/json"), "{}", self.text());
        let error = self.json()["error"].clone();
        let keys: Vec<_> = error.as_object().expect("error is an object").keys().cloned().collect();
        for key in ["message", "type", "param", "code"] {
            assert!(keys.iter().any(|found| found == key), "no {key} in {error}");
        }
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.len() > 8), "no message in {error}");
        assert!(error["type"].is_string(), "no type in {error}");
        assert!(self.head.get("x-request-id").is_some(), "no x-request-id on {status} {code}");
        error
    }
}

/// One client connection.
pub(crate) struct Client {
    wire: Wire<Box<dyn Io>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await.expect("connects");
        stream.set_nodelay(true).expect("sets TCP_NODELAY");
        Self::over(Box::new(stream))
    }

    pub(crate) fn over(io: Box<dyn Io>) -> Self {
        Self { wire: Wire::new(io) }
    }

    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.io.write_all(bytes).await?;
        self.wire.io.flush().await
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Answer {
        self.try_exchange(request).await.expect("a whole exchange")
    }

    /// The same, where the connection may have been closed.
    pub(crate) async fn try_exchange(&mut self, request: &Request) -> Result<Answer> {
        self.send(&request.head_bytes()).await?;
        // A gateway that has already answered may close while a large body is still on its way: the answer counts.
        let sent = self.send(&request.body_bytes()).await;
        match self.answer().await {
            Ok(answer) => Ok(answer),
            Err(error) => sent.and(Err(error)),
        }
    }

    /// The next head, interim answers (1xx) included.
    pub(crate) async fn head(&mut self) -> Result<Head> {
        let head = within("the head of an answer", self.wire.head()).await?;
        head.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed without an answer"))
    }

    /// The next answer to something other than `HEAD`; interim answers are passed over.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        let mut head = self.head().await?;
        while head.status() < 200 {
            head = self.head().await?;
        }
        let mut body = Vec::new();
        let is_whole = within("the body of an answer", self.body(&head, &mut body)).await.is_ok();
        Ok(Answer { status: head.status(), head, body, is_whole })
    }

    async fn body(&mut self, head: &Head, body: &mut Vec<u8>) -> Result<()> {
        match head.framing() {
            _ if head.status() == 204 => {}
            Framing::Length(length) => *body = self.wire.exact(length).await?,
            Framing::Chunked => {
                while let Some(chunk) = self.wire.chunk().await? {
                    body.extend_from_slice(&chunk);
                }
            }
            Framing::Absent => *body = self.wire.rest().await?,
        }
        Ok(())
    }

    /// Sends a request and reads the head of a streamed answer.
    pub(crate) async fn open_stream(mut self, request: &Request) -> Events {
        self.send(&request.head_bytes()).await.expect("head is sent");
        self.send(&request.body_bytes()).await.expect("body is sent");
        let head = self.head().await.expect("a head");
        Events { head, client: self, ahead: Vec::new(), is_ended: false }
    }

    /// Everything that still comes, up to the end of the connection, in order or not.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        within("the end of the connection", self.wire.remains()).await
    }

    /// Says that nothing more will be sent (FIN), and goes on reading.
    pub(crate) async fn finish_sending(&mut self) {
        self.wire.io.shutdown().await.expect("the connection is open");
    }

    /// Waits until the other side closes and says how long that took. Bytes that still come are dropped.
    pub(crate) async fn closed(&mut self) -> Duration {
        let start = Instant::now();
        let end = within("the connection to be closed", self.wire.rest()).await;
        drop(end); // a reset is a close as well
        start.elapsed()
    }

    /// Whether the other side has kept the connection open for `silence`.
    pub(crate) async fn stays_open(&mut self, silence: Duration) -> bool {
        tokio::time::timeout(silence, self.wire.fill()).await.is_err()
    }
}

/// A streamed answer, read event by event.
pub(crate) struct Events {
    pub(crate) head: Head,
    client: Client,
    ahead: Vec<u8>,
    is_ended: bool,
}

/// How a stream went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// One event with its closing empty line, or one comment.
    Event(Vec<u8>),
    /// The body ended as its framing promised.
    End,
    /// The connection ended inside the body.
    Cut,
}

impl Events {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if let Some(length) = sse::first_event(&self.ahead) {
                return Next::Event(self.ahead.drain(..length).collect());
            }
            if self.is_ended {
                assert!(self.ahead.is_empty(), "half an event at the end: {:?}", self.ahead);
                return Next::End;
            }
            match within("the next event", self.client.wire.chunk()).await {
                Ok(Some(chunk)) => self.ahead.extend_from_slice(&chunk),
                Ok(None) => self.is_ended = true,
                Err(_) => return Next::Cut,
            }
        }
    }

    /// The next event as text; a panic at the end of the stream.
    pub(crate) async fn event(&mut self) -> String {
        match self.next().await {
            Next::Event(bytes) => String::from_utf8(bytes).expect("events are text"),
            other => panic!("expected an event, found {other:?}"),
        }
    }

    /// Every remaining event, and how the stream ended.
    pub(crate) async fn remaining(&mut self) -> (Vec<String>, Next) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Next::Event(bytes) => events.push(String::from_utf8_lossy(&bytes).into_owned()),
                end => return (events, end),
            }
        }
    }

    /// The connection, to send on while the stream is read.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The connection, to be used again after the stream.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }
}
