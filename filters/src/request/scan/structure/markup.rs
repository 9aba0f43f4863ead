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

mod style;

pub(super) use style::Sheets;

/// The longest hidden text that is followed to its end; from there on it is read as any other.
const LONGEST: usize = 4096;
/// The shortest hidden text that could ask for something.
const SHORTEST: usize = 12;
/// The longest text of an element that is hidden by its name alone.
const SHORT: usize = 512;
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
    let name = &bytes[at + 1..name_end];
    if bytes.get(name_end) == Some(&b'>') {
        links::plain_tag(page, at, name_end, report);
        if name.eq_ignore_ascii_case(b"style") {
            page.sheets.read(bytes, name_end + 1);
        }
        if is_undrawn(name) {
            hide(page, at, name, name_end + 1, report, hidden);
        }
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
    if name.eq_ignore_ascii_case(b"style") {
        page.sheets.read(bytes, end);
    }
    if facts.is_data {
        data(page, at, end, report, hidden);
    } else if facts.is_hidden || is_undrawn(name) {
        hide(page, at, name, end, report, hidden);
    }
    end
}

/// Hands out the strings of JSON that stands in a script from `from` on: what machines read and nobody sees.
fn data(page: &mut Page<'_>, at: usize, from: usize, report: &mut Report<'_>, hidden: &mut Vec<HiddenText>) {
    if from < page.data_until {
        return;
    }
    let bytes = page.bytes;
    let window = &bytes[from..(from + LONGEST).min(bytes.len())];
    let end = from + memmem::find(window, b"</").unwrap_or(window.len());
    page.data_until = end;
    let mut at = at;
    let mut next = from;
    while let Some(open) = memchr(b'"', &bytes[next..end]) {
        let open = next + open + 1;
        let Some(length) = memchr(b'"', &bytes[open..end]) else { return };
        if length >= SHORTEST {
            keep(page, at..open + length, open..open + length, Hiding::Attribute, report, hidden);
            at = open + length;
        }
        next = open + length + 1;
    }
}

/// Elements that no browser with scripts draws.
fn is_undrawn(name: &[u8]) -> bool {
    [&b"noscript"[..], b"template", b"desc"].iter().any(|undrawn| name.eq_ignore_ascii_case(undrawn))
}

/// Hands out what the element `name`, opened at `at`, has from `from` on.
fn hide(
    page: &mut Page<'_>,
    at: usize,
    name: &[u8],
    from: usize,
    report: &mut Report<'_>,
    hidden: &mut Vec<HiddenText>,
) {
    // Within a hidden element no other is looked for, so nesting cannot multiply the work.
    if at < page.hidden_until[Hiding::Element as usize] {
        return;
    }
    // Programs keep whole pages in templates, and those are drawn later.
    let is_short = is_undrawn(name);
    let most = if is_short { SHORT } else { LONGEST };
    let window = &page.bytes[from..(from + most).min(page.bytes.len())];
    let end = find_end(window, name);
    if is_short && end.is_none() {
        return;
    }
    let text = from..from + end.unwrap_or(window.len());
    keep(page, at..text.end, text, Hiding::Element, report, hidden);
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
        Some(b':') if page.begins_line(at) || is_comment(bytes, behind + 1) => {
            markdown_comment(page, at, behind + 1, report, hidden)
        }
        _ => {
            turns::bracket(page, at, &window[..length], behind, report);
            at + 1
        }
    }
}

/// Whether a definition that does not begin its line has no target, as only comments have none.
fn is_comment(bytes: &[u8], from: usize) -> bool {
    let target = skip_space(bytes, from, 4);
    continues(bytes, target, b"# ") || continues(bytes, target, b"<> ")
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
    if let Some(severity) = address::to_model(trimmed, hiding) {
        // Where the markup itself is shown as an example, its content may be one too.
        let is_example = page.is_fenced(span.start) || page.is_quoted(&(span.start..span.start + 1));
        let severity = if is_example {
            severity.min(Severity::Medium)
        } else if hiding == Hiding::Comment
            && page.is_under_heading(span.start)
            && address::fills_template(trimmed)
        {
            Severity::Low
        } else {
            severity
        };
        report.add(Shape::HiddenRequest, severity, span.clone());
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
    /// A script that is none.
    is_data: bool,
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
            b"style" | b"STYLE" => self.is_hidden |= style::hides(content),
            b"class" | b"CLASS" => {
                self.is_hidden |= style::class_hides(content) || page.sheets.hide(bytes, content, b'.');
            }
            b"id" | b"ID" => self.is_hidden |= page.sheets.hide(bytes, content, b'#'),
            b"color" | b"COLOR" if continues(bytes, tag.name.start, b"font") => {
                self.is_hidden |= style::is_paper(content);
            }
            b"type" if continues(bytes, tag.name.start, b"script") => {
                self.is_data = contains(content, b"json");
                self.is_hidden |= content == b"text/plain";
            }
            b"hidden" | b"HIDDEN" => self.is_hidden = true,
            b"aria-hidden" => self.is_hidden |= content == b"true",
            b"alt"
            | b"title"
            | b"value"
            | b"aria-label"
            | b"placeholder"
            | b"content"
            | b"aria-description"
            | b"summary"
            | b"srcdoc"
            | b"ALT"
            | b"TITLE"
            | [b'd', b'a', b't', b'a', b'-', ..]
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

#[cfg(test)]
mod tests;
