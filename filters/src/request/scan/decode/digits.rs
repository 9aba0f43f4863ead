//! Bytes written as numbers: hex pairs ("49 67", "0x49, 0x67", "49:67", "4967"), groups of eight binary digits,
//! and character codes in decimal. Dumps, colours and hashes look the same and are told by what comes out.

use std::ops::Range;

use super::plausible::{begins_as_text, has_words, text};
use super::{Budget, Encoding, Piece};

/// Shorter than this is a colour, a checksum or a word.
const FEWEST_BYTES: usize = 6;
const TRIED: usize = 24;

/// Looks at each run of digits with gaps.
pub(super) fn find(whole: &str, runs: &[Range<usize>], budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = whole.as_bytes();
    let mut done = 0;
    for run in runs {
        if run.start < done {
            continue;
        }
        let before = bytes[done..run.start].iter().rev().take_while(|byte| is_part(**byte)).count();
        let after = bytes[run.end..].iter().take_while(|byte| is_part(**byte)).count();
        let span = run.start - before..run.end + after;
        done = span.end;
        for (encoding, digits, radix) in
            [(Encoding::Binary, 8..=8, 2), (Encoding::Hex, 2..=2, 16), (Encoding::Decimal, 2..=3, 10)]
        {
            let numbers = Numbers { bytes: &bytes[span.clone()], at: 0, digits, radix };
            if let Some(text) = read(numbers, budget.bytes).filter(|text| has_words(text)) {
                budget.keep(pieces, Piece { encoding, span: span.clone(), text });
                break;
            }
        }
    }
}

/// A run of hex or binary digits without gaps.
pub(super) fn solid(whole: &str, run: Range<usize>, budget: &mut Budget) -> Option<Piece> {
    let mut digits = &whole.as_bytes()[run.clone()];
    if let [b'0', b'x' | b'X', rest @ ..] = digits {
        digits = rest;
    }
    let first = digits.get(..digits.len().min(2 * TRIED))?;
    let is_binary = first.iter().all(|digit| matches!(digit, b'0' | b'1'));
    if !first.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let (encoding, width, radix) = if is_binary { (Encoding::Binary, 8, 2) } else { (Encoding::Hex, 2, 16) };
    let bytes = || digits.chunks_exact(width).map_while(|number| value(number, radix));
    let tried: Vec<u8> = bytes().take(TRIED).collect();
    if tried.len() < FEWEST_BYTES || !begins_as_text(&tried) {
        return None;
    }
    let span = budget.fit(run, width, 1);
    Some(Piece { encoding, text: text(bytes().take(span.len() / width).collect())?, span })
}

fn read(numbers: Numbers<'_>, room: usize) -> Option<String> {
    let tried: Vec<u8> = numbers.clone().take(TRIED).collect();
    if tried.len() < FEWEST_BYTES || !begins_as_text(&tried) {
        return None;
    }
    text(numbers.take(room).collect())
}

/// The numbers of a run, until one has another number of digits or is too large.
#[derive(Clone)]
struct Numbers<'a> {
    bytes: &'a [u8],
    at: usize,
    digits: std::ops::RangeInclusive<usize>,
    radix: u32,
}

impl Iterator for Numbers<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let rest = &self.bytes[self.at..];
            let gap = rest.iter().take_while(|byte| !byte.is_ascii_hexdigit()).count();
            let rest = &rest[gap..];
            let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.at += gap + digits;
            if digits == 1 && rest[0] == b'0' && matches!(rest.get(1), Some(b'x' | b'X')) {
                continue; // the beginning of 0x41
            }
            return if self.digits.contains(&digits) { value(&rest[..digits], self.radix) } else { None };
        }
    }
}

fn value(digits: &[u8], radix: u32) -> Option<u8> {
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some(value * radix + char::from(*digit).to_digit(radix)?))?;
    u8::try_from(value).ok()
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
        || matches!(byte, b' ' | b',' | b':' | b'\\' | b'x' | b'X' | b'\n' | b'\r' | b';' | b'-')
}
