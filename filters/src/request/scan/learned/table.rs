//! Feature → weight. A bucket is one word of 64 bits with room for two features, each with sixteen bits of its hash
//! beside its weight: a feature that was never learned meets a weight by chance once in some thirty thousand
//! look-ups, where a table without check bits would add noise to every text.
//!
//! Cost: one load and two comparisons, without a branch; those of a token are compared together.

use wide::i32x4;

use super::features::PER_TOKEN;

/// Buckets: a power of two, 512 KiB in all, which stays in the second-level cache. Each is told by the upper half of a hash.
pub const BUCKETS: usize = 1 << 16;

/// Weights by hashed feature.
#[derive(Debug, Clone)]
pub struct Table {
    buckets: Box<[u64; BUCKETS]>,
}

impl Table {
    /// A table of these weights, those first that matter most: of three features that meet in one bucket the last is left out.
    /// How many were is the second value.
    #[must_use]
    pub fn of(weights: &[(u32, i16)]) -> (Self, usize) {
        let mut table = Self { buckets: Box::new([0; BUCKETS]) };
        let mut left_out = 0;
        for (feature, weight) in weights.iter().copied().filter(|&(_, weight)| weight != 0) {
            let entry = u64::from(feature as u16) | u64::from(weight as u16) << 16;
            let bucket = &mut table.buckets[bucket_of(feature)];
            match *bucket {
                0 => *bucket = entry,
                first if first >> 32 == 0 => *bucket = first | entry << 32,
                _ => left_out += 1,
            }
        }
        (table, left_out)
    }

    /// The table written by [`Table::bytes`], if there are as many bytes as it takes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let buckets: Box<[u64]> = bytes
            .chunks_exact(8)
            .map(|chunk| chunk.iter().rev().fold(0, |bucket, &byte| bucket << 8 | u64::from(byte)))
            .collect();
        let buckets = buckets.try_into().ok()?;
        (bytes.len() == 8 * BUCKETS).then_some(Self { buckets })
    }

    /// The table as bytes, the same on every machine.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.buckets.iter().flat_map(|bucket| bucket.to_le_bytes()).collect()
    }

    /// What these features weigh together.
    #[inline]
    #[must_use]
    pub fn sum(&self, features: [u32; PER_TOKEN]) -> i32 {
        let buckets = features.map(|feature| self.buckets[bucket_of(feature)]);
        let both = |one: usize, other: usize| {
            let halves = |bucket: u64| [bucket as i32, (bucket >> 32) as i32];
            let [[first, second], [third, fourth]] = [buckets[one], buckets[other]].map(halves);
            let entries = i32x4::new([first, second, third, fourth]);
            let [one, other] = [features[one], features[other]].map(u32::cast_signed);
            let differs: i32x4 = (entries ^ i32x4::new([one, one, other, other])) << 16;
            entries >> 16 & differs.simd_eq(i32x4::ZERO)
        };
        let both: i32x4 = both(0, 1) + both(2, 3);
        both.reduce_add()
    }

    /// What the feature weighs: 0 if nothing was learned of it.
    #[inline]
    #[must_use]
    pub fn weight(&self, feature: u32) -> i32 {
        let bucket = self.buckets[bucket_of(feature)];
        let (check, first, second) = (feature as u16, bucket as u32, (bucket >> 32) as u32);
        let pick = |entry: u32| if entry as u16 == check { i32::from((entry >> 16) as i16) } else { 0 };
        pick(first) + pick(second)
    }
}

#[inline]
fn bucket_of(feature: u32) -> usize {
    const { assert!(BUCKETS == 1 << 16) };
    (feature >> 16) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_found_by_its_feature_and_by_no_other() {
        let weights: Vec<(u32, i16)> =
            (1..40_000_u32).map(|n| (n.wrapping_mul(0x9E37_79B9), (n % 601) as i16 - 300)).collect();
        let (table, left_out) = Table::of(&weights);
        let wrong =
            weights.iter().filter(|&&(feature, weight)| table.weight(feature) != i32::from(weight)).count();
        assert_eq!(wrong, left_out);
        assert!(left_out < weights.len() / 20, "{left_out}");
        let strangers = (1..100_000_u32).map(|n| n.wrapping_mul(0x85EB_CA6B));
        let met = strangers.filter(|&feature| table.weight(feature) != 0).count();
        assert!(met < 30, "{met}");
        for four in weights.as_chunks::<PER_TOKEN>().0 {
            let features = four.map(|(feature, _)| feature);
            assert_eq!(
                table.sum(features),
                features.map(|feature| table.weight(feature)).iter().sum::<i32>()
            );
        }
    }

    #[test]
    fn bytes_give_the_same_table_and_a_wrong_length_none() {
        let (table, _) = Table::of(&[(7, -3), (1 << 20, 9), ((1 << 31) - 1, i16::MIN)]);
        let bytes = table.bytes();
        let again = Table::from_bytes(&bytes).expect("it was written by a table");
        for (feature, weight) in [(7, -3), (1 << 20, 9), ((1 << 31) - 1, i32::from(i16::MIN)), (8, 0)] {
            assert_eq!(again.weight(feature), weight);
        }
        assert!(Table::from_bytes(&bytes[1..]).is_none());
        assert!(Table::from_bytes(&[]).is_none());
    }
}
