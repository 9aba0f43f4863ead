//! What is asked of a text again and again: whether a place lies in quotes or in a code block, where its line
//! begins, whether prose follows. Every answer looks at a bounded stretch, so that asking at every byte of a
//! hostile text stays linear.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem, memrchr, memrchr2};

use super::markup::Sheets;

/// How far a line is looked at from a place in it.
const LINE_REACH: usize = 160;

/// A text and the code fences in it.
pub(super) struct Page<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    /// The first byte that is not white space.
    pub(super) first: usize,
    /// Behind the last byte that is not white space.
    pub(super) last: usize,
    /// Up to where hidden text has been handed out, for each way of hiding.
    pub(super) hidden_until: [usize; 3],
    /// The next `-->`.
    pub(super) comment_end: Ahead,
    /// The next `"` and the next `'`.
    pub(super) quote_end: [Ahead; 2],
    /// The next `">` and the next `'>`.
    pub(super) tag_end: [Ahead; 2],
    /// Up to where data in scripts has been handed out.
    pub(super) data_until: usize,
    /// What the style sheets of the text hide.
    pub(super) sheets: Sheets,
    fence_open: bool,
    next_fence: Option<usize>,
    /// Up to where fences have been counted; later questions are about later places.
    fences_from: usize,
}

impl<'a> Page<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let first = text.len() - text.trim_start().len();
        let last = text.trim_end().len();
        Self {
            text,
            bytes: text.as_bytes(),
            first,
            last,
            hidden_until: [0; 3],
            comment_end: Ahead::default(),
            quote_end: [Ahead::default(); 2],
            tag_end: [Ahead::default(); 2],
            data_until: 0,
            sheets: Sheets::default(),
            fence_open: false,
            next_fence: None,
            fences_from: 0,
        }
    }

    /// Whether `at` lies in a closed code fence. Places must be asked for in order.
    pub(super) fn is_fenced(&mut self, at: usize) -> bool {
        loop {
            let next = match self.next_fence {
                Some(next) => next,
                None if self.fences_from > self.bytes.len() => return false,
                None => match memmem::find(&self.bytes[self.fences_from..], b"```") {
                    Some(hit) => *self.next_fence.insert(self.fences_from + hit),
                    None => {
                        // An open fence that nothing closes is no code block.
                        self.fences_from = self.bytes.len() + 1;
                        return false;
                    }
                },
            };
            if next >= at {
                return self.fence_open;
            }
            self.fence_open = !self.fence_open;
            self.fences_from = next + 3;
            self.next_fence = None;
        }
    }

    /// The line around `span`, as far as it is looked at.
    pub(super) fn line(&self, span: &Range<usize>) -> Range<usize> {
        let low = span.start.saturating_sub(LINE_REACH);
        let high = (span.end + LINE_REACH).min(self.bytes.len());
        let start = memrchr(b'\n', &self.bytes[low..span.start]).map_or(low, |hit| low + hit + 1);
        let end = memchr(b'\n', &self.bytes[span.end..high]).map_or(high, |hit| span.end + hit);
        start..end
    }

    /// Whether `span` is quoted on its line: in backticks, or directly behind or before a quotation mark whose
    /// partner stands on the same line.
    pub(super) fn is_quoted(&self, span: &Range<usize>) -> bool {
        let bytes = self.bytes;
        let near = &bytes[span.start.saturating_sub(LINE_REACH)..span.start];
        let may_be_code = memrchr2(b'`', b'\n', near).is_some_and(|hit| near[hit] == b'`');
        let is_mark = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | 0x80..);
        let touches_mark = near.last().is_some_and(is_mark) || bytes.get(span.end).is_some_and(is_mark);
        if !may_be_code && !touches_mark {
            return false;
        }
        let line = self.line(span);
        let before = &bytes[line.start..span.start];
        let after = &bytes[span.end..line.end];
        if may_be_code
            && memchr(b'`', after).is_some()
            && before.iter().filter(|&&byte| byte == b'`').count() % 2 == 1
        {
            return true;
        }
        touches_mark
            && QUOTES.iter().any(|(open, close)| {
                let (open, close) = (open.as_bytes(), close.as_bytes());
                before.ends_with(open) && memmem::find(after, close).is_some()
                    || after.starts_with(close) && memmem::rfind(before, open).is_some()
            })
    }

    /// Whether the last line before `at` that is not empty is a heading of markdown or ends with a colon, and `at`
    /// begins its own line or what follows the colon.
    pub(super) fn is_under_heading(&self, at: usize) -> bool {
        let before = &self.bytes[at.saturating_sub(LINE_REACH)..at];
        let before = before.trim_ascii_end();
        let line = &before[memrchr(b'\n', before).map_or(0, |hit| hit + 1)..];
        line.starts_with(b"#") && !line.ends_with(b">") && self.begins_line(at)
            || before.ends_with(b":")
            || before.ends_with(b":**")
            // One such comment after the other.
            || before.ends_with(b"-->") && line.starts_with(b"<!--") && self.begins_line(at)
    }

    /// Whether nothing but white space stands between `at` and the beginning of its line.
    pub(super) fn begins_line(&self, at: usize) -> bool {
        let low = at.saturating_sub(LINE_REACH);
        let start = memrchr(b'\n', &self.bytes[low..at]).map_or(low, |hit| low + hit + 1);
        self.bytes[start..at].iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'>' | b'*'))
    }
}

