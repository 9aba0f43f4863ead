//! One cheap look at every byte of a text: are there digits inside words, letters standing alone, runs that could
//! be an encoding? Only then are the closer looks worth their cost.
//!
//! Works on blocks: a byte is reduced to a class, and the classes are compared with their neighbours in loops
//! without branches, which the compiler turns into vector instructions. Cost: about 0.4 ns a byte.

use std::ops::Range;

const BLOCK: usize = 256;
/// Bytes looked at beyond a block's end, so that nothing is lost between two blocks.
const AHEAD: usize = 8;
/// Base64 and hex are looked for in aligned pieces of this length: a run of twice the length has one whole.
const PIECE: usize = 16;
/// Runs kept; beyond that the text is made of them and the bound on decoded bytes is near.
const RUNS: usize = 1024;

/// Lone letters in one block that are worth a closer look.
pub(super) const LONE: u32 = 3;

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
/// ASCII that is neither letter nor digit.
const OTHER: u8 = 4;
/// Of the alphabets of base64 and base64url.
const BASE64: u8 = 8;
const HEX: u8 = 16;
/// What stands between spaced hex or binary digits.
const GAP: u8 = 32;

/// What was seen, and where runs are.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Digits or signs between letters, that is `1` in `s1de`.
    pub(crate) leet: u32,
    /// Letters with something else on both sides, in the block that has most.
    pub(crate) lone_letters: u32,
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
        self.base64.clear();
        self.spaced_hex.clear();
        let bytes = text.as_bytes();
        let is_ascii = text.is_ascii();
        let mut classes = [0_u8; BLOCK + AHEAD];
        for start in (0..bytes.len()).step_by(BLOCK) {
            let block = &bytes[start..bytes.len().min(start + BLOCK + AHEAD)];
            if let Some(whole) = block.first_chunk::<{ BLOCK + AHEAD }>() {
                classify(whole, &mut classes);
            } else {
                let mut last = [b' '; BLOCK + AHEAD];
                last[..block.len()].copy_from_slice(block);
                classify(&last, &mut classes);
            }
            self.count(&classes);
            self.find_runs(&classes, start, bytes.len().min(start + BLOCK));
            if !is_ascii {
                self.lone_letters = self.lone_letters.max(lone_wide(block));
            }
        }
    }

    fn count(&mut self, classes: &[u8; BLOCK + AHEAD]) {
        let (mut leet, mut lone) = (0_u8, 0_u8);
        for at in 0..BLOCK {
            let [a, b, c, d] = [classes[at], classes[at + 1], classes[at + 2], classes[at + 3]];
            // Three of four bytes decide; a block has at most 128 of either, so a byte counts them.
            let one = a & b >> 1 & c & 1;
            let two = a & b >> 1 & c >> 1 & d & 1;
            leet += one | two;
            lone += a & b >> 2 & c & d >> 2 & 1;
        }
        self.leet += u32::from(leet);
        self.lone_letters = self.lone_letters.max(u32::from(lone));
    }

    fn find_runs(&mut self, classes: &[u8; BLOCK + AHEAD], start: usize, end: usize) {
        for (at, piece) in classes[..BLOCK].as_chunks::<PIECE>().0.iter().enumerate() {
            let all = piece.iter().fold(!0, |all, class| all & class);
            let spaced = piece.iter().fold(!0, |all, class| all & (class | class << 1));
            let at = start + at * PIECE;
            if at + PIECE > end {
                break;
            }
            if all & BASE64 != 0 {
                add(&mut self.base64, at);
            } else if spaced & GAP != 0 {
                let digits: u8 = piece.iter().map(|class| class >> 4 & 1).sum();
                if digits >= 6 {
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

fn classify(block: &[u8; BLOCK + AHEAD], classes: &mut [u8; BLOCK + AHEAD]) {
    for (class, byte) in classes.iter_mut().zip(block) {
        *class = class_of(*byte);
    }
}

/// Written without branches and tables, so that it can be done for many bytes at once.
#[inline(always)]
fn class_of(byte: u8) -> u8 {
    let lower = byte | 0x20;
    let is_letter = lower.wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    let is_sign = (byte == b'@') | (byte == b'$');
    let is_other = (byte < 128) & !is_letter & !is_digit & !is_sign;
    let is_base64 = is_letter
        | is_digit
        | (byte == b'+')
        | (byte == b'/')
        | (byte == b'-')
        | (byte == b'_')
        | (byte == b'=');
    let is_hex = is_digit | (lower.wrapping_sub(b'a') < 6);
    let is_gap = (byte == b' ') | (byte == b',') | (byte == b':') | (byte == b'\\') | (lower == b'x');
    (LETTER * u8::from(is_letter))
        | (DIGIT * u8::from(is_digit | is_sign))
        | (OTHER * u8::from(is_other))
        | (BASE64 * u8::from(is_base64))
        | (HEX * u8::from(is_hex))
        | (GAP * u8::from(is_gap))
}

/// Two characters of two or three bytes in a row that stand between spaces ("忽 略 "). One alone is a word of many
/// languages.
fn lone_wide(block: &[u8]) -> u32 {
    let three = |w: &[u8]| w[0] == b' ' && w[1] >= 0xe0 && w[4] == b' ' && w[5] >= 0xe0 && w[8] == b' ';
    let two = |w: &[u8]| w[0] == b' ' && w[1] >= 0xc0 && w[3] == b' ' && w[4] >= 0xc0 && w[6] == b' ';
    let is_spaced = block.windows(9).any(three) || block.windows(7).any(two);
    LONE * u32::from(is_spaced)
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
            assert!(survey.leet < 2 && survey.lone_letters < 4, "{name}: {survey:?}");
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
            assert!(spaced.lone_letters >= 3, "{}", before.len());
            let base64 = read(&format!("{before} {} ", "QUJD".repeat(8)));
            assert!(base64.base64.iter().map(Range::len).sum::<usize>() >= 16, "{}", before.len());
            let hex = read(&format!("{before} 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47"));
            assert!(hex.spaced_hex.iter().map(Range::len).sum::<usize>() >= 16, "{}", before.len());
        }
    }
}
