//! Words that imitate Latin ones: letters of other scripts between Latin letters ("аdmin", "сuстème"), and words
//! that consist of look-alikes alone beside Latin text. They are read as what they look like.
//!
//! Not such words: units and symbols (µm, Δt), Japanese beside Latin letters, Cyrillic words with digits, words
//! that are joined by a hyphen ("USB-кабель"), and all words of a text in that script.

use std::ops::Range;

use super::evidence::{Evidence, Trait};
use super::normalise::Pass;
use super::table::Table;
use super::trace::Trace;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Latin,
    /// Latin letters among letters that look like Latin ones.
    Mixed,
    /// Letters that look like Latin ones, and no other.
    Imitation,
    Other,
}

/// Counts the words of either kind. True if reading them as Latin is worth a reading of its own.
pub(super) fn survey(text: &str, evidence: &mut Evidence) -> bool {
    let (mut latin, mut other, mut imitations) = (0_u32, 0_u32, 0_u32);
    let mut first = None;
    for_each_word(text, |span, word| match word {
        Word::Latin => latin += 1,
        Word::Mixed => evidence.mixed_script_words.add(span),
        // One letter alone is an initial or a symbol.
        Word::Imitation if text[span.clone()].chars().nth(1).is_none() => {}
        Word::Imitation => {
            imitations += 1;
            first.get_or_insert(span);
        }
        Word::Other => other += 1,
    });
    // In a text of that script words like "он" and "рак" are what they are.
    if latin + evidence.mixed_script_words.times > other {
        evidence.confusable_words.times = imitations;
        evidence.confusable_words.first = first;
    }
    evidence.mixed_script_words.any() || evidence.confusable_words.any()
}

/// Writes the normalised form of `text` with such words as what they look like; ASCII letters in lower case.
pub(super) fn fold(text: &str, out: &mut String, trace: &mut impl Trace) {
    let from = out.len();
    let mut unused = Evidence::default();
    let table = Table::get();
    let mut pass = Pass::new(text, out, &mut unused, trace);
    let mut at = 0;
    for_each_word(text, |span, word| {
        if !matches!(word, Word::Mixed | Word::Imitation) {
            return;
        }
        pass.section(at..span.start);
        for (start, c) in text[span.clone()].char_indices() {
            let start = span.start + start;
            match table.latin(c) {
                Some(latin) if is_foreign(table, c) => {
                    pass.trace.replaced(pass.out.len(), start);
                    pass.out.push(latin);
                }
                _ => pass.section(start..start + c.len_utf8()),
            }
        }
        at = span.end;
    });
    pass.section(at..text.len());
    out[from..].make_ascii_lowercase();
    trace.replaced(out.len(), text.len());
}

fn is_foreign(table: &Table, c: char) -> bool {
    matches!(table.entry(c).of(), Trait::Greek | Trait::Cyrillic | Trait::Exotic)
}

fn for_each_word(text: &str, mut see: impl FnMut(Range<usize>, Word)) {
    let table = Table::get();
    let mut word = Letters::default();
    let mut start = None;
    for (at, c) in text.char_indices() {
        let of = match c {
            'a'..='z' | 'A'..='Z' => Trait::Latin,
            '\0'..='\u{7f}' => Trait::Plain,
            _ => table.entry(c).of(),
        };
        if of != Trait::Plain || c.is_alphanumeric() {
            start.get_or_insert(at);
            word.add(table, c, of);
        } else if let Some(start) = start.take() {
            see(start..at, std::mem::take(&mut word).judge());
        }
    }
    if let Some(start) = start {
        see(start..text.len(), word.judge());
    }
}

/// The letters of one word.
#[derive(Default)]
struct Letters {
    latin: u32,
    /// Letters of other scripts that look like Latin ones, and those that do not.
    alike: u32,
    unlike: u32,
    greek: u32,
    switches: u32,
    last_was_latin: Option<bool>,
}

impl Letters {
    fn add(&mut self, table: &Table, c: char, of: Trait) {
        let is_latin = match of {
            Trait::Latin | Trait::RareLatin | Trait::FullWidth | Trait::Math | Trait::Styled => true,
            Trait::Greek | Trait::Cyrillic | Trait::Exotic => false,
            Trait::Plain if !c.is_ascii() && c.is_alphabetic() => {
                self.unlike += 1;
                return;
            }
            _ => return,
        };
        if is_latin {
            self.latin += 1;
        } else {
            self.greek += u32::from(of == Trait::Greek);
            let is_alike = of == Trait::Exotic || table.is_twin(c);
            self.alike += u32::from(is_alike);
            self.unlike += u32::from(!is_alike);
        }
        self.switches += u32::from(self.last_was_latin.is_some_and(|last| last != is_latin));
        self.last_was_latin = Some(is_latin);
    }

    fn judge(self) -> Word {
        let foreign = self.alike + self.unlike;
        if foreign == 0 {
            return if self.latin > 0 { Word::Latin } else { Word::Other };
        }
        if self.latin == 0 {
            return if self.unlike == 0 { Word::Imitation } else { Word::Other };
        }
        // A Greek letter with a Latin one or two is a symbol: Δt, λx, kΩ.
        let is_symbol = self.greek == foreign && self.latin + foreign <= 3;
        if !is_symbol && (self.unlike == 0 || self.switches > 1) { Word::Mixed } else { Word::Other }
    }
}
