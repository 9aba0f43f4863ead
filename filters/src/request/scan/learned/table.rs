//! Feature → weight. An entry has sixteen bits: eleven of the feature's hash, and a weight of five. A bucket is one word of 64 bits
//! with room for four, so a feature that was never learned meets a weight by chance once in some five hundred look-ups, where a
//! table without check bits would add noise to every text.
//!
//! A weight is kept as its root: what is rounded away is a sixteenth of most, and a sum has dozens. A table of half the size is worth more
//! than that, since what a text costs is mostly waiting for memory.
//!
//! Cost: one load and four comparisons, without a branch; those of a token are compared together.

use wide::bytemuck::cast;
use wide::i16x8;

use super::features::PER_TOKEN;

/// Buckets: a power of two, 256 KiB in all, which leaves half of a small second-level cache to the rest of the scanner. Each is
/// told by the upper bits of a hash.
pub const BUCKETS: usize = 1 << 15;

/// Buckets of one line of the cache.
const LINE: usize = 8;

/// The upper bits of a feature that tell its line.
pub const LINE_BITS: u32 = (BUCKETS / LINE).ilog2();

/// Entries of a bucket.
const ENTRIES: u32 = 4;

/// Bits of an entry that hold the root of a weight; the others hold as many of a hash.
const ROOT_BITS: u32 = 5;

/// The largest root, of either sign.
const MOST: f32 = 15.0;

/// Which bits of an entry are of a hash.
const CHECK: u16 = u16::MAX << ROOT_BITS;

/// One in each entry of a bucket.
const EACH: u64 = 0x0001_0001_0001_0001;

/// Weights by hashed feature.
#[derive(Debug, Clone)]
pub struct Table {
    lines: Box<[Line; BUCKETS / LINE]>,
}

/// What is fetched from memory together.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u64; LINE]);

impl Table {
    /// A table of these weights, those first that matter most. Of more features than find room in a bucket, and of two that it could
    /// not tell apart, the last is left out; how many were is the second value. Weights that are rounded to nothing take no room.
    #[must_use]
    pub fn of(weights: &[(u32, f32)]) -> (Self, usize) {
        let mut buckets = vec![0; BUCKETS];
        let mut left_out = 0;
        let entries = weights.iter().map(|&(feature, weight)| (feature, rounded(weight)));
        for (feature, root) in entries.filter(|&(_, root)| root != 0) {
            let entry = check(feature) | root as u16 & !CHECK;
            let bucket: &mut u64 = &mut buckets[bucket_of(feature)];
            let others = || roots(*bucket, feature);
            let count = (u64::BITS - bucket.leading_zeros()).div_ceil(u64::BITS / ENTRIES);
            if count == ENTRIES || others().any(|other| other != 0) {
                left_out += 1;
            } else {
                *bucket |= u64::from(entry) << (count * u64::BITS / ENTRIES);
            }
        }
        (Self::new(&buckets).expect("there are as many as it takes"), left_out)
    }

    fn new(buckets: &[u64]) -> Option<Self> {
        let lines: Box<[Line]> = buckets.as_chunks().0.iter().copied().map(Line).collect();
        Some(Self { lines: lines.try_into().ok()? })
    }

    /// The table written by [`Table::bytes`], if there are as many bytes as it takes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (buckets, rest) = bytes.as_chunks();
        let buckets: Vec<u64> = buckets.iter().copied().map(u64::from_le_bytes).collect();
        Self::new(&buckets).filter(|_| rest.is_empty() && buckets.len() == BUCKETS)
    }

    /// The table as bytes, the same on every machine.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.0).flat_map(u64::to_le_bytes).collect()
    }

    #[inline]
    fn bucket(&self, feature: u32) -> u64 {
        let bucket = bucket_of(feature);
        self.lines[bucket / LINE].0[bucket % LINE]
    }

    /// What these features weigh together.
    #[inline]
    #[must_use]
    pub fn sum(&self, features: [u32; PER_TOKEN]) -> i32 {
        let both = |one: u32, other: u32| {
            let features = [one, other];
            let entries: i16x8 = cast(features.map(|feature| self.bucket(feature)));
            let checks: i16x8 = cast(features.map(|feature| u64::from(check(feature)) * EACH));
            let is_it = (entries & i16x8::splat(CHECK.cast_signed())).simd_eq(checks);
            let roots: i16x8 = (entries & is_it) << (u16::BITS - ROOT_BITS);
            let roots: i16x8 = roots >> (u16::BITS - ROOT_BITS);
            roots.dot(roots.abs())
        };
        let [one, two, three, four] = features;
        (both(one, two) + both(three, four)).reduce_add()
    }

    /// What the feature weighs: 0 if nothing was learned of it.
    #[inline]
    #[must_use]
    pub fn weight(&self, feature: u32) -> i32 {
        roots(self.bucket(feature), feature).map(|root| root * root.abs()).sum()
    }
}

