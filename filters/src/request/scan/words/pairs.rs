//! Two words that follow each other → the phrases that have both: a word that is common by itself is rare beside another one.

use super::super::pattern::Pair;
use super::table::{Filter, Rows, Strings, first, load, product};
use super::{Word, key};

/// Size of the filter, in words of eight bytes: with forty thousand pairs one in seventy words of English is looked up in vain.
const FILTER: usize = 1 << 13;

/// Phrases by the two neighbouring words by which they are found.
#[derive(Debug)]
pub(super) struct Pairs {
    filter: Filter<FILTER>,
    rows: Rows,
    /// How far a product is shifted to be the number of a row.
    shift: u32,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The first letters of both words.
    pair: u64,
    /// The fifth to eighth letter of the literal, with zeros after them.
    rest: u32,
    literal: u32,
    /// The places of the phrases that begin alike follow each other: the first one, and how many there are.
    place: u32,
    count: u16,
    /// How many letters the literal has.
    length: u8,
    /// Whether it is the second one of the two words.
    is_second: bool,
}

impl Pairs {
    /// # Errors
    /// If there are more than it can hold.
    pub(super) fn new(pairs: &[Pair], literals: &Strings) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut pairs = pairs.to_vec();
        pairs.sort_by_key(|pair| (pair.literal, pair.is_second, pair.place));
        for Pair { before, after, literal, place, is_second } in pairs {
            let pair = joined(before, after);
            if let Some(last) = entries.last_mut()
                && (last.pair, last.literal, last.is_second) == (pair, literal, is_second)
                && last.place + u32::from(last.count) == place
                && last.count < u16::MAX
            {
                last.count += 1;
                continue;
            }
            let bytes = literals.get(literal as usize);
            let length = u8::try_from(bytes.len()).map_err(|error| error.to_string())?;
            let rest = ((load(bytes, 0) & first(bytes.len())) >> 32) as u32;
            entries.push(Entry { pair, rest, literal, place, count: 1, length, is_second });
        }
        let shift = u64::BITS - entries.len().next_power_of_two().ilog2() - 1;
        let row = |pair: u64| (product(pair) >> shift) as usize;
        entries.sort_by_key(|entry| (row(entry.pair), entry.pair, entry.place));
        let rows = Rows::new(entries.iter().map(|entry| row(entry.pair)), 1 << (u64::BITS - shift))?;
        let filter = Filter::new(entries.iter().map(|entry| entry.pair));
        Ok(Self { filter, rows, shift, entries })
    }

    /// Whether a phrase may have these words, each known by [`key`].
    #[inline]
    pub(super) fn may_have(&self, before: u32, after: u32) -> bool {
        self.filter.may_have(joined(before, after))
    }

    /// Reports the place of each phrase of which both words may be there and one is its literal, and where that ends.
    #[inline]
    pub(super) fn look_up(
        &self,
        words: [Word; 2],
        text: &[u8],
        literals: &Strings,
        mut report: impl FnMut(u32, usize),
    ) {
        let [before, after] = words.map(key);
        let pair = joined(before, after);
        let row = (product(pair) >> self.shift) as usize;
        for entry in &self.entries[self.rows.of(row)] {
            if entry.pair != pair {
                continue;
            }
            let word = words[usize::from(entry.is_second)];
            let length = usize::from(entry.length);
            let end = word.start + length;
            // The first four letters are those of the pair. Letters and digits alone are compared: in lower case they are
            // exact, whatever stands behind a shorter word.
            let rest = ((word.head & first(length)) >> 32) as u32;
            if rest == entry.rest
                && entry.length as u32 <= word.letters
                && (length <= 8 || {
                    let literal = literals.get(entry.literal as usize);
                    text[word.start + 8..end].eq_ignore_ascii_case(&literal[8..])
                })
            {
                (entry.place..entry.place + u32::from(entry.count)).for_each(|place| report(place, end));
            }
        }
    }
}

/// Two words that follow each other.
#[inline]
fn joined(before: u32, after: u32) -> u64 {
    u64::from(before) << 32 | u64::from(after)
}
