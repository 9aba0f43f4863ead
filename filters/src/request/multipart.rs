//! `multipart/form-data` → which model, and whether a stream was asked for. Only the fields that decide
//! something are looked at; files are passed over. The form goes upstream as the client sent it, but for the
//! model's name where an alias was used.
//!
//! Cost: one search for the boundary over the bytes; no copy.

use std::ops::Range;

use crate::refusal::Refusal;

/// What a form asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Value of the `model` field.
    pub model: String,
    /// Where it stands in the body.
    pub model_span: Range<usize>,
    /// Whether the `stream` field says so.
    pub is_streaming: bool,
}

/// The longest boundary that RFC 2046 §5.1.1 allows.
const MAX_BOUNDARY: usize = 70;

/// Reads a form whose `content-type` is given.
///
/// # Errors
/// [`Refusal::UnsupportedMediaType`], [`Refusal::InvalidMultipart`] or [`Refusal::MissingModel`].
pub fn parse(content_type: &str, body: &[u8]) -> Result<Form, Refusal> {
    let boundary = boundary(content_type)?;
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let finder = memchr::memmem::Finder::new(&delimiter);
    let mut at = finder.find(body).ok_or(Refusal::InvalidMultipart("its boundary does not occur in it"))?;
    let mut model: Option<Range<usize>> = None;
    let mut is_streaming = false;
    loop {
        let after = at + delimiter.len();
        if body[after..].starts_with(b"--") {
            break;
        }
        let start = after
            + line_break(&body[after..])
                .ok_or(Refusal::InvalidMultipart("a boundary is followed by junk"))?;
        let end =
            start + finder.find(&body[start..]).ok_or(Refusal::InvalidMultipart("its last part is cut"))?;
        let part = &body[start..end];
        let headers_end = memchr::memmem::find(part, b"\r\n\r\n")
            .ok_or(Refusal::InvalidMultipart("a part has no end of headers"))?;
        let value = start + headers_end + 4..end.saturating_sub(2).max(start + headers_end + 4);
        match field_name(&part[..headers_end]) {
            Some("model") if model.is_some() => {
                return Err(Refusal::InvalidMultipart("\"model\" is given twice"));
            }
            Some("model") => model = Some(value),
            Some("stream") => is_streaming = matches!(&body[value], b"true" | b"True" | b"1"),
            _ => {}
        }
        at = end;
    }
    let model_span = model.ok_or(Refusal::MissingModel)?;
    let model = std::str::from_utf8(&body[model_span.clone()]).unwrap_or_default().to_owned();
    if model.is_empty() {
        return Err(Refusal::MissingModel);
    }
    Ok(Form { model, model_span, is_streaming })
}

fn boundary(content_type: &str) -> Result<&str, Refusal> {
    let mut parts = content_type.split(';').map(str::trim);
    let is_form = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/form-data"));
    if !is_form {
        return Err(Refusal::UnsupportedMediaType("multipart/form-data"));
    }
    parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim().trim_matches('"'))
        .filter(|value| (1..=MAX_BOUNDARY).contains(&value.len()))
        .ok_or(Refusal::InvalidMultipart("its content-type names no boundary of 1 to 70 characters"))
}

/// Length of the line break that `bytes` begin with, after optional blanks.
fn line_break(bytes: &[u8]) -> Option<usize> {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    bytes[blanks..].starts_with(b"\r\n").then_some(blanks + 2)
}

/// The `name` of a part's `content-disposition`.
fn field_name(headers: &[u8]) -> Option<&str> {
    let headers = std::str::from_utf8(headers).ok()?;
    let line = headers
        .split("\r\n")
        .find(|line| line.get(..20).is_some_and(|name| name.eq_ignore_ascii_case("content-disposition:")))?;
    let after = line[20..].split(';').map(str::trim).find_map(|part| part.strip_prefix("name="))?;
    Some(after.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (name, value) in parts {
            body += &format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        (body + "--XX--\r\n").into_bytes()
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        for parts in [
            vec![("model", "whisper"), ("file", "RIFF\r\n--X not a boundary")],
            vec![("file", "\0\u{1}binary"), ("stream", "true"), ("model", "whisper")],
        ] {
            let body = form(&parts);
            let parsed = parse(TYPE, &body).expect("a good form");
            assert_eq!(parsed.model, "whisper");
            assert_eq!(&body[parsed.model_span], b"whisper");
            assert_eq!(parsed.is_streaming, parts.len() == 3);
        }
    }

    #[test]
    fn bad_forms_are_refused() {
        for (content_type, body, code) in [
            ("application/json", form(&[]), "unsupported_media_type"),
            ("multipart/form-data", form(&[]), "invalid_multipart"),
            (TYPE, b"nothing".to_vec(), "invalid_multipart"),
            (TYPE, b"--XX\r\nContent-Disposition: form-data; name=\"model\"".to_vec(), "invalid_multipart"),
            (TYPE, form(&[("file", "x")]), "missing_model"),
            (TYPE, form(&[("model", "")]), "missing_model"),
            (TYPE, form(&[("model", "a"), ("model", "b")]), "invalid_multipart"),
        ] {
            assert_eq!(parse(content_type, &body).expect_err(code).answer().code, code);
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), cut in 0usize..200) {
            let _ = parse(TYPE, &bytes);
            let whole = form(&[("model", "m"), ("file", "abc")]);
            let _ = parse(TYPE, &whole[..cut.min(whole.len())]);
        }
    }
}
