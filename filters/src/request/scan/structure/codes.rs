//! Bits, spaced hex digits or Morse where words are to be expected. Dumps have them too, so it is evidence only.
//!
//! Cost: sixty-four bytes at a time; what stands around them only where enough signs of these codes stand in a row.

use std::ops::Range;

use wide::i8x16;

use super::super::Severity;
use super::super::block::{self, within};
use super::shape::{Report, Shape};

/// The shortest run: fourteen signs of Morse of one character, each with a space.
const SHORTEST: usize = 28;
/// Bytes of bits in a row that are no accident, of eight digits each.
const BITS: usize = 6;
/// Pairs of hex digits.
const PAIRS: usize = 12;
/// Signs of Morse.
const SIGNS: usize = 14;

/// Reports runs of codes.
pub(super) fn check(text: &str, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    let mut signs = signs(bytes, 0);
    for at in (0..bytes.len()).step_by(block::SIZE) {
        let next = self::signs(bytes, at + block::SIZE);
        // Seldom any: sixteen in a row are no word.
        let mut begins = block::sixteen(signs, next);
        // One that began in an earlier block has been looked at.
        if begins & 1 != 0 && at > 0 && is_sign(bytes[at - 1]) {
            begins &= signs.wrapping_add(1);
        }
        signs = next;
        while begins != 0 {
            let first = begins.trailing_zeros();
            begins &= u64::MAX.checked_shl(first + (begins >> first).trailing_ones()).unwrap_or(0);
            check_run(bytes, run(bytes, at + first as usize, is_sign), report);
        }
    }
}
/// Reports runs of one kind of code among signs of both.
fn check_run(bytes: &[u8], signs: Range<usize>, report: &mut Report<'_>) {
    // Up to where runs of each kind have been looked at.
    let (mut morse_until, mut digits_until) = (0, 0);
    for at in (signs.start + SHORTEST / 2..signs.end).step_by(SHORTEST) {
        if is_morse(bytes[at]) && at >= morse_until {
            let run = run(bytes, at, is_morse);
            morse_until = run.end;
            if run.len() >= SHORTEST && has_morse(&bytes[run.clone()]) {
                report.add(Shape::Codes, Severity::Medium, run);
            }
        }
        if is_digits(bytes[at]) && at >= digits_until {
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

/// Which of the sixty-four bytes from `at` on are signs of either kind: hex digits, spaces, and `,-./`, which stand before the digits.
#[inline]
fn signs(bytes: &[u8], at: usize) -> u64 {
    let [signs] = block::masks(bytes, at, |bytes| {
        let all = |byte: u8| i8x16::splat(byte.cast_signed());
        [within(bytes, b',', b'9') | within(bytes | all(0x20), b'a', b'f') | bytes.simd_eq(all(b' '))]
    });
    signs
}

fn is_sign(byte: u8) -> bool {
    is_morse(byte) || is_digits(byte)
}

/// The longest run around `at` of which every byte is one of these.
fn run(bytes: &[u8], at: usize, is_part: impl Fn(u8) -> bool) -> Range<usize> {
    let before = bytes[..at].iter().rev().take_while(|byte| is_part(**byte)).count();
    let after = bytes[at..].iter().take_while(|byte| is_part(**byte)).count();
    at - before..at + after
}

fn is_morse(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'/' | b' ')
}

fn is_digits(byte: u8) -> bool {
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
