//! Text → how many tokens it is, by a model's own tokenizer: a Hugging Face `tokenizer.json`, or an encoding whose
//! vocabulary ships with the program.
//!
//! A text is cut at places that no token reaches across (`cut`); the pieces are mostly words, and nearly all of them
//! have been counted before (`memo`). Only what is new is encoded. So counting costs about the same with every
//! tokenizer (some encode 2 MB a second, which would be 2 µs for each event of a stream), and a stream is counted as
//! it comes (`running`).
//!
//! Text only: tokens that a chat template adds are [`chat`]'s, images are [`image`]'s, a whole request is
//! [`counter`]'s. Special tokens written out in a text are counted as the letters that they are.

pub mod chat;
pub mod counter;
mod cut;
pub mod image;
mod memo;
mod running;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

pub use running::Running;

use chat::Family;
use cut::Cut;
use memo::Memo;

/// The encodings whose vocabularies ship with the program: the name in the configuration, and what the crate calls it.
pub const ENCODINGS: [(&str, &str); 5] = [
    ("o200k", "o200k_base"),
    ("cl100k", "cl100k_base"),
    ("qwen2", "qwen2"),
    ("deepseek_v3", "deepseek_v3"),
    ("mistral_v3", "mistral_v3"),
];

/// Counts the tokens of texts.
pub struct Tokenizer {
    engine: Engine,
    cut: Cut,
    memo: Memo,
    /// Pieces that texts may have and that are not counted yet, those that they have least first.
    expected: Mutex<Vec<Box<[u8]>>>,
    /// A piece by itself has tokens that it would not have in the middle of a text: a space put before it.
    is_anchored: bool,
    family: Option<Family>,
    /// Tokens that the tokenizer adds to a text that is no chat.
    specials: u64,
    vocabulary: usize,
}

enum Engine {
    Encoding(&'static tiktoken::CoreBpe),
    // Boxed: it is ten times as large as the rest.
    HuggingFace(Box<tokenizers::Tokenizer>),
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

/// One is the same as itself only: its vocabulary is not compared.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Tokenizer {}

/// Pieces that are counted while a file is loaded, some 30 ms of work. [`Tokenizer::warm`] goes on with the rest.
const WARM: usize = 10_000;

/// Stands before a piece in the middle of a text, where a piece by itself would be encoded otherwise.
const ANCHOR: &str = "a";

impl Tokenizer {
    /// The encoding `name` of [`ENCODINGS`]. `seed` should be one that no client can know.
    #[must_use]
    pub fn encoding(name: &str, seed: u64) -> Option<Self> {
        let (_, full) = ENCODINGS.iter().find(|(known, _)| *known == name)?;
        let encoding = tiktoken::get_encoding(full)?;
        Some(Self {
            engine: Engine::Encoding(encoding),
            // A test asks their vocabularies.
            cut: Cut::ALL.with_line_starts(false, false),
            memo: Memo::new(seed, 0),
            expected: Mutex::default(),
            is_anchored: false,
            family: Some(Family::of_encoding(name)),
            specials: 0,
            vocabulary: encoding.vocab_size(),
        })
    }

    /// The tokenizer that the contents of a `tokenizer.json` describe.
    ///
    /// # Errors
    /// In words, if they describe none.
    pub fn from_json(json: &[u8], seed: u64) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| format!("expected a tokenizer.json of Hugging Face: {error}"))?;
        // A file may say that texts are cut or filled up to the length of a model's input: no text is as long as that.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        let is_byte_level = memchr::memmem::find(json, b"\"ByteLevel\"").is_some();
        let vocabulary = inner.get_vocab(false);
        let added: HashSet<String> =
            inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        let learned = vocabulary.keys().filter(|token| !added.contains(*token));
        let cut = Cut::of(learned.map(|token| text_of_token(token, is_byte_level)));
        let specials = inner.encode_fast("", true).map_err(|error| error.to_string())?.len() as u64;
        let mut tokenizer = Self {
            engine: Engine::HuggingFace(Box::new(inner)),
            cut,
            memo: Memo::new(seed, vocabulary.len()),
            expected: Mutex::default(),
            is_anchored: false,
            family: Family::of_special_tokens(&added),
            specials,
            vocabulary: vocabulary.len(),
        };
        tokenizer.encode("a word").ok_or("it cannot encode the text \"a word\"")?;
        tokenizer.is_anchored = [" the", " zebra", ".", ",x", "\n", "\u{3002}"].iter().any(|piece| {
            let within = tokenizer.encode(&format!("{ANCHOR}{piece}")).zip(tokenizer.encode(ANCHOR));
            within.map(|(both, anchor)| both.saturating_sub(anchor)) != tokenizer.encode(piece)
        });
        tokenizer.find_line_starts();
        *tokenizer.expected.get_mut().unwrap_or_else(PoisonError::into_inner) =
            tokenizer.pieces_of(&vocabulary, is_byte_level);
        tokenizer.warm(WARM);
        Ok(tokenizer)
    }

