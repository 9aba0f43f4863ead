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
mod pairs;
mod table;

use super::block::{self, Block};
use super::matcher::{MAX_LITERAL, Sign};
use super::pattern::Pair;
pub(crate) use glyphs::Glyphs;
use pairs::Pairs;
use table::{Entry, Strings, Table, first, load};

/// Literals that begin words, in a form to be looked up.
#[derive(Debug)]
pub(crate) struct Words {
    /// Those that are looked for wherever they stand.
    alone: Tables,
    /// Those that are looked for beside another word.
    pairs: Pairs,
    literals: Strings,
}

/// Literals by the words that they begin.
#[derive(Debug)]
struct Tables {
    /// Literals that are one whole word, by its first eight bytes and its length.
    whole: Table<LITERALS>,
    /// All others, by their first [`KEY`] bytes, or fewer if the word ends before. Its filter has what longer words begin with as well.
    stems: Table<LITERALS>,
    /// Lengths below [`KEY`] of literals that longer words may begin with: those are looked up by them as well.
    short: Vec<u32>,
}

/// A word of a text.
#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    /// How many letters it has, or [`MANY_LETTERS`] if there are more.
    letters: u32,
    /// The eight bytes from its start on, as if in lower case.
    head: u64,
}

impl Word {
    /// Its first letters, eight at most, the first one lowest, with zeros after them.
    #[inline]
    fn own(self) -> u64 {
        self.head & first(self.letters as usize)
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

/// That a word may be a whole one, or begin with a stem, of whatever length, or make a pair with the one before.
const WHOLE: u8 = 1;
const STEM: u8 = 2;
const PAIR: u8 = 4;

/// Words that end in a block of 64 bytes, at most, and the last one before it.
const MOST_WORDS: usize = 33;

/// Letters of a word are not counted any further.
const MANY_LETTERS: u32 = 255;

/// Bytes of a stem that are hashed.
const KEY: u32 = 4;

/// Size of a filter of literals, in words of eight bytes: of sixteen thousand one in fifty words is looked up in vain.
const LITERALS: usize = 1 << 12;

/// The longest word that is told from others by its length.
const LONGEST_WHOLE: usize = 60;

impl Words {
    /// Each literal begins with an ASCII letter or digit and is in lower case. A literal that is not `open` may
    /// be left out where the word goes on after it. One that is not `alone` is looked for as one of the `pairs` only.
    ///
    /// # Errors
    /// If there are more than the tables can hold.
    pub(crate) fn new(
        literals: &[Box<[u8]>],
        open: &[bool],
        alone: &[bool],
        pairs: &[Pair],
    ) -> Result<Self, String> {
        let all = (0..).zip(literals).zip(open).zip(alone);
        let strings = Strings::new(literals.iter().map(|literal| &**literal))?;
        Ok(Self {
            alone: Tables::new(all.filter(|(_, alone)| **alone).map(|(literal, _)| literal))?,
            pairs: Pairs::new(pairs, &strings)?,
            literals: strings,
        })
    }
}

impl Tables {
    fn new<'l>(literals: impl Iterator<Item = ((u32, &'l Box<[u8]>), &'l bool)>) -> Result<Self, String> {
        let mut whole = Vec::new();
        let mut stems = Vec::new();
        let mut short = Vec::new();
        let mut longer = Vec::new();
        for ((literal, bytes), open) in literals {
            let letters = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let number = |length: usize| u16::try_from(length).map_err(|error| error.to_string());
            let (run, length) = (number(letters)?, number(bytes.len())?);
            let head = load(bytes, 0);
            let entry = Entry { head: head & first(bytes.len()), literal, length, letters: run };
            if !open && run == length && letters <= LONGEST_WHOLE {
                whole.push((whole_key(head, u32::from(run)), entry));
                continue;
            }
            let key = u32::from(run).min(KEY);
            stems.push((stem_key(head & first(key as usize)), Entry { letters: key as u16, ..entry }));
            if *open && run == length && key < KEY {
                if !short.contains(&key) {
                    short.push(key);
                }
                longer.extend(longer_than(head & first(key as usize), key));
            }
        }
        Ok(Self { whole: Table::new(whole, [])?, stems: Table::new(stems, longer)?, short })
    }

    /// What may be known of a word: [`WHOLE`] and [`STEM`].
    #[inline]
    fn knows(&self, word: Word) -> u8 {
        let whole = u8::from(self.whole.may_have(whole_key(word.head, word.letters)));
        let stem = u8::from(self.stems.may_have(stem_key(word.own())));
        whole * WHOLE + stem * STEM
    }

    /// Looks up one word of which that much is known: `row` gets what may be there, and for how many letters.
    #[inline]
    fn look_up(&self, word: Word, known: u8, mut row: impl FnMut(&[Entry], u32)) {
        let Word { letters, head, .. } = word;
        if known & WHOLE != 0 {
            row(self.whole.of(whole_key(head, letters)), letters);
        }
        if known & STEM != 0 {
            row(self.stems.of(stem_key(word.own())), letters.min(KEY));
            for key in self.short.iter().copied().filter(|key| letters > *key) {
                let stem = stem_key(head & first(key as usize));
                if self.stems.may_have(stem) {
                    row(self.stems.of(stem), key);
                }
            }
        }
    }
}

