//! How a reading was made of its text, and so which bytes of the one are which of the other.

use std::ops::Range;

use super::super::decode::Encoding;
use super::evidence::{Count, Evidence};
use super::normalise::normalise as write_normalised;
use super::trace::{Steps, Trace, on_boundaries};
use super::{leet, spaced, words};

/// How a text was made of another.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What its letters came from.
    pub(super) steps: Steps,
    /// And what rows of letters were then joined, of a text of that length.
    pub(super) joined: Option<(Steps, usize)>,
}

/// What a folded reading undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Folding {
    pub(super) words: bool,
    pub(super) spaced: bool,
    pub(super) leet: Option<leet::One>,
}

/// Evidence is of the text itself; this was found in what was undone of it so far.
pub(super) fn found_in_fold(count: &mut Count, folding: Folding, text: &str) {
    if let Some(first) = &mut count.first {
        *first = on_boundaries(text, Way::of_fold(folding, text).origin(first.clone(), text.len()));
    }
}

/// How `text` is normalised, into `out`.
fn normalising(text: &str, out: &mut String) -> Steps {
    let mut steps = Steps::default();
    write_normalised(text, out, &mut Evidence::default(), &mut steps);
    steps
}

impl Way {
    pub(super) fn of_normalising(text: &str) -> Self {
        Self { steps: normalising(text, &mut String::new()), joined: None }
    }

    /// Leet letters stand in the place of their digits, so that only the other two move anything.
    pub(super) fn of_fold(folding: Folding, text: &str) -> Self {
        let mut base = String::new();
        let steps = if folding.words {
            let mut steps = Steps::default();
            words::fold(text, &mut base, &mut steps);
            steps
        } else if text.is_ascii() {
            base.push_str(text);
            let mut steps = Steps::default();
            steps.copied(0, 0);
            steps
        } else {
            normalising(text, &mut base)
        };
        let joined = folding.spaced.then(|| {
            let mut joining = Steps::default();
            spaced::fold(&base, &mut String::new(), &mut Count::default(), &mut joining, |_| {});
            (joining, base.len())
        });
        Self { steps, joined }
    }

    /// The bytes of a text of that length that became `range`.
    pub(super) fn origin(&self, mut range: Range<usize>, length: usize) -> Range<usize> {
        if let Some((joining, length)) = &self.joined {
            range = joining.origin(&range, *length);
        }
        self.steps.origin(&range, length)
    }
}

pub(super) fn origin_of_piece(
    encoding: Encoding,
    steps: &Steps,
    range: Range<usize>,
    span: &Range<usize>,
) -> Range<usize> {
    let range = if encoding == Encoding::Reversed {
        // The last byte of the range came from before its first.
        let len = span.len();
        len.saturating_sub(range.end)..len.saturating_sub(range.start)
    } else {
        steps.origin(&range, span.len())
    };
    span.start + range.start..span.start + range.end
}
