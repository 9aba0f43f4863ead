//! Which header fields cross the gateway. Towards a server: all of the client's, but for those that describe
//! one connection, carry a credential, or claim who the client is. Towards a client: only those that describe
//! the answer's body; what a server says of itself stays inside.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Version};
use pingora_error::Result;
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

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const SCAN: HeaderName = HeaderName::from_static("x-tollgate-scan");
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
    let target = client.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let is_http2 = server.upstream.http2;
    let size = client.headers.len() + 4;
    let mut header = if is_http2 {
        let scheme = if server.upstream.tls.is_some() { "https" } else { "http" };
        let mut header = RequestHeader::build_no_case(client.method.clone(), target.as_bytes(), Some(size))?;
        if let Ok(uri) = format!("{scheme}://{}{target}", server.host).parse() {
            header.set_uri(uri);
        }
        header.set_version(Version::HTTP_2);
        header
    } else {
        let mut header = RequestHeader::build_no_case(client.method.clone(), target.as_bytes(), Some(size))?;
        header.insert_header(header::HOST, server.host.as_str())?;
        header
    };
    let nominated = nominated(&client.headers);
    for (name, value) in &client.headers {
        let is_ours = is_not_for_server(name.as_str())
            || nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_str()));
        if !is_ours {
            header.append_header(name.clone(), value.clone())?;
        }
    }
    header.insert_header(header::CONTENT_LENGTH, length)?;
    header.insert_header(REQUEST_ID, request_id)?;
    if let Some(authorization) = &server.authorization {
        header.insert_header(header::AUTHORIZATION, authorization.clone())?;
    }
    Ok(header)
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

/// The header section that goes to the client for a server's answer `from`, with a body of `length` bytes or of
/// unknown length.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn to_client(
    from: &ResponseHeader,
    ctx: &RequestCtx,
    length: Option<usize>,
    is_stream: bool,
) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build_no_case(from.status, Some(16))?;
    for name in DOWNSTREAM {
        for value in from.headers.get_all(name) {
            header.append_header(name.clone(), value.clone())?;
        }
    }
    if is_stream {
        header.insert_header(header::CACHE_CONTROL, "no-cache")?;
        header.insert_header(ACCEL_BUFFERING, "no")?;
    }
    match length {
        Some(length) => header.insert_header(header::CONTENT_LENGTH, length)?,
        None => header.insert_header(header::TRANSFER_ENCODING, "chunked")?,
    }
    common(&mut header, ctx)?;
    Ok(header)
}

/// The fields that every answer carries, ours or a server's.
///
/// # Errors
/// If a field cannot be set, which would be a fault of ours.
pub(super) fn common(header: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    header.insert_header(REQUEST_ID, ctx.record.request_id.as_str())?;
    if let Some(answered) = ctx.answered {
        let processing = answered.saturating_duration_since(ctx.started);
        header.insert_header(PROCESSING_MS, processing.as_millis() as u64)?;
    }
    if let Some(lease) = &ctx.lease {
        for ([limit, remaining, reset], left) in RATE_LIMITS.into_iter().zip(lease.remaining) {
            if let Some(left) = left {
                header.insert_header(limit, left.limit)?;
                header.insert_header(remaining, left.remaining)?;
                header.insert_header(reset, go_duration(left.reset))?;
            }
        }
    }
    if ctx.record.scan == "flag" {
        header.insert_header(SCAN, scan_mark(ctx))?;
    }
    lifecycle(header, ctx)?;
    if ctx.stages.settings.telemetry.server_timing {
        header.insert_header("server-timing", server_timing(ctx))?;
    }
    Ok(())
}

/// Why a prompt was marked: `flag;` and the first rules that say so.
fn scan_mark(ctx: &RequestCtx) -> String {
    const MOST: usize = 4;
    let rules: Vec<&str> = ctx.record.scan_rules.iter().take(MOST).map(|rule| &**rule).collect();
    format!("flag; {}", rules.join(", "))
}

/// `deprecation` (RFC 9745), `sunset` (RFC 8594) and a `link` to the successor, for a deprecated model.
fn lifecycle(header: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let Some(model) = ctx.model.map(|model| &ctx.stages.settings.models[model]) else { return Ok(()) };
    let Some(since) = model.deprecated.filter(|since| *since <= chrono::Utc::now().date_naive()) else {
        return Ok(());
    };
    let midnight = |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
    header.insert_header("deprecation", format!("@{}", midnight(since).timestamp()))?;
    if let Some(last) = model.end_of_support {
        // The last day of support is whole: the model goes at the end of it.
        let end = midnight(last + chrono::Days::new(1));
        header.insert_header("sunset", end.format("%a, %d %b %Y %H:%M:%S GMT").to_string())?;
    }
    if let Some(successor) = &model.successor {
        header.insert_header("link", format!("</v1/models/{successor}>; rel=\"successor-version\""))?;
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
    format!("req_{:016x}{:016x}", KEYS[0].hash_one(count), KEYS[1].hash_one(count))
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
