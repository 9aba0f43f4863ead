//! What the framework accepts and two parsers could still read differently. Everything here is answered with
//! 400 (or 431) and the connection is closed, before any other stage looks at the request. Fails closed.

use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;
use tollgate_filters::refusal::Refusal;

/// Checks the header section of a request; `raw` is its bytes as they came, over HTTP/1.
///
/// # Errors
/// [`Refusal::MalformedRequest`] or [`Refusal::HeadersTooLarge`].
///
/// # Cost
/// One pass over the fields; no allocation.
pub(super) fn check(
    header: &RequestHeader,
    raw: Option<&[u8]>,
    is_http2: bool,
    max_header_bytes: usize,
) -> Result<(), Refusal> {
    let bad = |what| Err(Refusal::MalformedRequest(what));
    let headers = &header.headers;
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size + header.raw_path().len() > max_header_bytes {
        return Err(Refusal::HeadersTooLarge(max_header_bytes));
    }
    if !matches!(
        header.method,
        Method::GET
            | Method::POST
            | Method::HEAD
            | Method::OPTIONS
            | Method::PUT
            | Method::DELETE
            | Method::PATCH
    ) {
        return bad("unsupported method");
    }
    if raw.is_some_and(has_bare_line_feed) {
        return bad("lines must end with CR LF");
    }
    check_target(header)?;
    check_framing(headers)?;
    check_host(headers, is_http2)?;
    if headers.contains_key(header::UPGRADE) {
        return bad("upgrades are not supported");
    }
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return bad("more than one authorization field");
    }
    let has_control = |value: &[u8]| value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7F);
    if headers.values().any(|value| has_control(value.as_bytes())) {
        return bad("a control character in a header field");
    }
    Ok(())
}

fn check_target(header: &RequestHeader) -> Result<(), Refusal> {
    let target = header.raw_path();
    // With HTTP/2 the scheme and authority may stand in the URI; the path is what follows.
    let target = if target.starts_with(b"/") { target } else { header.uri.path().as_bytes() };
    let is_origin_form = target.starts_with(b"/") && header.uri.path() != "*";
    let is_clean = target.iter().all(|byte| (0x21..0x7F).contains(byte));
    let has_nul = memchr::memmem::find(target, b"%00").is_some();
    if !is_origin_form || !is_clean || has_nul {
        return Err(Refusal::MalformedRequest("the request target must be a plain absolute path"));
    }
    if !header.raw_path().starts_with(b"/") && header.version != http::Version::HTTP_2 {
        return Err(Refusal::MalformedRequest("the request target must not name a scheme or host"));
    }
    Ok(())
}

fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || lengths.next().is_some() {
            return Err(Refusal::MalformedRequest("content-length must be one number"));
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(Refusal::MalformedRequest("transfer-encoding must be chunked alone"));
    }
    Ok(())
}

fn check_host(headers: &HeaderMap, is_http2: bool) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        // HTTP/2 names it in `:authority`, which the framework has checked.
        return if is_http2 { Ok(()) } else { Err(Refusal::MalformedRequest("no host field")) };
    };
    let is_sane = |byte: &u8| byte.is_ascii_graphic() && !b"/,\\@?#\"<>^`{|}".contains(byte);
    let host = host.as_bytes();
    if hosts.next().is_some() || host.is_empty() || !host.iter().all(is_sane) {
        return Err(Refusal::MalformedRequest("the host field must name one host"));
    }
    Ok(())
}

/// Whether a line of the header section ends with LF alone, which the framework reads as a line end.
fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut header = RequestHeader::build("POST", target.as_bytes(), None).expect("a header");
        for (name, value) in fields {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            header.append_header(*name, value).expect("a field");
        }
        header
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        const HOST: (&str, &str) = ("host", "gate:8080");
        let good: &[(&str, Vec<(&'static str, &str)>)] = &[
            ("/v1/models", vec![HOST]),
            ("/v1/models?x=%20", vec![HOST, ("content-length", "5")]),
            ("/v1/models", vec![("host", "[::1]:80"), ("transfer-encoding", "Chunked")]),
        ];
        for (target, fields) in good {
            assert_eq!(check(&request(target, fields), None, false, 1000), Ok(()), "{target} {fields:?}");
        }
        let bad: &[(&str, Vec<(&'static str, &str)>)] = &[
            ("/", vec![]),
            ("/", vec![("host", "")]),
            ("/", vec![("host", "a b")]),
            ("/", vec![("host", "a,b")]),
            ("/", vec![("host", "a/b")]),
            ("/", vec![("host", "user@a")]),
            ("/", vec![HOST, HOST]),
            ("/%00", vec![HOST]),
            ("http://other/v1/models", vec![HOST]),
            ("/", vec![HOST, ("content-length", "5"), ("content-length", "5")]),
            ("/", vec![HOST, ("content-length", "5, 5")]),
            ("/", vec![HOST, ("content-length", "+5")]),
            ("/", vec![HOST, ("transfer-encoding", "gzip, chunked")]),
            ("/", vec![HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            ("/", vec![HOST, ("upgrade", "websocket")]),
            ("/", vec![HOST, ("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        ];
        for (target, fields) in bad {
            let result = check(&request(target, fields), None, false, 1000);
            assert!(matches!(result, Err(Refusal::MalformedRequest(_))), "{target} {fields:?}: {result:?}");
        }
        let long = "x".repeat(1000);
        let result = check(&request("/", &[HOST, ("x-long", &long)]), None, false, 1000);
        assert_eq!(result, Err(Refusal::HeadersTooLarge(1000)));
        let raw = b"GET / HTTP/1.1\r\nhost: a\nx-smuggled: 1\r\n\r\n";
        let result = check(&request("/", &[HOST]), Some(raw), false, 1000);
        assert!(matches!(result, Err(Refusal::MalformedRequest(_))), "{result:?}");
    }
}
