//! Addresses that act or carry data away. A client that draws an answer's markdown fetches its images at once, so
//! an image whose address has room for the conversation sends it out without a click; a link can run a script.
//! Ordinary images, badges and signed addresses have neither.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::super::Severity;
use super::page::{Page, contains, continues, skip_space};
use super::shape::{Report, Shape};
use super::{HiddenText, Hiding, markup};

/// The longest address that is looked at.
const LONGEST: usize = 2048;

/// Judges the links and images of markdown in `text`, and hands out the titles of links.
pub(super) fn check(text: &str, report: &mut Report<'_>, hidden: &mut Vec<HiddenText>) {
    let mut page = None;
    let bytes = text.as_bytes();
    let mut resume = 0;
    for at in memmem::find_iter(bytes, b"](") {
        if at < resume {
            continue;
        }
        let page = page.get_or_insert_with(|| Page::new(text));
        let from = skip_space(bytes, at + 2, 8);
        let window = &bytes[from..(from + LONGEST).min(bytes.len())];
        let length = address_length(window);
        let end = from + length;
        let image_at = image_before(bytes, at);
        target(page, at, from..end, image_at.is_some(), report);
        resume = end.max(at + 2);
        let title = skip_space(bytes, end, 4);
        if let Some(&quote @ (b'"' | b'\'')) = bytes.get(title)
            && title > end
            && let Some(length) =
                title_length(&bytes[title + 1..(title + 1 + LONGEST).min(bytes.len())], quote)
        {
            let text = title + 1..title + 1 + length;
            resume = text.end;
            markup::keep(page, at..text.end, text, Hiding::Attribute, report, hidden);
        }
    }
}

/// How long the address at the beginning of `window` is: to white space or the bracket that closes the link.
/// Brackets inside belong to it, as does white space within braces: that is a place to fill in.
fn address_length(window: &[u8]) -> usize {
    let mut round = 0_u32;
    let mut other = 0_u32;
    for (at, byte) in window.iter().enumerate() {
        match byte {
            b'(' => round += 1,
            b')' if round == 0 => return at,
            b')' => round -= 1,
            b'[' | b'{' | b'<' => other += 1,
            b']' | b'}' | b'>' => other = other.saturating_sub(1),
            b'\n' => return at,
            b' ' | b'\t' if other == 0 => return at,
            _ => {}
        }
    }
    window.len()
}

/// How long a title is: to its last mark before a `)` on the way.
fn title_length(window: &[u8], quote: u8) -> Option<usize> {
    memmem::find(window, &[quote, b')']).or_else(|| memchr(quote, window))
}

/// Where the `![` of an image stands whose `](` is at `at`.
fn image_before(bytes: &[u8], at: usize) -> Option<usize> {
    let low = at.saturating_sub(200);
    let open = memchr::memrchr(b'[', &bytes[low..at])?;
    (open > 0 && bytes[low + open - 1] == b'!').then(|| low + open - 1)
}

/// Judges the address in `value` of a link or image that begins at `at`.
pub(super) fn target(
    page: &mut Page<'_>,
    at: usize,
    value: Range<usize>,
    is_image: bool,
    report: &mut Report<'_>,
) {
    let bytes = &page.bytes[value.clone()];
    let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace() && **byte > 0x20) else { return };
    let span = at..value.end;
    match first {
        b'j' | b'J' | b'v' | b'V' | b'\\' | b'd' | b'D' => {
            if let Some(severity) = acts(bytes) {
                let is_shown = page.is_quoted(&span) || page.is_fenced(at);
                report.add(Shape::LinkScript, if is_shown { Severity::Low } else { severity }, span);
            }
        }
        b'h' | b'H' | b'/' if is_image => {
            if let Some(severity) = carries(bytes) {
                let is_shown = page.is_fenced(at);
                report.add(
                    Shape::ExfilImage,
                    if is_shown { severity.min(Severity::Medium) } else { severity },
                    span,
                );
            }
        }
        _ => {}
    }
}

/// Whether an address runs a script. `javascript:void(0)` is how old pages say "no address".
fn acts(address: &[u8]) -> Option<Severity> {
    let head = &address[..address.len().min(64)];
    if contains(head, b"data:text/html") || contains(head, b"data:image/svg") && contains(address, b"script")
    {
        return Some(Severity::Medium);
    }
    if !contains(head, b"javascript:") && !contains(head, b"vbscript:") {
        return None;
    }
    let does = [
        &b"alert("[..],
        b"document.",
        b"fetch(",
        b"eval(",
        b"console.",
        b"fromcharcode",
        b"xmlhttp",
        b"location=",
        b"location.href=",
        b"prompt(",
        b"confirm(",
        b"import(",
        b"atob(",
    ];
    let acts = does.iter().any(|call| contains(address, call));
    Some(if acts { Severity::Medium } else { Severity::Low })
}

/// Whether an image's address is to carry data: one of its values is a place to fill in, and the name in that
/// place says with what.
fn carries(address: &[u8]) -> Option<Severity> {
    let query = memchr(b'?', address)?;
    let mut worst = None;
    for pair in address[query + 1..].split(|&byte| byte == b'&') {
        let Some(equals) = memchr(b'=', pair) else { continue };
        let value = &pair[equals + 1..];
        let Some(place) = placeholder(value) else { continue };
        let severity =
            if DATA.iter().any(|word| contains(place, word)) { Severity::High } else { Severity::Medium };
        worst = worst.max(Some(severity));
    }
    worst
}

/// What conversations and secrets are called.
const DATA: [&[u8]; 26] = [
    b"summary",
    b"chat",
    b"conversation",
    b"history",
    b"secret",
    b"password",
    b"prompt",
    b"token",
    b"message",
    b"context",
    b"credential",
    b"cookie",
    b"base64",
    b"encoded",
    b"data",
    b"answer",
    b"reply",
    b"response",
    b"query",
    b"email",
    b"user",
    b"key",
    b"document",
    b"content",
    b"instruction",
    b"leak",
];

/// The name in a value that is a place to fill in: `[x]`, `{x}`, `<x>`, `$X`, or words in capitals.
fn placeholder(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'[', inner @ .., b']']
        | [b'{', inner @ .., b'}']
        | [b'<', inner @ .., b'>']
        | [b'%', inner @ .., b'%'] => inner,
        [b'$', inner @ ..] => inner,
        capitals
            if capitals.len() >= 4
                && capitals
                    .iter()
                    .all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-' | b'+'))
                && capitals.iter().filter(|byte| byte.is_ascii_uppercase()).count() >= 4 =>
        {
            capitals
        }
        _ => return None,
    };
    (!inner.is_empty()).then_some(inner)
}

/// Judges the code of an event handler.
pub(super) fn handler(page: &mut Page<'_>, at: usize, value: Range<usize>, report: &mut Report<'_>) {
    let code = &page.bytes[value.start..value.end.min(value.start + 256)];
    let does =
        [&b"javascript:"[..], b"alert(", b"document.cookie", b"eval(", b"fetch(", b"fromcharcode", b"atob("];
    if does.iter().any(|call| contains(code, call)) {
        let span = at..value.end;
        let is_shown = page.is_fenced(at) || page.is_quoted(&(at..at + 1));
        report.add(Shape::Script, if is_shown { Severity::Low } else { Severity::Medium }, span);
    }
}

/// Judges an element without attributes.
pub(super) fn plain_tag(page: &mut Page<'_>, at: usize, name_end: usize, report: &mut Report<'_>) {
    if name_end - at == 7 && continues(page.bytes, at, b"<script") {
        report.add(Shape::Script, Severity::Low, at..name_end + 1);
    }
}
