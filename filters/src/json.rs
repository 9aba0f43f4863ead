//! A strict JSON reader that lends slices of what it reads. It builds no tree, so that a request of
//! 30 MB costs one walk and no copy, and it reports byte offsets, so that a splice can be made in place.
//!
//! Invariants: it accepts exactly RFC 8259 (with a bound on nesting); it never panics, whatever the bytes;
//! offsets are offsets into the slice it was given. Cost: one pass, no allocation, no recursion.

mod text;

use std::fmt;
use std::ops::Range;

pub use text::Str;

/// Where the text stopped being JSON, and what was expected there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset of the first byte that does not fit.
    pub offset: usize,
    /// What would have fitted.
    pub expected: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.offset)
    }
}

impl std::error::Error for JsonError {}

/// What reading gives.
pub type Result<T> = std::result::Result<T, JsonError>;

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// `-` or a digit
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A key, a string or a number met by [`Reader::walk`].
#[derive(Debug, Clone, Copy)]
pub enum Leaf<'a> {
    /// A key of an object; its value follows.
    Key(Str<'a>),
    /// A string, and the key that it is the direct value of, if it is one of an object.
    String {
        /// The key before it.
        key: Option<Str<'a>>,
        /// The string.
        value: Str<'a>,
    },
    /// The text of a number.
    Number(&'a str),
}

/// Reads one JSON text from front to back.
///
/// Objects: [`Reader::enter_object`], then [`Reader::next_key`] until it gives `None`, and after each key
/// exactly one value. Arrays: [`Reader::enter_array`], then [`Reader::next_item`] until it gives `false`.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: u32,
    /// Containers entered by the caller and not yet left.
    depth: u32,
    /// Whether the innermost container has had no element yet.
    is_first: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`, refusing more than `max_depth` nested containers.
    #[must_use]
    pub fn new(bytes: &'a [u8], max_depth: u32) -> Self {
        Self { bytes, at: 0, max_depth, depth: 0, is_first: false }
    }

    /// Offset of the next unread byte.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.at
    }

    /// What kind of value comes next. Consumes white space only.
    ///
    /// # Errors
    /// If no value begins here.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Kind> {
        self.skip_space();
        match self.bytes.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => self.fail("a value"),
        }
    }

    /// Steps into the object that comes next.
    ///
    /// # Errors
    /// If none comes next or it is nested too deeply.
    pub fn enter_object(&mut self) -> Result<()> {
        self.enter(b'{', "an object")
    }

    /// Steps into the array that comes next.
    ///
    /// # Errors
    /// If none comes next or it is nested too deeply.
    pub fn enter_array(&mut self) -> Result<()> {
        self.enter(b'[', "an array")
    }

    /// The next key of the object entered last, its colon consumed, or `None` when the object has ended.
    ///
    /// # Errors
    /// If the text is not an object here.
    #[inline(always)]
    pub fn next_key(&mut self) -> Result<Option<Str<'a>>> {
        if !self.next_element(b'}', "',' or '}'")? {
            return Ok(None);
        }
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.fail("a key in double quotes");
        }
        let key = self.string()?;
        self.skip_space();
        self.expect(b':', "':'")?;
        Ok(Some(key))
    }

    /// Whether the array entered last has another value, which then comes next.
    ///
    /// # Errors
    /// If the text is not an array here.
    #[inline(always)]
    pub fn next_item(&mut self) -> Result<bool> {
        self.next_element(b']', "',' or ']'")
    }

    /// The string that comes next.
    ///
    /// # Errors
    /// If none comes next, or it is unterminated, or holds a bare control character or a bad escape.
    #[inline(always)]
    pub fn string(&mut self) -> Result<Str<'a>> {
        self.skip_space();
        self.expect(b'"', "a string")?;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            self.at += find_string_special(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(Str { raw, start, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    match self.bytes.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                        Some(b'u') => {
                            let hex = self.bytes.get(self.at + 2..self.at + 6);
                            if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                                return self.fail("four hexadecimal digits after \\u");
                            }
                            self.at += 6;
                        }
                        _ => return self.fail("a valid escape sequence"),
                    }
                }
                Some(_) => return self.fail("no bare control character in a string"),
                None => return self.fail("the end of a string"),
            }
        }
    }

    /// The text of the number that comes next.
    ///
    /// # Errors
    /// If none comes next.
    pub fn number(&mut self) -> Result<&'a str> {
        self.skip_space();
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fail("a number"),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        // Every byte consumed above is ASCII.
        Ok(std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default())
    }

    /// The boolean that comes next.
    ///
    /// # Errors
    /// If none comes next.
    pub fn bool(&mut self) -> Result<bool> {
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b't') {
            self.literal(b"true")?;
            return Ok(true);
        }
        self.literal(b"false")?;
        Ok(false)
    }

    /// A number that is a whole one of 64 bits without sign; `None` for any other value, which is skipped.
    ///
    /// # Errors
    /// If no value comes next.
    pub fn u64_or_skip(&mut self) -> Result<Option<u64>> {
        if self.peek()? == Kind::Number {
            let text = self.number()?;
            // Python clients send 100.0 for 100; engines accept it.
            let whole = text.strip_suffix(".0").unwrap_or(text);
            return Ok(whole.parse().ok());
        }
        self.skip()?;
        Ok(None)
    }

    /// Checks and passes over the value that comes next; gives its span.
    ///
    /// # Errors
    /// If it is no valid value.
    pub fn skip(&mut self) -> Result<Range<usize>> {
        // Most of what is passed over is a string or nothing, for which no levels have to be kept.
        self.skip_space();
        let start = self.at;
        match self.bytes.get(self.at) {
            Some(b'"') => _ = self.string()?,
            Some(b'n') => self.literal(b"null")?,
            _ => return self.walk(|_| ()),
        }
        Ok(start..self.at)
    }

    /// Checks and passes over the value that comes next; gives its text as it stands.
    ///
    /// # Errors
    /// If it is no valid value.
    pub fn raw(&mut self) -> Result<&'a [u8]> {
        let span = self.skip()?;
        Ok(&self.bytes[span])
    }

    /// Checks and passes over the value that comes next, showing every key, string and number in it, at any depth;
    /// gives its span.
    ///
    /// # Errors
    /// If it is no valid value.
    pub fn walk(&mut self, mut on_leaf: impl FnMut(Leaf<'a>)) -> Result<Range<usize>> {
        self.skip_space();
        let start = self.at;
        // One bit a level says whether that level is an object; no level costs an allocation.
        let mut levels: [u64; MAX_DEPTH as usize / 64] = [0; MAX_DEPTH as usize / 64];
        let base = self.depth;
        let mut key = None;
        loop {
            match self.peek()? {
                kind @ (Kind::Object | Kind::Array) => {
                    let is_object = kind == Kind::Object;
                    self.enter(if is_object { b'{' } else { b'[' }, "a value")?;
                    let level = (self.depth - 1) as usize;
                    let bit = 1 << (level % 64);
                    if is_object { levels[level / 64] |= bit } else { levels[level / 64] &= !bit }
                }
                Kind::String => on_leaf(Leaf::String { key, value: self.string()? }),
                Kind::Number => on_leaf(Leaf::Number(self.number()?)),
                Kind::Bool => _ = self.bool()?,
                Kind::Null => self.literal(b"null")?,
            }
            // Close what ends here; stop where another element of an open container begins.
            loop {
                if self.depth == base {
                    return Ok(start..self.at);
                }
                let level = (self.depth - 1) as usize;
                let has_more = if levels[level / 64] & (1 << (level % 64)) != 0 {
                    key = self.next_key()?;
                    key.inspect(|key| on_leaf(Leaf::Key(*key))).is_some()
                } else {
                    key = None;
                    self.next_item()?
                };
                if has_more {
                    break;
                }
            }
        }
    }

    /// Confirms that nothing but white space is left.
    ///
    /// # Errors
    /// If something is.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail("the end of the text") }
    }

    fn enter(&mut self, open: u8, expected: &'static str) -> Result<()> {
        self.skip_space();
        self.expect(open, expected)?;
        if self.depth >= self.max_depth.min(MAX_DEPTH) {
            self.at -= 1;
            return self.fail("less deeply nested containers");
        }
        self.depth += 1;
        self.is_first = true;
        Ok(())
    }

    #[inline(always)]
    fn next_element(&mut self, close: u8, expected: &'static str) -> Result<bool> {
        self.skip_space();
        if self.bytes.get(self.at) == Some(&close) {
            self.at += 1;
            self.depth = self.depth.saturating_sub(1);
            // The container around this one has had this one as an element.
            self.is_first = false;
            return Ok(false);
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.expect(b',', expected)?;
        }
        Ok(true)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.bytes.get(self.at) == Some(&byte) {
            self.at += 1;
            return Ok(());
        }
        self.fail(expected)
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        self.fail("a value")
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<()> {
        if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return self.fail("a digit");
        }
        self.digits();
        Ok(())
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, expected: &'static str) -> Result<T> {
        Err(JsonError { offset: self.at, expected })
    }
}

/// The deepest nesting any reader allows: the limit of the JSON parsers behind the engines lies between 128
/// (serde, jiter uses 200) and about 1,000 (Python), so nothing that a server would accept is refused for it.
pub const MAX_DEPTH: u32 = 256;

/// Distance to the first byte that a string cannot simply hold: `"`, `\` or a control character.
///
/// # Cost
/// Eight bytes a step for the first few, since most strings are short, then thirty-two.
fn find_string_special(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    /// Where a string begins to be long.
    const SHORT: usize = 32;
    // Sets the high bit of each byte of `word` that is below `n`, for bytes without a high bit of their own.
    let below = |word: u64, n: u64| word.wrapping_sub(LOW * n) & !word;
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    let mut at = 0;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("a slice of eight bytes"));
        let hits =
            below(word, 0x20) | below(word ^ (LOW * b'"' as u64), 1) | below(word ^ (LOW * b'\\' as u64), 1);
        let hits = hits & HIGH;
        if hits != 0 {
            // Borrows only travel upwards, so the lowest hit is exact.
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at == SHORT {
            // Without a branch for each byte, so that the compiler can take sixteen at a time.
            while let Some(block) = bytes.get(at..at + 32)
                && !block.iter().fold(false, |found, &byte| found | is_special(byte))
            {
                at += 32;
            }
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_valid(text: &[u8]) -> bool {
        let mut reader = Reader::new(text, 128);
        reader.skip().and_then(|_| reader.end()).is_ok()
    }

    #[test]
    fn accepts_what_json_is_and_nothing_else() {
        for (text, expected) in [
            (r#"{}"#, true),
            (r#"[]"#, true),
            (r#" { "a" : [ 1 , -2.5e+3 , true , false , null , "x" ] } "#, true),
            (r#"{"a":{"b":[[],{}]},"c":1}"#, true),
            (r#""\u00e9\ud83d\ude00\n""#, true),
            (r#"0"#, true),
            (r#"-0.0"#, true),
            (r#"12345678901234567890123"#, true),
            (r#""#, false),
            (r#"{"a":1,}"#, false),
            (r#"[1,]"#, false),
            (r#"[,1]"#, false),
            (r#"{,}"#, false),
            (r#"{"a" 1}"#, false),
            (r#"{"a":1 "b":2}"#, false),
            (r#"{a:1}"#, false),
            (r#"01"#, false),
            (r#"1."#, false),
            (r#".5"#, false),
            (r#"+1"#, false),
            (r#"NaN"#, false),
            (r#"nul"#, false),
            (r#""\x""#, false),
            (r#""\u12""#, false),
            ("\"a\nb\"", false),
            (r#""abc"#, false),
            (r#"{} {}"#, false),
            (r#"[1}"#, false),
            (r#"{"a":1]"#, false),
        ] {
            assert_eq!(is_valid(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_never_recursive() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(is_valid(&deep(128)));
        assert!(!is_valid(&deep(129)));
        assert!(!is_valid(&vec![b'['; 10_000_000]));
        assert!(!is_valid(&b"{\"a\":".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:0-9a-z\\ \-.eE+tfn]{0,40}"#) {
            let serde = serde_json::from_str::<serde_json::Value>(&text);
            // serde_json also refuses numbers beyond f64, which are fine JSON.
            if !serde.as_ref().is_err_and(|error| error.to_string().contains("out of range")) {
                prop_assert_eq!(is_valid(text.as_bytes()), serde.is_ok(), "{}", text);
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_valid(&bytes);
        }

        #[test]
        fn finds_the_first_special_byte(
            plain in proptest::collection::vec(0x5D_u8.., 0..200),
            rest in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = [plain, rest].concat();
            let slow = bytes.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(bytes.len());
            prop_assert_eq!(find_string_special(&bytes), slow);
        }
    }
}
