//! A server that speaks HTTP/2 by prior knowledge, for what the gateway sends upstream over it. It answers
//! every `POST` with a chat completion and keeps the request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::script;

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A running server. Stops when dropped.
pub(crate) struct UpstreamH2 {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

impl UpstreamH2 {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&seen)));
        Self { address, seen, accepting }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for UpstreamH2 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            // A connection that breaks is the gateway's business; its requests are then missing from `seen`.
            drop(serve(stream, seen).await);
        });
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) -> Result<(), h2::Error> {
    let mut streams = JoinSet::new();
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        streams.spawn(answer(request, respond, Arc::clone(&seen)));
    }
    Ok(())
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<(), h2::Error> {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    if head.method == http::Method::POST {
        let kept = Seen { headers: head.headers, body };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
    }
    let response = http::Response::builder()
        .header("content-type", "application/json")
        .body(())
        .expect("a valid response");
    let mut send = respond.send_response(response, false)?;
    send.send_data(Bytes::from(script::chat_body("test-model").to_string()), true)
}
