//! Is this what somebody wrote? Random bytes are hardly ever valid UTF-8 without control characters for long, so
//! the first bytes decide for almost everything that is not text.

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

/// The text in `bytes`, if it is one: valid but for a broken end, half of it letters.
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
        letters += usize::from(c.is_alphanumeric() || is_unseen(c));
    }
    (letters >= 4 && letters * 2 >= all).then_some(text)
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
