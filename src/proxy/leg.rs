//! The upstream leg: one request on one server, on Pingora's connectors. Dropping it in the middle cancels the
//! work there: an HTTP/1 connection is closed, an HTTP/2 stream reset. Only a complete answer gives the
//! connection back for reuse.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::server::Session as Downstream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::cork::{self, Corked};

/// Pieces of a body that together are no larger than this are sent as one, with one system call.
const JOIN_BYTES: usize = 64 * 1024;

/// A request in work on a server.
pub(super) struct Leg {
    session: Option<HttpSession>,
    peer: Arc<HttpPeer>,
    connector: Arc<Connector>,
    /// Whether the connection had served another request before.
    pub is_reused: bool,
    is_spent: bool,
}

impl Leg {
    /// Connects to `peer`, or takes an idle connection to it.
    ///
    /// # Errors
    /// If the connection cannot be made in time.
    pub(super) async fn connect(connector: &Arc<Connector>, peer: Arc<HttpPeer>) -> Result<Self> {
        let (session, is_reused) = connector.get_http_session(&*peer).await?;
        Ok(Self {
            session: Some(corked(session, &peer)),
            peer,
            connector: Arc::clone(connector),
            is_reused,
            is_spent: false,
        })
    }

    fn session(&mut self) -> &mut HttpSession {
        self.session.as_mut().expect("the session is there until release, which takes the leg")
    }

    /// Sends the whole request.
    ///
    /// # Errors
    /// If the server does not take it.
    pub(super) async fn send(&mut self, header: RequestHeader, pieces: &[Bytes]) -> Result<()> {
        let timeout = self.peer.get_peer_options().and_then(|options| options.write_timeout);
        let session = self.session();
        session.set_write_timeout(timeout);
        let total: usize = pieces.iter().map(Bytes::len).sum();
        // Without a body to go with, the header section would leave in a flush, which nothing bounds.
        if total > 0
            && let HttpSession::H1(http1) = &*session
        {
            cork::hold(http1.stream());
        }
        session.write_request_header(Box::new(header)).await?;
        if let HttpSession::H1(http1) = &*session {
            cork::release(http1.stream());
        }
        if pieces.len() > 1 && total <= JOIN_BYTES {
            let mut joined = BytesMut::with_capacity(total);
            pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
            session.write_request_body(joined.freeze(), true).await?;
        } else {
            for (index, piece) in pieces.iter().enumerate() {
                session.write_request_body(piece.clone(), index + 1 == pieces.len()).await?;
            }
        }
        session.finish_request_body().await
    }

    /// Waits for the head of the answer, passing over informational ones.
    ///
    /// # Errors
    /// If none comes.
    pub(super) async fn head(&mut self) -> Result<ResponseHeader> {
        let session = self.session();
        loop {
            session.read_response_header().await?;
            if let Some(header) = session.response_header()
                && !header.status.is_informational()
            {
                let header = header.clone();
                if let HttpSession::H1(http1) = session {
                    http1.respect_keepalive();
                }
                return Ok(header);
            }
        }
    }

    /// The next bytes of the answer's body, or `None` at its end.
    ///
    /// # Errors
    /// If the server breaks off.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.session().read_response_body().await
    }

    /// The connection is not to be used again: the request was not sent to its end.
    pub(super) fn must_close(&mut self) {
        self.is_spent = true;
    }

    /// Gives the connection back after a complete answer.
    pub(super) async fn release(mut self) {
        if self.is_spent {
            return;
        }
        if let Some(session) = self.session.take() {
            let idle = self.peer.idle_timeout();
            self.connector.release_http_session(session, &*self.peer, idle).await;
        }
    }
}

/// `session` on a connection that can send a header section together with a body. It is wrapped when it is new
/// and stays so in the pool.
fn corked(session: HttpSession, peer: &HttpPeer) -> HttpSession {
    match session {
        HttpSession::H1(http1) if !Corked::is(http1.stream()) => {
            let stream = Box::new(Corked::new(http1.into_inner()));
            HttpSession::H1(Http1Session::new_with_options(stream, peer))
        }
        other => other,
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        let Some(HttpSession::H2(mut stream)) = self.session.take() else {
            // An HTTP/1 connection closes as it is dropped.
            return;
        };
        stream.shutdown();
        // Gives the connection, not the stream, back to the pool; for HTTP/2 this never waits.
        let release = self.connector.release_http_session(
            HttpSession::H2(stream),
            &*self.peer,
            self.peer.idle_timeout(),
        );
        let is_done = std::pin::pin!(release).poll(&mut Context::from_waker(Waker::noop()));
        debug_assert_eq!(is_done, Poll::Ready(()), "releasing an HTTP/2 stream does not wait");
    }
}

/// The client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// Runs `work` until it is done or the client goes away.
///
/// # Errors
/// [`Gone`]; the work is then dropped.
pub(super) async fn or_gone<T>(
    downstream: &mut Downstream,
    work: impl Future<Output = T>,
) -> Result<T, Gone> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = gone(downstream) => Err(Gone),
    }
}

/// Ends when the client goes away. The request's body must have been read.
pub(super) async fn gone(downstream: &mut Downstream) {
    // Over HTTP/1 it ends with an error when the client closes, over HTTP/2 when it resets the stream. Bytes
    // after the body end it too: there is no telling what they belong to.
    while downstream.read_body_or_idle(true).await.is_ok() {}
}

/// Runs `work` until it is done or `limit` has passed.
///
/// # Errors
/// [`Late`].
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
    pingora_timeout::timeout(limit, work).await.map_err(|_| Late)
}

/// A deadline towards a server has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late;
