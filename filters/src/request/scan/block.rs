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
        match text.get(at..at + SIZE).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Self::of(bytes),
            None => {
                let mut bytes = [0; SIZE];
                let rest = text.get(at..).unwrap_or_default();
                bytes[..rest.len().min(SIZE)].copy_from_slice(&rest[..rest.len().min(SIZE)]);
                Self::of(&bytes)
            }
        }
    }

    #[inline]
    pub(super) fn of(bytes: &[u8; SIZE]) -> Self {
        let mut block = Self::default();
        for (index, sixteen) in bytes.as_chunks::<16>().0.iter().enumerate() {
            // Compared with their signs, so that no byte past ASCII is taken for a letter.
            let bytes = i8x16::new(sixteen.map(u8::cast_signed));
            let within = |bytes: i8x16, first: u8, last: u8| {
                let [below, above] = [first - 1, last + 1].map(|byte| i8x16::splat(byte.cast_signed()));
                bytes.simd_gt(below) & above.simd_gt(bytes)
            };
            let lower = bytes | i8x16::splat(0x20);
            let place = |bytes: i8x16| u64::from(bytes.to_bitmask()) << (16 * index);
            block.letters |= place(within(lower, b'a', b'z'));
            block.digits |= place(within(bytes, b'0', b'9'));
            block.wide |= place(bytes);
        }
        block
    }
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
                assert_eq!(Block::of(&bytes), expected, "byte {byte:#x} at {at}");
                assert_eq!(Block::at(&bytes, at).letters, expected.letters >> at);
            }
        }
    }
}
