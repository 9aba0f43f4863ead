//! Markup that keeps text from the eyes of a person: comments, elements that are not drawn, attributes that are
//! shown late or never, markdown's comments and titles. All of it is ordinary on the web, so hiding alone says
//! nothing. What is hidden is handed out for the layers that read words, and asked one question here: does it
//! speak to a model ([`address`])?

use std::ops::Range;

use memchr::{memchr, memchr2, memmem, memrchr};

use super::super::Severity;
use super::page::{Page, contains, continues, has_words, skip_space};
use super::shape::{Report, Shape};
use super::{HiddenText, Hiding, address, links, tags, turns};

/// The longest hidden text that is followed to its end; from there on it is read as any other.
const LONGEST: usize = 4096;
/// The shortest hidden text that could ask for something.
const SHORTEST: usize = 12;
/// The longest tag.
const LONGEST_TAG: usize = 4096;

/// Looks at `<!`; gives where to go on.
pub(super) fn comment(
    page: &mut Page<'_>,
    tags: &mut tags::Scan,
    at: usize,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) -> usize {
    let bytes = page.bytes;
    if bytes[at..].starts_with(b"<![CDATA[") {
        tags.open_cdata();
        return at + 9;
    }
    if !bytes[at..].starts_with(b"<!--") {
        return at + 2;
    }
    let from = at + 4;
    if at < page.hidden_until[Hiding::Comment as usize] {
        return from;
    }
    let window = &bytes[from..(from + LONGEST).min(bytes.len())];
    // A comment that nothing ends hides the rest of a page.
    let (length, end) = match page.comment_end.find(bytes, from, |rest| memmem::find(rest, b"-->")) {
        Some(hit) if hit - from <= window.len() => (hit - from, hit + 3),
        _ => (window.len(), from + window.len()),
    };
    let text = from..from + length;
    // `<!-- <system> -->` is for the other rooms as well, so the reading goes on inside.
    let has_markup = memchr2(b'<', b'[', &bytes[text.clone()]).is_some();
    keep(page, at..end, text.clone(), Hiding::Comment, report, hidden);
    page.hidden_until[Hiding::Comment as usize] = text.end;
    if has_markup { from } else { end }
}

/// Looks at the tag of an element; gives where to go on. Its name ends at `name_end`.
pub(super) fn element(
    page: &mut Page<'_>,
    at: usize,
    name_end: usize,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) -> usize {
    let bytes = page.bytes;
    if bytes.get(name_end) == Some(&b'>') {
        links::plain_tag(page, at, name_end, report);
        return name_end + 1;
    }
    if name_end == at + 1
        || !bytes.get(name_end).is_some_and(|byte| byte.is_ascii_whitespace() || *byte == b'/')
    {
        return name_end;
    }
    let tag = Tag { bytes, name: at + 1..name_end };
    let mut facts = Facts::default();
    let mut next = name_end;
    while let Some((name, value, end)) = tag.attribute(next, page) {
        facts.note(page, at, &tag, name, value, report, hidden);
        next = end;
    }
    while matches!(bytes.get(next), Some(b' ' | b'\t' | b'\r' | b'\n' | b'/')) {
        next += 1;
    }
    if bytes.get(next) != Some(&b'>') {
        return next;
    }
    let end = next + 1;
    // Within a hidden element no other is looked for, so nesting cannot multiply the work.
    if !facts.is_hidden || at < page.hidden_until[Hiding::Element as usize] {
        return end;
    }
    let window = &bytes[end..(end + LONGEST).min(bytes.len())];
    let text = end..end + find_end(window, &bytes[tag.name.clone()]).unwrap_or(window.len());
    keep(page, at..text.end, text.clone(), Hiding::Element, report, hidden);
    end
}

/// Looks at `[`: markdown's comments, and links whose text is a role; gives where to go on.
pub(super) fn bracket(
    page: &mut Page<'_>,
    at: usize,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) -> usize {
    let bytes = page.bytes;
    let window = &bytes[at + 1..(at + 40).min(bytes.len())];
    let Some(length) = memchr(b']', window) else { return at + 1 };
    let behind = at + 1 + length + 1;
    match bytes.get(behind) {
        Some(b':') if page.begins_line(at) => markdown_comment(page, at, behind + 1, report, hidden),
        _ => {
            turns::bracket(page, at, &window[..length], behind, report);
            at + 1
        }
    }
}

