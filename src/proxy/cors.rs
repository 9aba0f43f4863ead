//! Cross-origin requests of browser clients (<https://fetch.spec.whatwg.org/#http-cors-protocol>): allowed for
//! the origins that the operator names, and for none by default.

use http::HeaderMap;
use http::header::{self, HeaderValue};
use pingora_http::RequestHeader;

use crate::config::settings::Cors;

/// The fields of an answer that a script may read.
const EXPOSED: &str = "x-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
    x-ratelimit-reset-requests, x-ratelimit-reset-tokens, openai-processing-ms";
/// How long a browser may remember a preflight answer, seconds.
const MAX_AGE: &str = "600";

/// Adds what lets a script of an allowed origin read the answer.
pub(super) fn decorate(fields: &mut HeaderMap, request: &RequestHeader, cors: &Cors) {
    let Some(origin) = request.headers.get(header::ORIGIN) else { return };
    let allows = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if !cors.allow_origins.iter().any(allows) {
        return;
    }
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    fields.append(header::VARY, HeaderValue::from_static("origin"));
}

/// The fields of the answer to a preflight, which has no body: what may be sent.
pub(super) fn preflight(request: &RequestHeader, cors: &Cors, allow: &'static str) -> HeaderMap {
    let allow = HeaderValue::from_static(allow);
    let mut fields = HeaderMap::new();
    fields.insert(header::ALLOW, allow.clone());
    decorate(&mut fields, request, cors);
    if fields.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
        let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let asked = asked.unwrap_or_else(|| HeaderValue::from_static("authorization, content-type"));
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    }
    fields
}
