//! A tokenizer that needs no vocabulary file: an id holds the letters it stands for, so ids turn back
//! into text exactly. English comes to about 1.35 tokens a word, Chinese and Japanese to one a character,
//! close enough to real ones to size prompts with.
//!
//! A space always begins a token, so text tokenizes the same wherever it is cut between tokens: an answer
//! sent back in the next turn has the tokens it was generated with.
//! Invariant: `decode(encode(text)) == text`. Cost: one pass, no allocation a token.

use std::hash::{BuildHasher, Hasher};

use super::engine::Prompt;

/// Letters of a word token: five bits each in an id.
const WORD_LETTERS: usize = 5;
/// Characters of any other ASCII token: seven bits each.
const ASCII_LETTERS: usize = 4;
/// Words: five letters below, then a space, a capital, this tag. Ids from here to `ASCII_TAG` are words.
const WORD_TAG: u32 = 1 << 27;
const CAPITAL: u32 = 1 << 26;
const SPACE: u32 = 1 << 25;
/// Four 7-bit characters, zero-filled. Ids below `WORD_TAG` are single code points.
const ASCII_TAG: u32 = 1 << 28;

/// The next token of `text`: its id and its length in bytes. `None` at the end.
pub(super) fn next_token(text: &str) -> Option<(u32, usize)> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    if !first.is_ascii() || first == 0 {
        let letter = text.chars().next()?;
        return Some((u32::from(letter), letter.len_utf8()));
    }
    Some(word(bytes).unwrap_or_else(|| ascii(bytes)))
}

/// Every token of `text`.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (id, length) = next_token(rest)?;
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some((id, piece))
    })
}

/// The text `ids` stand for; ids that stand for none become U+FFFD.
pub(super) fn decode(ids: &[u32]) -> String {
    let mut text = String::with_capacity(ids.len() * 4);
    for &id in ids {
        match id {
            ASCII_TAG..=u32::MAX => {
                let letters = (0..ASCII_LETTERS).map(|at| (id >> (7 * at)) & 0x7f);
                text.extend(letters.filter(|code| *code != 0).filter_map(char::from_u32));
            }
            WORD_TAG..ASCII_TAG => decode_word(id, &mut text),
            0..WORD_TAG => text.push(char::from_u32(id).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }
    text
}

/// Counts tokens and hashes the chain of full blocks as they come.
#[derive(Debug)]
pub(super) struct PromptReader {
    prompt: Prompt,
    block_size: u32,
    hash: u64,
}

impl PromptReader {
    /// A reader for blocks of `block_size` tokens.
    pub(super) fn new(block_size: u32) -> Self {
        Self { prompt: Prompt::default(), block_size, hash: 0 }
    }

    /// Adds the tokens of `text`, but stops once there are more than `limit` in all.
    pub(super) fn text(&mut self, text: &str, limit: u32) {
        for (id, _) in tokens(text) {
            if self.prompt.tokens > limit {
                break;
            }
            self.token(id);
        }
    }

    /// Adds one token.
    pub(super) fn token(&mut self, id: u32) {
        self.hash = mix(self.hash, u64::from(id));
        self.prompt.tokens += 1;
        if self.prompt.tokens.is_multiple_of(self.block_size) {
            self.prompt.chain.push(self.hash);
        }
    }

    /// The prompt read, and a hash of all of it.
    pub(super) fn finish(self) -> (Prompt, u64) {
        (self.prompt, self.hash)
    }
}

/// One step of a hash: stable between runs, so that answers are.
pub(super) fn mix(state: u64, value: u64) -> u64 {
    // The finaliser of SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
    let mut mixed = state.rotate_left(7) ^ value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number no other call returns, for ids and dice that need not repeat.
pub(super) fn fresh() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn word(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut id = WORD_TAG;
    let mut at = 0;
    if bytes.first() == Some(&b' ') {
        id |= SPACE;
        at = 1;
    }
    let mut letters = 0;
    if bytes.get(at).is_some_and(u8::is_ascii_uppercase)
        && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase)
    {
        id |= CAPITAL;
    }
    while letters < WORD_LETTERS {
        let Some(&byte) = bytes.get(at) else { break };
        let is_capital = letters == 0 && id & CAPITAL != 0;
        if !byte.is_ascii_lowercase() && !is_capital {
            break;
        }
        let code = u32::from(byte.to_ascii_lowercase() - b'a' + 1);
        id |= code << (5 * letters);
        letters += 1;
        at += 1;
    }
    (letters > 0).then_some((id, at))
}

fn ascii(bytes: &[u8]) -> (u32, usize) {
    let mut id = ASCII_TAG;
    let mut length = 0;
    for (at, &byte) in bytes.iter().take(ASCII_LETTERS).enumerate() {
        let goes_on = byte.is_ascii() && byte != 0 && !byte.is_ascii_lowercase() && byte != b' ';
        let begins_word = byte.is_ascii_uppercase() && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        if at > 0 && (!goes_on || begins_word) {
            break;
        }
        id |= u32::from(byte) << (7 * at);
        length = at + 1;
    }
    (id, length)
}

fn decode_word(id: u32, text: &mut String) {
    if id & SPACE != 0 {
        text.push(' ');
    }
    for at in 0..WORD_LETTERS {
        let code = (id >> (5 * at)) & 0x1f;
        let Some(letter) = code.checked_sub(1).and_then(|offset| char::from_u32(u32::from(b'a') + offset))
        else {
            break;
        };
        text.push(if at == 0 && id & CAPITAL != 0 { letter.to_ascii_uppercase() } else { letter });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[&str]) {
        let pieces: Vec<_> = tokens(text).map(|(_, piece)| piece).collect();
        assert_eq!(pieces, expected, "{text:?}");
        let ids: Vec<_> = tokens(text).map(|(id, _)| id).collect();
        assert_eq!(decode(&ids), text);
    }

    #[test]
    fn words_take_their_space_and_symbols_stand_together() {
        check("Hello world", &["Hello", " world"]);
        check("internationally", &["inter", "natio", "nally"]);
        check("HTTP {\"a\": 1}\n\n", &["HTTP", " {\"", "a", "\":", " 1}\n", "\n"]);
        check("naïve 語。", &["na", "ï", "ve", " ", "語", "。"]);
        check("a\0b\u{10ffff}", &["a", "\0", "b", "\u{10ffff}"]);
        check("  x", &[" ", " x"]);
        check("camelCase", &["camel", "Case"]);
        check("", &[]);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,60}|[ -~\\n\\x00]{0,60}") {
            let ids: Vec<_> = tokens(&text).map(|(id, _)| id).collect();
            prop_assert_eq!(decode(&ids), text);
        }

        #[test]
        fn any_ids_decode(ids in proptest::collection::vec(any::<u32>(), 0..20)) {
            let _ = decode(&ids);
        }
    }

    #[test]
    fn a_common_beginning_has_common_blocks() {
        let chain = |text: &str| {
            let mut reader = PromptReader::new(4);
            reader.text(text, 1_000);
            reader.finish().0.chain
        };
        let one = chain("the quick brown fox jumps over the lazy dog again");
        let two = chain("the quick brown fox jumps over the tired dog again");
        assert_eq!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
        assert_eq!(one.len(), 2);
    }

    #[test]
    fn reading_stops_past_the_limit() {
        let mut reader = PromptReader::new(16);
        reader.text(&"word ".repeat(10_000), 100);
        assert_eq!(reader.finish().0.tokens, 101);
    }
}
