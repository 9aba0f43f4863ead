//! The many shapes of an error's body → what it said.

use crate::json::{JsonError, Kind, MAX_DEPTH, Reader};

/// More of a plain text body is not looked at: the message is bounded to much less.
const MAX_PLAIN_BYTES: usize = 8 * 1024;

/// What an error said, as it said it.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The message.
    pub(super) text: Option<String>,
    /// The type.
    pub(super) kind: Option<String>,
    /// The code, if it is a word.
    pub(super) code: Option<String>,
    /// The code, if it is a number.
    pub(super) number: Option<u64>,
    /// The part of the request, as `messages[0].content`.
    pub(super) param: Option<String>,
}

impl Said {
    /// What `body` says. Anything can be read; nothing may come of it.
    pub(super) fn of(body: &[u8]) -> Self {
        let body = body.trim_ascii();
        let mut said = Self::default();
        match body.first() {
            // HTML is for people with browsers, and names the machine that made it.
            None | Some(b'<') => {}
            Some(b'{' | b'[' | b'"') => {
                if said.read_any(&mut Reader::new(body, MAX_DEPTH)).is_err() {
                    said = Self::default();
                }
            }
            Some(_) => {
                let plain = &body[..body.len().min(MAX_PLAIN_BYTES)];
                said.text = Some(String::from_utf8_lossy(plain).into_owned());
            }
        }
        said.read_python();
        said.param = said.param.as_deref().and_then(sane_param);
        said.code = said.code.filter(|code| is_word(code));
        said
    }

    /// The status that the body claims, for an error within a stream.
    pub(super) fn status(&self) -> u16 {
        if let Some(number @ 400..=599) = self.number {
            return number as u16;
        }
        let labels = [self.code.as_deref(), self.kind.as_deref()];
        let status = labels.into_iter().flatten().find_map(|label| match label {
            "invalid_request_error" | "BadRequestError" | "validation" => Some(400),
            "authentication_error" | "invalid_api_key" | "permission_error" => Some(401),
            "not_found_error" | "NotFoundError" => Some(404),
            "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" => Some(429),
            "overloaded_error" | "overloaded" | "unavailable_error" => Some(503),
            _ => None,
        });
        status.unwrap_or(500)
    }

    fn read_any(&mut self, r: &mut Reader<'_>) -> Result<(), JsonError> {
        match r.peek()? {
            Kind::Object => self.read_object(r)?,
            Kind::String => self.text = Some(r.string()?.value().into_owned()),
            Kind::Array => self.read_details(r)?,
            _ => _ = r.skip()?,
        }
        Ok(())
    }

    /// An error's object, or the object around it: a nested `error` or `detail` is read as if it stood here.
    fn read_object(&mut self, r: &mut Reader<'_>) -> Result<(), JsonError> {
        let text = |r: &mut Reader<'_>| -> Result<Option<String>, JsonError> {
            if r.peek()? == Kind::String {
                return Ok(Some(r.string()?.value().into_owned()));
            }
            r.skip()?;
            Ok(None)
        };
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            match key.raw {
                // The reader bounds how deep this can go.
                b"error" | b"detail" | b"errors" => self.read_any(r)?,
                b"message" => self.text = text(r)?.or(self.text.take()),
                b"type" | b"error_type" => self.kind = text(r)?.or(self.kind.take()),
                b"param" => self.param = text(r)?.or(self.param.take()),
                b"code" | b"status_code" | b"http_status_code" => match r.peek()? {
                    Kind::Number => self.number = r.u64_or_skip()?.or(self.number),
                    _ => self.code = text(r)?.or(self.code.take()),
                },
                _ => _ = r.skip()?,
            }
        }
        Ok(())
    }

    /// FastAPI's list of faults: `[{"type","loc":["body","messages",0],"msg","input"}]`. The first is told;
    /// `input` is a piece of the request and is not.
    fn read_details(&mut self, r: &mut Reader<'_>) -> Result<(), JsonError> {
        r.enter_array()?;
        while r.next_item()? {
            let is_first = self.text.is_none();
            if r.peek()? != Kind::Object || !is_first {
                r.skip()?;
                continue;
            }
            let mut message = None;
            r.enter_object()?;
            while let Some(key) = r.next_key()? {
                match (key.raw, r.peek()?) {
                    (b"msg", Kind::String) => message = Some(r.string()?.value().into_owned()),
                    (b"type", Kind::String) => self.kind = Some(r.string()?.value().into_owned()),
                    (b"loc", Kind::Array) => self.param = Some(location(r)?),
                    _ => _ = r.skip()?,
                }
            }
            self.tell(message);
        }
        Ok(())
    }

    /// vLLM and SGLang put Python's own print of such a list into the message:
    /// `1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': …`.
    fn read_python(&mut self) {
        let Some(text) = self.text.as_deref() else { return };
        if !text.contains("validation error") {
            return;
        }
        let quoted = |name: &str| {
            let rest = &text[text.find(name)? + name.len()..];
            let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
            rest[1..].split_once(quote).map(|(value, _)| value.to_owned())
        };
        let Some(message) = quoted("'msg': ") else { return };
        self.kind = quoted("'type': ").or(self.kind.take());
        let tuple = text.split_once("'loc': (").and_then(|(_, rest)| rest.split_once(')'));
        let place = match tuple {
            Some((items, _)) => {
                Some(items.split(',').map(|item| item.trim().trim_matches(['\'', '"'])).fold(
                    String::new(),
                    |mut path, item| {
                        push_step(&mut path, item);
                        path
                    },
                ))
            }
            None => quoted("'loc': "),
        };
        self.param = place.or(self.param.take());
        self.tell(Some(message));
    }

    /// Takes a fault's message, with its place in front.
    fn tell(&mut self, message: Option<String>) {
        let place = self.param.as_deref().and_then(sane_param);
        self.text = match (place, message) {
            (Some(place), Some(message)) => Some(format!("{place}: {message}")),
            (_, message) => message,
        };
    }
}

