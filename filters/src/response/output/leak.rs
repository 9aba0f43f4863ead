//! The request's own system prompt, looked for in the answer: a run of its letters and digits, in its order, whatever
//! the case, the spaces and the marks between them. Two texts about one thing share words and phrases; they do
//! not share twelve words in a row. What a run is worth is counted in letters, three for one of a script that writes
//! words in one or two (Chinese, Japanese, Korean), so that a run is about as long in every language.
//!
//! Harmless overlap does not count: what the prompt of the user or a document holds as well is no secret; what the
//! system prompt puts in quotation marks is there to be said.
//!
//! Sixteen letters are looked up at a time, by a rolling hash (Karp and Rabin, 1987, <https://doi.org/10.1147/rd.312.0249>);
//! every eighth place of the system prompt is in the table, and a hit is followed letter by letter.
//!
//! Cost: making it, some 3 ns a byte of the prompt; one multiplication and one lookup a letter of the answer.

use std::borrow::Cow;
use std::ops::Range;

/// Letters that are looked up together.
const SEED: usize = 16;

/// Each so many letters of the prompt a seed begins.
const EVERY: usize = 8;

/// A run of so many letters is a leak. The first seed may begin seven letters late, so that from 55 on, twelve English
/// words, one is always found, and below 48 never.
const ENOUGH: usize = 48;

/// From so many letters on a run is held back, where leaks are replaced or stopped. What came before, some four words,
/// says little and has gone out.
const HOLD: usize = 24;

/// Letters of the shortest prompt that can leak. Of one shorter than a run, nearly all must be said.
const SHORTEST: usize = 24;

/// The most of the system prompt, and of the other texts, that is compared, in bytes.
const MOST_SYSTEM: usize = 64 << 10;
const MOST_OTHERS: usize = 1 << 20;

/// For the rolling hash: any odd number with mixed bits; this one is 2^64 / golden ratio.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

const BASE_TO_SEED: u64 = {
    let (mut power, mut times) = (1_u64, 0);
    while times < SEED {
        power = power.wrapping_mul(BASE);
        times += 1;
    }
    power
};

/// A system prompt, ready to be looked for.
// No `Debug`: it would print the prompt.
pub struct Leak {
    letters: Vec<u8>,
    /// By hash one more than where a seed begins; 0 where there is none.
    table: Vec<u32>,
    shift: u32,
    enough: usize,
}

impl std::fmt::Debug for Leak {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Leak({} letters)", self.letters.len())
    }
}

impl Leak {
    /// Of the texts of a system prompt; `others` are those of the request that whoever reads the answer has seen.
    /// `None` if there is too little to leak.
    #[must_use]
    pub fn new<'t>(
        system: impl Iterator<Item = Cow<'t, str>>,
        others: impl Iterator<Item = Cow<'t, str>>,
    ) -> Option<Self> {
        let mut letters = Vec::new();
        let mut quoted = Vec::new();
        let mut room = MOST_SYSTEM;
        for text in system {
            let text = &text[..text.floor_char_boundary(room)];
            room -= text.len();
            let quotes = quotations(text);
            letters_of(text.as_bytes(), |letter, place| {
                letters.push(letter);
                quoted.push(quotes.iter().any(|quote| quote.contains(&place)));
            });
            // No letter: a run does not go on from one text into the next.
            letters.push(0);
            quoted.push(false);
        }
        if letters.len() < SHORTEST {
            return None;
        }
        let bits = (letters.len() / EVERY).max(1).next_power_of_two().ilog2() + 3;
        let enough = ENOUGH.min(letters.len() - letters.len() / 8 - 1);
        let mut leak = Self { table: vec![0; 1 << bits], shift: 64 - bits, letters, enough };
        for start in (0..leak.letters.len().saturating_sub(SEED - 1)).step_by(EVERY) {
            if !quoted[start..start + SEED].contains(&true) {
                let slot = leak.slot(hash(&leak.letters[start..start + SEED]));
                // Where the prompt says something twice, the first place stands for both.
                if leak.table[slot] == 0 {
                    leak.table[slot] = start as u32 + 1;
                }
            }
        }
        leak.forget(others);
        Some(leak)
    }

    /// Takes out what stands in other texts too.
    fn forget<'t>(&mut self, others: impl Iterator<Item = Cow<'t, str>>) {
        let mut room = MOST_OTHERS;
        for text in others {
            let text = &text.as_bytes()[..text.len().min(room)];
            room -= text.len();
            let mut last = Last::default();
            letters_of(text, |letter, _| {
                last.push(letter);
                if let Some(start) = self.seed(&last) {
                    let slot = self.slot(hash(&self.letters[start..start + SEED]));
                    self.table[slot] = 0;
                }
            });
        }
    }

    fn slot(&self, hash: u64) -> usize {
        (hash.wrapping_mul(BASE) >> self.shift) as usize
    }

    /// Where the last letters stand in the prompt.
    #[inline]
    fn seed(&self, last: &Last) -> Option<usize> {
        let start = self.table[self.slot(last.hash)].checked_sub(1)? as usize;
        last.is(&self.letters[start..start + SEED]).then_some(start)
    }
}