/// The next place of one thing, remembered: a search that begins before the place last found and behind the
/// beginning of that search has the same answer, so a hostile text cannot have the same stretch searched again and
/// again.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    from: usize,
    /// `None`: nothing was searched yet. `Some(None)`: there is none up to the end.
    hit: Option<Option<usize>>,
}

impl Ahead {
    /// Where `search` finds its thing in `bytes` from `from` on. It must be the same thing in the same bytes each
    /// time.
    pub(super) fn find(
        &mut self,
        bytes: &[u8],
        from: usize,
        search: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Option<usize> {
        match self.hit {
            Some(hit) if self.from <= from && hit.is_none_or(|hit| from <= hit) => hit,
            _ => {
                self.from = from;
                let hit = bytes.get(from..).and_then(search).map(|hit| from + hit);
                self.hit = Some(hit);
                hit
            }
        }
    }
}

/// Marks that quote, opening and closing.
const QUOTES: [(&str, &str); 8] =
    [("\"", "\""), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("「", "」"), ("„", "“")];

/// The first byte from `at` on that is not white space, at most `most` bytes on.
pub(super) fn skip_space(bytes: &[u8], at: usize, most: usize) -> usize {
    let end = (at + most).min(bytes.len());
    (at..end).find(|&at| !bytes[at].is_ascii_whitespace()).unwrap_or(end.max(at))
}

/// Whether `bytes` continue at `at` with `word`, given in lower case.
pub(super) fn continues(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    bytes.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word))
}

/// Whether lower-case `word` occurs in `bytes`, without regard to ASCII case. For short stretches only.
pub(super) fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let Some(&first) = word.first() else { return true };
    let mut at = 0;
    while let Some(hit) = memchr2(first, first.to_ascii_uppercase(), &bytes[at..]) {
        if continues(bytes, at + hit, word) {
            return true;
        }
        at += hit + 1;
    }
    false
}

/// Whether at least `least` words follow within `bytes`. A character beyond ASCII counts for half a word: scripts
/// without spaces say as much in fewer bytes.
pub(super) fn has_words(bytes: &[u8], least: usize) -> bool {
    let mut halves = 0;
    let mut in_word = false;
    for &byte in bytes.iter().take(least * 24) {
        let is_letter = byte.is_ascii_alphabetic() || byte == b'\'';
        halves += usize::from(byte >= 0xC0) + 2 * usize::from(is_letter && !in_word);
        in_word = is_letter;
        if halves >= 2 * least {
            return true;
        }
    }
    false
}

/// A name as it stands in a token, a tag or a key: lower case, letters and digits only.
#[derive(Clone, Copy)]
pub(super) struct Name {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Name {
    /// Longer than any name that is known.
    pub(super) const MOST: usize = 32;

    /// The name made of the letters and digits of `bytes`; `None` if there are none or too many.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut name = Self { bytes: [0; Self::MOST], len: 0 };
        for byte in bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            *name.bytes.get_mut(name.len)? = byte.to_ascii_lowercase();
            name.len += 1;
        }
        (name.len > 0).then_some(name)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