/// `[//]: # (text)`, `[x]: <> "text"` and other definitions of links with a title.
fn markdown_comment(
    page: &mut Page<'_>,
    at: usize,
    from: usize,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) -> usize {
    let bytes = page.bytes;
    let target = skip_space(bytes, from, 4);
    let window = &bytes[target..(target + LONGEST_TAG).min(bytes.len())];
    let Some(length) = window.iter().position(u8::is_ascii_whitespace) else { return from };
    let title = skip_space(bytes, target + length, 4);
    let Some(&open) = bytes.get(title) else { return from };
    let close = match open {
        b'(' => b')',
        b'"' | b'\'' => open,
        _ => return from,
    };
    let window = &bytes[title + 1..(title + LONGEST).min(bytes.len())];
    // A title ends with its line or, where the text has marks of the same kind inside, with the last of them
    // before an empty line.
    let line = memchr(b'\n', window).unwrap_or(window.len());
    let length = match memrchr(close, &window[..line]) {
        Some(length) => length,
        None => {
            let paragraph = memmem::find(window, b"\n\n").unwrap_or(window.len());
            memrchr(close, &window[..paragraph]).unwrap_or(paragraph)
        }
    };
    let text = title + 1..title + 1 + length;
    keep(page, at..text.end + 1, text.clone(), Hiding::Comment, report, hidden);
    text.end
}

/// Hands out a hidden text and says whether it speaks to a model.
pub(super) fn keep(
    page: &mut Page<'_>,
    span: Range<usize>,
    text: Range<usize>,
    hiding: Hiding,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) {
    let cut = page.text.floor_char_boundary(text.start)..page.text.floor_char_boundary(text.end);
    let trimmed = page.text[cut.clone()].trim();
    let until = &mut page.hidden_until[hiding as usize];
    if trimmed.len() < SHORTEST || span.start < *until || !has_words(trimmed.as_bytes(), 3) {
        return;
    }
    *until = cut.end;
    if let Some(severity) = address::to_model(trimmed) {
        // Where the markup itself is shown as an example, its content may be one too.
        let is_example = page.is_fenced(span.start) || page.is_quoted(&(span.start..span.start + 1));
        report.add(
            Shape::HiddenRequest,
            if is_example { severity.min(Severity::Medium) } else { severity },
            span.clone(),
        );
    }
    let end = page.text.ceil_char_boundary(span.end);
    hidden.push(HiddenText { span: span.start..end, text: cut, hiding });
}

/// The first `</name` in `bytes`.
fn find_end(bytes: &[u8], name: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(hit) = memmem::find(&bytes[from..], b"</") {
        let at = from + hit;
        if bytes.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return Some(at);
        }
        from = at + 2;
    }
    None
}

/// A tag whose attributes are read one by one.
struct Tag<'a> {
    bytes: &'a [u8],
    name: Range<usize>,
}

impl Tag<'_> {
    /// The attribute that begins behind white space at `from`: its name, its value, and where to go on.
    fn attribute(&self, from: usize, page: &mut Page<'_>) -> Option<(Range<usize>, Range<usize>, usize)> {
        let bytes = self.bytes;
        let limit = (self.name.end + LONGEST_TAG).min(bytes.len());
        let start = (from..limit).find(|&at| !bytes[at].is_ascii_whitespace() && bytes[at] != b'/')?;
        let is_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'@' | b'.');
        let name_end = (start..limit).find(|&at| !is_name(bytes[at]))?;
        if name_end == start {
            return None;
        }
        let equals = skip_space(bytes, name_end, 4);
        if bytes.get(equals) != Some(&b'=') {
            return Some((start..name_end, name_end..name_end, name_end));
        }
        let value = skip_space(bytes, equals + 1, 4);
        let quote = *bytes.get(value)?;
        if matches!(quote, b'"' | b'\'') {
            return self.quoted(start..name_end, value + 1, quote, page);
        }
        let end = (value..limit).find(|&at| bytes[at].is_ascii_whitespace() || bytes[at] == b'>')?;
        Some((start..name_end, value..end, end))
    }

    /// A value in quotes. Text put there by an attacker holds the same marks, so where the tag does not go on
    /// behind the closing one, the value goes on to the last mark before `>`.
    fn quoted(
        &self,
        name: Range<usize>,
        from: usize,
        quote: u8,
        page: &mut Page<'_>,
    ) -> Option<(Range<usize>, Range<usize>, usize)> {
        let bytes = self.bytes;
        let ahead = &mut page.quote_end[usize::from(quote == b'\'')];
        let mut end = ahead.find(bytes, from, |rest| memchr(quote, rest))?;
        let goes_on = |at: usize| match bytes.get(at) {
            Some(b'>' | b'/') | None => true,
            Some(byte) => byte.is_ascii_whitespace(),
        };
        if !goes_on(end + 1) {
            let ahead = &mut page.tag_end[usize::from(quote == b'\'')];
            end = ahead.find(bytes, from, |rest| memmem::find(rest, &[quote, b'>'])).unwrap_or(end);
        }
        if end - from > LONGEST_TAG {
            return None;
        }
        Some((name, from..end, end + 1))
    }
}

