//! Atoms as an engine looks for them. An engine finds plain literals only; everything a literal cannot say is
//! checked here, at the few places where one was found: word boundaries, and the other words of a phrase.
//!
//! So a phrase is looked up by its longest word, whatever separates the words, and no engine needs a word
//! boundary or a class of white space. Literals compile in milliseconds where regular expressions take seconds
//! (thousands of them, in thirteen languages), and both engines agree by construction on all but the literals.
//!
//! - A letter or digit of ASCII at an end of an atom is bounded: no ASCII letter or digit may stand next to it.
//!   `_` is punctuation here (`ignore_previous_instructions` is three words). Other scripts are not bounded.
//! - Between two words of a phrase stand one to three characters that are neither letter nor digit.
//! - An apostrophe in an atom stands for any of the marks people type for one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::super::pack::{Languages, PackFault, Packs};
use super::cut::{self, Cut};
use super::proximity::Event;

/// Characters that may stand between two words of a phrase.
const MAX_SEPARATORS: usize = 3;

/// All atoms of all concepts.
#[derive(Debug, Default)]
pub(crate) struct Lexicon {
    /// What the engine looks for, in lower case, each once. Its index is the literal's number.
    pub(crate) literals: Vec<Box<[u8]>>,
    /// For each literal where its uses begin in `uses`; one more at the end.
    first_use: Vec<u32>,
    uses: Vec<Use>,
    phrases: Vec<Phrase>,
}

/// What it means that a literal was found.
#[derive(Debug, Clone)]
struct Use {
    concept: u16,
    languages: Languages,
    length: u16,
    bounded_start: bool,
    bounded_end: bool,
    /// Index of the phrase around it; [`ALONE`] for a word.
    phrase: u32,
}

const ALONE: u32 = u32::MAX;

/// The words around the one that is looked for, nearest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Phrase {
    pub(super) before: Vec<Word>,
    pub(super) after: Vec<Word>,
    pub(super) bounded_start: bool,
    pub(super) bounded_end: bool,
}

/// A word of a phrase and what stands between it and the next one towards the literal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Word {
    pub(super) bytes: Box<[u8]>,
    pub(super) joint: Joint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Joint {
    Space,
    Apostrophe,
}

/// A part of a text, as far as it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'t> {
    /// From the beginning of the text, or from farther back than any phrase reaches.
    pub(crate) bytes: &'t [u8],
    /// Whether the text ends where `bytes` do.
    pub(crate) is_final: bool,
    /// Whether words are set apart in it. Where letters were joined, a word may begin and end anywhere.
    pub(crate) has_borders: bool,
}

/// Why a literal does not stand for an atom, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Not {
    /// Not here.
    Here,
    /// It depends on bytes that have not come yet.
    Yet,
}

impl Lexicon {
    /// Cuts the atoms of all packs into literals and phrases. `normalise` is what texts go through.
    pub(crate) fn new<'p>(
        packs: &'p Packs,
        normalise: impl Fn(&'p str) -> Cow<'p, str>,
    ) -> Result<Self, Vec<PackFault>> {
        let mut faults = Vec::new();
        let mut parsed = Vec::new();
        for atom in &packs.atoms {
            match Cut::new(atom, &normalise) {
                Ok(cut) => parsed.push(cut),
                Err(message) => faults.push(atom.fault(message)),
            }
        }
        if faults.is_empty() { Ok(Self::build(cut::merge(parsed))) } else { Err(faults) }
    }

    fn build(cuts: Vec<Cut>) -> Self {
        let mut lexicon = Self::default();
        let mut by_literal: HashMap<Box<[u8]>, Vec<Use>> = HashMap::new();
        for cut in cuts {
            let phrase = cut.phrase.map_or(ALONE, |phrase| {
                lexicon.phrases.push(phrase);
                u32::try_from(lexicon.phrases.len() - 1).unwrap_or(ALONE)
            });
            by_literal.entry(cut.literal.clone()).or_default().push(Use {
                concept: cut.concept,
                languages: cut.languages,
                length: u16::try_from(cut.literal.len()).unwrap_or(u16::MAX),
                bounded_start: cut.bounded_start,
                bounded_end: cut.bounded_end,
                phrase,
            });
        }
        let mut sorted: Vec<_> = by_literal.into_iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (literal, uses) in sorted {
            lexicon.first_use.push(u32::try_from(lexicon.uses.len()).unwrap_or(u32::MAX));
            lexicon.literals.push(literal);
            lexicon.uses.extend(uses);
        }
        lexicon.first_use.push(u32::try_from(lexicon.uses.len()).unwrap_or(u32::MAX));
        lexicon
    }

