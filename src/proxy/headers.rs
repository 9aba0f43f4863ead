//! Which header fields cross the gateway. Towards a server: all of the client's, but for those that describe
//! one connection, carry a credential, or claim who the client is. Towards a client: only those that describe
//! the answer's body; what a server says of itself stays inside.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode, Uri, Version};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::ctx::RequestCtx;
use crate::servers::Server;

/// Prefixes of fields that are never passed to a server.
const NOT_UPSTREAM_PREFIXES: &[&str] = &["x-forwarded-", "x-tollgate-", "proxy-"];

/// The only fields of a server's answer that a client sees.
const DOWNSTREAM: &[HeaderName] = &[
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CACHE_CONTROL,
];

/// Room for the fields of an answer without growing.
pub(super) const FIELDS: usize = 16;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const SCAN: HeaderName = HeaderName::from_static("x-tollgate-scan");
const OUTPUT: HeaderName = HeaderName::from_static("x-tollgate-output");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Limit, remaining and reset: of requests, of tokens.
const RATE_LIMITS: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// The header section that goes to `server`, with a body of `length` bytes.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn to_upstream(
    client: &RequestHeader,
    server: &Server,
    request_id: &str,
    length: usize,
) -> Result<RequestHeader> {
    // Filled as plain maps: the framework's own setters turn each name into bytes and parse them again.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method.clone_from(&client.method);
    parts.headers = HeaderMap::with_capacity(client.headers.len() + 4);
    let target = client.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if server.upstream.http2 {
        let scheme = if server.upstream.tls.is_some() { "https" } else { "http" };
        let whole = Uri::builder().scheme(scheme).authority(server.host.as_str()).path_and_query(target);
        parts.uri = whole.build().or_err(ErrorType::InvalidHTTPHeader, "a server's authority")?;
        parts.version = Version::HTTP_2;
    } else {
        parts.uri = Uri::from(target);
        parts.headers.insert(header::HOST, text(&server.host)?);
    }
    let nominated = nominated(&client.headers);
    for (name, value) in &client.headers {
        let is_ours = is_not_for_server(name.as_str())
            || nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_str()));
        if !is_ours {
            parts.headers.append(name, value.clone());
        }
    }
    parts.headers.insert(header::CONTENT_LENGTH, length.into());
    parts.headers.insert(REQUEST_ID, text(request_id)?);
    if let Some(authorization) = &server.authorization {
        parts.headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    Ok(parts.into())
}

/// A header section for a client.
pub(super) fn answer(status: StatusCode, fields: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.headers = fields;
    parts.into()
}

fn text(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).or_err(ErrorType::InvalidHTTPHeader, "a value that is no header's")
}

/// Whether a field is never passed to a server: connection fields (RFC 9110 §7.6.1), credentials, and claims about the client that
/// anyone can make. `accept-encoding` goes too: a compressed answer could not be counted. `expect` was answered
/// by us; length and host are set anew.
fn is_not_for_server(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "content-length"
            | "host"
            | "expect"
            | "accept-encoding"
            | "authorization"
            | "api-key"
            | "x-api-key"
            | "cookie"
            | "forwarded"
            | "via"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "x-request-id"
    ) || NOT_UPSTREAM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The fields that the client's `connection` names as meant for one hop.
fn nominated(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The fields that go to the client for a server's answer `from`, with a body of `length` bytes or of
/// unknown length.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn to_client(
    from: &ResponseHeader,
    ctx: &RequestCtx,
    length: Option<usize>,
    is_stream: bool,
) -> Result<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(FIELDS);
    for name in DOWNSTREAM {
        for value in from.headers.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    if is_stream {
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        fields.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    match length {
        Some(length) => fields.insert(header::CONTENT_LENGTH, length.into()),
        None => fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
    };
    common(&mut fields, ctx)?;
    Ok(fields)
}

/// The fields that every answer carries, ours or a server's.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn common(fields: &mut HeaderMap, ctx: &RequestCtx) -> Result<()> {
    fields.insert(REQUEST_ID, text(&ctx.record.request_id)?);
    if let Some(answered) = ctx.answered {
        let processing = answered.saturating_duration_since(ctx.started);
        fields.insert(PROCESSING_MS, (processing.as_millis() as u64).into());
    }
    for ([limit, remaining, reset], left) in RATE_LIMITS.into_iter().zip(ctx.standing()) {
        if let Some(left) = left {
            fields.insert(limit, left.limit.into());
            fields.insert(remaining, left.remaining.into());
            fields.insert(reset, text(&go_duration(left.reset))?);
        }
    }
    if ctx.record.scan == "flag" {
        fields.insert(SCAN, text(&scan_mark("flag", &ctx.record.scan_rules))?);
    }
    if matches!(ctx.record.output_scan, "flag" | "redact" | "stop") {
        fields.insert(OUTPUT, text(&scan_mark(ctx.record.output_scan, &ctx.record.output_rules))?);
    }
    lifecycle(fields, ctx)?;
    if ctx.stages.settings.telemetry.server_timing {
        fields.insert("server-timing", text(&server_timing(ctx))?);
    }
    Ok(())
}

