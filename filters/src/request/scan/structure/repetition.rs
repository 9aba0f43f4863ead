//! One word or phrase again and again: it pushes the instructions out of a model's attention, or has it follow the
//! rhythm. Tables, rulers and zeros repeat as well, so the phrase must have letters or digits in variety, must
//! come many times without anything between, and prose must stand on the same line: a run of words alone says
//! less.
//!
//! Cost: one place in thirty-two bytes is compared with what follows it.

use super::super::Severity;
use super::page::has_words;
use super::shape::{Report, Shape};

/// Distance between the places that are looked at: ten times a word of four letters is longer than this and the
/// compared bytes together.
const STRIDE: usize = 32;
/// The bytes that are compared first.
const SAMPLE: usize = 8;
/// The longest phrase.
const LONGEST: usize = 96;
/// The longest phrase that is looked for at each place; longer ones at each fourth.
const SHORT: usize = 34;
/// How often a phrase must come.
const TIMES: usize = 8;
/// How often a longer phrase must come, and how long that is.
const TIMES_LONG: usize = 6;
const LONG: usize = 12;

/// Reports a run of one phrase.
pub(super) fn check(text: &str, report: &mut Report<'_>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut place = 0_usize;
    while at + SAMPLE + SHORT <= bytes.len() {
        let reach = if place % 4 == 0 { LONGEST } else { SHORT };
        let unit = period(bytes, at, reach);
        place += 1;
        let Some(unit) = unit else {
            at += STRIDE;
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
    let sample: [u8; SAMPLE] = bytes.get(at..at + SAMPLE)?.try_into().ok()?;
    let mut from = 2;
    while from < reach {
        let window: &[u8; STRIDE + 1] = bytes.get(at + from..at + from + STRIDE + 1)?.first_chunk()?;
        // Two bytes at thirty-two places at once, in a form that the compiler makes vectors of.
        let mut hits = [0_u8; STRIDE];
        for (place, hit) in hits.iter_mut().enumerate() {
            *hit = u8::from(window[place] == sample[0]) & u8::from(window[place + 1] == sample[1]);
        }
        if hits.iter().fold(0, |any, hit| any | hit) != 0 {
            let again = (0..STRIDE).find(|&place| {
                hits[place] != 0
                    && bytes.get(at + from + place..at + from + place + SAMPLE) == Some(&sample[..])
            });
            if let Some(place) = again {
                return Some(from + place);
            }
        }
        from += STRIDE;
    }
    None
}

fn judge(text: &str, start: usize, end: usize, unit: usize, report: &mut Report<'_>) {
    let phrase = &text[text.floor_char_boundary(start)..text.ceil_char_boundary(start + unit)];
    let times = (end - start) / unit;
    if times < TIMES && !(unit >= LONG && times >= TIMES_LONG) || !is_phrase(phrase) {
        return;
    }
    // A word on each line is a list, and repeats its line's end.
    let before =
        text.get(text.floor_char_boundary(start.saturating_sub(200))..text.floor_char_boundary(start));
    let line_before = before.unwrap_or_default().rsplit('\n').next().unwrap_or_default();
    let line_behind =
        text.get(text.ceil_char_boundary(end)..).unwrap_or_default().split('\n').next().unwrap_or_default();
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
