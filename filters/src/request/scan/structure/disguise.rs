//! Tokens whose brackets are written so that a search for them fails: in full width, as entities of HTML, as escapes
//! of a program, or with characters between that nobody sees. Models read `＜｜im_start｜＞` much as they read the token,
//! and what unescapes a text on its way makes it one.
//!
//! Cost: a look at each bar, and a search for one of full width. Only where a bar has such a bracket before it, or
//! something unseen in its name, is the text written again.

use std::ops::Range;

use memchr::{memchr, memchr2_iter, memmem};

/// How the brackets and bars of tokens are disguised, and what they are.
const DRESSED: [(&str, char); 22] = [
    ("＜", '<'),
    ("＞", '>'),
    ("｜", '|'),
    ("［", '['),
    ("］", ']'),
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&vert;", '|'),
    ("&#60;", '<'),
    ("&#62;", '>'),
    ("&#124;", '|'),
    ("&#x3c;", '<'),
    ("&#x3e;", '>'),
    ("&#x3C;", '<'),
    ("&#x3E;", '>'),
    ("\\u003c", '<'),
    ("\\u003e", '>'),
    ("\\u003C", '<'),
    ("\\u003E", '>'),
    ("\\u007c", '|'),
    ("\\x3c", '<'),
    ("\\x3e", '>'),
];
/// Characters that nobody sees.
const UNSEEN: [&str; 6] = ["\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{ad}"];
/// The first bytes of both.
const FIRST: [u8; 5] = [0xEF, 0xE2, 0xC2, b'&', b'\\'];
/// The longest name between two bars.
const NAME: usize = 48;

/// A text without its disguises.
pub(super) struct Undressed {
    pub(super) text: String,
    /// Where stretches that were kept begin, in it and in the text as it came.
    kept: Vec<(usize, usize)>,
    /// Brackets were written as entities, as pages must.
    pub(super) has_entities: bool,
}

impl Undressed {
    /// The place in the text as it came that `at` stands for.
    fn origin(&self, at: usize) -> usize {
        let before = self.kept.partition_point(|(to, _)| *to <= at);
        before.checked_sub(1).map_or(at, |place| self.kept[place].1 + at - self.kept[place].0)
    }

    /// The bytes of the text as it came that `span` stands for.
    pub(super) fn origins(&self, span: Range<usize>) -> Range<usize> {
        self.origin(span.start)..self.origin(span.end.saturating_sub(1)) + 1
    }
}

/// `text` without its disguises.
///
/// # Cost
/// A copy of the text, and one step for each byte.
pub(super) fn undress(text: &str) -> Undressed {
    let bytes = text.as_bytes();
    let mut undressed =
        Undressed { text: String::with_capacity(text.len()), kept: vec![(0, 0)], has_entities: false };
    let mut copied = 0;
    for at in 0..bytes.len() {
        if at < copied || !FIRST.contains(&bytes[at]) {
            continue;
        }
        let dressed = DRESSED.iter().find(|(dress, _)| bytes[at..].starts_with(dress.as_bytes()));
        let unseen = || UNSEEN.iter().find(|unseen| bytes[at..].starts_with(unseen.as_bytes()));
        let length = match dressed {
            Some((dress, _)) => dress.len(),
            None => match unseen() {
                Some(unseen) => unseen.len(),
                None => continue,
            },
        };
        undressed.text.push_str(&text[copied..at]);
        if let Some((_, bare)) = dressed {
            undressed.kept.push((undressed.text.len(), at));
            undressed.text.push(*bare);
            undressed.has_entities |= bytes[at] == b'&';
        }
        copied = at + length;
        undressed.kept.push((undressed.text.len(), copied));
    }
    undressed.text.push_str(&text[copied..]);
    undressed
}

/// Whether a bar of full width stands behind such a bracket.
pub(super) fn has_full_width(bytes: &[u8]) -> bool {
    memmem::find(bytes, "＜｜".as_bytes()).is_some()
}

/// Whether the bar at `at` stands behind a disguised bracket, or something unseen in the name between it and the next.
pub(super) fn is_dressed(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[at.saturating_sub(6)..at];
    match before.last() {
        // Of an entity, of an escape, of something unseen or of full width.
        Some(b';' | b'c' | b'C' | 0x8B..=0x8D | 0xA0 | 0xBF | 0xAD | 0x9C) => {
            let opens = |(dress, bare): &(&str, char)| *bare == '<' && before.ends_with(dress.as_bytes());
            DRESSED.iter().any(opens) || UNSEEN.iter().any(|unseen| before.ends_with(unseen.as_bytes()))
        }
        Some(b'<') => {
            let name = &bytes[at + 1..(at + 1 + NAME).min(bytes.len())];
            let name = &name[..memchr(b'|', name).unwrap_or(0)];
            memchr2_iter(0xE2, 0xC2, name)
                .any(|at| UNSEEN.iter().any(|unseen| name[at..].starts_with(unseen.as_bytes())))
        }
        _ => false,
    }
}
