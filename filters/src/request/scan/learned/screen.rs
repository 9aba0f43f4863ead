//! Text → whether the learned layer has to read it. Nearly all texts are nothing like an attack, and one number for each word says so:
//! the first stage of a cascade (Viola and Jones, <https://doi.org/10.1109/CVPR.2001.990517>). Its sums are those of the layer
//! itself, over words alone: a text whose largest sum stays below a bound is not read.
//!
//! A word is a run of ASCII letters and digits, known by its first letters. A text with letters of other scripts is always read.
//!
//! Cost: sixty-four bytes at a time where words begin and end, and one look-up a word in 32 KiB; nothing behind the first place that is reason
//! enough to read the text.

use std::ops::Range;

use wide::{bytemuck, f32x4};

use super::super::block::{self, Block};
use super::features::{Class, class, letters, mix};
use super::{DECAYS, SCALES};

/// Numbers of words: several share one.
pub const SLOTS: usize = 1 << 15;

/// A weight is this many of the sum's units.
pub const UNIT: f32 = 1.0 / 64.0;

/// Letters by which a word is known.
const KNOWN_BY: usize = 6;

/// Every number of a screen but its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// What a sum is multiplied with, by length.
    pub gain: [f32; SCALES],
    /// What is then added.
    pub bias: [f32; SCALES],
    /// The largest sum of a text from which on it is read.
    pub least: f32,
}

impl Bound {
    pub(super) fn numbers(self) -> impl Iterator<Item = f32> {
        let Self { gain, bias, least } = self;
        gain.into_iter().chain(bias).chain([least])
    }
}

/// The first stage.
#[derive(Debug, Clone)]
pub struct Screen {
    weights: Box<[i8; SLOTS]>,
    bound: Bound,
}

impl Screen {
    /// Bytes of the weights.
    pub(super) const BYTES: usize = SLOTS;

    /// A screen of these weights, one for each slot; missing ones are 0.
    #[must_use]
    pub fn new(weights: &[i8], bound: Bound) -> Self {
        let mut all = Box::new([0; SLOTS]);
        all.iter_mut().zip(weights).for_each(|(weight, given)| *weight = *given);
        Self { weights: all, bound }
    }

    pub(super) fn from_bytes(bytes: &[u8], bound: Bound) -> Self {
        Self::new(bytemuck::cast_slice(bytes), bound)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&*self.weights)
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    /// How many words a text has that need not be read; `None` for one that has to be.
    #[must_use]
    pub fn shuts_out(&self, text: &str) -> Option<usize> {
        let Bound { gain, bias, least } = self.bound;
        let lanes = |of: [f32; SCALES], rest: f32| f32x4::new([of[0], of[1], of[2], rest]);
        let (decays, gains, biases) = (lanes(DECAYS, 0.0), lanes(gain, 0.0), lanes(bias, f32::NEG_INFINITY));
        let least = f32x4::splat(least);
        let start = Sums { sums: f32x4::ZERO, most: biases, words: 0 };
        let is_open = |sums: &Sums| sums.most.simd_ge(least).any();
        let bytes = text.as_bytes();
        let all = each_word(bytes, start, is_open, |sums, word| {
            let weight = f32::from(self.weights[slot(bytes, word)]) * UNIT;
            sums.sums = sums.sums * decays + f32x4::splat(weight);
            sums.most = sums.most.max(sums.sums * gains + biases);
            sums.words += 1;
        })?;
        (!is_open(&all)).then_some(all.words)
    }
}

/// What the words of a text come to so far, at each length.
struct Sums {
    sums: f32x4,
    most: f32x4,
    words: usize,
}

/// The slots of the words of a text, in their order; `None` for one that is always read. For a trainer.
#[must_use]
pub fn slots(text: &str) -> Option<Vec<usize>> {
    let bytes = text.as_bytes();
    each_word(bytes, Vec::new(), |_| false, |slots, word| slots.push(slot(bytes, word)))
}

/// Gives `state` each word; `None` if there are letters of other scripts, or if `is_enough` after the words of a block.
#[inline]
fn each_word<S>(
    bytes: &[u8],
    state: S,
    is_enough: impl Fn(&S) -> bool,
    each: impl FnMut(&mut S, Range<usize>),
) -> Option<S> {
    let words = |state: &S, at| {
        let Block { letters, digits, wide } = Block::at(bytes, at);
        let is_read = is_enough(state) || (wide != 0 && has_wide_letters(bytes, at, wide));
        (!is_read).then_some(letters | digits)
    };
    block::each_run::<1, _>(bytes.len(), state, words, each)
}

/// Whether one of these bytes of the block at `at` begins a letter, or a character of a script without spaces.
#[cold]
fn has_wide_letters(bytes: &[u8], at: usize, mut wide: u64) -> bool {
    while wide != 0 {
        let place = at + wide.trailing_zeros() as usize;
        wide &= wide - 1;
        if bytes[place] >= 0xc0 && class(bytes, place).0 != Class::Separator {
            return true;
        }
    }
    false
}

/// The slot of a word.
#[inline]
fn slot(bytes: &[u8], word: Range<usize>) -> usize {
    let own = letters(bytes, word.start, word.len().min(KNOWN_BY));
    (mix(own) >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUND: Bound = Bound { gain: [1.0, 0.5, 0.25], bias: [-2.0; SCALES], least: 0.5 };

    fn screen(words: &str, weight: i8) -> Screen {
        let mut weights = vec![0; SLOTS];
        slots(words).expect("they are plain").into_iter().for_each(|slot| weights[slot] = weight);
        Screen::new(&weights, BOUND)
    }

    #[test]
    fn a_text_is_read_if_its_words_say_so_in_one_place() {
        // Two words of two and a half units are needed, near each other.
        let screen = screen("ignore rules", 100);
        let filler = "so it goes, and goes on. ".repeat(50);
        for (text, is_read) in [
            ("", false),
            ("ignore it", false),
            ("Ignore the RULES", true),
            ("ignore\u{2014}rules \u{1f642}", true),
            ("ignored ignorers", true),
            (&filler, false),
            (&format!("{filler}ignore rules, {filler}"), true),
            (&format!("ignore{filler}rules"), false),
            ("правила", true),
            ("忘", true),
            ("caf\u{e9}", true),
            ("\u{201c}so\u{201d} \u{1f642}", false),
        ] {
            assert_eq!(screen.shuts_out(text).is_none(), is_read, "{text:?}");
        }
    }

    #[test]
    fn words_are_counted() {
        let screen = screen("ignore", 1);
        for (text, words) in [("", 0), ("one", 1), ("a-b_c 12,5 d3", 6), (&"one ".repeat(99), 99)] {
            assert_eq!(screen.shuts_out(text), Some(words), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn where_a_word_stands_changes_nothing(before in "[ .,]{0,150}", word in "[a-zA-Z0-9]{1,20}", after in "[ .,]{0,9}") {
            let alone = slots(&word).expect("it is plain");
            prop_assert_eq!(alone.len(), 1);
            prop_assert_eq!(&alone, &slots(&word.to_lowercase()).expect("it is plain"));
            prop_assert_eq!(Some(alone), slots(&format!("{before}{word}{after}")));
        }

        #[test]
        fn any_text_is_read_or_counted(text in "\\PC{0,300}|[a-zA-Z0-9 .é中]{0,300}") {
            let counted = screen("a e i", 60).shuts_out(&text);
            prop_assert!(counted.is_none_or(|words| words <= text.len()));
        }
    }
}
