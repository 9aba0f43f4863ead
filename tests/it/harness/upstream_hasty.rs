//! A server that answers as soon as it has read a request's head, as those do that refuse a body by its announced
//! length. It never reads the body; what it does then is the test's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wire::Wire;

/// What follows the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Closes with the body unread, which resets the connection.
    Close,
    /// Says that it is done (FIN) and stays, without reading.
    Stay,
}

/// A running server. Stops when dropped.
pub(crate) struct UpstreamHasty {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl UpstreamHasty {
    /// Answers every request with the bytes of `answer`.
    pub(crate) async fn start(answer: Vec<u8>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answer.clone(), then, Arc::clone(&counted)));
            }
        });
        Self { address, requests, accepting }
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for UpstreamHasty {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, answer: Vec<u8>, then: Then, requests: Arc<AtomicUsize>) {
    let mut wire = Wire::new(stream);
    let Ok(Some(_)) = wire.head().await else { return };
    requests.fetch_add(1, Ordering::SeqCst);
    let is_sent = wire.io.write_all(&answer).await.is_ok() && wire.io.shutdown().await.is_ok();
    if is_sent && then == Then::Stay {
        std::future::pending().await
    }
}
