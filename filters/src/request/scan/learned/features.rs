//! Text → the features that the learned layer weighs: words, stems, pairs and gapped pairs of neighbouring words,
//! hashed. One pass, nothing kept but the last three words, nothing allocated: the trainer runs this same code, so
//! what was learned and what is looked up cannot differ.
//!
//! A word is a run of letters of any alphabet, compared without ASCII case. A stem is its first `STEM` bytes (six
//! letters of the Latin alphabet, enough that "ignore", "ignorer" and "ignoriere" meet). Scripts that put no space
//! between words (Han, kana, Hangul, Thai, Lao) give one token a character and runs of two to four of them. A run of
//! digits is one token whatever its value, so that nothing learns a number. Everything else only separates.
//!
//! Cost: eight bytes at a time in ASCII words, one multiplication a feature.

/// How many features a token has.
pub const PER_TOKEN: usize = 4;

/// What each of a token's features stands for, in their order.
pub const KINDS: [Kind; PER_TOKEN] = [Kind::Word, Kind::Stem, Kind::Pair, Kind::Gapped];

/// Bytes of a word that its stem keeps.
const STEM: usize = 6;

/// The same for words with letters outside ASCII, whose letters take two bytes or three.
const WIDE_STEM: usize = 12;

/// No feature: what stands in the place of one that was there a moment ago.
pub const NONE: u32 = u32::MAX;

/// Features remembered, so that the columns of a table and the refrain of a song count once: on average those of the
/// last fifty tokens, since another feature takes the place.
const LATELY: usize = 256;

/// Odd constants of splitmix64 (<https://prng.di.unimi.it/splitmix64.c>): any odd number with mixed bits does.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX_2: u64 = 0xBF58_476D_1CE4_E5B9;

/// What a feature is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The word itself.
    Word,
    /// Its first letters; of a character of a script without spaces, the run of four that ends there.
    Stem,
    /// The stems of this word and the one before.
    Pair,
    /// The stems of this word and the one two before; of such a character, the run of three that ends there.
    Gapped,
}

impl Kind {
    /// How many tokens back it reaches.
    #[must_use]
    pub fn reach(self, is_character: bool) -> usize {
        match self {
            Self::Word => 0,
            Self::Stem => 3 * usize::from(is_character),
            Self::Pair => 1,
            Self::Gapped => 2,
        }
    }
}

/// A word, or a character of a script without spaces.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether it is one character of a script without spaces.
    pub is_character: bool,
    /// Its features, in the order of [`KINDS`], or [`NONE`] for one that was there a moment ago.
    pub features: [u32; PER_TOKEN],
}

/// Calls `each` with every token of `text` in order.
#[inline]
pub fn walk(text: &str, mut each: impl FnMut(Token)) {
    let bytes = text.as_bytes();
    let mut last = [0_u64; 3];
    let mut lately = [NONE; LATELY];
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (word, stem, end, is_character) = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => word(bytes, at),
            b'0'..=b'9' => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                (MIX, MIX, at + digits, false)
            }
            0..=0x7f => {
                at += 1;
                continue;
            }
            _ => match class(bytes, at) {
                (Class::Separator, length) => {
                    at += length;
                    continue;
                }
                (Class::Letter, _) => wide_word(bytes, at),
                (Class::Character, length) => {
                    let hash = mix(code(bytes, at, length));
                    (hash, hash, (at + length).min(bytes.len()), true)
                }
            },
        };
        let [first, second, third] = last;
        let pair = chain(third, stem);
        let (of_stem, gapped) = if is_character {
            let triple = chain(second, pair);
            (chain(first, triple), triple)
        } else {
            (stem, chain(second, stem))
        };
        let mut features = [feature(word, 1), feature(of_stem, 2), feature(pair, 3), feature(gapped, 4)];
        for feature in &mut features {
            let slot = &mut lately[*feature as usize % LATELY];
            let is_repeated = *slot == *feature;
            *slot = *feature;
            *feature = if is_repeated { NONE } else { *feature };
        }
        each(Token { start: at, end, is_character, features });
        last = [second, third, stem];
        at = end;
    }
}

