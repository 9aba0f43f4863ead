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
use std::collections::BTreeMap;
use std::ops::Range;

use super::super::pack::{Languages, PackFault, Packs};
use super::cut::{self, Common, Cut};
use super::phrase::{MAX_SEPARATORS, Neighbour, Not, Phrase, Window, Word};
use super::workspace::Event;

/// All atoms of all concepts.
#[derive(Debug, Default)]
pub(crate) struct Lexicon {
    /// What the engine looks for.
    pub(crate) literals: Literals,
    /// For each literal which of `uses` are its own.
    groups: Vec<Group>,
    uses: Vec<Use>,
    /// For each of `uses` the key of the word beside it, where it is found by that.
    keys: Vec<u32>,
    /// One bit for each hash of a literal and the key of a word beside it: whether a phrase may have both.
    pairs: Vec<u64>,
    phrases: Vec<Phrase>,
}

/// Plain text to look for, in lower case. The index of a literal is its number.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    /// First those that begin words, then the others. One that does both is there twice.
    pub(crate) all: Vec<Box<[u8]>>,
    /// How many begin words: with an ASCII letter or digit that none stands before.
    pub(crate) words: usize,
    /// For each that begins words whether it may end within one.
    pub(crate) open: Vec<bool>,
}

/// Where the uses of a literal begin. Each kind ends where the next begins. A common word is part of hundreds of
/// phrases, so those are found by the word beside it, and only the few that begin alike are compared.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Words, and phrases whose next word has no key.
    plain: u32,
    /// Phrases by the key of the word after the literal, in its order.
    by_next: u32,
    /// Phrases by the key of the word before it.
    by_last: u32,
    end: u32,
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

impl Lexicon {
    /// Cuts the atoms of all packs into literals and phrases. `normalise` is what texts go through.
    pub(crate) fn new<'p>(
        packs: &'p Packs,
        normalise: impl Fn(&'p str) -> Cow<'p, str>,
    ) -> Result<Self, Vec<PackFault>> {
        let mut faults = Vec::new();
        let mut parsed = Vec::new();
        let common = Common::new();
        for atom in &packs.atoms {
            match Cut::new(atom, &normalise, &common) {
                Ok(cut) => parsed.push(cut),
                Err(message) => faults.push(atom.fault(message)),
            }
        }
        if faults.is_empty() { Ok(Self::build(cut::merge(parsed))) } else { Err(faults) }
    }

    fn build(cuts: Vec<Cut>) -> Self {
        let mut lexicon = Self { pairs: vec![0; (1 << PAIR_BITS) / 64], ..Self::default() };
        // Sorted, so that the same packs always make the same tables; words come first.
        let mut by_literal: BTreeMap<(bool, Box<[u8]>), Vec<Use>> = BTreeMap::new();
        for cut in cuts {
            let phrase = cut.phrase.map_or(ALONE, |phrase| {
                lexicon.phrases.push(phrase);
                u32::try_from(lexicon.phrases.len() - 1).unwrap_or(ALONE)
            });
            by_literal.entry((!cut.bounded_start, cut.literal.clone())).or_default().push(Use {
                concept: cut.concept,
                languages: cut.languages,
                length: u16::try_from(cut.literal.len()).unwrap_or(u16::MAX),
                bounded_start: cut.bounded_start,
                bounded_end: cut.bounded_end,
                phrase,
            });
        }
        for ((inside, literal), uses) in by_literal {
            if !inside {
                lexicon.literals.words += 1;
                lexicon.literals.open.push(uses.iter().any(|found| !found.bounded_end));
            }
            lexicon.literals.all.push(literal);
            lexicon.add_group(uses);
        }
        lexicon
    }

    fn add_group(&mut self, uses: Vec<Use>) {
        let mut kinds = [Vec::new(), Vec::new(), Vec::new()];
        for found in uses {
            let (kind, key) = match self.phrases.get(found.phrase as usize).and_then(Phrase::neighbour) {
                None => (0, 0),
                Some(Neighbour::Next(key)) => (1, key),
                Some(Neighbour::Last(key)) => (2, key),
            };
            kinds[kind].push((key, found));
        }
        let mut starts = [0; 4];
        for (kind, mut uses) in kinds.into_iter().enumerate() {
            starts[kind] = self.uses.len();
            uses.sort_by_key(|(key, _)| *key);
            for (key, found) in uses {
                let pair = pair(self.groups.len() as u32, key);
                self.pairs[pair / 64] |= 1 << (pair % 64);
                self.keys.push(key);
                self.uses.push(found);
            }
        }
        starts[3] = self.uses.len();
        let [plain, by_next, by_last, end] = starts.map(|start| u32::try_from(start).unwrap_or(u32::MAX));
        self.groups.push(Group { plain, by_next, by_last, end });
    }

    /// Asks `look` about each use that a literal found in `..end` may have: numbers for [`Self::check`].
    #[inline]
    pub(crate) fn uses(&self, literal: u32, end: usize, window: Window<'_>, mut look: impl FnMut(u32)) {
        let group = self.groups[literal as usize];
        if !window.has_borders {
            // The word beside it cannot be told: every use is asked.
            (group.plain..group.end).for_each(look);
            return;
        }
        (group.plain..group.by_next).for_each(&mut look);
        if group.by_next < group.by_last {
            let all = group.by_next..group.by_last;
            match window.next_key(end) {
                Some(key) => self.of_key(literal, all, key).for_each(&mut look),
                // Too little of the text is there: each will say that itself.
                None => all.for_each(&mut look),
            }
        }
        if group.by_last < group.end {
            let start = end - self.literals.all[literal as usize].len();
            self.of_key(literal, group.by_last..group.end, window.last_key(start)).for_each(&mut look);
        }
    }

    #[inline]
    fn of_key(&self, literal: u32, range: Range<u32>, key: u32) -> Range<u32> {
        let pair = pair(literal, key);
        if self.pairs[pair / 64] >> (pair % 64) & 1 == 0 {
            return 0..0;
        }
        let keys = &self.keys[range.start as usize..range.end as usize];
        let first = keys.partition_point(|other| *other < key);
        let count = keys[first..].iter().take_while(|other| **other == key).count();
        range.start + first as u32..range.start + (first + count) as u32
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
        let longest = self.literals.all.iter().map(|literal| literal.len()).max().unwrap_or(0);
        let phrases = self.phrases.iter().map(|phrase| side(&phrase.before).max(side(&phrase.after)));
        phrases.max().unwrap_or(0) + longest + 4
    }
}

/// Size of the filter of pairs: 8 KiB, of which some ten thousand phrases fill a sixth.
const PAIR_BITS: u32 = 16;

/// Multiplicative hashing, as in the word table.
#[inline]
fn pair(literal: u32, key: u32) -> usize {
    let both = u64::from(literal) << 32 | u64::from(key);
    (both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PAIR_BITS)) as usize
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
