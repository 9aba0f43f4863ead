//! The regular expressions of `pattern:` rules. They are parsed here, once, and each engine gets what this parse
//! understood: the reference engine the parsed form, Hyperscan that form written out again. So a construct that
//! two dialects read differently cannot make them disagree.
//!
//! A pattern reads bytes: `\w`, `\s`, `\d`, `\b` and `.` mean ASCII, and letters of ASCII match in either case.
//! Other letters may stand in it; in a class only inside `(?u:…)`, as in `(?u:[あ-ん])`.

use std::borrow::Cow;
use std::fmt::Write;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};
use regex_syntax::utf8::Utf8Sequences;

use super::{View, Views};

/// What means something in a pattern.
const SIGNS: &[char] =
    &['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$', '-', '&', '~', '#'];

/// A pattern as it must stand to be found in normalised text: each letter in its normalised form. One that reads the
/// raw view alone stays as it is. ASCII is left alone, since `\S` is not `\s`; it is matched caselessly.
pub(super) fn normalised<'p>(
    pattern: &'p str,
    views: Views,
    normalise: &impl for<'t> Fn(&'t str) -> Cow<'t, str>,
) -> Cow<'p, str> {
    if pattern.is_ascii() || views == Views::only(View::Raw) {
        return Cow::Borrowed(pattern);
    }
    let mut buffer = [0; 4];
    let mut out = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        if letter.is_ascii() {
            out.push(letter);
        } else {
            let plain = normalise(letter.encode_utf8(&mut buffer));
            // What is nothing or a sign of the pattern language once normalised keeps its meaning only as it is.
            let is_safe = !plain.is_empty() && !plain.contains(SIGNS);
            if is_safe { out.push_str(&plain) } else { out.push(letter) }
        }
    }
    Cow::Owned(out)
}

/// Reads a pattern.
///
/// # Errors
/// What is wrong with it, or what not every engine can do.
pub(crate) fn parse(pattern: &str) -> Result<Hir, String> {
    let hir = ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .case_insensitive(true)
        .build()
        .parse(pattern)
        .map_err(|error| format!("not a pattern that is supported: {error}"))?;
    if hir.properties().minimum_len().unwrap_or(0) == 0 {
        return Err("expected a pattern that needs at least one character".to_owned());
    }
    let supported =
        [Look::Start, Look::End, Look::StartLF, Look::EndLF, Look::WordAscii, Look::WordAsciiNegate];
    if hir.properties().look_set().iter().any(|look| !supported.contains(&look)) {
        return Err("expected none of `(?u:\\b)`, `\\b{start}`, `\\b{end}`, `(?R)`".to_owned());
    }
    Ok(hir)
}

#[cfg(feature = "hyperscan")]
/// The same pattern as Hyperscan reads it, over bytes and with no flag.
pub(crate) fn for_hyperscan(hir: &Hir) -> String {
    let mut out = String::new();
    write(hir, &mut out);
    out
}

fn write(hir: &Hir, out: &mut String) {
    match hir.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        HirKind::Literal(literal) => literal.0.iter().for_each(|byte| write_byte(*byte, out)),
        HirKind::Class(class) => write_class(class, out),
        HirKind::Look(look) => out.push_str(match look {
            Look::Start => "\\A",
            Look::End => "\\z",
            Look::StartLF => "(?m:^)",
            Look::EndLF => "(?m:$)",
            Look::WordAsciiNegate => "\\B",
            // `parse` lets nothing else through.
            _ => "\\b",
        }),
        HirKind::Repetition(repetition) => write_repetition(repetition, out),
        HirKind::Capture(capture) => write_group(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write_group_if_needed(part, out)),
        HirKind::Alternation(parts) => {
            out.push_str("(?:");
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    out.push('|');
                }
                write(part, out);
            }
            out.push(')');
        }
    }
}

fn write_group_if_needed(hir: &Hir, out: &mut String) {
    if matches!(hir.kind(), HirKind::Concat(_)) { write_group(hir, out) } else { write(hir, out) }
}

fn write_group(hir: &Hir, out: &mut String) {
    out.push_str("(?:");
    write(hir, out);
    out.push(')');
}

fn write_repetition(repetition: &Repetition, out: &mut String) {
    write_group(&repetition.sub, out);
    let _ = match (repetition.min, repetition.max) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (min, None) => write!(out, "{{{min},}}"),
        (min, Some(max)) => write!(out, "{{{min},{max}}}"),
    };
}

fn write_byte(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

fn write_class(class: &Class, out: &mut String) {
    match class {
        Class::Bytes(class) if class.ranges().is_empty() => out.push_str("[^\\x00-\\xff]"),
        Class::Bytes(class) => {
            out.push('[');
            for range in class.ranges() {
                write_range(range.start(), range.end(), out);
            }
            out.push(']');
        }
        Class::Unicode(class) => {
            out.push_str("(?:");
            let sequences =
                class.ranges().iter().flat_map(|range| Utf8Sequences::new(range.start(), range.end()));
            for (index, sequence) in sequences.enumerate() {
                if index > 0 {
                    out.push('|');
                }
                for range in sequence.as_slice() {
                    out.push('[');
                    write_range(range.start, range.end, out);
                    out.push(']');
                }
            }
            out.push(')');
        }
    }
}

fn write_range(start: u8, end: u8, out: &mut String) {
    let _ = write!(out, "\\x{start:02x}-\\x{end:02x}");
}
