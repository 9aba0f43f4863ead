//! Writing answers on a session, and noticing that nobody is there to read them.

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use super::request::Reject;

/// The client left. There is nobody to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl From<Box<pingora_error::Error>> for Gone {
    fn from(error: Box<pingora_error::Error>) -> Self {
        log::debug!("client left: {error}");
        Self
    }
}

/// Resolves when the client leaves. Only after its whole body was read; may be dropped and called again.
pub(super) async fn departure(session: &mut ServerSession) -> Gone {
    loop {
        match session.read_body_or_idle(true).await {
            Ok(_) => {}
            Err(error) => return Gone::from(error),
        }
    }
}

/// Sends the head of an answer; without a length the body is chunked.
///
/// # Errors
/// [`Gone`]
pub(super) async fn header(
    session: &mut ServerSession,
    status: u16,
    content_type: &str,
    length: Option<usize>,
) -> Result<(), Gone> {
    let mut header = ResponseHeader::build(status, Some(6))?;
    // What vLLM's server calls itself: a gateway must not let it through.
    header.insert_header(http::header::SERVER, "uvicorn")?;
    header.insert_header(http::header::CONTENT_TYPE, content_type)?;
    match length {
        Some(length) => header.insert_header(http::header::CONTENT_LENGTH, length)?,
        None if !session.is_http2() && session.req_header().version == http::Version::HTTP_11 => {
            header.insert_header(http::header::TRANSFER_ENCODING, "chunked")?;
        }
        None => {}
    }
    Ok(session.write_response_header(Box::new(header)).await?)
}

/// Sends the head of an event stream.
///
/// # Errors
/// [`Gone`]
pub(super) async fn event_stream(session: &mut ServerSession) -> Result<(), Gone> {
    header(session, 200, "text/event-stream; charset=utf-8", None).await
}

/// Sends a whole answer of JSON.
///
/// # Errors
/// [`Gone`]
pub(super) async fn json(session: &mut ServerSession, status: u16, body: Bytes) -> Result<(), Gone> {
    whole(session, status, "application/json", body).await
}

/// Sends a whole answer.
///
/// # Errors
/// [`Gone`]
pub(super) async fn whole(
    session: &mut ServerSession,
    status: u16,
    content_type: &str,
    body: Bytes,
) -> Result<(), Gone> {
    header(session, status, content_type, Some(body.len())).await?;
    Ok(session.write_response_body(body, true).await?)
}

/// Sends a refusal.
///
/// # Errors
/// [`Gone`]
pub(super) async fn reject(session: &mut ServerSession, reject: &Reject) -> Result<(), Gone> {
    json(session, reject.status, Bytes::from(reject.body())).await
}

/// Sends a piece of a body, at once and by itself.
///
/// # Errors
/// [`Gone`]
pub(super) async fn write(session: &mut ServerSession, piece: Bytes) -> Result<(), Gone> {
    Ok(session.write_response_body(piece, false).await?)
}

/// Ends a body properly.
///
/// # Errors
/// [`Gone`]
pub(super) async fn end(session: &mut ServerSession) -> Result<(), Gone> {
    Ok(session.write_response_body(Bytes::new(), true).await?)
}

/// Sends a status and nothing else.
///
/// # Errors
/// [`Gone`]
pub(super) async fn empty(session: &mut ServerSession, status: u16) -> Result<(), Gone> {
    let mut header = ResponseHeader::build(status, Some(2))?;
    header.insert_header(http::header::SERVER, "uvicorn")?;
    header.insert_header(http::header::CONTENT_LENGTH, 0)?;
    session.write_response_header(Box::new(header)).await?;
    end(session).await
}

/// Sends the 405 of a known path.
///
/// # Errors
/// [`Gone`]
pub(super) async fn method_not_allowed(
    session: &mut ServerSession,
    allowed: &http::Method,
) -> Result<(), Gone> {
    let body = Bytes::from_static(br#"{"detail":"Method Not Allowed"}"#);
    let mut header = ResponseHeader::build(405, Some(4))?;
    header.insert_header(http::header::SERVER, "uvicorn")?;
    header.insert_header(http::header::ALLOW, allowed.as_str())?;
    header.insert_header(http::header::CONTENT_TYPE, "application/json")?;
    header.insert_header(http::header::CONTENT_LENGTH, body.len())?;
    session.write_response_header(Box::new(header)).await?;
    Ok(session.write_response_body(body, true).await?)
}
