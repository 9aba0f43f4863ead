//! `multipart/form-data` → which model, and whether a stream was asked for. Only the fields that decide
//! something or hold text are looked at; files are passed over. The form goes upstream as the client sent it, but for the
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
    /// Where the `prompt` field stands, which tells the model what to expect in the file. More than one where it is repeated.
    pub prompts: Vec<Range<usize>>,
}

/// The longest boundary that RFC 2046 §5.1.1 allows.
const MAX_BOUNDARY: usize = 70;

/// Reads a form whose `content-type` is given.
///
/// # Errors
/// [`Refusal::UnsupportedMediaType`], [`Refusal::InvalidMultipart`] or [`Refusal::MissingModel`].
pub fn parse(content_type: &str, body: &[u8]) -> Result<Form, Refusal> {
    let bad = |what| Err(Refusal::InvalidMultipart(what));
    let delimiter = [b"--", boundary(content_type)?.as_bytes()].concat();
    let finder = memchr::memmem::Finder::new(&delimiter);
    let mut model: Option<Range<usize>> = None;
    let mut is_streaming = false;
    let mut prompts = Vec::new();
    let Some((_, mut start, mut is_last)) = next_delimiter(&finder, body, 0)? else {
        return bad("its boundary does not occur in it");
    };
    while !is_last {
        let Some((end, after, closes)) = next_delimiter(&finder, body, start)? else {
            return bad("its last part is cut");
        };
        let part = &body[start..end];
        let Some(headers_end) = memchr::memmem::find(part, b"\r\n\r\n") else {
            return bad("a part has no end of headers");
        };
        let value = start + headers_end + 4..end;
        match field_name(&part[..headers_end])? {
            "model" if model.is_some() => return bad("\"model\" is given twice"),
            "model" => model = Some(value),
            "stream" => is_streaming = matches!(&body[value], b"true" | b"True" | b"1"),
            "prompt" => prompts.push(value),
            _ => {}
        }
        (start, is_last) = (after, closes);
    }
    let model_span = model.ok_or(Refusal::MissingModel)?;
    let model = std::str::from_utf8(&body[model_span.clone()]).unwrap_or_default().to_owned();
    if model.is_empty() {
        return Err(Refusal::MissingModel);
    }
    Ok(Form { model, model_span, is_streaming, prompts })
}

/// The next delimiter at or after `from`: where the part before it ends, where what follows it starts, and
/// whether it closes the form. As RFC 2046 §5.1.1 has it, it stands at the start of a line and the rest of its
/// line is blank; the same bytes anywhere else belong to a part.
///
/// # Errors
/// [`Refusal::InvalidMultipart`] for a line that begins with the delimiter and goes on: readers differ on it.
fn next_delimiter(
    finder: &memchr::memmem::Finder<'_>,
    body: &[u8],
    from: usize,
) -> Result<Option<(usize, usize, bool)>, Refusal> {
    // The line break before a delimiter belongs to it; right after the headers' blank line it may be that one's.
    for found in finder.find_iter(&body[from..]) {
        let at = from + found;
        let is_at_line_start = at == 0 || body[..at].ends_with(b"\r\n");
        if !is_at_line_start {
            continue;
        }
        let after = at + finder.needle().len();
        let end = at.saturating_sub(2).max(from);
        if body[after..].starts_with(b"--") {
            return Ok(Some((end, after + 2, true)));
        }
        let Some(line_end) = line_break(&body[after..]) else {
            return Err(Refusal::InvalidMultipart("a boundary is followed by junk"));
        };
        return Ok(Some((end, after + line_end, false)));
    }
    Ok(None)
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

/// The `name` of a part's one `content-disposition` (RFC 7578 §4.2).
///
/// # Errors
/// [`Refusal::InvalidMultipart`] for one that readers could take for different names.
fn field_name(headers: &[u8]) -> Result<&str, Refusal> {
    const NAME: &str = "content-disposition:";
    let bad = Refusal::InvalidMultipart("a part's content-disposition cannot be read");
    let headers = std::str::from_utf8(headers).map_err(|_| bad.clone())?;
    let is_disposition =
        |line: &&str| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
    let mut lines = headers.split("\r\n").filter(is_disposition);
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(bad) };
    let mut rest = line[NAME.len()..].trim();
    // The disposition's type, then parameters: `; key=token` or `; key="quoted"`.
    rest = rest.find(';').map_or("", |at| &rest[at..]);
    let mut found = None;
    while let Some(parameter) = rest.strip_prefix(';') {
        let (key, after) = parameter.trim_start().split_once('=').ok_or_else(|| bad.clone())?;
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| bad.clone())?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        // An escaped quote ends the value for some readers and not for others.
        if value.contains('\\') && key.eq_ignore_ascii_case("name") {
            return Err(bad);
        }
        if key.trim().eq_ignore_ascii_case("name") && found.replace(value.trim()).is_some() {
            return Err(bad);
        }
        rest = left.trim();
    }
    if rest.is_empty() { found.ok_or(bad) } else { Err(bad) }
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
    fn every_prompt_is_found() {
        let body = form(&[("prompt", "one"), ("model", "m"), ("prompts", "no"), ("prompt", "two\r\nlines")]);
        let prompts = parse(TYPE, &body).expect("a good form").prompts;
        let prompts: Vec<&[u8]> = prompts.into_iter().map(|span| &body[span]).collect();
        assert_eq!(prompts, [&b"one"[..], b"two\r\nlines"]);
    }

    #[test]
    fn a_boundary_inside_a_file_hides_nothing() {
        let body = form(&[("model", "small"), ("file", "RIFF--XX--\r\nx--XX\r\n"), ("model", "big")]);
        assert_eq!(parse(TYPE, &body).expect_err("two models").answer().code, "invalid_multipart");
        let body = form(&[("model", "small"), ("file", "RIFF--XX--")]);
        assert_eq!(parse(TYPE, &body).expect("one model").model, "small");
    }

    #[test]
    fn names_are_read_as_parameters() {
        for (disposition, expected) in [
            ("form-data; name=\"model\"", Ok("model")),
            ("form-data; Name=model", Ok("model")),
            ("form-data; filename=\"x; name=model\"; name=\"file\"", Ok("file")),
            ("form-data; name=\"a\"; name=\"model\"", Err(())),
            ("form-data; name=\"mo\\\"del\"", Err(())),
            ("form-data", Err(())),
            ("form-data; name=\"model", Err(())),
        ] {
            let headers = format!("Content-Type: text/plain\r\ncontent-disposition: {disposition}");
            assert_eq!(field_name(headers.as_bytes()).map_err(|_| ()), expected, "{disposition}");
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
