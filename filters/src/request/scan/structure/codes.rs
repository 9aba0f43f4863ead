//! Bits, spaced hex digits or Morse where words are to be expected. Dumps have them too, so it is evidence only.
//!
//! Cost: one byte in twenty-eight, the least that such a run is long; what stands around it only where that may be part
//! of one.

use std::ops::Range;

use super::super::Severity;
use super::shape::{Report, Shape};

/// The shortest run: fourteen signs of Morse of one character, each with a space.
const SHORTEST: usize = 28;
/// Bytes of bits in a row that are no accident, of eight digits each.
const BITS: usize = 6;
/// Pairs of hex digits.
const PAIRS: usize = 12;
/// Signs of Morse.
const SIGNS: usize = 14;

/// What a byte may be part of: Morse, and bits or hex digits.
const MORSE: u8 = 1;
const DIGITS: u8 = 2;

/// By byte what it may be part of.
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let morse = if is_morse(byte as u8) { MORSE } else { 0 };
        let digits = if is_digits(byte as u8) { DIGITS } else { 0 };
        kinds[byte] = morse | digits;
        byte += 1;
    }
    kinds
};

/// Half of a run that is long enough.
const HALF: usize = SHORTEST / 2;

/// Reports runs of codes.
pub(super) fn check(text: &str, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    // Up to where runs of each kind have been looked at.
    let (mut morse_until, mut digits_until) = (0, 0);
    for at in (HALF..bytes.len()).step_by(SHORTEST) {
        let kinds = kinds(bytes, at);
        if kinds == 0 {
            continue;
        }
        if kinds & MORSE != 0 && at >= morse_until {
            let run = run(bytes, at, is_morse);
            morse_until = run.end;
            if run.len() >= SHORTEST && has_morse(&bytes[run.clone()]) {
                report.add(Shape::Codes, Severity::Medium, run);
            }
        }
        if kinds & DIGITS != 0 && at >= digits_until {
            let run = run(bytes, at, is_digits);
            digits_until = run.end;
            let before = run.start.checked_sub(1).map(|before| bytes[before]);
            let is_begun = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if run.len() >= SHORTEST && has_digits(&bytes[run.clone()], is_begun) {
                report.add(Shape::Codes, Severity::Medium, run);
            }
        }
    }
}

/// What runs `at` may lie in: one that is long enough has half of its length on one side of it. Without a branch, since
/// none could be foretold.
#[inline]
fn kinds(bytes: &[u8], at: usize) -> u8 {
    let kind = |at: usize| bytes.get(at).map_or(0, |byte| KINDS[usize::from(*byte)]);
    let before = kind(at - 13) & kind(at - 10) & kind(at - 7) & kind(at - 3);
    let after = kind(at + 13) & kind(at + 10) & kind(at + 7) & kind(at + 3);
    kind(at) & (before | after)
}

/// The longest run around `at` of which every byte is one of these.
fn run(bytes: &[u8], at: usize, is_part: impl Fn(u8) -> bool) -> Range<usize> {
    let before = bytes[..at].iter().rev().take_while(|byte| is_part(**byte)).count();
    let after = bytes[at..].iter().take_while(|byte| is_part(**byte)).count();
    at - before..at + after
}

const fn is_morse(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'/' | b' ')
}

const fn is_digits(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b' ' | b',')
}

/// Whether enough signs stand together: up to five dots and dashes each, then up to three spaces or strokes.
fn has_morse(run: &[u8]) -> bool {
    let is_mark = |byte: &u8| matches!(byte, b'.' | b'-');
    let mut signs = 0;
    run.chunk_by(|one, other| is_mark(one) || !is_mark(other)).any(|sign| {
        let marks = sign.iter().take_while(|byte| is_mark(byte)).count();
        let is_sign = (1..=5).contains(&marks) && (1..=3).contains(&(sign.len() - marks));
        signs = if is_sign { signs + 1 } else { 0 };
        signs >= SIGNS
    })
}

/// Whether enough bytes stand together: eight bits each, or two hex digits each. `is_begun` says that a letter or digit
/// stands before the first.
fn has_digits(run: &[u8], is_begun: bool) -> bool {
    let (mut bits, mut pairs) = (0, 0);
    // Of the whole run, and asked once: a run may be as long as the text.
    let may_be_pairs = run.iter().any(u8::is_ascii_digit) && !run.contains(&b',');
    let mut groups = run.split(|byte| matches!(byte, b' ' | b',')).enumerate();
    groups.any(|(at, group)| {
        // Two signs may part bytes of bits; one space parts pairs.
        let is_bits = group.len() == 8 && group.iter().all(|digit| matches!(digit, b'0' | b'1'));
        let is_pair = group.len() == 2 && (at > 0 || !is_begun);
        bits = if is_bits || (group.is_empty() && bits > 0) { bits + usize::from(is_bits) } else { 0 };
        pairs = if is_pair { pairs + 1 } else { 0 };
        bits >= BITS || may_be_pairs && pairs >= PAIRS
    })
}
