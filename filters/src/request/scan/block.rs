//! Text → what each byte is, sixty-four at a time, one bit a byte: the first step of everything that goes through a text by words.

use wide::i8x16;

/// Bytes of a block.
pub(super) const SIZE: usize = 64;

/// What the bytes of a block are; the lowest bit is the first byte's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// ASCII letters.
    pub(super) letters: u64,
    /// ASCII digits.
    pub(super) digits: u64,
    /// Bytes of characters outside ASCII.
    pub(super) wide: u64,
}

impl Block {
    /// The block from `at` on. Past the end of the text there is nothing.
    #[inline]
    pub(super) fn at(text: &[u8], at: usize) -> Self {
        let [letters, digits, wide] = masks(text, at, |bytes| {
            let lower = bytes | i8x16::splat(0x20);
            [within(lower, b'a', b'z'), within(bytes, b'0', b'9'), bytes]
        });
        Self { letters, digits, wide }
    }
}

/// Which of the bytes from `at` on are each of the things that `of` tells by the sign of a lane: a bit each. Past the end of the text
/// there are zeros.
#[inline]
pub(super) fn masks<const N: usize>(text: &[u8], at: usize, of: impl Fn(i8x16) -> [i8x16; N]) -> [u64; N] {
    let mut last = [0; SIZE];
    let bytes: &[u8; SIZE] = text.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or_else(|| {
        let rest = text.get(at..).unwrap_or_default();
        last[..rest.len()].copy_from_slice(rest);
        &last
    });
    let mut masks = [0; N];
    for (index, sixteen) in bytes.as_chunks::<16>().0.iter().enumerate() {
        for (mask, lanes) in masks.iter_mut().zip(of(i8x16::new(sixteen.map(u8::cast_signed)))) {
            *mask |= u64::from(lanes.to_bitmask()) << (16 * index);
        }
    }
    masks
}

/// The lanes with bytes of ASCII from `first` to `last`. They are compared with their signs, so that no byte past ASCII is one.
#[inline]
pub(super) fn within(bytes: i8x16, first: u8, last: u8) -> i8x16 {
    let [below, above] = [first - 1, last + 1].map(|byte| i8x16::splat(byte.cast_signed()));
    bytes.simd_gt(below) & above.simd_gt(bytes)
}

/// The lanes with bytes that begin a character outside ASCII: with their signs the largest below zero.
#[inline]
pub(super) fn leads(bytes: i8x16) -> i8x16 {
    bytes.simd_gt(i8x16::splat(0xbf_u8.cast_signed())) & i8x16::ZERO.simd_gt(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_classed_as_the_standard_library_does() {
        let bit = |is: bool, at: usize| u64::from(is) << at;
        for byte in 0..=u8::MAX {
            for at in 0..SIZE {
                let mut bytes = [b'.'; SIZE];
                bytes[at] = byte;
                let expected = Block {
                    letters: bit(byte.is_ascii_alphabetic(), at),
                    digits: bit(byte.is_ascii_digit(), at),
                    wide: bit(!byte.is_ascii(), at),
                };
                assert_eq!(Block::at(&bytes, 0), expected, "byte {byte:#x} at {at}");
                assert_eq!(Block::at(&bytes, at).letters, expected.letters >> at);
                let is_lead = byte >= 0xc0;
                assert_eq!(masks(&bytes, 0, |bytes| [leads(bytes)]), [bit(is_lead, at)], "byte {byte:#x}");
            }
        }
    }
}
