//! New keys: `tg_<id>_<secret>`, drawn from the system's random numbers.

use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};

/// Characters of an id that the gateway makes up.
const ID: usize = 12;
/// Characters of a secret: 43 of 62 are 256 bits.
const SECRET: usize = 43;

/// A new id.
///
/// # Errors
/// If the system gives no random numbers.
pub fn new_id() -> Result<String, Unspecified> {
    random_text(ID, b"abcdefghijklmnopqrstuvwxyz0123456789")
}

/// A new whole key for `id`.
///
/// # Errors
/// If the system gives no random numbers.
pub fn new_key(id: &str) -> Result<String, Unspecified> {
    let secret = random_text(SECRET, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")?;
    Ok(format!("tg_{id}_{secret}"))
}

/// Whether `id` can be the id of a key.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (4..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// `length` characters of `alphabet`, each equally likely.
fn random_text(length: usize, alphabet: &[u8]) -> Result<String, Unspecified> {
    let random = SystemRandom::new();
    // Bytes above the largest multiple of the alphabet's size would make its first characters likelier.
    let fair = 256 / alphabet.len() * alphabet.len();
    let mut text = String::with_capacity(length);
    let mut byte = [0];
    while text.len() < length {
        random.fill(&mut byte)?;
        let drawn = usize::from(byte[0]);
        if drawn < fair {
            text.push(char::from(alphabet[drawn % alphabet.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_are_of_the_alphabet_and_differ() {
        let text = random_text(1000, b"abc").expect("random numbers");
        assert!(text.bytes().all(|byte| b"abc".contains(&byte)));
        for letter in ["a", "b", "c"] {
            assert!((250..420).contains(&text.matches(letter).count()), "{letter}");
        }
        assert_ne!(random_text(43, b"abc").expect("random"), random_text(43, b"abc").expect("random"));
    }

    #[test]
    fn new_keys_have_the_form_of_keys() {
        let id = new_id().expect("random numbers");
        assert!(is_id(&id), "{id}");
        let key = new_key(&id).expect("random numbers");
        assert_eq!((key.len(), key.starts_with(&format!("tg_{id}_"))), (3 + ID + 1 + SECRET, true));
    }
}
