//! Pieces whose tokens have been counted before. Words come again and again: nearly every piece of a usual text is found
//! here, and the tokenizer itself, which takes a hundred times as long, is not asked.
//!
//! A table of fixed size, shared by all threads: one word of 64 bits a slot, so that a slot is never seen half written,
//! and whoever comes later takes it. A piece is known by a hash under a seed of this process, 52 bits of which are kept
//! beside the count: two pieces that share them would be taken for one another, which nobody can bring about without
//! the seed and chance does once in 10^15 looks.
//!
//! Cost: one hash, one load. No lock, no allocation. 256 KiB a table.

use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 1 << 15;
/// Longer pieces seldom come again.
const MAX_BYTES: usize = 64;
const COUNT_BITS: u32 = 12;

/// Pieces and their counts.
pub(super) struct Memo {
    slots: Box<[AtomicU64]>,
    seed: u64,
}

impl Memo {
    /// An empty table.
    pub(super) fn new(seed: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), seed }
    }

    /// What `count` says about `piece`, which is asked only if it is not known.
    pub(super) fn count(&self, piece: &[u8], count: impl FnOnce() -> u64) -> u64 {
        if piece.len() > MAX_BYTES {
            return count();
        }
        let hash = hash(piece, self.seed);
        let slot = &self.slots[(hash >> (u64::BITS - SLOTS.ilog2())) as usize];
        let found = slot.load(Ordering::Relaxed);
        // A count is never 0 in the table, so that an empty slot is no piece.
        if found >> COUNT_BITS == hash & (u64::MAX >> COUNT_BITS) && found != 0 {
            return found & ((1 << COUNT_BITS) - 1);
        }
        let counted = count();
        if (1..1 << COUNT_BITS).contains(&counted) {
            slot.store(hash << COUNT_BITS | counted, Ordering::Relaxed);
        }
        counted
    }
}

/// A hash in the manner of wyhash (<https://github.com/wangyi-fudan/wyhash>, public domain): eight bytes a step are
/// multiplied to 128 bits and folded.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    const PRIME: u64 = 0xa076_1d64_78bd_642f;
    const OTHER: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(OTHER);
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), PRIME);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = fold(hash ^ u64::from_le_bytes(last), PRIME);
    fold(hash ^ seed, OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_counted_once_and_not_taken_for_another() {
        let memo = Memo::new(7);
        let mut asked = 0;
        for round in 0..2 {
            for word in 0..2000_u64 {
                let piece = format!(" word{word}");
                let got = memo.count(piece.as_bytes(), || {
                    asked += 1;
                    word % 5 + 1
                });
                assert_eq!(got, word % 5 + 1, "{piece} in round {round}");
            }
        }
        // Some have fallen on the slot of another.
        assert!((2000..2300).contains(&asked), "{asked}");
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let memo = Memo::new(7);
        let long = [b'a'; MAX_BYTES + 1];
        assert_eq!((memo.count(&long, || 3), memo.count(&long, || 4)), (3, 4));
        assert_eq!((memo.count(b"a", || 5000), memo.count(b"a", || 2)), (5000, 2));
        assert_eq!((memo.count(b"b", || 0), memo.count(b"b", || 1), memo.count(b"b", || 9)), (0, 1, 1));
    }
}
