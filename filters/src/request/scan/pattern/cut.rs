//! Atom as written → the literal to look for and the words around it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::matcher::MAX_LITERAL;
use super::super::pack::{Languages, LinkedAtom};
use super::phrase::{Joint, MAX_SEPARATORS, Phrase, Word, is_apostrophe};

/// An atom, cut at its spaces and apostrophes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    pub(super) concept: u16,
    pub(super) languages: Languages,
    /// Its rarest word, as far as can be told.
    pub(super) literal: Box<[u8]>,
    pub(super) bounded_start: bool,
    pub(super) bounded_end: bool,
    /// The words around that one, if there are any.
    pub(super) phrase: Option<Phrase>,
}

impl Cut {
    /// # Errors
    /// What is wrong with the atom.
    pub(super) fn new<'p>(
        atom: &'p LinkedAtom,
        normalise: impl Fn(&'p str) -> Cow<'p, str>,
        common: &Common,
    ) -> Result<Self, String> {
        let text = atom.text.trim();
        let (open_start, text) = text.strip_prefix('*').map_or((false, text), |rest| (true, rest));
        let (open_end, text) = text.strip_suffix('*').map_or((false, text), |rest| (true, rest));
        let text = normalise(text);
        let mut words = words(&text);
        let rarest = words.iter().enumerate().max_by_key(|(_, word)| common.rarity(&word.bytes));
        let Some((index, _)) = rarest else {
            return Err(format!("nothing is left of the atom {:?} once it is normalised", atom.text));
        };
        if text.len() > MAX_LITERAL {
            return Err(format!("expected an atom of at most {MAX_LITERAL} bytes, found {}", text.len()));
        }
        if text.contains('*') {
            return Err(format!("expected `*` at an end of the atom {:?} only", atom.text));
        }
        let letters = text.chars().filter(|letter| letter.is_alphanumeric()).count();
        if letters < 2 && text.len() < 3 {
            return Err(format!("the atom {:?} is too short: it would be found everywhere", atom.text));
        }
        let starts_word = |word: &Word| word.bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        let ends_word = |word: &Word| word.bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        let bounded_start = !open_start && words.first().is_some_and(starts_word);
        let bounded_end = !open_end && words.last().is_some_and(ends_word);
        if words.len() == 1 {
            let literal = words.remove(0).bytes;
            let (concept, languages) = (atom.concept, atom.languages);
            return Ok(Self { concept, languages, literal, bounded_start, bounded_end, phrase: None });
        }
        // Each word carries the joint before it; the words before the literal need the one after them.
        let mut after = words.split_off(index);
        let anchor = after.remove(0);
        let mut joints = words.iter().map(|word| word.joint).skip(1).collect::<Vec<_>>();
        joints.push(anchor.joint);
        let mut before = words;
        for (word, joint) in before.iter_mut().zip(joints) {
            word.joint = joint;
        }
        before.reverse();
        Ok(Self {
            concept: atom.concept,
            languages: atom.languages,
            bounded_start: if before.is_empty() { bounded_start } else { starts_word(&anchor) },
            bounded_end: if after.is_empty() { bounded_end } else { ends_word(&anchor) },
            literal: anchor.bytes,
            phrase: Some(Phrase { before, after, bounded_start, bounded_end }),
        })
    }
}

/// The most common words of the languages that phrases are written in, the most common first. A phrase is found
/// by its rarest word, and one that half of all sentences have would be found everywhere.
const COMMON: &str = "the and a to of in is that you for it i with as this on be are or not from an at by have can your \
    if will we they what all but do has one how more when which there their about so would other like any no \
    make use should was he my me use new also get than then them its into out up just only now his our who may \
    de la le que les et des en un une du est pour dans qui par pas au sur ne se il sont vous avec ce plus ou tout \
    son votre vos mes si cette nous je tu leur fait etre el y los del las por con para es lo como mas su al pero \
    sus ha o este si todo esta sin sobre tu tus yo der die und das den von zu mit sich ist auf fur nicht ein eine \
    als auch dem an werden aus wie im oder nur wenn du sie ich wir dein deine alle alles mehr so bei nach uber di il \
    e che non per sono da le gli della piu ma i si o anche questo come tutte tutti tua tuo te ti ho hai do da em \
    os nao uma mais das dos ao se na no foi seu sua ele voce isso tudo todas todos ve bir bu icin ile da ne gibi \
    olarak cok daha sen tum";

