//! A text that is still coming → the tokens that it has so far. What has come since the last place to cut is kept, and
//! counted when the next place comes: nothing is encoded twice, and the count is that of the whole text, however it came.
//!
//! Cost of a push: a copy of its bytes, a look at each, and a look into the table of pieces for each word that it ends.
//! No allocation once the buffer has grown to the size of an event and a word.

use std::fmt;

use super::{CHARS_PER_TOKEN, Tokenizer};
use crate::json::Str;

/// A buffer that one huge event has grown is not kept at that size.
const MAX_KEPT: usize = 16 * 1024;

/// A text so far.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Tokens of the pieces that are over.
    counted: u64,
    /// The piece that is not over.
    tail: Vec<u8>,
    /// How far places were looked for in it.
    searched: usize,
    /// Whether `tail` follows on something.
    has_begun: bool,
}

// Not derived: it would print a customer's text.
impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("counted", &self.counted).field("open", &self.tail.len()).finish()
    }
}

impl Running {
    /// Goes on with `text`.
    pub fn push(&mut self, tokenizer: &Tokenizer, text: Str<'_>) {
        text.write(&mut self.tail);
        self.count(tokenizer);
    }

    /// Goes on with `text`.
    pub fn push_str(&mut self, tokenizer: &Tokenizer, text: &str) {
        self.tail.extend_from_slice(text.as_bytes());
        self.count(tokenizer);
    }

    fn count(&mut self, tokenizer: &Tokenizer) {
        let mut start = 0;
        while let Some(at) = tokenizer.cut.find(&self.tail, start, self.searched.max(start + 1)) {
            self.counted += tokenizer.piece(&self.tail[start..at], self.has_begun);
            self.has_begun = true;
            start = at;
        }
        self.tail.drain(..start);
        self.searched = self.tail.len();
        if self.tail.capacity() > MAX_KEPT && self.tail.len() < MAX_KEPT {
            self.tail.shrink_to(MAX_KEPT);
        }
    }

    /// The tokens so far, without asking for those of the unfinished piece.
    #[must_use]
    pub fn so_far(&self) -> u64 {
        self.counted + (self.tail.len() as u64).div_ceil(CHARS_PER_TOKEN)
    }

    /// The tokens so far, the unfinished piece as if it ended here.
    #[must_use]
    pub fn total(&self, tokenizer: &Tokenizer) -> u64 {
        if self.tail.is_empty() {
            return self.counted;
        }
        self.counted + tokenizer.piece(&self.tail, self.has_begun)
    }
}