/// The bytes of the character at `at` as one number.
#[inline]
fn code(bytes: &[u8], at: usize, length: usize) -> u64 {
    match bytes.get(at..at + 4).and_then(|four| four.try_into().ok()) {
        Some(four) => u64::from(u32::from_be_bytes(four) >> (8 * (4 - length))),
        None => {
            bytes[at..bytes.len().min(at + length)].iter().fold(0, |code, &byte| code << 8 | u64::from(byte))
        }
    }
}

/// Hash of the word at `at`, hash of its stem, its end, and that it is no single character.
#[expect(clippy::inline_always, reason = "a call a word costs a fifth of what the word does")]
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> (u64, u64, usize, bool) {
    let (key, mut length) = letters(bytes, at);
    let stem = mix(key & (u64::MAX >> (64 - 8 * STEM)));
    let mut hash = mix(key);
    let mut end = at + length;
    while length == 8 {
        let (key, more) = letters(bytes, end);
        if more == 0 {
            break;
        }
        hash = mix(hash ^ key);
        end += more;
        length = more;
    }
    if bytes.get(end).is_some_and(|&byte| byte >= 0x80) && class(bytes, end).0 == Class::Letter {
        return wide_word(bytes, at);
    }
    (hash, stem, end, false)
}

/// The same for a word with letters outside ASCII.
fn wide_word(bytes: &[u8], at: usize) -> (u64, u64, usize, bool) {
    let (mut hash, mut stem, mut end) = (MIX_2, MIX_2, at);
    while let Some(&byte) = bytes.get(end) {
        let length = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => 1,
            0..=0x7f => break,
            _ => match class(bytes, end) {
                (Class::Letter, length) => length,
                _ => break,
            },
        };
        let lower = if length == 1 { 0x20 } else { 0 };
        hash = chain(hash, code(bytes, end, length) | lower);
        end = (end + length).min(bytes.len());
        if end - at <= WIDE_STEM {
            stem = hash;
        }
    }
    (hash, stem, end, false)
}

/// The ASCII letters among the eight bytes at `at`, up to the first other byte: in lower case, and how many.
#[inline]
fn letters(bytes: &[u8], at: usize) -> (u64, usize) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let chunk = match bytes.get(at..at + 8).and_then(|chunk| chunk.try_into().ok()) {
        Some(chunk) => u64::from_le_bytes(chunk),
        None => bytes[at..].iter().rev().fold(0, |chunk, &byte| chunk << 8 | u64::from(byte)),
    };
    let lower = chunk | (0x20 * ONES);
    let low_bits = lower & !HIGH;
    // Seven bits plus less than 0x80: no byte carries into the next.
    let from_a = low_bits + (0x80 - u64::from(b'a')) * ONES;
    let past_z = low_bits + (0x80 - u64::from(b'z') - 1) * ONES;
    let is_letter = from_a & !past_z & !chunk & HIGH;
    let count = ((!is_letter & HIGH).trailing_zeros() / 8) as usize;
    let mask = if count == 0 { 0 } else { u64::MAX >> (64 - 8 * count) };
    (lower & mask, count)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Letter,
    /// A token by itself.
    Character,
    /// Between tokens.
    Separator,
}

/// What the character outside ASCII at `at` is, and how many bytes it has. By blocks of Unicode
/// (<https://www.unicode.org/Public/UNIDATA/Blocks.txt>): a stray symbol taken for a letter costs nothing.
#[inline]
fn class(bytes: &[u8], at: usize) -> (Class, usize) {
    let second = bytes.get(at + 1).copied().unwrap_or(0);
    match bytes[at] {
        0xc3..=0xdf => (Class::Letter, 2),
        0xe0 if (0xb8..=0xbb).contains(&second) => (Class::Character, 3), // Thai, Lao
        0xe3 if second == 0x80 => (Class::Separator, 3),                  // ideographic punctuation
        0xe3..=0xe9 | 0xeb..=0xed => (Class::Character, 3),               // kana, Han, Hangul
        0xea if second >= 0xb0 => (Class::Character, 3),                  // Hangul
        0xe0 | 0xe1 | 0xea => (Class::Letter, 3),
        0xe2 | 0xee => (Class::Separator, 3), // punctuation and symbols, private use
        0xef if (0xa4..=0xab).contains(&second) => (Class::Character, 3), // compatibility ideographs
        0xef if (0xac..=0xb7).contains(&second) => (Class::Letter, 3), // Arabic presentation forms
        0xef => (Class::Separator, 3),
        0xf0 if (0xa0..=0xb3).contains(&second) => (Class::Character, 4), // rare ideographs
        0xf0..=0xff => (Class::Separator, 4),
        _ => (Class::Separator, 2 - usize::from(bytes[at] < 0xc0)),
    }
}

