//! Reads the request body once, whole, under a cap and a deadline, whatever its framing; it is then replayed to
//! as many servers as it takes. The cap is checked before the first byte where the client gives a length, and
//! no buffer is ever sized by what a client merely claims.

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use pingora_proxy::Session;
use tollgate_filters::refusal::Refusal;

use super::refuse::Stop;
use crate::config::settings::{Limits, Timeouts};

/// Most that is set aside because of a claimed length alone.
const MAX_TRUST: usize = 64 * 1024;

/// The body of the request.
///
/// # Errors
/// [`Refusal::RequestTooLarge`], [`Refusal::BodyTimeout`], [`Refusal::UnsupportedMediaType`], or that the
/// client went away.
pub(super) async fn read(session: &mut Session, limits: &Limits, timeouts: &Timeouts) -> Result<Bytes, Stop> {
    if session.get_header(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Refusal::UnsupportedMediaType("the body without content-encoding").into());
    }
    let cap = limits.request_body_bytes;
    let length: Option<u64> =
        session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length| length > cap as u64) {
        return Err(Refusal::RequestTooLarge(cap).into());
    }
    if session.get_header(header::EXPECT).is_some() && session.req_header().version != Version::HTTP_10 {
        // The framework would take an answer before the body's end for the last one on the connection.
        let downstream = &mut session.downstream_session;
        downstream.set_close_on_response_before_downstream_finish(false);
        downstream.write_continue_response().await.map_err(|_| Stop::Gone)?;
        downstream.set_close_on_response_before_downstream_finish(true);
    }
    let read = read_to_end(session, cap, length.unwrap_or(0) as usize);
    match tokio::time::timeout(timeouts.request_body, read).await {
        Ok(result) => result,
        Err(_) => Err(Refusal::BodyTimeout(timeouts.request_body).into()),
    }
}

async fn read_to_end(session: &mut Session, cap: usize, claimed: usize) -> Result<Bytes, Stop> {
    let session = &mut session.downstream_session;
    let mut body: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    loop {
        match session.read_request_body().await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                let so_far = body.as_ref().map_or(0, BytesMut::len) + first.as_ref().map_or(0, Bytes::len);
                if so_far + chunk.len() > cap {
                    return Err(Refusal::RequestTooLarge(cap).into());
                }
                // Most bodies come in one piece, which is then used as it is.
                if body.is_none() && first.is_none() {
                    first = Some(chunk);
                } else {
                    let body = body.get_or_insert_with(|| BytesMut::with_capacity(claimed.min(MAX_TRUST)));
                    if let Some(first) = first.take() {
                        body.extend_from_slice(&first);
                    }
                    body.extend_from_slice(&chunk);
                }
            }
            Err(error) => {
                log::debug!("reading a request body: {error}");
                let is_framing = matches!(error.etype(), pingora_error::ErrorType::Custom("InvalidChunk"));
                return Err(if is_framing {
                    Refusal::MalformedRequest("the chunked body is not well formed").into()
                } else {
                    Stop::Gone
                });
            }
        }
    }
    Ok(body.map(BytesMut::freeze).or(first).unwrap_or_default())
}
