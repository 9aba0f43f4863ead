//! Where a text may be cut so that its pieces have as many tokens as the whole: places that no token reaches across,
//! and before which no token depends on what follows.
//!
//! The candidates are those at which the pre-tokenizers of all known models end a word whatever comes next: before a
//! space that follows something else, and between a letter or digit and a line end or a punctuation mark. An apostrophe
//! is none: contractions are tokens. A line that begins with a letter or digit may be cut off from the one before where a
//! line end becomes the same whatever follows it. Which candidates hold is asked of the vocabulary: a kind of place that any token
//! of it reaches across is not used, but for a handful of odd ones. (OpenAI's encodings have none, nor has DeepSeek's;
//! vocabularies of several words a token have many.) A text without any such place is cut after [`MAX_PIECE`] bytes, which is
//! wrong by one token at most each time.
//!
//! What always holds: a place depends on the text alone, not on how it came. Cost: one look at each byte.

/// The longest piece, in bytes.
pub(super) const MAX_PIECE: usize = 4096;

/// The kinds of places at which a vocabulary allows cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Before a space.
    space: bool,
    /// After a letter or digit, before a line end or an ASCII punctuation mark.
    mark: bool,
    /// After a letter or digit, before a punctuation mark of another script.
    wide_mark: bool,
    /// After a line end that stands alone, before a letter or digit.
    line: bool,
    /// The same after other whitespace that ends with a line end.
    lines: bool,
}

impl Cut {
    /// All candidates.
    pub(super) const ALL: Self = Self { space: true, mark: true, wide_mark: true, line: true, lines: true };

    /// The same, where the beginnings of lines are places only if these hold too: the vocabulary alone does not tell, since
    /// what whitespace becomes may depend on what follows it.
    pub(super) fn with_line_starts(self, line: bool, lines: bool) -> Self {
        Self { line: self.line && line, lines: self.lines && lines, ..self }
    }

    /// The kinds of places that the tokens of a vocabulary do not reach across, but for one token in a thousand: a few
    /// odd tokens, which hardly any text has, are no reason to do without.
    pub(super) fn of<T: AsRef<[u8]>>(vocabulary: impl Iterator<Item = T>) -> Self {
        let (mut tokens, mut across, mut across_lines) = (0_u64, [0_u64; 3], 0_u64);
        for token in vocabulary {
            let token = token.as_ref();
            tokens += 1;
            for (number, across) in across.iter_mut().enumerate() {
                let reaches = |at: usize| kind(token, at).is_some_and(|kind| kind as usize == number);
                *across += u64::from((1..token.len()).any(reaches));
            }
            let begins = |at: usize| token[at - 1] == b'\n' && token[at].is_ascii_alphanumeric();
            across_lines += u64::from((1..token.len()).any(begins));
        }
        let line = across_lines * 1000 <= tokens;
        let [space, mark, wide_mark] = across.map(|across| across * 1000 <= tokens);
        Self { space, mark, wide_mark, line, lines: line }
    }

    /// The first place to cut at or after byte `from` of a text whose piece began at `start`; `None` if there is none
    /// yet and the piece may still grow. `from` is above `start`.
    pub(super) fn find(self, text: &[u8], start: usize, from: usize) -> Option<usize> {
        debug_assert!(start < from, "a piece has at least one byte");
        let end = text.len().min(start + MAX_PIECE);
        let found = (from..end).find(|&at| {
            let is_candidate = CANDIDATE[text[at] as usize];
            (is_candidate && self.allows(text, at))
                || (text[at - 1] == b'\n' && self.begins_line(text, start, at))
        });
        match found {
            None if text.len() > start + MAX_PIECE => {
                // UTF-8 continues a character for three bytes at most; what is no UTF-8 is cut anywhere.
                let whole = (end - 3..=end).rev().find(|&at| text[at] & 0xc0 != 0x80);
                Some(whole.unwrap_or(end))
            }
            found => found,
        }
    }

    fn allows(self, text: &[u8], at: usize) -> bool {
        match kind(text, at) {
            Some(Kind::Space) => self.space,
            Some(Kind::Mark) => self.mark,
            Some(Kind::WideMark) => self.wide_mark,
            None => false,
        }
    }

    /// Whether a line begins at byte `at`, with a letter or digit, at which the line end before it may be cut off.
    fn begins_line(self, text: &[u8], start: usize, at: usize) -> bool {
        if !text[at].is_ascii_alphanumeric() {
            return false;
        }
        // A piece that begins with a line end follows on a word.
        let is_alone = at - 1 == start || !is_space_before(text, at - 1);
        if is_alone { self.line } else { self.lines }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Space = 0,
    Mark = 1,
    WideMark = 2,
}

/// The bytes before which there may be a place: a space, a line end, an ASCII punctuation mark, and the first bytes of
/// other punctuation marks.
static CANDIDATE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_punctuation() && byte as u8 != b'\'';
        byte += 1;
    }
    table[b' ' as usize] = true;
    table[b'\n' as usize] = true;
    table[b'\r' as usize] = true;
    table[0xe2] = true;
    table[0xe3] = true;
    table[0xef] = true;
    table
};