/// The last letters of a text.
#[derive(Debug, Default)]
struct Last {
    letters: [u8; SEED],
    count: usize,
    hash: u64,
}

impl Last {
    #[inline]
    fn push(&mut self, letter: u8) {
        let slot = self.count % SEED;
        // Before there are enough letters those that go are none, and count as such.
        let gone = if self.count < SEED { 0 } else { u64::from(self.letters[slot]) };
        self.hash = self
            .hash
            .wrapping_mul(BASE)
            .wrapping_add(u64::from(letter))
            .wrapping_sub(gone.wrapping_mul(BASE_TO_SEED));
        self.letters[slot] = letter;
        self.count += 1;
    }

    fn is(&self, seed: &[u8]) -> bool {
        let first = self.count % SEED;
        self.count >= SEED && (0..SEED).all(|at| self.letters[(first + at) % SEED] == seed[at])
    }
}

fn hash(letters: &[u8]) -> u64 {
    letters.iter().fold(0_u64, |hash, letter| hash.wrapping_mul(BASE).wrapping_add(u64::from(*letter)))
}

/// How far the comparison of one text is.
#[derive(Debug, Default)]
pub(super) struct Run {
    last: Last,
    /// Where the prompt goes on if the run does, how long it is, and from where on it is held back.
    followed: Option<(usize, usize, u64)>,
    at: u64,
}

impl Run {
    /// Goes on with more of the text. `leaked` is told, again with every letter, what of it is a leak.
    pub(super) fn feed(&mut self, leak: &Leak, text: &[u8], mut leaked: impl FnMut(Range<u64>)) {
        let base = self.at;
        let Self { last, followed, .. } = self;
        let mut end = None;
        letters_of(text, |letter, place| {
            let place = base + place as u64;
            if let Some((_, length, start)) = *followed
                && length >= leak.enough
            {
                end = Some(start..place);
            }
            last.push(letter);
            *followed = match *followed {
                Some((next, length, start)) if leak.letters.get(next) == Some(&letter) => {
                    Some((next + 1, length + 1, if length <= HOLD { place } else { start }))
                }
                other => {
                    if let (Some(_), Some(range)) = (other, end.take()) {
                        leaked(range);
                    }
                    leak.seed(last).map(|seed| (seed + SEED, SEED, place))
                }
            };
        });
        self.at += text.len() as u64;
        if let Some((_, length, start)) = self.followed
            && length >= leak.enough
        {
            leaked(start..self.at);
        }
    }

    /// Nothing goes on with what was said.
    pub(super) fn finish(&mut self) {
        self.followed = None;
    }

    /// The first byte of the text that may still become a part of a leak.
    pub(super) fn undecided_from(&self, leak: &Leak) -> u64 {
        match self.followed {
            Some((_, length, start)) if length > HOLD && length < leak.enough => start,
            _ => u64::MAX,
        }
    }
}

/// The letters and digits of a text, folded, each with where it begins.
#[inline]
fn letters_of(text: &[u8], mut each: impl FnMut(u8, usize)) {
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if byte.is_ascii() {
            if byte.is_ascii_alphanumeric() {
                each(byte.to_ascii_lowercase(), at);
            }
            at += 1;
            continue;
        }
        let here = &text[at..text.len().min(at + 4)];
        let letter = here.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
        let Some(letter) = letter else {
            at += 1;
            continue;
        };
        if letter.is_alphanumeric() {
            let folded = letter.to_lowercase().next().unwrap_or(letter);
            let mut bytes = [0; 4];
            let bytes = folded.encode_utf8(&mut bytes).as_bytes();
            // Scripts whose letters take two bytes spell words as Latin does: one letter is one.
            let from = if bytes.len() <= 2 { bytes.len() - 1 } else { 0 };
            bytes[from..].iter().for_each(|byte| each(*byte, at));
        }
        at += letter.len_utf8();
    }
}

/// What stands between quotation marks on one line.
fn quotations(text: &str) -> Vec<Range<usize>> {
    const PAIRS: [(char, char); 7] =
        [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('「', '」'), ('『', '』'), ('`', '`')];
    let mut found = Vec::new();
    let mut until = 0;
    for (at, letter) in text.char_indices() {
        if at < until {
            continue;
        }
        let Some((_, close)) = PAIRS.iter().find(|(open, _)| *open == letter) else { continue };
        let rest = &text[at + letter.len_utf8()..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        if let Some(end) = line.find(*close) {
            until = at + letter.len_utf8() + end;
            found.push(at..until);
            until += close.len_utf8();
        }
    }
    found
}
