//! What the framework does not bound about a client connection: the time for a whole header section (its own
//! limit restarts with every read, so a byte every few seconds holds a connection for ever) and the number of
//! connections, in all and from one address.
//!
//! [`Guarded`] wraps the proxy: it counts the connection and wraps its stream in a `Guard`, whose reads fail
//! once a header section is late. The proxy tells the guard when a request has been read and when it is done.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::{ALPN, Peek, Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::units::host_network;

use crate::state::State;

use super::delegate::delegate;

/// Reading a header section: late bytes end the connection.
const READING: u8 = 0;
/// Serving a request: other deadlines hold.
const BUSY: u8 = 1;
/// Between requests: the next byte starts a header section.
const IDLE: u8 = 2;

/// Where a connection is in its life; set by the proxy through [`mark_busy`] and [`mark_idle`].
#[derive(Debug, Default)]
struct Phase(AtomicU8);

/// The proxy, with its connections counted and guarded.
pub struct Guarded<A> {
    inner: Arc<A>,
    state: Arc<State>,
    open: Arc<Mutex<Open>>,
}

/// Open connections.
#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl<A> Guarded<A> {
    /// Guards `inner`.
    pub fn new(inner: A, state: Arc<State>) -> Self {
        Self { inner: Arc::new(inner), state, open: Arc::default() }
    }

    /// Counts a connection in, or says which limit it is over.
    fn admit(&self, address: Option<IpAddr>) -> Result<Slot, &'static str> {
        let stages = self.state.stages.load();
        let limits = &stages.settings.limits;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= limits.connections {
            return Err("total");
        }
        if let Some(address) = address {
            let from_there = open.by_address.entry(address).or_insert(0);
            if *from_there >= limits.connections_per_address {
                return Err("address");
            }
            *from_there += 1;
        }
        open.total += 1;
        self.state.metrics.connections.inc();
        Ok(Slot { open: Arc::clone(&self.open), state: Arc::clone(&self.state), address })
    }
}

/// One counted connection; dropping it counts it out.
struct Slot {
    open: Arc<Mutex<Open>>,
    state: Arc<State>,
    address: Option<IpAddr>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
        self.state.metrics.connections.dec();
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guarded<A> {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let address = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|peer| peer.as_inet().map(|inet| inet.ip())));
        let _slot = match self.admit(address.map(host_network)) {
            Ok(slot) => slot,
            Err(reason) => {
                self.state.metrics.connections_refused.with_label_values(&[reason]).inc();
                if stream.selected_alpn_proto() != Some(ALPN::H2) {
                    refuse(&mut stream).await;
                }
                return None;
            }
        };
        // HTTP/2 has many requests on a connection; its header sections are bounded by the framework.
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            return self.inner.process_new(stream, shutdown).await;
        }
        let limit = self.state.stages.load().settings.timeouts.request_header;
        let guard = Guard {
            inner: stream,
            phase: Arc::default(),
            limit,
            late: Box::pin(tokio::time::sleep(limit)),
            state: Arc::clone(&self.state),
        };
        self.inner.process_new(Box::new(guard), shutdown).await
    }

    async fn cleanup(&self) {
        self.inner.cleanup().await;
    }
}

/// Tells a client over HTTP/1 that there is no room, before closing.
async fn refuse(stream: &mut Stream) {
    let body = Refusal::Unavailable.answer().to_json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // The client may have gone already, which is as good.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.flush().await;
    Shutdown::shutdown(&mut **stream).await;
}

/// A request's header section has been read: no header deadline until [`mark_idle`].
pub fn mark_busy(stream: Option<&Stream>) {
    mark(stream, BUSY);
}

/// A request is done: the next byte starts a header section.
pub fn mark_idle(stream: Option<&Stream>) {
    mark(stream, IDLE);
}

fn mark(stream: Option<&Stream>, phase: u8) {
    if let Some(guard) = stream.and_then(|stream| (**stream).as_any().downcast_ref::<Guard>()) {
        guard.phase.0.store(phase, Ordering::Relaxed);
    }
}

/// A client's stream whose reads fail while a header section is late.
struct Guard {
    inner: Stream,
    phase: Arc<Phase>,
    limit: std::time::Duration,
    late: Pin<Box<Sleep>>,
    state: Arc<State>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.inner)
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.phase.0.load(Ordering::Relaxed) == READING && this.late.as_mut().poll(cx).is_ready() {
            this.state.metrics.connections_refused.with_label_values(&["header_timeout"]).inc();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request header is late")));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        let has_read = matches!(result, Poll::Ready(Ok(()))) && buf.filled().len() > before;
        if has_read && this.phase.0.load(Ordering::Relaxed) == IDLE {
            this.phase.0.store(READING, Ordering::Relaxed);
            this.late.as_mut().reset(Instant::now() + this.limit);
        }
        result
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

delegate!(Guard);

#[async_trait]
impl Peek for Guard {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        // The peek for HTTP/2's preface waits for the client without passing through `poll_read`.
        let deadline = self.late.deadline();
        match tokio::time::timeout_at(deadline, self.inner.try_peek(buf)).await {
            Ok(result) => {
                if buf.starts_with(b"PRI * HTTP/2.0\r\n") {
                    // From here on the framework's own bounds for HTTP/2 hold.
                    self.phase.0.store(BUSY, Ordering::Relaxed);
                }
                result
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "request header is late")),
        }
    }
}
