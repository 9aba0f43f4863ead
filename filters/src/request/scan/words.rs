//! Finds literals that begin words: a table lookup at the beginning of each word, and nothing in between. Most
//! atoms are words of languages written in Latin letters, so most of the work of the pattern layer is here.
//!
//! Why not Hyperscan for these too: its literal matcher is a hash filter over every byte, which lets more and more
//! through the more literals there are. Over ordinary English, 100 literals cost 0.8 ns a byte, 600 cost 3,
//! 2,400 cost 7.5, with hardly a hit among them. A word begins every six bytes only, and asking a table what may
//! begin with its first four letters costs the same for any number of literals.
//!
//! A word is a longest run of ASCII letters and digits. Blocks of 64 bytes become one bit a byte, so there is no
//! branch a byte and, ordinary text having few words in the table, hardly one a word that is guessed wrong.

mod glyphs;
mod table;

use wide::i8x16;

use super::matcher::MAX_LITERAL;
use super::pattern::Beside;
pub(crate) use glyphs::Glyphs;
use table::{Entry, Strings, Table, first, load, product};

/// Literals that begin words, in a form to be looked up.
#[derive(Debug)]
pub(crate) struct Words {
    /// Those that mean something by themselves.
    alone: Tables,
    /// Those that only mean something beside another word.
    paired: Tables,
    /// The pairs of neighbours in which they do.
    pairs: Pairs,
    literals: Strings,
}

/// Literals by the words that they begin.
#[derive(Debug)]
struct Tables {
    /// Literals that are one whole word, by its first eight bytes and its length.
    whole: Table,
    /// All others, by their first [`KEY`] bytes, or fewer if the word ends before.
    stems: Table,
    /// Lengths below [`KEY`] of literals that longer words may begin with: those are looked up by them as well.
    short: Vec<u32>,
    /// Whether a longer word may begin with one of those, by its first three letters.
    short_begins: Box<[u64; SHORT_WORDS]>,
}

/// A set of pairs of words that follow each other, by their first letters: it may have more than it was given.
#[derive(Debug)]
struct Pairs {
    /// Two bits for each.
    filled: Box<[u64; PAIR_WORDS]>,
}

/// A word of a text.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    start: usize,
    /// How many letters it has, or sixty-four if there are more.
    letters: u32,
    /// Its first eight bytes, as if in lower case.
    head: u64,
}

impl Word {
    /// Up to four of its letters, the first one lowest, with zeros after them.
    #[inline]
    fn key(self) -> u32 {
        stem_key(self.head, self.letters.min(KEY)) as u32
    }
}

/// A literal that the end of a piece cuts in two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    /// Where it begins.
    pub(crate) start: usize,
    /// Its number.
    pub(crate) literal: u32,
}

/// One of the words of a block, of which something may be known.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    word: u8,
    what: u8,
}

/// That it may be a whole word, or begin with a stem, or with a stem of fewer letters, or make a pair with the one before.
const WHOLE: u8 = 1;
const STEM: u8 = 2;
const SHORT: u8 = 4;
const PAIR: u8 = 8;

/// Words that begin in a block of 64 bytes, at most.
const MOST_WORDS: usize = 32;

/// One bit for each beginning of three letters, of which five bits each are looked at.
const SHORT_WORDS: usize = (1 << 15) / 64;

/// Bytes of a stem that are hashed.
const KEY: u32 = 4;

/// Size of the set of pairs: 64 KiB, of which some eighty thousand phrases fill a quarter.
const PAIR_WORDS: usize = 1 << 13;

/// The longest word that is told from others by its length.
const LONGEST_WHOLE: usize = 60;

impl Words {
    /// Each literal begins with an ASCII letter or digit and is in lower case. A literal that is not `open` may
    /// be left out where the word goes on after it, and one that has to stand beside another word where it does not.
    ///
    /// # Errors
    /// If there are more than the tables can hold.
    pub(crate) fn new(literals: &[Box<[u8]>], open: &[bool], beside: &[Beside]) -> Result<Self, String> {
        let all = || (0..).zip(literals).zip(open).zip(beside);
        let of = |is_paired: bool| all().filter(move |(_, beside)| beside.is_some() == is_paired);
        let mut pairs = Pairs { filled: Box::new([0; PAIR_WORDS]) };
        for (before, after) in beside.iter().flatten().flatten() {
            let (word, bits) = Pairs::place(*before, *after);
            pairs.filled[word] |= bits;
        }
        Ok(Self {
            alone: Tables::new(of(false).map(|(literal, _)| literal))?,
            paired: Tables::new(of(true).map(|(literal, _)| literal))?,
            pairs,
            literals: Strings::new(literals.iter().map(|literal| &**literal))?,
        })
    }
}

