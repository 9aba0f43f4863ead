//! A JSON string as it stands in the text: its value, its length and its place, without unescaping it first.

use std::borrow::Cow;
use std::ops::Range;

/// A string as it stands in the text, without its quotes and with its escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Str<'a> {
    /// The bytes between the quotes. Valid UTF-8 where the whole text is.
    pub raw: &'a [u8],
    /// Offset of the first byte after the opening quote.
    pub start: usize,
    /// Whether `raw` holds a backslash.
    pub has_escapes: bool,
}

impl<'a> Str<'a> {
    /// The span of the bytes between the quotes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.start..self.start + self.raw.len()
    }

    /// The string's value. Lone surrogates and invalid UTF-8 become U+FFFD.
    ///
    /// # Cost
    /// Allocates only where there are escapes.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        let raw = simdutf8::basic::from_utf8(self.raw)
            .map_or_else(|_| String::from_utf8_lossy(self.raw), Cow::Borrowed);
        if !self.has_escapes {
            return raw;
        }
        let mut value = String::with_capacity(raw.len());
        let mut rest = &*raw;
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            let (decoded, length) = decode_escape(&rest.as_bytes()[at..]);
            value.push_str(&rest[..at]);
            value.push(decoded);
            rest = &rest[at + length..];
        }
        value.push_str(rest);
        Cow::Owned(value)
    }

    /// Whether the value is `text`, which must be ASCII. Sees through escapes.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        if self.has_escapes { self.value() == text } else { self.raw == text.as_bytes() }
    }

    /// Adds the value's bytes to `out`. Unlike [`Self::value`] it leaves bytes that are not UTF-8 as they are, so that
    /// [`Self::raw_at`] finds every place again.
    ///
    /// # Cost
    /// No allocation once `out` has grown.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(step) = self.next_escape(at) {
            out.extend_from_slice(&self.raw[at..at + step]);
            let (c, length) = decode_escape(&self.raw[at + step..]);
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            at += step + length;
        }
        out.extend_from_slice(&self.raw[at..]);
    }

    /// Where the character that byte `place` of the value belongs to begins in `raw`; the end of `raw` past its end.
    #[must_use]
    pub fn raw_at(&self, place: usize) -> usize {
        let (mut at, mut left) = (0, place);
        while let Some(step) = self.next_escape(at) {
            if left < step {
                break;
            }
            let (c, length) = decode_escape(&self.raw[at + step..]);
            if left < step + c.len_utf8() {
                return at + step;
            }
            left -= step + c.len_utf8();
            at += step + length;
        }
        let mut found = (at + left).min(self.raw.len());
        while found > at && found < self.raw.len() && self.raw[found] & 0xc0 == 0x80 {
            found -= 1;
        }
        found
    }

    fn next_escape(&self, at: usize) -> Option<usize> {
        if !self.has_escapes {
            return None;
        }
        memchr::memchr(b'\\', &self.raw[at..])
    }

    /// How many Unicode characters the value has.
    ///
    /// # Cost
    /// No allocation; one pass.
    #[must_use]
    pub fn chars(&self) -> u64 {
        if !self.has_escapes {
            return count_chars(self.raw);
        }
        let (mut chars, mut at) = (0, 0);
        while at < self.raw.len() {
            let Some(step) = memchr::memchr(b'\\', &self.raw[at..]) else {
                return chars + count_chars(&self.raw[at..]);
            };
            chars += count_chars(&self.raw[at..at + step]) + 1;
            at += step + decode_escape(&self.raw[at + step..]).1;
        }
        chars
    }
}

/// UTF-8 characters in `bytes`: every byte that does not continue another.
///
/// # Cost
/// Counted in bytes, chunk by chunk, so that the compiler can take sixteen at a time.
fn count_chars(bytes: &[u8]) -> u64 {
    // A byte continues a character when it is 0b10xx_xxxx, which as a signed byte is below -64.
    let of_chunk = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from((byte as i8) >= -64)).sum::<u8>();
    // A count of 192 fits into a byte.
    bytes.chunks(192).map(|chunk| u64::from(of_chunk(chunk))).sum()
}

/// The character that an escape stands for, and the bytes that the escape takes. `bytes` begins with `\`
/// and was checked by [`Reader::string`]; anything unforeseen counts as U+FFFD so that no caller can loop.
fn decode_escape(bytes: &[u8]) -> (char, usize) {
    let simple = |c| (c, 2);
    match bytes.get(1) {
        Some(b'n') => simple('\n'),
        Some(b't') => simple('\t'),
        Some(b'r') => simple('\r'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'u') => {
            let unit = |at: usize| -> Option<u32> {
                let hex = bytes.get(at..at + 4)?;
                hex.iter().try_fold(0, |n, &d| Some(n * 16 + (d as char).to_digit(16)?))
            };
            let Some(first) = unit(2) else { return (char::REPLACEMENT_CHARACTER, bytes.len().min(2)) };
            if (0xD800..0xDC00).contains(&first)
                && bytes.get(6..8) == Some(b"\\u")
                && let Some(second @ 0xDC00..0xE000) = unit(8)
            {
                let scalar = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return (char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
            }
            (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
        }
        Some(&other) if other.is_ascii() => simple(other as char),
        _ => (char::REPLACEMENT_CHARACTER, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;

    #[test]
    fn strings_know_their_value_and_length() {
        for (text, value) in [
            (r#""plain""#, "plain"),
            (r#""m\u006fdel""#, "model"),
            (r#""\ud83d\ude00!""#, "😀!"),
            (r#""\ud83d x""#, "\u{fffd} x"),
            (r#""a\"b\\c\/d\n""#, "a\"b\\c/d\n"),
            (r#""été 日本""#, "été 日本"),
        ] {
            let mut reader = Reader::new(text.as_bytes(), 4);
            let string = reader.string().expect(text);
            assert_eq!(string.value(), value, "{text}");
            let mut written = Vec::new();
            string.write(&mut written);
            assert_eq!(written, value.as_bytes(), "{text}");
            assert_eq!(string.chars(), value.chars().count() as u64, "{text}");
            assert_eq!(&text.as_bytes()[string.span()], string.raw, "{text}");
        }
    }

    #[test]
    fn long_strings_are_counted_to_the_last_character() {
        for letter in ["a", "é", "日", "😀"] {
            for count in [0, 1, 63, 64, 191, 192, 193, 255, 256, 257, 1000] {
                let text = format!("\"{}\"", letter.repeat(count));
                let string = Reader::new(text.as_bytes(), 4).string().expect("a string");
                assert_eq!(string.chars(), count as u64, "{letter} × {count}");
            }
        }
    }
}
