//! One cheap look at every byte of a text: are there digits inside words, letters standing alone, runs that could
//! be an encoding? Only then are the closer looks worth their cost.
//!
//! Works on blocks: masks say what each byte is, and neighbours are compared in loops without branches, which the
//! compiler turns into vector instructions. Cost: about 4 instructions a byte with SSE2.

use std::ops::Range;

const BLOCK: usize = 256;
/// Bytes looked at beyond a block's end, so that nothing is lost between two blocks.
const AHEAD: usize = 9;
/// Base64 and hex are looked for in aligned pieces of this length: a run of twice the length has one whole.
const PIECE: usize = 16;
/// Digits in a piece of spaced hex: the gaps take half of it at most.
const FEWEST_DIGITS: usize = 4;
/// Runs kept; beyond that the text is made of them and the bound on decoded bytes is near.
const RUNS: usize = 1024;

/// Lone letters in one block that are worth a closer look.
pub(super) const LONE: u32 = 2;

/// What was seen, and where runs are.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Digits or signs between letters, that is `1` in `s1de`, in the two blocks that have most.
    pub(crate) leet: u32,
    /// Letters in rows of three with a sign or space on either side of each, in the two blocks that have most.
    pub(crate) lone_letters: u32,
    /// Both in the last block.
    last: [u32; 2],
    /// Pieces of the base64 alphabet, joined to runs.
    pub(crate) base64: Vec<Range<usize>>,
    /// Pieces of hex digits with gaps.
    pub(crate) spaced_hex: Vec<Range<usize>>,
}

impl Survey {
    /// Looks at `text`, forgetting what was seen before.
    pub(super) fn read(&mut self, text: &str) {
        self.leet = 0;
        self.lone_letters = 0;
        self.last = [0; 2];
        self.base64.clear();
        self.spaced_hex.clear();
        let bytes = text.as_bytes();
        let is_ascii = text.is_ascii();
        let mut masks = Masks::new();
        for start in (0..bytes.len()).step_by(BLOCK) {
            let block = &bytes[start..bytes.len().min(start + BLOCK + AHEAD)];
            let mut last = [b'.'; BLOCK + AHEAD];
            let block = block.first_chunk().unwrap_or_else(|| {
                last[..block.len()].copy_from_slice(block);
                &last
            });
            masks.read(block);
            if !is_ascii && has_lone_wide(block) {
                self.lone_letters = self.lone_letters.max(LONE);
            }
            self.count(&masks);
            self.find_runs(&masks, start, bytes.len().min(start + BLOCK));
        }
    }

    fn count(&mut self, masks: &Masks) {
        let (letter, digit, other) = (&masks.letter, &masks.digit, &masks.other);
        let (mut leet, mut lone) = (0_u8, 0_u8);
        for at in 0..BLOCK {
            // A byte counts them: neither can begin at each of two neighbours. Adding 255 takes one away.
            let one = letter[at] & digit[at + 1] & letter[at + 2];
            let two = letter[at] & digit[at + 1] & digit[at + 2] & letter[at + 3];
            leet = leet.wrapping_add(one | two);
            let others = other[at] & other[at + 2] & other[at + 4];
            lone = lone.wrapping_add(others & letter[at + 1] & letter[at + 3] & letter[at + 5]);
        }
        let [leet, lone] = [leet, lone].map(|count| u32::from(count.wrapping_neg()));
        self.leet = self.leet.max(leet + self.last[0]);
        self.lone_letters = self.lone_letters.max(lone + self.last[1]);
        self.last = [leet, lone];
    }

    fn find_runs(&mut self, masks: &Masks, start: usize, end: usize) {
        let pieces = masks.base64.as_chunks::<PIECE>().0.iter().zip(masks.hex.as_chunks::<PIECE>().0);
        for ((base64, hex), at) in pieces.zip((start..).step_by(PIECE)) {
            if at + PIECE > end {
                break;
            }
            if u128::from_le_bytes(*base64) == u128::MAX {
                add(&mut self.base64, at);
            } else if u128::from_le_bytes(*hex) == u128::MAX {
                let digits = &masks.digit[at - start..][..PIECE];
                if digits.iter().filter(|digit| **digit != 0).count() >= FEWEST_DIGITS {
                    add(&mut self.spaced_hex, at);
                }
            }
        }
    }
}