impl Pairs {
    /// Which of the words of `filled` tells about a pair, and its two bits there.
    #[inline]
    fn place(before: u32, after: u32) -> (usize, u64) {
        let product = product(u64::from(before) << 32 | u64::from(after));
        let word = (product >> (64 - PAIR_WORDS.ilog2())) as usize;
        (word, 1 << (product >> 40 & 63) | 1 << (product >> 34 & 63))
    }

    #[inline]
    fn has(&self, before: u32, after: u32) -> bool {
        let (word, bits) = Self::place(before, after);
        self.filled[word] & bits == bits
    }
}

impl Tables {
    fn new<'l>(literals: impl Iterator<Item = ((u32, &'l Box<[u8]>), &'l bool)>) -> Result<Self, String> {
        let mut whole = Vec::new();
        let mut stems = Vec::new();
        let mut short = Vec::new();
        let mut short_begins = Box::new([0; SHORT_WORDS]);
        for ((literal, bytes), open) in literals {
            let letters = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let number = |length: usize| u16::try_from(length).map_err(|error| error.to_string());
            let (run, length) = (number(letters)?, number(bytes.len())?);
            let head = load(bytes, 0);
            let mask = first(bytes.len());
            let entry = Entry { head: head & mask, mask, literal, length, letters: run };
            if !open && run == length && letters <= LONGEST_WHOLE {
                whole.push((whole_key(head, u32::from(run)), entry));
                continue;
            }
            let key = u32::from(run).min(KEY);
            stems.push((stem_key(head, key), Entry { letters: key as u16, ..entry }));
            if *open && run == length && key < KEY {
                if !short.contains(&key) {
                    short.push(key);
                }
                let begins = beginning(head, key);
                // Those with this letter and another one after it, and whatever stands after that.
                for more in (1..1_u32 << (5 * (3 - key))).filter(|more| more % 32 != 0) {
                    let place = begins | (more as usize) << (5 * key);
                    short_begins[place / 64] |= 1 << (place % 64);
                }
                if key == 3 {
                    short_begins[begins / 64] |= 1 << (begins % 64);
                }
            }
        }
        Ok(Self { whole: Table::new(whole)?, stems: Table::new(stems)?, short, short_begins })
    }

    /// What may be known of a word: [`WHOLE`], [`STEM`] and [`SHORT`].
    #[inline]
    fn knows(&self, word: Word) -> u8 {
        let Word { letters, head, .. } = word;
        let whole = u8::from(self.whole.may_have(whole_key(head, letters)));
        let stem = u8::from(self.stems.may_have(stem_key(head, letters.min(KEY))));
        let begins = beginning(head, letters.min(3));
        let short = (self.short_begins[begins / 64] >> (begins % 64) & 1) as u8;
        whole * WHOLE + stem * STEM + short * SHORT
    }

    /// Looks up one word of which that much is known: `row` gets what may be there, and for how many letters.
    #[inline]
    fn look_up(&self, word: Word, known: u8, mut row: impl FnMut(&[Entry], u32)) {
        let Word { letters, head, .. } = word;
        if known & WHOLE != 0 {
            row(self.whole.of(whole_key(head, letters)), letters);
        }
        if known & STEM != 0 {
            let key = letters.min(KEY);
            row(self.stems.of(stem_key(head, key)), key);
        }
        if known & SHORT != 0 {
            for key in self.short.iter().copied().filter(|key| letters > *key) {
                if self.stems.may_have(stem_key(head, key)) {
                    row(self.stems.of(stem_key(head, key)), key);
                }
            }
        }
    }
}

impl Words {
    /// Reports the number of each literal that a word begins with, and where it ends, in the order of the words.
    #[inline]
    pub(crate) fn scan(&self, text: &[u8], report: impl FnMut(u32, usize)) {
        self.scan_words(text, report, |_, _| {});
    }

    /// The same for a text that comes in pieces: `text` is the part that is kept, of which the words before
    /// `from` are done. Gives back where the words begin that are not done yet. What more of the text is needed
    /// for goes to `unfinished`, and from there to [`Self::finish`] when there is more.
    pub(crate) fn scan_piece(
        &self,
        text: &[u8],
        from: usize,
        is_final: bool,
        unfinished: &mut Vec<Unfinished>,
        mut report: impl FnMut(u32, usize),
    ) -> usize {
        let open = text[from..].iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        // A word that is longer than any literal need not be waited for.
        let until = if is_final || open >= MAX_LITERAL { text.len() } else { text.len() - open };
        let mut cut = |literal, start| {
            if !is_final {
                unfinished.push(Unfinished { start, literal });
            }
        };
        self.each_word(text, from, until, |word| {
            for tables in [&self.alone, &self.paired] {
                tables.look_up(word, tables.knows(word), |row, letters| {
                    self.compare(row, text, word, letters, &mut report, &mut cut)
                });
            }
        });
        until
    }

