//! One word or phrase again and again: it pushes the instructions out of a model's attention, or has it follow the
//! rhythm. Tables, rulers and zeros repeat as well, so the phrase must have letters or digits in variety, must
//! come many times without anything between, and prose must stand on the same line: a run of words alone says
//! less.
//!
//! Cost: eight bytes in thirty-two, and in long texts in a hundred and twenty-eight, are looked for in what follows
//! them.

use super::super::Severity;
use super::page::has_words;
use super::shape::{Report, Shape};

/// Distance between the places that are looked at near the text's ends: ten times a word of four letters is longer
/// than this and the compared bytes together.
const STRIDE: usize = 32;
/// Distance elsewhere: a run that is short against its text is no lever.
const LONG_STRIDE: usize = 128;
/// How far the ends of a text reach.
const NEAR_END: usize = 768;
/// The bytes that are compared.
const SAMPLE: usize = 8;
/// The places that are compared at once.
const BLOCK: usize = 32;
/// The longest phrase.
const LONGEST: usize = 96;
/// The longest phrase that is looked for at each place; longer ones at each eighth.
const SHORT: usize = 32;
/// How often a phrase must come.
const TIMES: usize = 8;
/// How often a longer phrase must come, and how long that is.
const TIMES_LONG: usize = 6;
const LONG: usize = 12;

/// How far prose beside the run is looked for.
const NEAR: usize = 200;

/// Reports a run of one phrase.
pub(super) fn check(text: &str, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut place = 0_usize;
    while at + SAMPLE + SHORT <= bytes.len() {
        let is_near_end = at < NEAR_END || bytes.len() - at < NEAR_END;
        let reach = if place.is_multiple_of(8) || !is_near_end { LONGEST } else { SHORT };
        place += 1;
        let Some(unit) = period(bytes, at, reach) else {
            at += if is_near_end { STRIDE } else { LONG_STRIDE };
            continue;
        };
        let mut start = at;
        while start > 0 && bytes[start - 1] == bytes[start - 1 + unit] {
            start -= 1;
            if at - start > LONGEST {
                break;
            }
        }
        let same = bytes[at..].iter().zip(&bytes[at + unit..]).take_while(|(a, b)| a == b).count();
        let end = at + unit + same;
        judge(text, start, end, unit, report);
        at = (at + STRIDE).max(end.saturating_sub(SAMPLE));
    }
}

/// After how many bytes the bytes at `at` come again, if they do within `reach`.
fn period(bytes: &[u8], at: usize, reach: usize) -> Option<usize> {
    let sample: &[u8; SAMPLE] = bytes.get(at..)?.first_chunk()?;
    // A ruler is no phrase, and spaces in front of a line are none either.
    if sample[0] == sample[1] && sample[1] == sample[2] {
        return None;
    }
    for from in (at + 2..at + reach).step_by(BLOCK) {
        let window: &[u8; BLOCK + SAMPLE] = bytes.get(from..)?.first_chunk()?;
        if comes_again(window, sample)
            && let Some(place) = (from..from + BLOCK).find(|&place| bytes[place..].starts_with(sample))
        {
            return Some(place - at);
        }
    }
    None
}

/// Whether every other byte of `sample` stands anywhere in `window`; every place is compared at once, in a form
/// that the compiler makes vectors of.
fn comes_again(window: &[u8; BLOCK + SAMPLE], sample: &[u8; SAMPLE]) -> bool {
    let mut any = 0;
    for place in 0..BLOCK {
        any |= u8::from(window[place] == sample[0])
            & u8::from(window[place + 2] == sample[2])
            & u8::from(window[place + 4] == sample[4])
            & u8::from(window[place + 6] == sample[6]);
    }
    any != 0
}

fn judge(text: &str, start: usize, end: usize, unit: usize, report: &mut Report<'_>) {
    let phrase = &text[text.floor_char_boundary(start)..text.ceil_char_boundary(start + unit)];
    let times = (end - start) / unit;
    if times < TIMES && !(unit >= LONG && times >= TIMES_LONG) || !is_phrase(phrase) {
        return;
    }
    // A word on each line is a list, and repeats its line's end.
    let before = &text[text.floor_char_boundary(start.saturating_sub(NEAR))..text.floor_char_boundary(start)];
    let behind = &text[text.ceil_char_boundary(end)..text.ceil_char_boundary((end + NEAR).min(text.len()))];
    let line_before = before.rsplit('\n').next().unwrap_or_default();
    let line_behind = behind.split('\n').next().unwrap_or_default();
    let is_in_prose = has_words(line_before.as_bytes(), 3) || has_words(line_behind.as_bytes(), 2);
    let severity = if is_in_prose && times >= TIMES { Severity::High } else { Severity::Medium };
    report.add(Shape::Repetition, severity, start..end);
}

/// Whether the repeated text is words: three letters or digits at least, two of them different, no marks of
/// tables, code or data between.
fn is_phrase(phrase: &str) -> bool {
    let mut letters = 0;
    let mut first = None;
    let mut varies = false;
    let mut has_letter = false;
    let mut has_mark = false;
    for letter in phrase.chars() {
        if letter.is_alphanumeric() {
            letters += letter.len_utf8();
            varies |= first.is_some_and(|first| first != letter.to_ascii_lowercase());
            first.get_or_insert(letter.to_ascii_lowercase());
            has_letter |= letter.is_alphabetic();
        } else if letter.is_ascii() {
            if !matches!(letter, ' ' | '.' | '!' | '?' | '\'' | ',' | '-') {
                return false;
            }
            has_mark |= letter != ' ';
        }
    }
    // Figures with commas or points between are data, `12345 12345` is not.
    let is_void =
        ["nan", "null", "none", "true", "false"].iter().any(|void| phrase.trim().eq_ignore_ascii_case(void));
    letters >= 3 && varies && !is_void && (has_letter || !has_mark)
}