    /// What it may mean that a literal was found: the numbers to ask [`Self::check`] about.
    #[inline]
    pub(crate) fn uses(&self, literal: u32) -> Range<u32> {
        let literal = literal as usize;
        self.first_use[literal]..self.first_use[literal + 1]
    }

    /// The atom that the literal of this use, found in `..end`, stands for there.
    #[inline]
    pub(crate) fn check(&self, number: u32, end: usize, window: Window<'_>) -> Result<Event, Not> {
        let at = &self.uses[number as usize];
        let (start, end) = at.check(end, window, &self.phrases)?;
        // A text longer than `u32` counts is not scanned to its end; the caller sees to that.
        Ok(Event { start: start as u32, end: end as u32, concept: at.concept, languages: at.languages })
    }

    /// How common each concept's most common atom is likely to be: the length of its shortest, as a rule reads
    /// them. Used to choose which concept of a rule is asked first.
    pub(crate) fn shortest_atoms(&self, concepts: usize) -> Vec<usize> {
        let mut shortest = vec![usize::MAX; concepts];
        for at in &self.uses {
            let phrase = self.phrases.get(at.phrase as usize);
            let words = phrase.into_iter().flat_map(|phrase| phrase.before.iter().chain(&phrase.after));
            let length = usize::from(at.length) + words.map(|word| word.bytes.len() + 1).sum::<usize>();
            let slot = &mut shortest[usize::from(at.concept)];
            *slot = (*slot).min(length);
        }
        shortest
    }

    /// The most bytes that an atom can reach to either side of its literal.
    pub(crate) fn reach(&self) -> usize {
        // The widest separator takes three bytes.
        let side =
            |words: &[Word]| words.iter().map(|word| word.bytes.len() + 3 * MAX_SEPARATORS).sum::<usize>();
        let longest = self.literals.iter().map(|literal| literal.len()).max().unwrap_or(0);
        let phrases = self.phrases.iter().map(|phrase| side(&phrase.before).max(side(&phrase.after)));
        phrases.max().unwrap_or(0) + longest + 4
    }
}

impl Use {
    #[inline]
    fn check(&self, end: usize, window: Window<'_>, phrases: &[Phrase]) -> Result<(usize, usize), Not> {
        let start = end - usize::from(self.length);
        if self.bounded_start && window.touches_before(start) {
            return Err(Not::Here);
        }
        if self.bounded_end {
            window.ends_word(end)?;
        }
        match phrases.get(self.phrase as usize) {
            None => Ok((start, end)),
            Some(phrase) => phrase.check(start, end, window),
        }
    }
}

impl Phrase {
    #[inline(never)]
    fn check(&self, mut start: usize, mut end: usize, window: Window<'_>) -> Result<(usize, usize), Not> {
        for word in &self.before {
            start = word.before(start, window).ok_or(Not::Here)?;
        }
        for word in &self.after {
            end = word.after(end, window)?;
        }
        if self.bounded_start && window.touches_before(start) {
            return Err(Not::Here);
        }
        if self.bounded_end {
            window.ends_word(end)?;
        }
        Ok((start, end))
    }
}

impl Word {
    /// Where this word begins, if it stands before `at`.
    fn before(&self, mut at: usize, window: Window<'_>) -> Option<usize> {
        let bytes = window.bytes;
        if !window.has_borders
            && let Some(start) = at.checked_sub(self.bytes.len())
            && bytes[start..at].eq_ignore_ascii_case(&self.bytes)
        {
            return Some(start);
        }
        for _ in 0..self.joint.most() {
            at = self.joint.before(&bytes[..at])?;
            if let Some(start) = at.checked_sub(self.bytes.len())
                && bytes[start..at].eq_ignore_ascii_case(&self.bytes)
            {
                return Some(start);
            }
        }
        None
    }

