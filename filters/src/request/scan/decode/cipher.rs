//! ROT13 and text written backwards. Neither has a sign of its own; what gives them away is that letters follow
//! each other as in words only after the change. The test reads samples of a long text: a short sentence in ROT13
//! in the middle of a long document is seen only where somebody asks for it (`whole`).

use std::ops::Range;

use super::super::view::{Likelihood, Trace};
use super::{Budget, Encoding, Piece};

/// Letters that are judged together: two lines.
const WINDOW: usize = 96;
/// Short texts are judged by windows that overlap, up to eight of them, and of a long one a window in each of as
/// many bytes.
const APART: usize = 1024;
/// What is read around a window that was recognised.
const AROUND: usize = 2048;

/// Reads the parts that look like one of the ciphers.
pub(super) fn find(text: &str, budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = text.as_bytes();
    let step = (bytes.len() / 8).clamp(WINDOW / 2, APART);
    let mut parts: [Option<Range<usize>>; 2] = [None, None];
    let mut at = 0;
    loop {
        let end = (at + WINDOW).min(bytes.len());
        let sum = Likelihood::of(&bytes[at..end]);
        let kinds = [(Encoding::Rot13, sum.is_rot13()), (Encoding::Reversed, sum.is_reversed())];
        for (part, (encoding, is_seen)) in parts.iter_mut().zip(kinds) {
            if !is_seen || !has_few_digits(&bytes[at..end]) {
                continue;
            }
            let around = at.saturating_sub(AROUND)..(end + AROUND).min(bytes.len());
            match part {
                Some(part) if part.end >= around.start => part.end = around.end,
                _ => {
                    if let Some(part) = part.replace(around) {
                        read(text, part, encoding, budget, pieces);
                    }
                }
            }
        }
        at += step;
        if at + MIN_TAIL > bytes.len() {
            break;
        }
    }
    for (part, encoding) in parts.into_iter().zip([Encoding::Rot13, Encoding::Reversed]) {
        if let Some(part) = part {
            read(text, part, encoding, budget, pieces);
        }
    }
}

/// A window with less in it decides nothing.
const MIN_TAIL: usize = 16;

/// The letters of hashes are those of hex digits, which ROT13 turns into more frequent ones.
fn has_few_digits(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| byte.is_ascii_digit()).count() * 10 < bytes.len()
}

fn read(text: &str, part: Range<usize>, encoding: Encoding, budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let start = text.floor_char_boundary(part.start);
    let end = part.end.min(start + budget.bytes);
    budget.is_spent |= end < part.end;
    let span = start..text.floor_char_boundary(end).max(start);
    if span.len() < MIN_TAIL {
        return;
    }
    let part = &text[span.clone()];
    let text = match encoding {
        Encoding::Rot13 => part.chars().map(rot13).collect(),
        Encoding::Reversed => part.chars().rev().collect(),
        _ => return,
    };
    budget.keep(pieces, Piece { encoding, span, text });
}

fn rot13(c: char) -> char {
    match c {
        'a'..='z' => char::from((c as u8 - b'a' + 13) % 26 + b'a'),
        'A'..='Z' => char::from((c as u8 - b'A' + 13) % 26 + b'A'),
        _ => c,
    }
}

/// Where each character of `text` went when it was reversed.
pub(super) fn trace_reversed(text: &str, trace: &mut impl Trace) {
    for (at, c) in text.char_indices().rev() {
        trace.replaced(text.len() - at - c.len_utf8(), at);
    }
}