fn add(runs: &mut Vec<Range<usize>>, at: usize) {
    if let Some(last) = runs.last_mut()
        && last.end == at
    {
        last.end += PIECE;
    } else if runs.len() < RUNS {
        runs.push(at..at + PIECE);
    }
}

/// What each byte of a block is: 255 where it is, 0 where it is not.
struct Masks {
    letter: [u8; BLOCK + AHEAD],
    digit: [u8; BLOCK + AHEAD],
    /// ASCII that is neither letter nor digit.
    other: [u8; BLOCK + AHEAD],
    /// Of the alphabets of base64 and base64url (and a bracket, for speed).
    base64: [u8; BLOCK],
    /// Hex digits, and what stands between them.
    hex: [u8; BLOCK],
}

impl Masks {
    fn new() -> Self {
        let wide = [0; BLOCK + AHEAD];
        Self { letter: wide, digit: wide, other: wide, base64: [0; BLOCK], hex: [0; BLOCK] }
    }

    /// Without branches and tables, so that it can be done for many bytes at once.
    fn read(&mut self, block: &[u8; BLOCK + AHEAD]) {
        let mask = |is: bool| u8::from(is).wrapping_neg();
        for (at, byte) in block.iter().enumerate() {
            let letter = mask((byte | 0x20).wrapping_sub(b'a') < 26);
            let digit = mask(byte.wrapping_sub(b'0') < 10);
            self.letter[at] = letter;
            self.digit[at] = digit;
            self.other[at] = !(letter | digit) & mask(*byte < 128);
        }
        for (at, byte) in block.iter().copied().enumerate().take(BLOCK) {
            let known = self.letter[at] | self.digit[at];
            // With two bits set the signs ) + - / are one.
            self.base64[at] = known | mask(byte | 6 == b'/') | mask(byte == b'_') | mask(byte == b'=');
            let lower = byte | 0x20;
            let hex = self.digit[at] | mask(lower.wrapping_sub(b'a') < 6) | mask(lower == b'x');
            self.hex[at] = hex | mask(byte == b' ') | mask(byte == b',') | mask(byte == b':');
        }
    }
}

/// Two characters of two or three bytes in a row that stand between spaces ("忽 略 "). One alone is a word of many
/// languages.
fn has_lone_wide(block: &[u8; BLOCK + AHEAD]) -> bool {
    let mut seen = false;
    for at in 0..BLOCK {
        let is_space = |ahead: usize| block[at + ahead] == b' ';
        let is_wide = |ahead: usize| block[at + ahead] >= 0xc0;
        let three = is_wide(5) & is_space(4) & is_space(8);
        let two = is_wide(4) & is_space(3) & is_space(6);
        seen |= is_space(0) & is_wide(1) & (three | two);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Survey {
        let mut survey = Survey::default();
        survey.read(text);
        survey
    }

    #[test]
    fn ordinary_text_gives_no_reason_to_look_closer() {
        let cases = [
            (
                "prose",
                "The committee met on Monday, and a vote was taken: 12 in favour, 3 against. I was there.",
            ),
            ("code", "for (int i = 0; i < n; i++) { total += cost[i] * 2; } // see utf8.h, line 12"),
            ("table", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ];
        for (name, text) in cases {
            let survey = read(text);
            assert!(survey.leet < 2 && survey.lone_letters < LONE, "{name}: {survey:?}");
            assert!(survey.base64.is_empty() && survey.spaced_hex.is_empty(), "{name}: {survey:?}");
        }
    }

    #[test]
    fn reasons_are_seen_wherever_they_stand() {
        for before in 0..600 {
            let before = ".".repeat(before);
            let leet = read(&format!("{before}pl34se h3lp m3 f1nd"));
            assert!(leet.leet >= 3, "{}", before.len());
            let spaced = read(&format!("{before} l e t t e r s"));
            assert!(spaced.lone_letters >= LONE, "{}", before.len());
            let base64 = read(&format!("{before} {} ", "QUJD".repeat(8)));
            assert!(base64.base64.iter().map(Range::len).sum::<usize>() >= 16, "{}", before.len());
            let hex = read(&format!("{before} 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47"));
            assert!(hex.spaced_hex.iter().map(Range::len).sum::<usize>() >= 16, "{}", before.len());
        }
    }
}
