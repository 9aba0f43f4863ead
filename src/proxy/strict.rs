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
    let found = Found::in_section(&header.headers);
    if found.size + header.raw_path().len() > max_header_bytes {
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
    found.check(is_http2)
}

/// What one pass over the fields finds.
#[derive(Default)]
struct Found<'a> {
    /// Bytes, with what stands between the fields over HTTP/1.
    size: usize,
    lengths: Field<'a>,
    codings: Field<'a>,
    hosts: Field<'a>,
    authorizations: Field<'a>,
    has_upgrade: bool,
    has_control: bool,
}

/// The first value of a field, and how many there are.
#[derive(Default)]
struct Field<'a> {
    first: &'a [u8],
    count: usize,
}

impl<'a> Field<'a> {
    fn note(&mut self, value: &'a [u8]) {
        if self.count == 0 {
            self.first = value;
        }
        self.count += 1;
    }
}

impl<'a> Found<'a> {
    fn in_section(headers: &'a HeaderMap) -> Self {
        let is_control = |byte: u8| ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7F);
        let mut found = Self::default();
        for (name, value) in headers {
            let value = value.as_bytes();
            found.size += name.as_str().len() + value.len() + 4;
            // Without a branch for each byte, so that the compiler can take sixteen at a time.
            found.has_control |= value.iter().fold(false, |found, &byte| found | is_control(byte));
            match name {
                name if name == header::CONTENT_LENGTH => found.lengths.note(value),
                name if name == header::TRANSFER_ENCODING => found.codings.note(value),
                name if name == header::HOST => found.hosts.note(value),
                name if name == header::AUTHORIZATION => found.authorizations.note(value),
                name => found.has_upgrade |= name == header::UPGRADE,
            }
        }
        found
    }

    fn check(&self, is_http2: bool) -> Result<(), Refusal> {
        let bad = |what| Err(Refusal::MalformedRequest(what));
        let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if self.lengths.count > 1 || (self.lengths.count == 1 && !is_number(self.lengths.first)) {
            return bad("content-length must be one number");
        }
        let is_chunked = self.codings.first.eq_ignore_ascii_case(b"chunked");
        if self.codings.count > 1 || (self.codings.count == 1 && !is_chunked) {
            return bad("transfer-encoding must be chunked alone");
        }
        // HTTP/2 names the host in `:authority`, which the framework has checked.
        if self.hosts.count == 0 && !is_http2 {
            return bad("no host field");
        }
        let is_delimiter = |byte: &u8| {
            let is_bracket = matches!(byte, b'<' | b'>' | b'{' | b'}' | b'"' | b'`');
            is_bracket || matches!(byte, b'/' | b'\\' | b'|' | b',' | b'@' | b'?' | b'#' | b'^')
        };
        let is_sane = |byte: &u8| byte.is_ascii_graphic() && !is_delimiter(byte);
        let is_host = |host: &[u8]| !host.is_empty() && host.iter().all(is_sane);
        if self.hosts.count > 1 || (self.hosts.count == 1 && !is_host(self.hosts.first)) {
            return bad("the host field must name one host");
        }
        if self.has_upgrade {
            return bad("upgrades are not supported");
        }
        if self.authorizations.count > 1 {
            return bad("more than one authorization field");
        }
        if self.has_control {
            return bad("a control character in a header field");
        }
        Ok(())
    }
}

fn check_target(header: &RequestHeader) -> Result<(), Refusal> {
    let target = header.raw_path();
    // With HTTP/2 the scheme and authority may stand in the URI; the path is what follows.
    let target = if target.starts_with(b"/") { target } else { header.uri.path().as_bytes() };
    let is_origin_form = target.starts_with(b"/") && header.uri.path() != "*";
    let is_clean = target.iter().all(|byte| (0x21..0x7F).contains(byte));
    let has_nul = target.contains(&b'%') && memchr::memmem::find(target, b"%00").is_some();
    if !is_origin_form || !is_clean || has_nul {
        return Err(Refusal::MalformedRequest("the request target must be a plain absolute path"));
    }
    if !header.raw_path().starts_with(b"/") && header.version != http::Version::HTTP_2 {
        return Err(Refusal::MalformedRequest("the request target must not name a scheme or host"));
    }
    Ok(())
}

/// Whether a line of the header section ends with LF alone, which the framework reads as a line end.
fn has_bare_line_feed(raw: &[u8]) -> bool {
    // Without a branch for each byte, so that the compiler can take sixteen at a time.
    let after = raw.get(1..).unwrap_or_default();
    let pairs = raw.iter().zip(after);
    raw.first() == Some(&b'\n')
        || pairs.fold(false, |bare, (&one, &next)| bare | ((next == b'\n') & (one != b'\r')))
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
    fn a_line_feed_alone_is_found_wherever_it_stands() {
        let section = b"GET / HTTP/1.1\r\nhost: a-name-longer-than-sixteen-bytes\r\n\r\n";
        assert!(!has_bare_line_feed(section));
        assert!(!has_bare_line_feed(b"") && !has_bare_line_feed(b"\r"));
        for at in (0..=section.len()).filter(|&at| at == 0 || section[at - 1] != b'\r') {
            let broken = [&section[..at], b"\n", &section[at..]].concat();
            assert!(has_bare_line_feed(&broken), "at {at}");
        }
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
            ("/", vec![HOST, ("content-length", "")]),
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