    /// Where a literal ends that is there after all, or that it is not; `None` if that still cannot be told.
    pub(crate) fn finish(&self, cut: Unfinished, text: &[u8], is_final: bool) -> Option<Option<usize>> {
        let literal = self.literals.get(cut.literal as usize);
        let rest = &text[cut.start..];
        let there = rest.len().min(literal.len());
        match rest[..there].eq_ignore_ascii_case(&literal[..there]) {
            true if there == literal.len() => Some(Some(cut.start + there)),
            true if !is_final => None,
            _ => Some(None),
        }
    }

    /// Looks up all words. Those of a block are asked of every filter first, without a branch that depends on what they
    /// are; then those of which a filter knows something are looked up, which few are.
    #[inline(never)]
    fn scan_words(&self, text: &[u8], mut report: impl FnMut(u32, usize), mut cut: impl FnMut(u32, usize)) {
        // The words of a block behind the last one before it, and the places of those to look up.
        let mut words = [Word::default(); MOST_WORDS + 1];
        let mut places = [Known::default(); MOST_WORDS];
        let mut last_key = 0;
        // Whether the literals that stand beside others were looked up for that last one.
        let mut is_done = true;
        let mut begun = 0;
        let mut mask = block(text, 0);
        let mut at = 0;
        while at < text.len() {
            let next = block(text, at + 64);
            let mut starts = mask & !(mask << 1 | begun);
            begun = mask >> 63;
            let (mut count, mut known) = (0, 0);
            while starts != 0 {
                let offset = starts.trailing_zeros();
                starts &= starts - 1;
                let start = at + offset as usize;
                let letters = (mask >> offset | (next << 1) << (63 - offset)).trailing_ones();
                let word = Word { start, letters, head: load(text, start) };
                let key = word.key();
                let what = self.alone.knows(word) + u8::from(self.pairs.has(last_key, key)) * PAIR;
                last_key = key;
                places[known % MOST_WORDS] = Known { word: count, what };
                known += usize::from(what != 0);
                count += 1;
                words[usize::from(count) % words.len()] = word;
            }
            let mut paired = if is_done { 0 } else { usize::MAX };
            for Known { word: place, what } in places[..known].iter().copied() {
                let place = usize::from(place);
                let word = words[place + 1];
                self.alone.look_up(word, what, |row, letters| {
                    self.compare(row, text, word, letters, &mut report, &mut cut);
                });
                if what & PAIR != 0 {
                    // The one before too, unless that was the second one of a pair itself.
                    let is_before_done = paired == place;
                    for word in words[place..place + 2].iter().skip(usize::from(is_before_done)) {
                        self.paired.look_up(*word, self.paired.knows(*word), |row, letters| {
                            self.compare(row, text, *word, letters, &mut report, &mut cut);
                        });
                    }
                    paired = place + 1;
                }
            }
            if count > 0 {
                is_done = paired == usize::from(count);
                words[0] = words[usize::from(count)];
            }
            mask = next;
            at += 64;
        }
    }

    /// Calls `each` with the words that begin in `from..until`.
    #[inline]
    fn each_word(&self, text: &[u8], from: usize, until: usize, mut each: impl FnMut(Word)) {
        let mut begun = u64::from(from > 0 && text[from - 1].is_ascii_alphanumeric());
        let mut mask = block(text, from);
        let mut at = from;
        while at < until {
            let next = block(text, at + 64);
            let mut starts = mask & !(mask << 1 | begun);
            begun = mask >> 63;
            while starts != 0 {
                let offset = starts.trailing_zeros();
                starts &= starts - 1;
                let start = at + offset as usize;
                if start >= until {
                    return;
                }
                let letters = (mask >> offset | (next << 1) << (63 - offset)).trailing_ones();
                each(Word { start, letters, head: load(text, start) });
            }
            mask = next;
            at += 64;
        }
    }

    /// Reports those entries of a row that were put there for as many letters and are what the word begins with.
    #[inline]
    fn compare(
        &self,
        row: &[Entry],
        text: &[u8],
        word: Word,
        letters: u32,
        report: &mut impl FnMut(u32, usize),
        cut: &mut impl FnMut(u32, usize),
    ) {
        let at = word.start;
        // At the end of a piece only the bytes that are there can be compared.
        let there = first(text.len() - at);
        for entry in row {
            if (word.head ^ entry.head) & entry.mask & there != 0 || u32::from(entry.letters) != letters {
                continue;
            }
            let end = at + usize::from(entry.length);
            // Every byte was compared as if it were a letter. Among letters that is exact.
            if u32::from(entry.length) <= word.letters.min(8) {
                report(entry.literal, end);
                continue;
            }
            match text.get(at..end) {
                Some(there) if there.eq_ignore_ascii_case(self.literals.get(entry.literal as usize)) => {
                    report(entry.literal, end);
                }
                Some(_) => {}
                None => cut(entry.literal, at),
            }
        }
    }
}

