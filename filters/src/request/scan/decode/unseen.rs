//! Text in characters that nobody sees: tag characters (U+E0020 to U+E007E are ASCII moved up) and variation
//! selectors, 256 of them, used as bytes behind one visible character.

use std::ops::Range;

use super::plausible;
use super::{Budget, Encoding, Piece};

/// Fewer variation selectors in a row are emoji and old forms of Han characters.
const FEWEST_SELECTORS: usize = 4;

/// Collects both, each into one text.
pub(super) fn find(text: &str, budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let mut tags = Found::default();
    let mut selected = Found::default();
    let mut row = Found::default();
    let mut between = None;
    for (at, c) in text.char_indices() {
        if let Some(byte) = selector(c) {
            row.add(byte, at, c);
            continue;
        }
        selected.take(&mut row);
        if let '\u{e0001}'..='\u{e007e}' = c {
            if let Some((at, c)) = between.take() {
                tags.add_char(at, c);
            }
            tags.add((u32::from(c) & 0x7f) as u8, at, c);
        } else {
            // There are tags for ASCII only: another letter stands between them as it is ("é").
            let is_behind_tag = !c.is_ascii() && tags.span.end == at && at > 0;
            between = is_behind_tag.then_some((at, c));
        }
    }
    selected.take(&mut row);
    for (found, encoding) in [(tags, Encoding::Tags), (selected, Encoding::VariationSelectors)] {
        if let Some(text) = plausible::text(found.bytes) {
            budget.keep(pieces, Piece { encoding, span: found.span, text });
        }
    }
}

#[derive(Default)]
struct Found {
    bytes: Vec<u8>,
    span: Range<usize>,
}

impl Found {
    fn add(&mut self, byte: u8, at: usize, c: char) {
        if self.bytes.is_empty() {
            self.span.start = at;
        }
        self.bytes.push(byte);
        self.span.end = at + c.len_utf8();
    }

    fn add_char(&mut self, at: usize, c: char) {
        self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.span.end = at + c.len_utf8();
    }

    /// Adds a row of selectors that is long enough, and empties it.
    fn take(&mut self, row: &mut Self) {
        if row.bytes.len() >= FEWEST_SELECTORS {
            if self.bytes.is_empty() {
                self.span.start = row.span.start;
            }
            self.span.end = row.span.end;
            self.bytes.append(&mut row.bytes);
        }
        row.bytes.clear();
    }
}

fn selector(c: char) -> Option<u8> {
    match c {
        '\u{fe00}'..='\u{fe0f}' => Some((u32::from(c) - 0xfe00) as u8),
        '\u{e0100}'..='\u{e01ef}' => u8::try_from(u32::from(c) - 0xe0100 + 16).ok(),
        _ => None,
    }
}
