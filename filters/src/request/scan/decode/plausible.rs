//! Is this what somebody wrote? Random bytes are hardly ever valid UTF-8 without control characters for long, so
//! the first bytes decide for almost everything that is not text.

use unicode_normalization::char::is_combining_mark;

use super::super::view::Likelihood;

/// Whether the beginning of something decoded could be text; a character cut off at the end is no fault.
pub(super) fn begins_as_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.is_empty() && !valid.chars().any(is_control)
}

/// The text in `bytes`, if it is one: valid but for a broken end, a third of it letters, as in a text whose letters are set apart
/// or that is itself written in escapes.
pub(super) fn text(mut bytes: Vec<u8>) -> Option<String> {
    if let Err(error) = std::str::from_utf8(&bytes) {
        // Up to three bytes of what follows an encoded run may have been taken for a part of it.
        if error.valid_up_to() + 4 < bytes.len() || error.valid_up_to() == 0 {
            return None;
        }
        bytes.truncate(error.valid_up_to());
    }
    let text = String::from_utf8(bytes).ok()?;
    let (mut all, mut letters) = (0, 0);
    for c in text.chars() {
        if is_control(c) {
            return None;
        }
        all += 1;
        letters +=
            usize::from(c.is_alphanumeric() || is_unseen(c) || (!c.is_ascii() && is_combining_mark(c)));
    }
    (letters >= 4 && letters * 3 >= all).then_some(text)
}

/// What `bytes` say in UTF-16, in UTF-8, if they look like letters of one alphabet in it: all their upper bytes are those of Latin
/// or Cyrillic letters.
pub(super) fn from_utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    type Read = fn([u8; 2]) -> u16;
    for read in [u16::from_le_bytes as Read, u16::from_be_bytes as Read] {
        let units = || bytes.as_chunks::<2>().0.iter().map(|unit| read(*unit));
        if units().next().is_some() && units().all(|unit| matches!(unit >> 8, 0 | 4)) {
            return Some(char::decode_utf16(units()).flatten().collect::<String>().into_bytes());
        }
    }
    None
}

/// Whether the text has words of Latin languages, or is in another script.
pub(super) fn has_words(text: &str) -> bool {
    !text.is_ascii() || Likelihood::of(text.as_bytes()).is_words()
}

fn is_control(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) || matches!(c, '\u{fffd}' | '\u{ffff}')
}

fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{ad}' | '\u{e0020}'..='\u{e007e}')
}
