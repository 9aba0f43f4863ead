//! How the tokens of one model are counted: its texts by its tokenizer, or four characters a token where none is known;
//! what its chat template adds; its images by its rule.
//!
//! Nobody waits long for a count. Up to `exact_bytes` of text are counted to the last token; of more text, stretches
//! are, spread evenly over all of it and together as long, and the rest is taken to be alike. What comes of it is an
//! estimate, and says so.

use std::borrow::Cow;
use std::sync::Arc;

use super::chat::{Family, Overhead};
use super::image::ImageRule;
use super::{CHARS_PER_TOKEN, Tokenizer};
use crate::request::body::{Prompt, Text};
use crate::response::usage::{Estimate, Source};

/// A stretch of a text that is too long to be counted whole, in bytes.
const STRETCH: usize = 2048;

/// Counts requests and answers of one model.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    tokenizer: Option<Arc<Tokenizer>>,
    overhead: Overhead,
    images: ImageRule,
    exact_bytes: usize,
}

/// The tokens of texts, and whether all of them were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many there are.
    pub tokens: u64,
    /// Whether that is no estimate.
    pub is_exact: bool,
}

impl Counter {
    /// Counts by `tokenizer`, if there is one. `overhead` is that of the model's chat template where it is known
    /// otherwise than by the tokenizer.
    #[must_use]
    pub fn new(
        tokenizer: Option<Arc<Tokenizer>>,
        overhead: Option<Overhead>,
        images: ImageRule,
        exact_bytes: usize,
    ) -> Self {
        let family = tokenizer.as_ref().and_then(|tokenizer| tokenizer.family());
        let overhead = overhead.or(family.map(Family::overhead)).unwrap_or_default();
        Self { tokenizer, overhead, images, exact_bytes }
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.tokenizer.as_ref()
    }

    /// What the model's chat template adds.
    #[must_use]
    pub fn overhead(&self) -> Overhead {
        self.overhead
    }

    /// The input of a request whose body is `body`.
    #[must_use]
    pub fn prompt(&self, prompt: &Prompt, body: &[u8]) -> Estimate {
        let images: u64 = prompt.images().map(|data| self.images.count(data.map(|span| &body[span]))).sum();
        let around = images + self.around(prompt) + prompt.token_ids;
        let Some(tokenizer) = &self.tokenizer else {
            let characters = prompt.text_chars.div_ceil(CHARS_PER_TOKEN);
            return Estimate { input: characters + around, ..prompt.estimate_by_characters() };
        };
        let read = prompt.texts.iter().filter(|text| text.is_read());
        let tools = prompt.tools.iter().map(|span| String::from_utf8_lossy(&body[span.clone()]));
        let length: usize = read.clone().map(Text::len).sum::<usize>()
            + prompt.tools.iter().map(|span| span.len()).sum::<usize>();
        let mut system = self.sample(length);
        let mut rest = self.sample(length);
        for text in read {
            let part = if text.is_system() { &mut system } else { &mut rest };
            part.add(tokenizer, &text.value(body));
        }
        tools.for_each(|text| rest.add(tokenizer, &text));
        let (system, rest) = (system.count(), rest.count());
        let is_exact = system.is_exact && rest.is_exact && images == 0;
        Estimate {
            input: system.tokens + rest.tokens + around,
            system: system.tokens,
            input_source: if is_exact { Source::Tokenizer } else { Source::Estimated },
            ..Estimate::default()
        }
    }

    /// The tokens of `texts`, which are `length` bytes long together. `None` without a tokenizer.
    #[must_use]
    pub fn texts<'t>(&self, texts: impl Iterator<Item = Cow<'t, str>>, length: usize) -> Option<Count> {
        let tokenizer = self.tokenizer.as_deref()?;
        let mut sample = self.sample(length);
        texts.for_each(|text| sample.add(tokenizer, &text));
        Some(sample.count())
    }

    /// Tokens that stand around the texts of a request.
    fn around(&self, prompt: &Prompt) -> u64 {
        if prompt.messages == 0 {
            let specials = self.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.specials());
            return specials * prompt.inputs;
        }
        let tools = if prompt.tools.is_empty() { 0 } else { self.overhead.tools };
        self.overhead.request + self.overhead.message * prompt.messages + tools
    }

    fn sample(&self, length: usize) -> Sample {
        Sample { length, most: self.exact_bytes, ..Sample::default() }
    }
}

/// Texts of which as much is counted as there may be time for.
#[derive(Default)]
struct Sample {
    /// Bytes of all texts that share the time.
    length: usize,
    /// Bytes of them that may be counted.
    most: usize,
    /// Bytes that came by.
    seen: usize,
    /// Bytes that were counted.
    taken: usize,
    tokens: u64,
}

impl Sample {
    fn add(&mut self, tokenizer: &Tokenizer, text: &str) {
        if self.length <= self.most {
            self.seen += text.len();
            self.taken += text.len();
            self.tokens += tokenizer.count(text);
            return;
        }
        let mut at = 0;
        while at < text.len() {
            let end = text.ceil_char_boundary((at + STRETCH).min(text.len()));
            // The share of what came by that is counted stays at `most / length`, wherever texts begin and end.
            let (taken, seen) = (self.taken as u128, self.seen as u128);
            if taken * self.length as u128 <= seen * self.most as u128 {
                self.tokens += tokenizer.count(&text[at..end]);
                self.taken += end - at;
            }
            self.seen += end - at;
            at = end;
        }
    }

    fn count(&self) -> Count {
        if self.taken == self.seen {
            return Count { tokens: self.tokens, is_exact: true };
        }
        let (seen, taken) = (self.seen as u128, self.taken.max(1) as u128);
        let tokens = (u128::from(self.tokens) * seen).div_ceil(taken);
        Count { tokens: u64::try_from(tokens).unwrap_or(u64::MAX), is_exact: false }
    }
}
