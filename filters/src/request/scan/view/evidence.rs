//! What had to be undone, counted: the means of hiding are evidence themselves. Counts come out of the pass that
//! normalises, so a text that hides nothing pays nothing for them.

use std::ops::Range;

use super::table::{is_diacritic, is_unseen};

/// What a character says about the text that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Trait {
    /// Nothing.
    Plain,
    Latin,
    /// A Latin letter with a mark that no living language in wide use writes.
    RareLatin,
    Greek,
    Cyrillic,
    /// A letter of another script that looks like a Latin one.
    Exotic,
    FullWidth,
    Math,
    /// In circles, squares, as small capitals or superscripts.
    Styled,
    Diacritic,
    SoftHyphen,
    /// Zero width joiner and non-joiner: ordinary in emoji, Persian and Indic scripts.
    Joiner,
    Invisible,
    Bidi,
    Tag,
    Variation,
}

impl Trait {
    /// By number; what is beyond the list is plain.
    pub(super) const ALL: [Self; 32] = {
        use Trait::*;
        let mut all = [Plain; 32];
        let listed = [
            Plain, Latin, RareLatin, Greek, Cyrillic, Exotic, FullWidth, Math, Styled, Diacritic, SoftHyphen,
            Joiner, Invisible, Bidi, Tag, Variation,
        ];
        let mut at = 0;
        while at < listed.len() {
            all[at] = listed[at];
            at += 1;
        }
        all
    };

    /// What `c` says; `imitates` if it looks like a Latin letter.
    pub(super) fn of(c: char, imitates: bool) -> Self {
        match c {
            '\u{ad}' => Self::SoftHyphen,
            '\u{200c}' | '\u{200d}' => Self::Joiner,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                Self::Bidi
            }
            '\u{e0100}'..='\u{e01ef}' | '\u{fe00}'..='\u{fe0f}' => Self::Variation,
            '\u{e0000}'..='\u{e007f}' => Self::Tag,
            _ if is_diacritic(c) => Self::Diacritic,
            _ if is_unseen(c) => Self::Invisible,
            '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => Self::FullWidth,
            '\u{1d400}'..='\u{1d7ff}' | '\u{2102}'..='\u{2131}' => Self::Math,
            '\u{249c}'..='\u{24e9}' | '\u{1f110}'..='\u{1f189}' => Self::Styled,
            'ᴀ'..='ᴢ' | 'ʀ' | 'ʏ' | 'ʙ' | 'ɢ' | 'ʜ' | 'ɪ' | 'ʟ' | 'ɴ' | 'ꜰ' | 'ꜱ' => {
                Self::Styled
            }
            '\u{1e00}'..='\u{1e9d}' => Self::RareLatin,
            '\u{aa}' | '\u{ba}' | '\u{c0}'..='\u{24f}' | '\u{1ea0}'..='\u{1eff}' if c.is_alphabetic() => {
                Self::Latin
            }
            // The micro sign is a unit, not a letter of a word.
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' if c.is_alphabetic() => Self::Greek,
            '\u{400}'..='\u{52f}'
            | '\u{1c80}'..='\u{1c8f}'
            | '\u{2de0}'..='\u{2dff}'
            | '\u{a640}'..='\u{a69f}'
                if c.is_alphabetic() =>
            {
                Self::Cyrillic
            }
            _ if imitates => Self::Exotic,
            _ => Self::Plain,
        }
    }
}

/// How often something had to be undone, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// How often.
    pub times: u32,
    /// The first of them, in bytes of the text that was read.
    pub first: Option<Range<usize>>,
}

impl Count {
    pub(super) fn add(&mut self, span: Range<usize>) {
        if self.times == 0 {
            self.first = Some(span);
        }
        self.times = self.times.saturating_add(1);
    }

    /// Whether it was seen at all.
    #[must_use]
    pub fn any(&self) -> bool {
        self.times > 0
    }
}

/// What stood between a reader and the text. Counts are of characters, except where they say words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Characters nobody sees, inside a word of an alphabet that does not use them.
    pub invisible: Count,
    /// Other such characters: between emoji, in scripts that join, at the ends of words. Ordinary in small numbers.
    pub unseen: Count,
    /// Soft hyphens inside words. A web page has some; an attack has one after each letter.
    pub soft_hyphens: Count,
    /// Marks and overrides of direction.
    pub bidi: Count,
    /// Tag characters outside the flags that are spelled with them.
    pub tags: Count,
    /// Variation selectors in rows: data behind one visible character.
    pub variation: Count,
    /// Marks that make no letter of any language with their base, and letters with marks that hardly any uses.
    pub combining: Count,
    /// Full-width Latin letters.
    pub full_width: Count,
    /// Letters of mathematical alphabets.
    pub math: Count,
    /// Letters in circles and squares, small capitals.
    pub styled: Count,
    /// Words that mix Latin letters with others that look like them.
    pub mixed_script_words: Count,
    /// Words that consist of look-alikes of Latin letters alone, beside Latin text.
    pub confusable_words: Count,
    /// Words with digits or signs for letters.
    pub leet_words: Count,
    /// Words written with something between their letters.
    pub spaced_words: Count,
    /// Whether a bound on decoded text was reached, so that some of it was not read.
    pub truncated: bool,
}
