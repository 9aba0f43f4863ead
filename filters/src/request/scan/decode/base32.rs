//! Base32 (RFC 4648), with or without padding, in capitals or small letters. Names in capitals have the same letters and are told by what
//! comes out.

use std::ops::Range;

use super::plausible::{begins_as_text, has_words, text};
use super::{Budget, Encoding, Piece};

/// Digits that are tried first: fifteen bytes.
const TRIED: usize = 24;

/// Whether a run begins as text in base32 does.
pub(super) fn begins(digits: &[u8]) -> bool {
    let first = &digits[..digits.len().min(TRIED)];
    let is_one_case = !(first.iter().any(u8::is_ascii_uppercase) && first.iter().any(u8::is_ascii_lowercase));
    is_one_case && first.iter().all(|digit| value(*digit).is_some()) && begins_as_text(&decode(first))
}

/// The text in a run that begins so, if it is one.
pub(super) fn read(whole: &str, run: Range<usize>, budget: &mut Budget) -> Option<Piece> {
    let span = budget.fit(run, 8, 5);
    let text = text(decode(&whole.as_bytes()[span.clone()])).filter(|text| has_words(text))?;
    Some(Piece { encoding: Encoding::Base32, span, text })
}

/// Five bits a digit; what is no digit is skipped.
fn decode(digits: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(digits.len() / 8 * 5 + 5);
    let (mut bits, mut filled) = (0_u32, 0);
    for value in digits.iter().filter_map(|digit| value(*digit)) {
        bits = bits << 5 | value;
        filled += 5;
        if filled >= 8 {
            filled -= 8;
            out.push((bits >> filled & 255) as u8);
        }
    }
    out
}

fn value(digit: u8) -> Option<u32> {
    match digit.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(u32::from(letter - b'A')),
        digit @ b'2'..=b'7' => Some(u32::from(digit - b'2') + 26),
        _ => None,
    }
}
