//! Cross-origin requests of browser clients (<https://fetch.spec.whatwg.org/#http-cors-protocol>): allowed for
//! the origins that the operator names, and for none by default.

use http::header;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::config::settings::Cors;

/// The fields of an answer that a script may read.
const EXPOSED: &str = "x-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
    x-ratelimit-reset-requests, x-ratelimit-reset-tokens, openai-processing-ms";
/// How long a browser may remember a preflight answer, seconds.
const MAX_AGE: &str = "600";

/// Adds what lets a script of an allowed origin read the answer.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn decorate(header: &mut ResponseHeader, request: &RequestHeader, cors: &Cors) -> Result<()> {
    let Some(origin) = request.headers.get(header::ORIGIN) else { return Ok(()) };
    let allows = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if !cors.allow_origins.iter().any(allows) {
        return Ok(());
    }
    header.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())?;
    header.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    header.append_header(header::VARY, "origin")?;
    Ok(())
}

/// The answer to a preflight: no body, and what may be sent.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn preflight(request: &RequestHeader, cors: &Cors, allow: &str) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(204, Some(8))?;
    header.insert_header(header::ALLOW, allow)?;
    decorate(&mut header, request, cors)?;
    if header.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        header.insert_header(header::ACCESS_CONTROL_ALLOW_METHODS, allow)?;
        let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let asked = asked.unwrap_or_else(|| header::HeaderValue::from_static("authorization, content-type"));
        header.insert_header(header::ACCESS_CONTROL_ALLOW_HEADERS, asked)?;
        header.insert_header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)?;
    }
    Ok(header)
}