/// What kind of place is before byte `at`.
fn kind(text: &[u8], at: usize) -> Option<Kind> {
    match text[at] {
        b' ' => (!is_space_before(text, at)).then_some(Kind::Space),
        b'\'' => None,
        byte @ (b'\n' | b'\r' | b'!'..=b'~') => {
            let is_mark = !byte.is_ascii_alphanumeric();
            (is_mark && is_word_before(text, at)).then_some(Kind::Mark)
        }
        0xe2 | 0xe3 | 0xef => {
            (is_wide_mark(&text[at..]) && is_word_before(text, at)).then_some(Kind::WideMark)
        }
        _ => None,
    }
}

fn is_word_before(text: &[u8], at: usize) -> bool {
    match text[at - 1] {
        byte if byte < 0x80 => byte.is_ascii_alphanumeric(),
        _ => char_before(text, at).is_some_and(char::is_alphanumeric),
    }
}

fn is_space_before(text: &[u8], at: usize) -> bool {
    match text[at - 1] {
        byte if byte < 0x80 => byte.is_ascii_whitespace() || byte == 0x0b,
        // Half a character may be anything.
        _ => char_before(text, at).is_none_or(char::is_whitespace),
    }
}

/// The character that ends before byte `at`, if it is whole.
fn char_before(text: &[u8], at: usize) -> Option<char> {
    let start = (at.saturating_sub(4)..at).rev().find(|&start| text[start] & 0xc0 != 0x80)?;
    std::str::from_utf8(&text[start..at]).ok()?.chars().next()
}

/// Punctuation of Chinese and Japanese, its full-width forms, and dashes, dots and double quotation marks of typography.
fn is_wide_mark(text: &[u8]) -> bool {
    let Some(three) = text.get(..3) else { return false };
    let Some(mark) = std::str::from_utf8(three).ok().and_then(|mark| mark.chars().next()) else {
        return false;
    };
    matches!(
        mark,
        '\u{3001}'
            | '\u{3002}'
            | '\u{3008}'..='\u{3011}'
            | '\u{ff01}'..='\u{ff06}'
            | '\u{ff08}'..='\u{ff0f}'
            | '\u{ff1a}'..='\u{ff1f}'
            | '\u{2014}'
            | '\u{201c}'
            | '\u{201d}'
            | '\u{2026}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(cut: Cut, text: &str) -> Vec<&str> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        while let Some(at) = cut.find(text.as_bytes(), start, start + 1) {
            pieces.push(&text[start..at]);
            start = at;
        }
        pieces.push(&text[start..]);
        pieces
    }

    #[test]
    fn words_are_cut_apart_and_nothing_else() {
        for (text, expected) in [
            ("one two  three", "one| two|  three"),
            ("a.b, c", "a|.b|,| c"),
            ("don't 'quote'", "don't| 'quote'"),
            ("line\n\nNext", "line|\n\n|Next"),
            ("end.\nx", "end|.\n|x"),
            ("a\nb\n  c\n- d", "a|\n|b|\n  c|\n-| d"),
            ("\u{a0} x", "\u{a0} x"),
            ("日本，中国。", "日本|，中国|。"),
            ("x\u{2014}y", "x|\u{2014}y"),
            ("tab\t x", "tab\t x"),
            ("f(x){}", "f|(x|){}"),
            ("   ", "   "),
        ] {
            assert_eq!(pieces(Cut::ALL, text).join("|"), expected, "{text}");
        }
    }

    #[test]
    fn a_token_across_a_place_forbids_its_kind() {
        let harmless = [" word", "don't", "...", "  \n", "\u{3002}\n"];
        assert_eq!(Cut::of(harmless.iter()), Cut::ALL);
        let cut = Cut::of(harmless.iter().chain(&["of the"]));
        assert_eq!(pieces(cut, "one two.\n").join("|"), "one two|.\n");
        let cut = Cut::of(harmless.iter().chain(&["of the", "x."]));
        assert_eq!(pieces(cut, "one two.\u{2014}z\u{2014}").join("|"), "one two.\u{2014}z|\u{2014}");
        // One odd token among a thousand others changes nothing.
        assert_eq!(Cut::of(std::iter::repeat_n(&" word", 1000).chain(&["of the"])), Cut::ALL);
    }

    #[test]
    fn a_word_without_end_is_cut_all_the_same() {
        let long = "日".repeat(3000);
        let pieces = pieces(Cut::ALL, &long);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PIECE), "{}", pieces.len());
        assert_eq!(pieces.len(), 9000_usize.div_ceil(MAX_PIECE));
    }
}