/// The key of a literal that is all of a word of this length.
#[inline]
fn whole_key(head: u64, length: u32) -> u64 {
    (head & first(length as usize)) ^ u64::from(length)
}

/// The key of a literal by its first `key` bytes.
#[inline]
fn stem_key(head: u64, key: u32) -> u64 {
    head & u64::from(u32::MAX >> (8 * (KEY - key)))
}

/// The first few letters, up to three, five bits of each: enough to tell those of a word in lower case.
#[inline]
fn beginning(head: u64, letters: u32) -> usize {
    let head = head & first(letters as usize);
    (head & 31 | head >> 3 & 31 << 5 | head >> 6 & 31 << 10) as usize
}

/// One bit for each of the 64 bytes from `at` on: whether it is an ASCII letter or digit.
#[inline]
fn block(text: &[u8], at: usize) -> u64 {
    match text.get(at..at + 64).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => alphanumeric(bytes),
        None => {
            let mut bytes = [0; 64];
            let rest = text.get(at..).unwrap_or_default();
            bytes[..rest.len().min(64)].copy_from_slice(&rest[..rest.len().min(64)]);
            alphanumeric(&bytes)
        }
    }
}

#[inline]
fn alphanumeric(bytes: &[u8; 64]) -> u64 {
    let mut mask = 0;
    for (index, sixteen) in bytes.as_chunks::<16>().0.iter().enumerate() {
        // Compared with their signs, so that no byte past ASCII is taken for a letter.
        let bytes = i8x16::new(sixteen.map(u8::cast_signed));
        let within = |bytes: i8x16, first: u8, last: u8| {
            let [below, above] = [first - 1, last + 1].map(|byte| i8x16::splat(byte.cast_signed()));
            bytes.simd_gt(below) & above.simd_gt(bytes)
        };
        let lower = bytes | i8x16::splat(0x20);
        let known = within(lower, b'a', b'z') | within(bytes, b'0', b'9');
        mask |= u64::from(known.to_bitmask()) << (16 * index);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[&str], text: &str) -> Vec<(String, usize)> {
        let literals: Vec<Box<[u8]>> = literals.iter().map(|literal| literal.as_bytes().into()).collect();
        let open = vec![true; literals.len()];
        let words = Words::new(&literals, &open, &vec![None; literals.len()]).expect("a few literals fit");
        let mut found = Vec::new();
        words.scan(text.as_bytes(), |literal, end| {
            found.push((String::from_utf8_lossy(&literals[literal as usize]).into_owned(), end));
        });
        found.sort_by_key(|(_, end)| *end);
        found
    }

    #[test]
    fn literals_are_found_where_a_word_begins() {
        let literals = ["a", "an", "ant", "ante", "antelope", "antelopes run", "gpt-4", "k\u{131}l", "0day"];
        let at = |shift: usize, literal: &str, end: usize| (literal.to_owned(), shift + end);
        // Every position against the blocks of 64 bytes.
        for shift in 0..200 {
            let pad = ".".repeat(shift);
            let check = |text: &str, expected: &[(&str, usize)]| {
                let expected: Vec<_> =
                    expected.iter().map(|(literal, end)| at(shift, literal, *end)).collect();
                assert_eq!(
                    found(&literals, &format!("{pad}{text}")),
                    expected,
                    "{text:?} after {shift} bytes"
                );
            };
            check(
                "ANTELOPES run",
                &[("a", 1), ("an", 2), ("ant", 3), ("ante", 4), ("antelope", 8), ("antelopes run", 13)],
            );
            check("antel", &[("a", 1), ("an", 2), ("ant", 3), ("ante", 4)]);
            check("xant _ant", &[("a", 7), ("an", 8), ("ant", 9)]);
            check("GPT-4 gpt\u{14}4", &[("gpt-4", 5)]);
            check("k\u{131}l", &[("k\u{131}l", 4)]);
            check("é0day 10day", &[("0day", 6)]);
            check("", &[]);
        }
    }

    #[test]
    fn every_byte_is_classed_as_the_standard_library_does() {
        for byte in 0..=u8::MAX {
            for at in 0..64 {
                let mut bytes = [b'.'; 64];
                bytes[at] = byte;
                let expected = if byte.is_ascii_alphanumeric() { 1 << at } else { 0 };
                assert_eq!(alphanumeric(&bytes), expected, "byte {byte:#x} at {at}");
            }
        }
    }
}