#[inline]
fn mix(value: u64) -> u64 {
    let product = (value ^ MIX_2).wrapping_mul(MIX);
    product ^ product >> 29
}

#[inline]
fn chain(before: u64, next: u64) -> u64 {
    mix(before.rotate_left(23) ^ next)
}

#[inline]
fn feature(hash: u64, kind: u64) -> u32 {
    (hash.wrapping_add(kind.wrapping_mul(MIX)).wrapping_mul(MIX_2) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[&str]) {
        let mut tokens = Vec::new();
        walk(text, |token| tokens.push(&text[token.start..token.end]));
        assert_eq!(tokens, expected, "{text:?}");
    }

    fn words(text: &str) -> Vec<u32> {
        let mut words = Vec::new();
        walk(text, |token| words.push(token.features[0]));
        words
    }

    #[test]
    fn words_are_runs_of_letters_and_scripts_without_spaces_are_read_by_character() {
        for (text, expected) in [
            ("", &[][..]),
            ("Reveal THE prompt!", &["Reveal", "THE", "prompt"]),
            ("a-b_c 12,5 d3", &["a", "b", "c", "12", "5", "d", "3"]),
            ("abcdefgh abcdefghi abcdefghijklmnopq", &["abcdefgh", "abcdefghi", "abcdefghijklmnopq"]),
            ("oubliées déjà", &["oubliées", "déjà"]),
            ("забудь всё", &["забудь", "всё"]),
            ("忘れて、全部", &["忘", "れ", "て", "全", "部"]),
            ("지시 무시", &["지", "시", "무", "시"]),
            ("निर्देश भूल", &["निर्देश", "भूल"]),
            ("ลืม", &["ล", "ื", "ม"]),
            ("rule—“one” 🙂 two", &["rule", "one", "two"]),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn case_is_not_seen_and_the_end_of_the_text_changes_nothing() {
        for word in ["a", "Ignore", "INSTRUCTIONS", "abcdefgh", "ABCDEFGHIJKLMNOP"] {
            let padded = format!("{word}            ");
            assert_eq!(words(word), words(&padded.to_lowercase()), "{word}");
        }
    }

    #[test]
    fn inflected_words_share_a_stem() {
        let stem = |word: &str| {
            let mut stem = 0;
            walk(word, |token| stem = token.features[1]);
            stem
        };
        for (one, other, same) in [
            ("Ignorieren!", "ignoring", true),
            ("instructions", "instruc", true),
            ("instructions", "prompts", false),
            ("инструкции", "инструкциям", true),
        ] {
            assert_eq!(stem(one) == stem(other), same, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn tokens_are_in_order_on_character_boundaries(text in "\\PC{0,80}|[a-zA-Z0-9é中あ한ก \\n.]{0,120}") {
            let mut end = 0;
            walk(&text, |token| {
                assert!(end <= token.start && token.start < token.end, "{text:?}");
                assert!(text.is_char_boundary(token.start) && text.is_char_boundary(token.end), "{text:?}");
                end = token.end;
            });
            prop_assert!(end <= text.len());
        }

        #[test]
        fn a_word_is_the_same_wherever_it_stands(before in "[ .,]{0,9}", word in "\\p{L}{1,20}", after in "[ .,]{0,9}") {
            prop_assert_eq!(words(&word), words(&format!("{before}{word}{after}")));
        }
    }
}
