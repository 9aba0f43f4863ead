//! Addresses that act or carry data away. A client that draws an answer's markdown fetches its images at once, so
//! an image whose address has room for the conversation sends it out without a click; a link can run a script.
//! Ordinary images, badges and signed addresses have neither.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memmem};

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
    for at in memchr_iter(b']', bytes) {
        if at < resume || bytes.get(at + 1) != Some(&b'(') {
            continue;
        }
        let page = page.get_or_insert_with(|| Page::new(text));
        let from = skip_space(bytes, at + 2, 8);
        let window = &bytes[from..(from + LONGEST).min(bytes.len())];
        let mut length = address_length(window);
        // What a line end cuts in two is one address for a browser.
        if window.get(length) == Some(&b'\n') && is_disguised(window) {
            length = memchr(b')', window).unwrap_or(length);
        }
        let end = from + length;
        let image_at = image_before(bytes, at);
        target(page, at, from..end, image_at.is_some(), report);
        if let Some(image_at) = image_at {
            markup::keep(page, image_at..end, image_at + 2..at, Hiding::Attribute, report, hidden);
        }
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
        b'j' | b'J' | b'v' | b'V' | b'\\' | b'd' | b'D' | b'&' | b'<' => {
            if is_disguised(bytes) {
                let is_shown = page.is_quoted(&span) || page.is_fenced(at);
                report.add(Shape::LinkScript, if is_shown { Severity::Medium } else { Severity::High }, span);
            } else if let Some(severity) = acts(bytes) {
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

/// The schemes that run a script.
const SCRIPTS: [&[u8]; 2] = [b"javascript:", b"vbscript:"];

/// Whether the scheme of a script is written so that only a browser reads it as one: with line ends, tabs or
/// entities inside. Nobody writes it so by chance.
fn is_disguised(address: &[u8]) -> bool {
    let address = address.trim_ascii_start();
    let address = address.strip_prefix(b"<").unwrap_or(address);
    if SCRIPTS.iter().any(|scheme| continues(address, 0, scheme)) {
        return false;
    }
    SCRIPTS.iter().any(|scheme| {
        let mut rest = address;
        scheme.iter().all(|&wanted| {
            while let Some((byte, length)) = drawn(rest) {
                rest = &rest[length..];
                if byte > b' ' {
                    return byte.eq_ignore_ascii_case(&wanted);
                }
            }
            false
        })
    })
}

/// The longest entity of one character, zeros in front included.
const ENTITY: usize = 12;

/// The byte at the beginning of `rest` as a browser has it, and how many bytes say it.
fn drawn(rest: &[u8]) -> Option<(u8, usize)> {
    let &first = rest.first()?;
    if first != b'&' {
        return Some((first, 1));
    }
    let window = &rest[1..rest.len().min(ENTITY)];
    for (name, byte) in [(&b"tab;"[..], b'\t'), (b"newline;", b'\n'), (b"colon;", b':')] {
        if continues(window, 0, name) {
            return Some((byte, 1 + name.len()));
        }
    }
    let (digits, radix, mark) = match window {
        [b'#', b'x' | b'X', digits @ ..] => (digits, 16, 3),
        [b'#', digits @ ..] => (digits, 10, 2),
        _ => return Some((first, 1)),
    };
    let length = digits.iter().take_while(|byte| (**byte as char).is_digit(radix)).count();
    let code =
        std::str::from_utf8(&digits[..length]).ok().and_then(|text| u32::from_str_radix(text, radix).ok());
    let end = mark + length + usize::from(digits.get(length) == Some(&b';'));
    // Beyond ASCII it is no letter of a scheme.
    Some((code.and_then(|code| u8::try_from(code).ok()).unwrap_or(first), end))
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

#[cfg(test)]
mod tests {
    use super::super::super::{Finding, Role};
    use super::super::check;
    use super::*;

    fn severity(text: &str) -> Option<Severity> {
        let mut found: Vec<Finding> = Vec::new();
        check(text, Role::User, &mut found, &mut Vec::new());
        found
            .iter()
            .filter(|finding| *finding.rule == *Shape::LinkScript.id())
            .map(|finding| finding.severity)
            .max()
    }

    #[test]
    fn a_disguised_scheme_says_more_than_a_plain_one() {
        for (name, text, expected) in [
            ("line end", "[a](java\nscript:alert(1))", Some(Severity::High)),
            ("tab", "[a](java\tscript:alert(1))", None),
            ("decimal", "[a](&#106;avascript:alert(1))", Some(Severity::High)),
            ("hexadecimal", "[a](j&#x61;vascript:alert(1))", Some(Severity::High)),
            ("zeros", "[a](&#0000106;avascript:alert(1))", Some(Severity::High)),
            ("colon", "<a href=\"javascript&colon;alert(1)\">a</a>", Some(Severity::High)),
            ("tab by name", "<a href=\"java&Tab;script:alert(1)\">a</a>", Some(Severity::High)),
            ("line end in a tag", "<a href=\"java\nscript:alert(1)\">a</a>", Some(Severity::High)),
            ("in code", "Write `[a](&#106;avascript:alert(1))` to see it.", Some(Severity::Medium)),
            ("plain", "[a](javascript:alert(1))", Some(Severity::Medium)),
            ("void", "<a href=\"javascript:void(0)\">a</a>", Some(Severity::Low)),
            ("a page about java", "[a](java\nscripts of the island)", None),
            ("an entity", "[a](&#106;ava.html)", None),
            ("a folder", "[a](javascript/index.html)", None),
            ("an ampersand", "[a](&x=1)", None),
        ] {
            assert_eq!(severity(text), expected, "{name}");
        }
    }
}
