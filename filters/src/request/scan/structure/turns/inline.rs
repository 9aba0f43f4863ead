//! Turns inside a line: behind an answer on the same line, or marked by a role in brackets.

use memchr::memmem;

use super::super::super::Severity;
use super::super::page::{Name, Page, contains, has_words, skip_space};
use super::super::shape::{Report, Shape};
use super::LONGEST;

/// "… Assistant: Done. System: …" on one line; the answer's name begins at `at`.
pub(super) fn answered(page: &mut Page<'_>, at: usize, report: &mut Report<'_>) {
    let bytes = page.bytes;
    if at <= page.first || page.is_quoted(&(at..at + 10)) {
        return;
    }
    let behind = &bytes[at..(at + 1000).min(bytes.len())];
    for (mark, is_system) in [
        (&b"System:"[..], true),
        (b"SYSTEM:", true),
        (b"Human:", false),
        (b"User:", false),
        (b"HUMAN:", false),
        (b"USER:", false),
    ] {
        let Some(hit) = memmem::find(behind, mark) else { continue };
        if !matches!(behind[hit.saturating_sub(1)], b' ' | b'>') {
            continue;
        }
        let before = memmem::find(&bytes[at.saturating_sub(1000)..at], mark).is_some();
        if !before && has_words(&behind[hit + mark.len()..], 2) {
            let severity = if is_system && !page.is_fenced(at) { Severity::High } else { Severity::Medium };
            return report.add(Shape::SpokenTurn, severity, at..at + hit + mark.len());
        }
    }
}

/// Looks at the words in brackets at `at`: a link whose text is a role, or a role before an order. What follows
/// the brackets is at `behind`.
pub(in super::super) fn bracket(
    page: &mut Page<'_>,
    at: usize,
    words: &[u8],
    behind: usize,
    report: &mut Report<'_>,
) {
    let bytes = page.bytes;
    let role = words.strip_prefix(b"/").unwrap_or(words);
    if !matches!(
        Name::of(role).as_ref().map(Name::as_bytes),
        Some(
            b"system"
                | b"assistant"
                | b"developer"
                | b"systemprompt"
                | b"systemmessage"
                | b"admin"
                | b"sys"
                | b"user"
                | b"override"
        )
    ) {
        return;
    }
    let is_system = !role.eq_ignore_ascii_case(b"assistant") && !role.eq_ignore_ascii_case(b"user");
    let span = at..behind;
    if bytes.get(behind) == Some(&b'(') {
        let target = &bytes[behind + 1..(behind + 60).min(bytes.len())];
        let target = &target[..target.iter().position(|&byte| byte == b')').unwrap_or(target.len())];
        if target.first() == Some(&b'#') && is_frame(&target[1..]) && !page.is_quoted(&span) {
            let severity = if page.is_fenced(at) { Severity::Medium } else { Severity::High };
            report.add(Shape::RoleLink, severity, at..behind + target.len() + 2);
        }
        return;
    }
    if !is_system || !page.begins_line(at) || page.is_fenced(at) || page.is_quoted(&span) {
        return;
    }
    let is_repeated = bytes[behind..].starts_with(&bytes[at..behind]);
    let content = &bytes[behind..(behind + 200).min(bytes.len())];
    let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_closed = memchr::memchr(b'/', content).is_some_and(|hit| {
        content[..hit].ends_with(b"[") && content[hit + 1..].starts_with(&bytes[at + 1..behind])
    });
    if at <= page.first && !is_closed {
        return;
    }
    // Lines of a log begin with a bracket too, one after the other.
    let line_start = memchr::memrchr(b'\n', &bytes[..at]).unwrap_or(0);
    let before = bytes[line_start.saturating_sub(200)..line_start]
        .rsplit(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let after = content.get(line.len() + 1..).unwrap_or_default();
    let is_log = [before, after].iter().any(|line| line.trim_ascii_start().starts_with(b"["));
    let severity = match (has_words(line, 6), is_log) {
        _ if is_repeated || is_closed && has_words(content, 3) => Severity::High,
        (true, false) => Severity::High,
        (false, false) if has_words(line, 2) => Severity::Medium,
        _ => return,
    };
    report.add(Shape::RoleBracket, severity, span);
}

/// Looks at `[` at the beginning of a line for `[system]: do this`, which would define a link if an address followed.
pub(in super::super) fn label(page: &mut Page<'_>, at: usize, report: &mut Report<'_>) {
    let bytes = page.bytes;
    let window = &bytes[at + 1..(at + LONGEST).min(bytes.len())];
    let Some(length) = memmem::find(window, b"]:") else { return };
    let behind = at + 1 + length + 2;
    let target = skip_space(bytes, behind, 4);
    let target = &bytes[target..(target + LONGEST).min(bytes.len())];
    let word = target.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if !word.iter().any(|byte| matches!(byte, b'/' | b'#' | b'<' | b'.' | b'@')) {
        bracket(page, at, &window[..length], behind, report);
    }
}

/// Whether a link's target is a part of a prompt's frame and not a section of a document.
fn is_frame(target: &[u8]) -> bool {
    [
        &b"instruction"[..],
        b"message",
        b"prompt",
        b"context",
        b"rules",
        b"monologue",
        b"override",
        b"directive",
        b"suggestions",
        b"additional",
        b"internal",
    ]
    .iter()
    .any(|word| contains(target, word))
}