    /// Where this word ends, if it stands after `at`.
    fn after(&self, mut at: usize, window: Window<'_>) -> Result<usize, Not> {
        if !window.has_borders
            && let Some(next) = window.bytes.get(at..at + self.bytes.len())
            && next.eq_ignore_ascii_case(&self.bytes)
        {
            return Ok(at + self.bytes.len());
        }
        for _ in 0..self.joint.most() {
            at += self.joint.after(window.from(at))?;
            let rest = window.from(at).bytes;
            let there = rest.len().min(self.bytes.len());
            if rest[..there].eq_ignore_ascii_case(&self.bytes[..there]) {
                if there == self.bytes.len() {
                    return Ok(at + there);
                }
                if !window.is_final {
                    return Err(Not::Yet);
                }
            }
        }
        Err(Not::Here)
    }
}

impl Joint {
    fn most(self) -> usize {
        match self {
            Self::Space => MAX_SEPARATORS,
            Self::Apostrophe => 1,
        }
    }

    fn fits(self, letter: char) -> bool {
        match self {
            Self::Space => is_separator(letter),
            Self::Apostrophe => is_apostrophe(letter),
        }
    }

    /// Where the character of this kind at the end of `bytes` begins.
    fn before(self, bytes: &[u8]) -> Option<usize> {
        let (length, letter) = last_char(bytes)?;
        self.fits(letter).then(|| bytes.len() - length)
    }

    /// How long the character of this kind at the beginning of the window is.
    fn after(self, window: Window<'_>) -> Result<usize, Not> {
        match first_char(window.bytes) {
            Some(letter) if self.fits(letter) => Ok(letter.len_utf8()),
            // Nothing there, or a character that the end of a chunk cuts in two.
            None if window.bytes.len() < 4 && !window.is_final => Err(Not::Yet),
            _ => Err(Not::Here),
        }
    }
}

impl<'t> Window<'t> {
    fn from(self, at: usize) -> Self {
        Self { bytes: &self.bytes[at..], ..self }
    }

    #[inline]
    fn touches_before(self, start: usize) -> bool {
        self.has_borders && start > 0 && self.bytes[start - 1].is_ascii_alphanumeric()
    }

    #[inline]
    fn ends_word(self, end: usize) -> Result<(), Not> {
        match self.bytes.get(end) {
            _ if !self.has_borders => Ok(()),
            Some(next) if next.is_ascii_alphanumeric() => Err(Not::Here),
            None if !self.is_final => Err(Not::Yet),
            _ => Ok(()),
        }
    }
}

/// White space and punctuation of any script that the packs are written in. Symbols of ASCII count, and so does
/// everything that is neither letter nor digit below U+00C0.
fn is_separator(letter: char) -> bool {
    match letter {
        '\0'..='\x7f' => !letter.is_ascii_alphanumeric(),
        'ª' | 'µ' | 'º' => false,
        '\u{80}'..='\u{bf}' | '×' | '÷' => true,
        // Arabic comma, semicolon, question mark, full stop; danda; general, CJK and full-width punctuation.
        '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{6d4}' | '\u{964}' | '\u{965}' => true,
        '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{3004}' | '\u{3008}'..='\u{3020}' | '\u{30fb}' => true,
        '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff61}'..='\u{ff65}' => true,
        _ => letter.is_whitespace(),
    }
}

pub(super) fn is_apostrophe(letter: char) -> bool {
    matches!(letter, '\'' | '`' | '´' | 'ʻ' | 'ʼ' | '‘' | '’' | '′' | '＇')
}

fn first_char(bytes: &[u8]) -> Option<char> {
    bytes[..bytes.len().min(4)].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next())
}

fn last_char(bytes: &[u8]) -> Option<(usize, char)> {
    (1..=bytes.len().min(4)).find_map(|length| {
        let letter = str::from_utf8(&bytes[bytes.len() - length..]).ok()?.chars().next()?;
        Some((length, letter))
    })
}
