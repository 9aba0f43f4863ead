//! Writing to the client, with every write bounded. The framework bounds writes of a body, but neither those of
//! headers nor the flush of a body's end: a client that stops reading there would hold its request, and its place
//! on a server, for ever.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::http::server::Session as Downstream;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

/// Writes an answer's headers.
///
/// # Errors
/// If the client does not take them within `limit`.
pub(super) async fn head(
    downstream: &mut Downstream,
    header: Box<ResponseHeader>,
    limit: Duration,
) -> Result<()> {
    bounded(limit, downstream.write_response_header(header)).await
}

/// Writes a piece of an answer's body, or its end.
///
/// # Errors
/// If the client does not take it within `limit`.
pub(super) async fn body(
    downstream: &mut Downstream,
    bytes: Bytes,
    is_end: bool,
    limit: Duration,
) -> Result<()> {
    let write = downstream.write_response_body(bytes, is_end);
    // What is not the end is bounded by the session's own limit, without a second timer for each event.
    if is_end { bounded(limit, write).await } else { write.await }
}

async fn bounded(limit: Duration, write: impl Future<Output = Result<()>>) -> Result<()> {
    match pingora_timeout::timeout(limit, write).await {
        Ok(result) => result,
        Err(_) => Error::e_explain(ErrorType::WriteTimedout, "the client does not read"),
    }
}