/// A FastAPI `loc`: `["body","messages",0,"content"]` → `body.messages[0].content`.
fn location(r: &mut Reader<'_>) -> Result<String, JsonError> {
    let mut path = String::new();
    r.enter_array()?;
    while r.next_item()? {
        match r.peek()? {
            Kind::String => push_step(&mut path, &r.string()?.value()),
            Kind::Number => push_step(&mut path, r.number()?),
            _ => _ = r.skip()?,
        }
    }
    Ok(path)
}

fn push_step(path: &mut String, step: &str) {
    let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    if is_index && !path.is_empty() && path != "body" {
        path.push('[');
        path.push_str(step);
        path.push(']');
    } else if !step.is_empty() {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(step);
    }
}

/// The name of a part of the request, without FastAPI's `body.`. A mere offset is none, nor is free text.
fn sane_param(param: &str) -> Option<String> {
    let param = param.strip_prefix("body.").unwrap_or(param);
    let is_name = param.len() <= 128
        && param.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-[]".contains(&byte))
        && param.bytes().any(|byte| byte.is_ascii_alphabetic())
        && param != "body";
    is_name.then(|| param.to_owned())
}

/// Whether a code is one: a short identifier.
fn is_word(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && code.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// See [`super::is_openai_shape`].
pub(super) fn is_openai_shape(body: &[u8]) -> bool {
    let read = || -> Result<bool, JsonError> {
        let mut r = Reader::new(body, MAX_DEPTH);
        let (mut has_error, mut is_exact) = (false, true);
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            is_exact &= key.is("error") && !has_error;
            if !is_exact {
                return Ok(false);
            }
            has_error = true;
            is_exact = has_four_keys(&mut r)?;
        }
        r.end()?;
        Ok(has_error && is_exact)
    };
    std::str::from_utf8(body).is_ok() && read().unwrap_or(false)
}

fn has_four_keys(r: &mut Reader<'_>) -> Result<bool, JsonError> {
    const KEYS: [(&[u8], bool); 4] =
        [(b"message", false), (b"type", false), (b"param", true), (b"code", true)];
    let mut seen = [0; KEYS.len()];
    let mut is_exact = true;
    r.enter_object()?;
    while let Some(key) = r.next_key()? {
        let kind = r.peek()?;
        match KEYS.iter().position(|(name, _)| key.raw == *name) {
            Some(i) => {
                seen[i] += 1;
                is_exact &= kind == Kind::String || KEYS[i].1 && kind == Kind::Null;
            }
            None => is_exact = false,
        }
        r.skip()?;
    }
    Ok(is_exact && seen == [1; KEYS.len()])
}

/// See [`super::is_readable`].
pub(super) fn is_readable(body: &[u8], message: &str) -> bool {
    let read = || -> Result<bool, JsonError> {
        let mut r = Reader::new(body, MAX_DEPTH);
        let mut is_readable = false;
        r.enter_object()?;
        while let Some(key) = r.next_key()? {
            if key.is("error") && r.peek()? == Kind::Object {
                is_readable = has_readable_keys(&mut r, message)?;
            } else {
                r.skip()?;
            }
        }
        r.end()?;
        Ok(is_readable)
    };
    std::str::from_utf8(body).is_ok() && read().unwrap_or(false)
}

fn has_readable_keys(r: &mut Reader<'_>, message: &str) -> Result<bool, JsonError> {
    let (mut has_message, mut has_type, mut is_sound) = (false, false, true);
    r.enter_object()?;
    while let Some(key) = r.next_key()? {
        let kind = r.peek()?;
        match key.raw {
            b"message" if kind == Kind::String => {
                has_message = r.string()?.is(message);
                continue;
            }
            b"type" => has_type = kind == Kind::String,
            b"param" | b"code" => is_sound &= matches!(kind, Kind::String | Kind::Null),
            _ => {}
        }
        r.skip()?;
    }
    Ok(has_message && has_type && is_sound)
}
