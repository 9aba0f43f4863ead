//! Finds literals that begin with a letter outside ASCII: a table is asked at each such letter what may begin with its
//! six bytes, which are two characters of Chinese or Japanese, or three letters of Cyrillic or Arabic.
//!
//! Why not Hyperscan: characters of one script begin with the same few bytes, so that its filter, which hashes a few bytes at
//! each place, lets most of such a text through once it looks for thousands of words in that script.

use wide::i8x16;

use super::table::{Entry, Table, first, load};

/// Literals that begin with a letter outside ASCII.
#[derive(Debug)]
pub(crate) struct Glyphs {
    /// By their first [`KEY`] bytes.
    long: Table,
    /// Shorter ones, by all of their bytes, for each length that there is.
    short: Vec<(u32, Table)>,
    /// Each with its number.
    literals: Vec<(u32, Box<[u8]>)>,
}

/// Bytes of a literal that are hashed.
const KEY: u32 = 6;

/// Letters outside ASCII that begin in a block of 64 bytes, at most.
const MOST: usize = 32;

/// What a literal of one letter or two may have of bytes.
const SHORTEST: usize = 2;

impl Glyphs {
    /// Whether a literal is one that is found here.
    pub(crate) fn finds(literal: &[u8]) -> bool {
        literal.len() >= SHORTEST && literal[0] >= 0xc2
    }

    /// Of literals that are found here, each with its number.
    ///
    /// # Errors
    /// If there are more than the tables can hold.
    pub(crate) fn new(literals: Vec<(u32, Box<[u8]>)>) -> Result<Self, String> {
        let mut long = Vec::new();
        let mut short: Vec<(u32, Vec<(u64, Entry)>)> = Vec::new();
        for (literal, (_, bytes)) in (0..).zip(&literals) {
            let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
            let mask = first(bytes.len());
            let head = load(bytes, 0) & mask;
            let entry = Entry { head, mask, literal, length, letters: 0 };
            if u32::from(length) >= KEY {
                long.push((key(head, KEY), entry));
                continue;
            }
            let length = u32::from(length);
            match short.iter_mut().find(|(other, _)| *other == length) {
                Some((_, entries)) => entries.push((key(head, length), entry)),
                None => short.push((length, vec![(key(head, length), entry)])),
            }
        }
        let short = short.into_iter().map(|(length, entries)| Ok((length, Table::new(entries)?)));
        Ok(Self { long: Table::new(long)?, short: short.collect::<Result<_, String>>()?, literals })
    }

    /// Reports the number of each of these literals that `text` has, and where it ends, in the order in which they begin.
    pub(crate) fn scan(&self, text: &[u8], mut report: impl FnMut(u32, usize)) {
        let mut places = [0; MOST];
        for at in (0..text.len()).step_by(64) {
            // As with words: first, without a branch, where something may begin.
            let mut leads = leads(text, at);
            let mut known = 0;
            while leads != 0 {
                let place = at + leads.trailing_zeros() as usize;
                leads &= leads - 1;
                let head = load(text, place);
                let mut may = self.long.may_have(key(head, KEY));
                for (length, table) in &self.short {
                    may |= table.may_have(key(head, *length));
                }
                places[known % MOST] = place;
                known += usize::from(may);
            }
            for place in places[..known].iter().copied() {
                self.look_up(text, place, &mut report);
            }
        }
    }

    /// The shorter ones first, so that the ends are in order.
    #[inline]
    fn look_up(&self, text: &[u8], place: usize, report: &mut impl FnMut(u32, usize)) {
        let head = load(text, place);
        let short = self.short.iter().map(|(length, table)| (*length, table));
        for (length, table) in short.chain([(KEY, &self.long)]) {
            if !table.may_have(key(head, length)) {
                continue;
            }
            for entry in table.of(key(head, length)) {
                let end = place + usize::from(entry.length);
                let (number, literal) = &self.literals[entry.literal as usize];
                // The first bytes are compared as if in lower case, so that has to be looked at again.
                if (head ^ entry.head) & entry.mask == 0
                    && let Some(there) = text.get(place..end)
                    && there.eq_ignore_ascii_case(literal)
                {
                    report(*number, end);
                }
            }
        }
    }
}

#[inline]
fn key(head: u64, length: u32) -> u64 {
    head & first(length as usize)
}

/// One bit for each of the 64 bytes from `at` on: whether a character outside ASCII begins there.
#[inline]
fn leads(text: &[u8], at: usize) -> u64 {
    let mut block = [0; 64];
    let block = text.get(at..at + 64).and_then(|bytes| bytes.try_into().ok()).unwrap_or_else(|| {
        let rest = &text[at..];
        block[..rest.len()].copy_from_slice(rest);
        &block
    });
    let mut mask = 0;
    for (index, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
        // Bytes are compared with their signs: those that begin a character are the largest below zero.
        let bytes = i8x16::new(sixteen.map(u8::cast_signed));
        let begins = bytes.simd_gt(i8x16::splat(0xbf_u8.cast_signed())) & i8x16::ZERO.simd_gt(bytes);
        mask |= u64::from(begins.to_bitmask()) << (16 * index);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[&str], text: &str) -> Vec<(String, usize)> {
        let numbered = (7..).zip(literals).filter(|(_, literal)| Glyphs::finds(literal.as_bytes()));
        let numbered = numbered.map(|(number, literal)| (number, literal.as_bytes().into())).collect();
        let glyphs = Glyphs::new(numbered).expect("a few literals fit");
        let mut found = Vec::new();
        glyphs.scan(text.as_bytes(), |number, end| {
            found.push((literals[number as usize - 7].to_owned(), end));
        });
        found
    }

    #[test]
    fn literals_are_found_wherever_they_begin() {
        let literals = ["忘", "忘れ", "忘れて", "é", "és", "забудь", "за", "abc", "指令ai", "नि"];
        for shift in 0..150 {
            let pad = ".".repeat(shift);
            let check = |text: &str, expected: &[(&str, usize)]| {
                let expected: Vec<_> =
                    expected.iter().map(|(text, end)| ((*text).to_owned(), shift + end)).collect();
                assert_eq!(
                    found(&literals, &format!("{pad}{text}")),
                    expected,
                    "{text:?} after {shift} bytes"
                );
            };
            check("忘れてabc", &[("忘", 3), ("忘れ", 6), ("忘れて", 9)]);
            check("も忘れ", &[("忘", 6), ("忘れ", 9)]);
            check("pés", &[("é", 3), ("és", 4)]);
            check("незабудь", &[("за", 8), ("забудь", 16)]);
            check("指令AI", &[("指令ai", 8)]);
            check("नि", &[("नि", 6)]);
            check("", &[]);
        }
    }
}