    /// Asks whether a line may be cut off from the one before: what whitespace becomes depends on what follows it in some
    /// tokenizers, and on nothing in others.
    fn find_line_starts(&mut self) {
        let holds = |ends: &[&str]| {
            ends.iter().all(|end| {
                ["The", "a", "Zq", "7", "\u{e9}t", "\u{4e2d}"].iter().all(|line| {
                    let both = self.encode(&format!("{end}{line}"));
                    let apart = self.encode(end).zip(self.encode(line));
                    both.is_some() && both == apart.map(|(end, line)| end + line)
                })
            })
        };
        let after_one = holds(&["\n", "x\n", ".\n", ",\n", "`\n", "7\n", "\u{3002}\n"]);
        let after_many =
            after_one && holds(&["\n\n", "x\n\n", ".\n\n", ":\n\n\n", " \n\n", ".\n \n", "`\n\n"]);
        // Where a space is put before a piece by itself, a word that is none in the middle of a text has to follow on one.
        let is_free = !self.is_anchored;
        self.cut = self.cut.with_line_starts(is_free && after_one, is_free && after_many);
    }

    /// The tokens that are pieces by themselves, words most of them, the first learned last: those are what texts have
    /// most.
    fn pieces_of(&self, vocabulary: &HashMap<String, u32>, is_byte_level: bool) -> Vec<Box<[u8]>> {
        let mut tokens: Vec<(u32, &String)> =
            vocabulary.iter().map(|(token, number)| (*number, token)).collect();
        tokens.sort_unstable_by(|a, b| b.cmp(a));
        let pieces = tokens.into_iter().map(|(_, token)| text_of_token(token, is_byte_level));
        let pieces = pieces.filter(|piece| !piece.is_empty() && self.cut.find(piece, 0, 1).is_none());
        pieces.map(Vec::into_boxed_slice).collect()
    }

    /// Counts `most` of the pieces that texts may have, so that the first answers find them counted. `false` once there are
    /// no more.
    pub fn warm(&self, most: usize) -> bool {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = expected.len().saturating_sub(most);
        let pieces = expected.split_off(rest);
        if rest == 0 {
            *expected = Vec::new();
        }
        drop(expected);
        for piece in pieces.iter().rev() {
            self.memo.foresee(piece, || self.encode_piece(piece, self.is_anchored));
        }
        rest > 0
    }

    /// Tokens of `text`, counted piece by piece.
    ///
    /// # Cost
    /// See the module. No allocation, but for what the tokenizer itself needs for pieces that are new.
    #[must_use]
    pub fn count(&self, text: &str) -> u64 {
        let text = text.as_bytes();
        let (mut count, mut start) = (0, 0);
        while start < text.len() {
            let end = self.cut.find(text, start, start + 1).unwrap_or(text.len());
            count += self.piece(&text[start..end], start > 0);
            start = end;
        }
        count
    }

    /// Tokens of `text`, encoded at once. `None` if the tokenizer cannot encode it.
    #[must_use]
    pub fn encode(&self, text: &str) -> Option<u64> {
        match &self.engine {
            Engine::Encoding(encoding) => Some(encoding.count(text) as u64),
            Engine::HuggingFace(inner) => Some(inner.encode_fast(text, false).ok()?.len() as u64),
        }
    }

    /// How its model's chats are written, if it can be told.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// Tokens that it adds to a text that is no chat, to mark its beginning and end.
    #[must_use]
    pub fn specials(&self) -> u64 {
        self.specials
    }

    /// Tokens that it knows.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens of a piece, which follows on something or not.
    fn piece(&self, piece: &[u8], follows: bool) -> u64 {
        let is_anchored = follows && self.is_anchored;
        // A piece has one count in the table: that which nearly all have, in the middle of a text.
        if self.is_anchored && !follows {
            return self.encode_piece(piece, false);
        }
        self.memo.count(piece, || self.encode_piece(piece, is_anchored))
    }

    #[cold]
    fn encode_piece(&self, piece: &[u8], is_anchored: bool) -> u64 {
        let text = String::from_utf8_lossy(piece);
        let tokens = if is_anchored && is_after_place(&text) {
            let within = self.encode(&format!("{ANCHOR}{text}")).zip(self.encode(ANCHOR));
            within.map(|(both, anchor)| both.saturating_sub(anchor))
        } else {
            self.encode(&text)
        };
        tokens.unwrap_or_else(|| (text.chars().count() as u64).div_ceil(CHARS_PER_TOKEN))
    }
}

/// Characters a token where no tokenizer is known: the usual rule of thumb for English
/// (<https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>).
pub const CHARS_PER_TOKEN: u64 = 4;

/// Whether a piece begins at a place that no token reaches across, and not where it had become too long.
fn is_after_place(piece: &str) -> bool {
    piece.chars().next().is_some_and(|first| !first.is_alphanumeric())
}

/// What a token of a vocabulary stands for. Vocabularies write a space as `▁`, or each byte as a letter of its own
/// (GPT-2's `bytes_to_unicode`), and a token that goes on with a word as `##ing`.
fn text_of_token(token: &str, is_byte_level: bool) -> Vec<u8> {
    if !is_byte_level {
        return token.strip_prefix("##").unwrap_or(token).replace('\u{2581}', " ").into_bytes();
    }
    let byte = |c: char| match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        // The other bytes, in order: 0 to 32, 127 to 160, 173.
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    };
    // A token with another letter was added as it stands.
    token.chars().map(byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
#[path = "tokenizer/tests.rs"]
mod tests;