/// The root of a weight as it is kept.
fn rounded(weight: f32) -> i32 {
    (weight.abs().sqrt().round().min(MOST) * weight.signum()) as i32
}

/// The roots in a bucket that may be of a feature.
fn roots(bucket: u64, feature: u32) -> impl Iterator<Item = i32> {
    let entries = (0..ENTRIES).map(move |n| (bucket >> (n * u64::BITS / ENTRIES)) as u16);
    let own = entries.filter(move |entry| entry & CHECK == check(feature));
    own.map(|entry| i32::from((entry << (u16::BITS - ROOT_BITS)).cast_signed() >> (u16::BITS - ROOT_BITS)))
}

/// The bits of a feature that are compared, where an entry has them.
#[inline]
fn check(feature: u32) -> u16 {
    (feature << ROOT_BITS) as u16
}

#[inline]
fn bucket_of(feature: u32) -> usize {
    (feature >> (u32::BITS - BUCKETS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number of its own for each, as if drawn.
    fn hash(n: u32) -> u32 {
        let mixed = (n ^ n >> 16).wrapping_mul(0x85EB_CA6B);
        (mixed ^ mixed >> 13).wrapping_mul(0xC2B2_AE35)
    }

    #[test]
    fn a_weight_is_found_by_its_feature_and_by_no_other() {
        let weights: Vec<(u32, f32)> = (1..90_000_u32)
            .map(|n| (hash(n), (n % 441) as f32 - 220.0))
            .filter(|(_, weight)| *weight != 0.0)
            .collect();
        let (table, left_out) = Table::of(&weights);
        let expected = |weight: f32| rounded(weight) * rounded(weight).abs();
        let wrong =
            weights.iter().filter(|&&(feature, weight)| table.weight(feature) != expected(weight)).count();
        // One that is left out may be taken for another of the same weight.
        assert!((0..30).contains(&(left_out as i64 - wrong as i64)), "{wrong} of {left_out}");
        assert!((1..weights.len() / 10).contains(&left_out), "{left_out}");
        let strangers = (100_000..200_000).map(hash);
        let met = strangers.filter(|&feature| table.weight(feature) != 0).count();
        assert!(met < 300, "{met}");
        for four in weights.as_chunks::<PER_TOKEN>().0 {
            let features = four.map(|(feature, _)| feature);
            assert_eq!(
                table.sum(features),
                features.map(|feature| table.weight(feature)).iter().sum::<i32>()
            );
        }
    }

    #[test]
    fn a_weight_is_rounded_to_a_square() {
        let (table, left_out) =
            Table::of(&[(1, 0.2), (2, -0.3), (3, 6.0), (4, 7.0), (1 << 20, -1000.0), (1 << 25, 1000.0)]);
        let weights = [1, 2, 3, 4, 1 << 20, 1 << 25].map(|feature| table.weight(feature));
        assert_eq!((weights, left_out), ([0, -1, 4, 9, -225, 225], 0));
    }

    #[test]
    fn bytes_give_the_same_table_and_a_wrong_length_none() {
        let (table, _) = Table::of(&[(7, -4.0), (1 << 20, 9.0), ((1 << 31) - 1, -225.0)]);
        let bytes = table.bytes();
        let again = Table::from_bytes(&bytes).expect("it was written by a table");
        for (feature, weight) in [(7, -4), (1 << 20, 9), ((1 << 31) - 1, -225), (8, 0)] {
            assert_eq!(again.weight(feature), weight);
        }
        assert!(Table::from_bytes(&bytes[1..]).is_none());
        assert!(Table::from_bytes(&bytes[8..]).is_none());
        assert!(Table::from_bytes(&[]).is_none());
    }
}
