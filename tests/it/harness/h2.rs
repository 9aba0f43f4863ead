//! An HTTP/2 client, in cleartext by prior knowledge or over TLS by ALPN.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::Answer;
use super::request::Request;
use super::wire::{Head, Io};
use super::within;

/// One connection. Its driver stops when dropped.
pub(crate) struct ClientH2 {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl ClientH2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("sets TCP_NODELAY");
        Self::over(Box::new(stream)).await
    }

    pub(crate) async fn over(io: Box<dyn Io>) -> Self {
        let (sender, connection) =
            within("an HTTP/2 handshake", h2::client::handshake(io)).await.expect("h2");
        // An error of the connection shows in the streams that it ends.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self { sender, driver }
    }

    /// Sends a request, without a `content-length` and its body in data frames, and reads the head of the answer.
    pub(crate) async fn open(&self, request: &Request) -> Result<(Head, RecvStream), h2::Error> {
        let (method, target, fields, body) = request.parts();
        let mut builder = http::Request::builder().method(method).uri(format!("http://gateway.test{target}"));
        for (name, value) in fields.iter().filter(|(name, _)| name != "host") {
            builder = builder.header(name, value);
        }
        let head = builder.body(()).expect("a valid request");
        let mut sender = within("a free stream", self.sender.clone().ready()).await?;
        let (response, mut stream) = sender.send_request(head, body.is_empty())?;
        // The gateway may answer before it has read all: what it says then counts more than what it did not take.
        let sending = async {
            if !body.is_empty() {
                send_all(&mut stream, body).await?;
            }
            std::future::pending::<Result<http::Response<RecvStream>, h2::Error>>().await
        };
        let response = within("the head of an HTTP/2 answer", async {
            tokio::select! { answer = response => answer, Err(error) = sending => Err(error) }
        })
        .await?;
        let (parts, body) = response.into_parts();
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let fields = parts.headers.iter().map(field).collect();
        Ok((Head { first: format!("HTTP/2 {}", parts.status.as_u16()), fields }, body))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&self, request: &Request) -> Answer {
        let (head, mut stream) = self.open(request).await.expect("an HTTP/2 answer");
        let mut body = Vec::new();
        let mut is_whole = true;
        while let Some(data) = within("data of an HTTP/2 answer", stream.data()).await {
            let Ok(data) = data else {
                is_whole = false;
                break;
            };
            stream.flow_control().release_capacity(data.len()).expect("the data just came");
            body.extend_from_slice(&data);
        }
        Answer { status: head.status(), head, body, is_whole }
    }
}

impl Drop for ClientH2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn send_all(stream: &mut h2::SendStream<Bytes>, body: &[u8]) -> Result<(), h2::Error> {
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len().min(1 << 20));
        let Some(granted) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Ok(()); // reset or answered by the other side: the answer tells
        };
        let piece = rest.split_to(granted?.min(rest.len()));
        let is_last = rest.is_empty();
        stream.send_data(piece, is_last)?;
    }
    Ok(())
}