impl Words {
    /// As [`Self::scan`] for a text that comes in pieces, but that pairs are not looked for: `text` is the part that is kept, of which the words before
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
            self.alone.look_up(word, self.alone.knows(word), |row, letters| {
                self.compare(row, text, word, letters, &mut report, &mut cut)
            });
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

    /// Reports each literal that a word begins with, and where it ends, in the order of the words. Those of a block are asked of every filter first, without a branch that depends on what they
    /// are; then those of which a filter knows something are looked up, which few are. A word belongs to the block it ends in.
    #[inline(never)]
    pub(crate) fn scan(&self, text: &[u8], mut report: impl FnMut(Sign, usize)) {
        // The words of a block behind the last one before it, each its start and its letters, and what is known of which.
        let mut words = [(0_u32, 0_u32); MOST_WORDS.next_power_of_two()];
        let mut places = [(0_u8, 0_u8); MOST_WORDS.next_power_of_two()];
        let word = |(start, letters): (u32, u32)| {
            let start = start as usize;
            Word { start, letters, head: load(text, start) }
        };
        let mut last_key = 0;
        let mut begun = 0;
        let mut start = 0;
        // One byte farther than the text, where its last word ends.
        for at in (0..=text.len()).step_by(block::SIZE) {
            let mask = alphanumeric(text, at);
            let edges = mask ^ (mask << 1 | begun);
            let (mut starts, mut ends) = (edges & mask, edges & !mask);
            let mut next = |start: &mut usize| {
                *start = at + starts.trailing_zeros() as usize;
                starts &= starts.wrapping_sub(1);
            };
            if begun == 0 {
                next(&mut start);
            }
            begun = mask >> 63;
            let (mut count, mut known) = (0, 0);
            while ends != 0 {
                let letters = at + ends.trailing_zeros() as usize - start;
                ends &= ends - 1;
                let place = (start as u32, (letters as u32).min(MANY_LETTERS));
                next(&mut start);
                let word = word(place);
                let key = key(word);
                let is_pair = u8::from(self.pairs.may_have(last_key, key));
                let what = self.alone.knows(word) + is_pair * PAIR;
                last_key = key;
                places[known % places.len()] = (count, what);
                known += usize::from(what != 0);
                count += 1;
                words[usize::from(count) % words.len()] = place;
            }
            for (place, what) in places[..known].iter().copied() {
                let [before, this] =
                    [0, 1].map(|behind| word(words[(usize::from(place) + behind) % words.len()]));
                if what & PAIR != 0 {
                    let report = |place, end| report(Sign::Beside(place), end);
                    self.pairs.look_up([before, this], text, &self.literals, report);
                }
                self.alone.look_up(this, what, |row, letters| {
                    let mut report = |literal, end| report(Sign::Number(literal), end);
                    self.compare(row, text, this, letters, &mut report, &mut |_, _| {});
                });
            }
            words[0] = words[usize::from(count) % words.len()];
        }
    }

    /// Calls `each` with the words that begin in `from..until`.
    #[inline]
    fn each_word(&self, text: &[u8], from: usize, until: usize, mut each: impl FnMut(Word)) {
        let mut begun = u64::from(from > 0 && text[from - 1].is_ascii_alphanumeric());
        let mut mask = alphanumeric(text, from);
        let mut at = from;
        while at < until {
            let next = alphanumeric(text, at + 64);
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
        let there = if at + 8 <= text.len() { u64::MAX } else { first(text.len() - at) };
        for entry in row {
            let counted = first(usize::from(entry.length)) & there;
            if (word.head ^ entry.head) & counted != 0 || u32::from(entry.letters) != letters {
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

/// The key of a literal by its first [`KEY`] letters, behind which there are zeros if it has fewer.
#[inline]
fn stem_key(own: u64) -> u64 {
    own & first(KEY as usize)
}

/// Up to four letters of a word, the first one lowest, with zeros after them: what it is known by beside another one.
#[inline]
fn key(word: Word) -> u32 {
    word.own() as u32
}

/// The keys of all words with more letters than these, which are fewer than [`KEY`].
fn longer_than(letters: u64, count: u32) -> Vec<u64> {
    let alphabet = || (b'a'..=b'z').chain(b'0'..=b'9');
    let mut last = vec![letters];
    let mut all = Vec::new();
    for at in count..KEY {
        last = last
            .iter()
            .flat_map(|word| alphabet().map(move |next| word | u64::from(next) << (8 * at)))
            .collect();
        all.extend(&last);
    }
    all
}

/// One bit for each of the 64 bytes from `at` on: whether it is an ASCII letter or digit.
#[inline]
fn alphanumeric(text: &[u8], at: usize) -> u64 {
    let Block { letters, digits, .. } = Block::at(text, at);
    letters | digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[&str], text: &str) -> Vec<(String, usize)> {
        let literals: Vec<Box<[u8]>> = literals.iter().map(|literal| literal.as_bytes().into()).collect();
        let open = vec![true; literals.len()];
        let words = Words::new(&literals, &open, &open, &[]).expect("a few literals fit");
        let mut found = Vec::new();
        words.scan(text.as_bytes(), |sign, end| {
            let Sign::Number(literal) = sign else { unreachable!("there are no pairs") };
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
}
