//! Base64 and base64url (RFC 4648), with or without padding, wrapped or not. Runs of hex digits without gaps have
//! the same alphabet and come here too.

use std::ops::Range;

use super::plausible::{begins_as_text, from_utf16, text};
use super::{Budget, Encoding, Piece};
use super::{base32, digits};

/// Shorter runs are words and names.
const SHORTEST: usize = 16;
/// Digits that are tried first: 24 bytes.
const TRIED: usize = 32;
/// A run in several lines has lines of this length at least (PEM has 64, MIME 76).
const SHORTEST_LINE: usize = 16;
/// A shorter run is a word or a name if its letters are all small or all large.
const TELLS_CASE: usize = 32;

/// How often the lines of one run are tried one after the other.
const MOST_IN_VAIN: usize = 8;

/// Looks at each run of the survey.
pub(super) fn find(whole: &str, runs: &[Range<usize>], budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = whole.as_bytes();
    let (mut done, mut vain) = (0, 0);
    let mut out = Vec::new();
    for run in runs {
        if run.start < done {
            continue;
        }
        let before = bytes[done..run.start].iter().rev().take_while(|byte| is_digit(**byte)).count();
        let start = run.start - before;
        let inner = bytes[start..run.end].iter().take_while(|byte| is_digit(**byte)).count();
        let mut end = start + inner;
        if inner >= run.end - start {
            end += bytes[end..].iter().take_while(|byte| is_digit(**byte)).count();
        }
        done = end.max(run.end);
        if end - start < SHORTEST {
            continue;
        }
        if let Some((span, piece)) = digits::solid(whole, start..end, budget) {
            done = done.max(span.end);
            if let Some(piece) = piece {
                budget.keep(pieces, piece);
                continue;
            }
        }
        // A hyphen is a digit of base64url, and a gap between hex digits.
        if bytes[start + 2] == b'-' && digits::with_gaps(whole, start..end, budget, pieces) {
            continue;
        }
        if base32::begins(&bytes[start..end]) {
            let span = start..end_of_lines(bytes, &(start..end));
            let piece = base32::read(whole, span.clone(), budget);
            // What was decoded in vain is not decoded again from each of its lines.
            vain += usize::from(piece.is_none());
            if piece.is_some() || vain > MOST_IN_VAIN {
                done = done.max(span.end);
            }
            if let Some(piece) = piece {
                budget.keep(pieces, piece);
                continue;
            }
        }
        let is_short = end - start < TELLS_CASE;
        let has = |of: fn(&u8) -> bool| bytes[start..end].iter().any(of);
        if is_short && !(has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)) {
            continue;
        }
        let tried = &bytes[start..end.min(start + TRIED)];
        out.clear();
        decode(tried, &mut out);
        let is_utf16 = !begins_as_text(&out);
        if is_utf16 && !from_utf16(&out).is_some_and(|out| begins_as_text(&out)) {
            continue;
        }
        // What was decoded in vain is not decoded again from its next line.
        let span = start..end_of_lines(bytes, &(start..end));
        done = done.max(span.end);
        let fits = budget.fit(span, 4, 3);
        let mut all = Vec::new();
        decode(&bytes[fits.clone()], &mut all);
        let all = if is_utf16 { from_utf16(&all).unwrap_or_default() } else { all };
        if let Some(text) = text(all) {
            budget.keep(pieces, Piece { encoding: Encoding::Base64, span: fits, text });
        }
    }
}

/// Where a run ends that may go on in further lines, or groups with a space between them: only behind a full line, and only with a
/// line that has nothing else.
pub(super) fn end_of_lines(bytes: &[u8], run: &Range<usize>) -> usize {
    let (mut start, mut end) = (run.start, run.end);
    while end - start >= SHORTEST_LINE {
        let gap = bytes[end..].iter().take(4).take_while(|byte| byte.is_ascii_whitespace()).count();
        let has_line_end = bytes[end..end + gap].contains(&b'\n');
        if !has_line_end && bytes[end..end + gap] != *b" " {
            break;
        }
        let line = bytes[end + gap..].iter().take(end - start).take_while(|byte| is_digit(**byte)).count();
        let after = bytes[end + gap + line..].iter().find(|byte| **byte != b'=');
        // A group as long as the one before it may have another behind it.
        let is_group = !has_line_end && line == end - start && after == Some(&b' ');
        if line == 0 || !is_group && after.is_some_and(|byte| !matches!(byte, b'\n' | b'\r')) {
            break;
        }
        (start, end) = (end + gap, end + gap + line);
    }
    end
}

fn is_digit(byte: u8) -> bool {
    VALUES[usize::from(byte)] < 64
}

/// Six bits a digit; what is no digit is skipped.
fn decode(digits: &[u8], out: &mut Vec<u8>) {
    out.reserve(digits.len() / 4 * 3 + 3);
    let (mut bits, mut filled) = (0_u32, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        if value >= 64 {
            continue;
        }
        bits = bits << 6 | u32::from(value);
        filled += 6;
        if filled >= 8 {
            filled -= 8;
            out.push((bits >> filled & 255) as u8);
        }
    }
}

/// The six bits of each digit of either alphabet.
static VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut at = 0;
    while at < 64 {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
};