/// [`COMMON`] by word.
#[derive(Debug)]
pub(super) struct Common {
    ranks: HashMap<&'static [u8], usize>,
}

impl Common {
    pub(super) fn new() -> Self {
        let mut ranks = HashMap::new();
        for (rank, word) in COMMON.split_whitespace().enumerate() {
            // Where a word is common in two languages, its first rank counts.
            ranks.entry(word.as_bytes()).or_insert(rank);
        }
        Self { ranks }
    }

    /// How rare a word is likely to be; larger is rarer.
    fn rarity(&self, word: &[u8]) -> usize {
        // Past the list, the longer the rarer.
        self.ranks.get(word).copied().unwrap_or(10_000 + word.len())
    }
}

impl Cut {
    /// Its length as a reader counts it.
    pub(super) fn length(&self) -> usize {
        let around = self.phrase.iter().flat_map(|phrase| phrase.before.iter().chain(&phrase.after));
        self.literal.len() + around.map(|word| word.bytes.len() + 1).sum::<usize>()
    }

    /// The most bytes that it reaches to either side of its literal, that included, and what bounds it.
    pub(super) fn reach(&self) -> usize {
        // A separator takes three bytes at most, a letter four.
        let side =
            |words: &[Word]| words.iter().map(|word| word.bytes.len() + 3 * MAX_SEPARATORS).sum::<usize>();
        let around = self.phrase.iter().map(|phrase| side(&phrase.before).max(side(&phrase.after)));
        self.literal.len() + around.max().unwrap_or(0) + 4
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for spaced in text.split_whitespace() {
        let mut joint = Joint::Space;
        for piece in spaced.split(is_apostrophe) {
            if !piece.is_empty() {
                words.push(Word { bytes: piece.to_ascii_lowercase().into_bytes().into_boxed_slice(), joint });
            }
            joint = Joint::Apostrophe;
        }
    }
    words
}

/// Atoms that say the same, merged: the same words of the same concept under several languages, and words that
/// begin with another one of the concept whose end is open. Less is looked for, and nothing is reported twice.
pub(super) fn merge(cuts: Vec<Cut>) -> Vec<Cut> {
    let mut merged: Vec<Cut> = Vec::new();
    let mut known: HashMap<Cut, usize> = HashMap::new();
    for cut in cuts {
        let apart_from_language = Cut { languages: Languages::NONE, ..cut.clone() };
        match known.get(&apart_from_language) {
            Some(index) => merged[*index].languages = merged[*index].languages.or(cut.languages),
            None => {
                known.insert(apart_from_language, merged.len());
                merged.push(cut);
            }
        }
    }
    let is_stem = |cut: &&Cut| cut.phrase.is_none() && !cut.bounded_end;
    let mut stems: HashMap<u16, Vec<Cut>> = HashMap::new();
    for stem in merged.iter().filter(is_stem) {
        stems.entry(stem.concept).or_default().push(stem.clone());
    }
    for cut in merged.iter_mut().filter(|cut| cut.phrase.is_none()) {
        for stem in stems.get(&cut.concept).into_iter().flatten() {
            let (length, least) = (cut.literal.len(), stem.literal.len());
            let is_longer = length > least || (cut.bounded_end && length == least);
            let begins_alike = !stem.bounded_start || cut.bounded_start;
            if is_longer && begins_alike && cut.literal.starts_with(&stem.literal) {
                cut.languages = cut.languages.without(stem.languages);
            }
        }
    }
    merged.retain(|cut| !cut.languages.is_empty());
    merged
}