/// What the attributes of a tag say.
#[derive(Default)]
struct Facts {
    is_hidden: bool,
}

impl Facts {
    #[expect(clippy::too_many_arguments, reason = "an attribute, its place, and the two outlets")]
    fn note(
        &mut self,
        page: &mut Page<'_>,
        at: usize,
        tag: &Tag<'_>,
        name: Range<usize>,
        value: Range<usize>,
        report: &mut Report<'_>,
        hidden: &mut Vec<HiddenText>,
    ) {
        let bytes = page.bytes;
        let content = &bytes[value.clone()];
        match &bytes[name.clone()] {
            b"style" | b"STYLE" => {
                self.is_hidden |= hides(content) || is_white(content);
            }
            b"hidden" | b"HIDDEN" => self.is_hidden = true,
            b"aria-hidden" => self.is_hidden |= content == b"true",
            b"alt" | b"title" | b"value" | b"aria-label" | b"placeholder" | b"content"
            | b"aria-description" | b"data-prompt" | b"data-instructions" | b"summary" | b"ALT"
            | b"TITLE"
                if content.len() >= SHORTEST =>
            {
                keep(page, at..value.end + 1, value, Hiding::Attribute, report, hidden);
            }
            b"href" | b"src" | b"HREF" | b"SRC" | b"action" | b"formaction" | b"data" | b"xlink:href" => {
                let is_image = continues(bytes, tag.name.start, b"img");
                links::target(page, at, value, is_image, report);
            }
            [b'o' | b'O', b'n' | b'N', _, ..] => links::handler(page, at, value, report),
            _ => {}
        }
    }
}

/// Whether a style keeps its element from being drawn.
fn hides(style: &[u8]) -> bool {
    let mut hides = false;
    for rule in style.split(|&byte| byte == b';') {
        let Some(colon) = memchr(b':', rule) else { continue };
        let (name, value) = (rule[..colon].trim_ascii(), rule[colon + 1..].trim_ascii());
        hides |= match lower(name, &mut [0; 16]) {
            b"display" => continues(value, 0, b"none"),
            b"visibility" => continues(value, 0, b"hidden") || continues(value, 0, b"collapse"),
            b"opacity" | b"fill-opacity" => number(value).is_some_and(|n| n < 0.06),
            b"font-size" => number(value).is_some_and(|n| n == 0.0 || n <= 1.0 && contains(value, b"p")),
            b"height" | b"width" | b"max-height" | b"max-width" => {
                number(value).is_some_and(|n| n <= 1.0) && (continues(value, 1, b"px") || value.len() == 1)
            }
            b"left" | b"top" | b"right" | b"bottom" | b"text-indent" | b"margin-left" | b"margin-top" => {
                number(value).is_some_and(|n| n <= -500.0)
            }
            b"clip" => contains(value, b"rect(0") || contains(value, b"rect(1px"),
            b"clip-path" => {
                contains(value, b"inset(50%")
                    || contains(value, b"inset(100%")
                    || contains(value, b"circle(0")
            }
            b"transform" => contains(value, b"scale(0)") || contains(value, b"-9999"),
            b"color" => {
                contains(value, b"transparent") || contains(value, b",0)") || contains(value, b", 0)")
            }
            _ => false,
        };
    }
    hides
}

/// Whether a style writes white on white, or on a background it does not name.
fn is_white(style: &[u8]) -> bool {
    let mut letters = false;
    let mut other_background = false;
    for rule in style.split(|&byte| byte == b';') {
        let Some(colon) = memchr(b':', rule) else { continue };
        let (name, value) = (rule[..colon].trim_ascii(), rule[colon + 1..].trim_ascii());
        let white =
            [&b"#fff"[..], b"white", b"rgb(255,255,255", b"rgb(255, 255, 255", b"#fefefe", b"#fdfdfd"]
                .iter()
                .any(|white| continues(value, 0, white));
        match lower(name, &mut [0; 16]) {
            b"color" => letters |= white,
            b"background" | b"background-color" => other_background |= !white,
            _ => {}
        }
    }
    letters && !other_background
}

/// The number that a value begins with.
fn number(value: &[u8]) -> Option<f32> {
    let length = value.iter().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.')).count();
    std::str::from_utf8(&value[..length]).ok()?.parse().ok()
}

/// A style's name in lower case; nothing if it is longer than any that is known.
fn lower<'r>(name: &[u8], room: &'r mut [u8; 16]) -> &'r [u8] {
    let Some(part) = room.get_mut(..name.len()) else { return &[] };
    part.copy_from_slice(name);
    part.make_ascii_lowercase();
    part
}