/// Why a prompt or an answer was marked: `flag;` and the first rules that say so.
fn scan_mark(verdict: &str, rules: &[std::sync::Arc<str>]) -> String {
    const MOST: usize = 4;
    let rules: Vec<&str> = rules.iter().take(MOST).map(|rule| &**rule).collect();
    format!("{verdict}; {}", rules.join(", "))
}

/// `deprecation` (RFC 9745), `sunset` (RFC 8594) and a `link` to the successor, for a deprecated model.
fn lifecycle(fields: &mut HeaderMap, ctx: &RequestCtx) -> Result<()> {
    let Some(model) = ctx.model.map(|model| &ctx.stages.settings.models[model]) else { return Ok(()) };
    let Some(since) = model.deprecated.filter(|since| *since <= chrono::Utc::now().date_naive()) else {
        return Ok(());
    };
    let midnight = |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
    fields.insert("deprecation", text(&format!("@{}", midnight(since).timestamp()))?);
    if let Some(last) = model.end_of_support {
        // The last day of support is whole: the model goes at the end of it.
        let end = midnight(last + chrono::Days::new(1));
        fields.insert("sunset", text(&end.format("%a, %d %b %Y %H:%M:%S GMT").to_string())?);
    }
    if let Some(successor) = &model.successor {
        fields.insert("link", text(&format!("</v1/models/{successor}>; rel=\"successor-version\""))?);
    }
    Ok(())
}

fn server_timing(ctx: &RequestCtx) -> String {
    let since = |from: std::time::Instant, to: std::time::Instant| {
        to.saturating_duration_since(from).as_secs_f64() * 1000.0
    };
    match (ctx.sent, ctx.answered) {
        (Some(sent), Some(answered)) => {
            format!("gateway;dur={:.3}, upstream;dur={:.3}", since(ctx.started, sent), since(sent, answered))
        }
        _ => format!("gateway;dur={:.3}", ctx.elapsed().as_secs_f64() * 1000.0),
    }
}

/// A duration the way OpenAI writes it, which is Go's: `8.64s`, `132ms`, `6m0s`.
fn go_duration(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => format!("{}m{}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// Whether a client's request id may be kept: short, and of characters that are safe in logs and headers.
#[must_use]
pub(super) fn sane_request_id(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    ((1..=128).contains(&text.len()) && text.bytes().all(is_sane)).then_some(text)
}

/// A new request id: 128 random bits, as OpenAI writes them.
#[must_use]
pub(super) fn new_request_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    // An id is no secret, it only has to differ: random keys of this process, and a count.
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut id = String::with_capacity(36);
    id.push_str("req_");
    for half in [KEYS[0].hash_one(count), KEYS[1].hash_one(count)] {
        let digits = (0..16).rev().map(|place| b"0123456789abcdef"[(half >> (place * 4)) as usize & 15]);
        id.extend(digits.map(char::from));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_does() {
        for (ms, expected) in [(0, "0ms"), (132, "132ms"), (8_640, "8.64s"), (2_000, "2s"), (360_000, "6m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn request_ids_are_kept_if_sane() {
        for (value, is_kept) in
            [("abc-123", true), ("a b", false), ("", false), ("<script>", false), (&*"x".repeat(129), false)]
        {
            let value = HeaderValue::from_str(value).expect("a value");
            assert_eq!(sane_request_id(&value).is_some(), is_kept, "{value:?}");
        }
        let id = new_request_id();
        assert_eq!(id.len(), 36, "{id}");
        assert_ne!(id, new_request_id());
    }
}
