//! Whether a sentence names a token or uses it. Who asks about `<|eot_id|>` writes it where a noun would stand: with a
//! space before it and more of the same sentence behind it. A token that works stands behind the end of a sentence, at a
//! line's beginning, or next to another one, and what follows begins anew.
//!
//! Cost: the line around the token, as far as a page looks at it.

use std::ops::Range;

use super::page::{Page, has_words, skip_space};

/// Words with which a sentence goes on behind a noun, in English and in the tongues of Europe that are written most; none
/// with which an order or an answer would begin. Where a turn is opened, any other word may begin what is said in it.
const GO_ON: [&str; 115] = [
    "after", "again", "already", "although", "am", "and", "appears", "are", "as", "at", "auf", "aus", "be",
    "because", "before", "behind", "bei", "between", "both", "but", "by", "can", "che", "comes", "dans",
    "de", "di", "does", "em", "en", "es", "est", "et", "followed", "follows", "for", "from", "gets", "goes",
    "had", "has", "have", "if", "im", "in", "inside", "instead", "into", "is", "ist", "itself", "kommt",
    "like", "looks", "means", "might", "mit", "myself", "na", "nach", "near", "needs", "nel", "not", "oder",
    "of", "on", "only", "or", "para", "part", "per", "por", "pour", "que", "right", "shall", "should",
    "shows", "since", "so", "stands", "steht", "still", "sur", "tag", "tags", "than", "that", "then", "to",
    "token", "tokens", "too", "twice", "und", "until", "von", "vor", "was", "were", "when", "where", "which",
    "while", "will", "wird", "with", "without", "work", "works", "would", "y", "yourself", "zu",
];
/// Particles and verbs that stand directly behind a noun where words are not set apart.
const JOINED: [&str; 18] = [
    "が", "の", "を", "は", "と", "に", "で", "も", "和", "是", "的", "在", "이", "가", "을", "를", "은",
    "는",
];
/// The longest of them.
const LONGEST: usize = 9;

/// Whether the token at `span`, whose head ends at `head_end`, stands in the middle of a sentence. `opens` says that a
/// turn begins behind it.
pub(super) fn names(page: &Page<'_>, span: &Range<usize>, head_end: usize, opens: bool) -> bool {
    let line = page.line(span);
    is_noun(page, line.start, span.start)
        && goes_on(page, head_end, opens)
        && has_words(&page.bytes[line.start..span.start], 1)
}

/// Whether what stands before `at` leaves its sentence open, or begins a cell of a table.
fn is_noun(page: &Page<'_>, line: usize, at: usize) -> bool {
    // A line that is cut somewhere may be cut inside a character.
    let before = &page.text[page.text.ceil_char_boundary(line)..at];
    match before.chars().next_back() {
        Some(' ') if before.ends_with("... ") => true,
        Some(' ') => before.trim_end().ends_with(|last: char| {
            last.is_alphanumeric()
                || matches!(last, ',' | ':' | '|' | ';' | ')' | '(' | '-' | '=' | '/' | '`' | '"' | '\'')
        }),
        Some('(' | '/') => true,
        // Scripts that set no spaces.
        Some(last) => !last.is_ascii() && last.is_alphabetic(),
        None => false,
    }
}

/// Whether what stands at `at` goes on with a sentence, or ends it.
fn goes_on(page: &Page<'_>, at: usize, opens: bool) -> bool {
    let rest = &page.text[at..];
    let mut letters = rest.chars();
    let Some(first) = letters.next() else { return true };
    let second = letters.next();
    match first {
        ',' | ';' | ')' | '?' | '.' | '!' | ':' => {
            let is_apart = second.is_none_or(|second| second.is_whitespace() || matches!(second, '.' | ')'));
            is_apart && !(opens && first == ':')
        }
        '，' | '。' | '？' | '、' | '）' | '！' | '；' => true,
        ' ' => match second {
            None => true,
            Some(second) if second.is_lowercase() => !opens || begins_with(&rest[1..], &GO_ON),
            Some('(' | '|' | '-' | '–' | '=' | '.' | '…' | '?' | '"' | '/' | '+' | '&') => true,
            Some(second) if second.is_ascii_digit() => !opens,
            Some(second) if !second.is_ascii() && !second.is_uppercase() => {
                !opens || JOINED.iter().any(|word| rest[1..].starts_with(word))
            }
            Some(_) => false,
        },
        // A report shows the token at the end of a line and goes on below, where no other follows.
        '\n' | '\r' if !opens => {
            let next = skip_space(page.bytes, at, 16);
            !matches!(page.bytes.get(next), Some(b'<' | b'[' | b'#' | 0xEF))
        }
        first if !first.is_ascii() && first.is_alphabetic() => {
            !opens || JOINED.iter().any(|word| rest.starts_with(word))
        }
        _ => false,
    }
}

/// Whether `text` begins with one of `words`, and no other letter follows.
fn begins_with(text: &str, words: &[&str]) -> bool {
    let length = text.bytes().take(LONGEST + 1).take_while(u8::is_ascii_lowercase).count();
    words.contains(&&text[..length])
}
