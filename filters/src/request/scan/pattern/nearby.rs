//! Patterns that are looked for only around the atoms of a concept, or where those begin. A pattern that begins with common words costs the
//! engine up to a nanosecond at every byte of ordinary text; looked for where its rarest word stands, it costs nothing
//! elsewhere. What is found is the same for every engine: none takes part.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use super::super::pack::{LinkedRule, Reach, Trigger};
use super::super::reference::{NEVER_FAILS, dfa};
use super::{Event, Languages};

/// The patterns of this kind, in the order of their rules.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    patterns: Vec<Near>,
    /// By concept whether one is looked for around its atoms.
    anchors: Vec<bool>,
}

#[derive(Debug)]
struct Near {
    concept: u16,
    /// How many bytes before and after an atom are searched; `None` where the pattern begins with the atom.
    reach: Option<usize>,
    dfa: DFA,
}

/// What one thread needs.
#[derive(Debug, Default)]
pub(super) struct NearbyScratch {
    caches: Vec<Cache>,
    /// Atoms of those concepts in this text.
    places: Vec<Event>,
    /// By concept whether it has any of those.
    is_there: Vec<bool>,
}

/// At which concept's atoms a rule's pattern is looked for, and how far around them, in bytes.
pub(super) fn near(rule: &LinkedRule) -> Option<(u16, Option<usize>)> {
    let Trigger::Pattern { near: Some((concept, reach)), text } = &rule.trigger else { return None };
    let widest = match rule.languages {
        Languages::ANY if text.is_ascii() => 1,
        languages => languages.each().map(Languages::bytes_per_letter).max().unwrap_or(1),
    };
    let around = match reach {
        Reach::Around(gap) => Some((gap * widest) as usize),
        Reach::From => None,
    };
    Some((*concept, around))
}

impl Nearby {
    /// `patterns` with the concepts around which they are looked for, of so many in all.
    ///
    /// # Errors
    /// What the engine says it cannot do, which is a limit of size.
    pub(super) fn new<'p>(
        patterns: impl Iterator<Item = ((u16, Option<usize>), &'p Hir)>,
        concepts: usize,
    ) -> Result<Self, String> {
        let mut made = Self { patterns: Vec::new(), anchors: vec![false; concepts] };
        for ((concept, reach), pattern) in patterns {
            made.anchors[usize::from(concept)] = true;
            made.patterns.push(Near { concept, reach, dfa: dfa(pattern)? });
        }
        Ok(made)
    }

    pub(super) fn scratch(&self) -> NearbyScratch {
        let caches = self.patterns.iter().map(|near| near.dfa.create_cache()).collect();
        NearbyScratch { caches, places: Vec::new(), is_there: vec![false; self.anchors.len()] }
    }

    /// The concepts around whose atoms something is looked for.
    pub(super) fn concepts(&self) -> impl Iterator<Item = u16> {
        self.patterns.iter().map(|near| near.concept)
    }

    /// Takes note of an atom.
    #[inline]
    pub(super) fn note(&self, event: Event, scratch: &mut NearbyScratch) {
        if self.anchors.get(usize::from(event.concept)) == Some(&true) {
            scratch.places.push(event);
            scratch.is_there[usize::from(event.concept)] = true;
        }
    }

    /// Looks for the patterns that `is_wanted` around the atoms of `text` that were noted, and forgets those. Reports where each
    /// ends first, by its number among those of this kind.
    pub(super) fn search(
        &self,
        text: &[u8],
        scratch: &mut NearbyScratch,
        is_wanted: impl Fn(usize) -> bool,
        mut report: impl FnMut(usize, usize),
    ) {
        let NearbyScratch { caches, places, is_there } = scratch;
        if !places.is_empty() {
            for (number, (near, cache)) in self.patterns.iter().zip(caches).enumerate() {
                if is_there[usize::from(near.concept)]
                    && is_wanted(number)
                    && let Some(end) = near.search(text, places, cache)
                {
                    report(number, end);
                }
            }
            places.drain(..).for_each(|place| is_there[usize::from(place.concept)] = false);
        }
    }
}

impl Near {
    fn search(&self, text: &[u8], places: &[Event], cache: &mut Cache) -> Option<usize> {
        let mut places = places.iter().filter(|place| place.concept == self.concept);
        let Some(reach) = self.reach else {
            return places.find_map(|place| {
                let input =
                    Input::new(text).range(place.start as usize..).anchored(Anchored::Yes).earliest(true);
                let found = self.dfa.try_search_fwd(cache, &input).expect(NEVER_FAILS);
                found.map(|found| found.offset())
            });
        };
        let mut windows = places.map(|place| {
            let from = (place.start as usize).saturating_sub(reach);
            from..(place.end as usize + reach).min(text.len())
        });
        let mut window = windows.next()?;
        loop {
            let next = windows.next();
            if let Some(next) = next.as_ref().filter(|next| next.start <= window.end) {
                window.start = window.start.min(next.start);
                window.end = window.end.max(next.end);
                continue;
            }
            let input = Input::new(text).range(window).earliest(true);
            if let Some(found) = self.dfa.try_search_fwd(cache, &input).expect(NEVER_FAILS) {
                return Some(found.offset());
            }
            window = next?;
        }
    }
}
