//! Sets of sources, by their numbers.

/// How many sources there may be.
pub(crate) const MOST: usize = 64 * WORDS;
const WORDS: usize = 32;

/// A set of sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sources([u64; WORDS]);

impl Sources {
    /// Adds one, by its number below [`MOST`].
    pub(crate) fn add(&mut self, source: usize) {
        self.0[source / 64] |= 1 << (source % 64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|part| part.count_ones()).sum()
    }

    /// How many are in this one and in the other.
    pub(crate) fn count_in(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(one, other)| (one & other).count_ones()).sum()
    }

    /// How many are in either.
    pub(crate) fn count_with(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(one, other)| (one | other).count_ones()).sum()
    }
}
