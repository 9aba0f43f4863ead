//! The regular expressions of `pattern:` rules. They are parsed here, once, and each engine gets what this parse
//! understood: the reference engine the parsed form, Hyperscan that form written out again. So a construct that
//! two dialects read differently cannot make them disagree.
//!
//! A pattern reads bytes: `\w`, `\s`, `\d`, `\b` and `.` mean ASCII, and letters of ASCII match in either case.
//! Other letters may stand in it; in a class only inside `(?u:…)`, as in `(?u:[あ-ん])`.

use std::borrow::Cow;

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, Look};

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
