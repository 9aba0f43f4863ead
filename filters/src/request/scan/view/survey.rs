//! One cheap look at every byte of a text: are there digits inside words, letters standing alone, runs that could
//! be an encoding? Only then are the closer looks worth their cost.
//!
//! Works on blocks of sixty-four bytes, a bit each: neighbours are compared by shifting. Cost: about 2 instructions a byte.

use std::ops::Range;

use wide::i8x16;

use super::super::block::{self, Block, leads, within};

/// Blocks that are counted together.
const TOGETHER: usize = 4;
/// Base64 and hex are looked for in aligned pieces of this length: a run of twice the length has one whole.
const PIECE: usize = 16;
/// Digits in a piece of spaced hex: the gaps take half of it at most.
const FEWEST_DIGITS: u32 = 4;
/// Runs kept; beyond that the text is made of them and the bound on decoded bytes is near.
const RUNS: usize = 1024;

/// Lone letters in one part that are worth a closer look.
pub(super) const LONE: u32 = 2;

/// What was seen, and where runs are.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Digits or signs between letters, that is `1` in `s1de`, in the two neighbouring parts that have most.
    pub(crate) leet: u32,
    /// Letters in rows of three with a sign or space on either side of each, in the two neighbouring parts that have most.
    pub(crate) lone_letters: u32,
    /// Both in the last part.
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
        let mut block = Block::at(bytes, 0);
        let mut gaps = if is_ascii { [0; 2] } else { spaces(bytes, 0) };
        let mut counts = [0; 2];
        for (number, start) in (0..bytes.len()).step_by(block::SIZE).enumerate() {
            let next = Block::at(bytes, start + block::SIZE);
            counts[0] += leet(block, next).count_ones();
            counts[1] += lone(block, next).count_ones();
            if number % TOGETHER == TOGETHER - 1 || start + block::SIZE >= bytes.len() {
                self.count(std::mem::take(&mut counts));
            }
            self.find_runs(bytes, block.digits, start);
            if !is_ascii {
                let next = spaces(bytes, start + block::SIZE);
                if has_lone_wide(gaps, next) {
                    self.lone_letters = self.lone_letters.max(LONE);
                }
                gaps = next;
            }
            block = next;
        }
    }

    fn count(&mut self, [leet, lone]: [u32; 2]) {
        self.leet = self.leet.max(leet + self.last[0]);
        self.lone_letters = self.lone_letters.max(lone + self.last[1]);
        self.last = [leet, lone];
    }

    fn find_runs(&mut self, bytes: &[u8], digits: u64, start: usize) {
        let pieces = bytes[start..].as_chunks::<PIECE>().0;
        for (index, piece) in pieces.iter().take(block::SIZE / PIECE).enumerate() {
            let at = start + PIECE * index;
            if is_base64(piece) {
                add(&mut self.base64, at);
            } else if (digits >> (PIECE * index) & 0xffff).count_ones() >= FEWEST_DIGITS
                && is_spaced_hex(piece)
            {
                add(&mut self.spaced_hex, at);
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

/// The bit of each byte, with those of the next block behind, so many bytes on.
#[inline]
fn ahead(block: u64, next: u64, by: u32) -> u64 {
    block >> by | next << (u64::BITS - by)
}

/// Where a letter stands before one digit or two and a letter.
#[inline]
fn leet(block: Block, next: Block) -> u64 {
    let letter = |by| ahead(block.letters, next.letters, by);
    let digit = |by| ahead(block.digits, next.digits, by);
    block.letters & digit(1) & (letter(2) | digit(2) & letter(3))
}

/// Where three letters begin with a sign or space on either side of each.
#[inline]
fn lone(block: Block, next: Block) -> u64 {
    let letter = |by| ahead(block.letters, next.letters, by);
    let [other, next_other] = [block, next].map(|block| !(block.letters | block.digits | block.wide));
    let other = |by| if by == 0 { other } else { ahead(other, next_other, by) };
    other(0) & other(2) & other(4) & letter(1) & letter(3) & letter(5)
}

/// Whether all bytes are of the alphabets of base64 and base64url (and a bracket, for speed).
#[inline]
fn is_base64(piece: &[u8; PIECE]) -> bool {
    let bytes = i8x16::new(piece.map(u8::cast_signed));
    let all = |byte: u8| i8x16::splat(byte.cast_signed());
    let known = within(bytes | all(0x20), b'a', b'z') | within(bytes, b'0', b'9');
    // With two bits set the signs ) + - / are one.
    let signs = (bytes | all(6)).simd_eq(all(b'/')) | bytes.simd_eq(all(b'_')) | bytes.simd_eq(all(b'='));
    (known | signs).to_bitmask() == 0xffff
}

/// Whether all bytes are hex digits and what stands between them.
fn is_spaced_hex(piece: &[u8; PIECE]) -> bool {
    piece.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'x' | b'X' | b' ' | b',' | b':'))
}

/// The spaces of a block, and the bytes that begin a character outside ASCII.
#[inline]
fn spaces(bytes: &[u8], at: usize) -> [u64; 2] {
    block::masks(bytes, at, |bytes| [bytes.simd_eq(i8x16::splat(b' '.cast_signed())), leads(bytes)])
}

/// Whether two characters of two or three bytes in a row stand between spaces ("忽 略 ") and begin here. One alone is a word of
/// many languages.
#[inline]
fn has_lone_wide([spaces, begins]: [u64; 2], [next_spaces, next_begins]: [u64; 2]) -> bool {
    let space = |by| ahead(spaces, next_spaces, by);
    let wide = |by| ahead(begins, next_begins, by);
    let three = wide(5) & space(4) & space(8);
    let two = wide(4) & space(3) & space(6);
    spaces & wide(1) & (three | two) != 0
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
