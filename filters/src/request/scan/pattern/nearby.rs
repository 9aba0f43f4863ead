//! Patterns that are looked for only around the atoms of a concept, or where those begin: those of which a rule says so, and those
//! that have anchors ([`super::anchors`]). A pattern that begins with common words costs the engine up to a nanosecond at every
//! byte of ordinary text; looked for where its rarest word stands, it costs nothing elsewhere.
//!
//! Each pattern is followed by an automaton of its own. In a text that is full of such words the engine is asked first which of the
//! patterns are there at all, so that no text costs more than one search for all of them and a few for one.

use std::ops::Range;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;

use super::super::pack::{LinkedRule, Reach, Trigger};
use super::super::reference::{NEVER_FAILS, dfa};
use super::{Event, Languages};

/// Where a pattern is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// At the atoms of this concept.
    pub(super) concept: u16,
    /// Bytes before and after an atom that are searched; `None` where the pattern begins with the atom.
    pub(super) around: Option<(usize, usize)>,
    /// Whether these are anchors: where there is none, there is no match.
    pub(super) is_anchored: bool,
    /// Whether it is looked for here in plain texts only.
    pub(super) is_plain: bool,
}

/// The patterns of this kind, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    patterns: Vec<Near>,
    /// The patterns that are looked for at each concept.
    at: Vec<Vec<u32>>,
    /// The concepts that have any.
    concepts: Vec<u16>,
}

#[derive(Debug)]
struct Near {
    spot: Spot,
    dfa: DFA,
}

/// What one thread needs.
#[derive(Debug, Default)]
pub(super) struct NearbyScratch {
    caches: Vec<Cache>,
    /// Atoms of those concepts in this text.
    places: Vec<Event>,
    /// Patterns that are looked for, and at which of the places.
    searches: Vec<(u32, Range<usize>)>,
}

impl NearbyScratch {
    /// Begins another text: of one whose borders are lost the atoms were noted and nothing was looked for.
    pub(super) fn begin(&mut self) {
        self.places.clear();
    }
}

/// Bytes that are searched beyond the length of the text without asking the engine, which most prompts do not need.
const AT_ONCE: usize = 8 << 10;

/// Bytes that following a pattern from where it begins mostly takes.
const FOLLOWED: usize = 24;

/// At which concept's atoms a rule's pattern is looked for, if it says so.
pub(super) fn near(rule: &LinkedRule) -> Option<Spot> {
    let Trigger::Pattern { near: Some((concept, reach)), text } = &rule.trigger else { return None };
    let widest = match rule.languages {
        Languages::ANY if text.is_ascii() => 1,
        languages => languages.each().map(Languages::bytes_per_letter).max().unwrap_or(1),
    };
    let around = match reach {
        Reach::Around(gap) => Some(((gap * widest) as usize, (gap * widest) as usize)),
        Reach::From => None,
    };
    Some(Spot { concept: *concept, around, is_anchored: false, is_plain: false })
}

impl Nearby {
    /// `patterns` with where they are looked for, at so many concepts in all.
    ///
    /// # Errors
    /// What the engine says it cannot do, which is a limit of size.
    pub(super) fn new<'p>(
        patterns: impl Iterator<Item = (Spot, &'p Hir)>,
        concepts: usize,
    ) -> Result<Self, String> {
        let mut made = Self { at: vec![Vec::new(); concepts], ..Self::default() };
        for (number, (spot, pattern)) in (0..).zip(patterns) {
            let at = &mut made.at[usize::from(spot.concept)];
            if at.is_empty() {
                made.concepts.push(spot.concept);
            }
            at.push(number);
            // A search ahead for what a pattern begins with takes longer than the few bytes there are.
            made.patterns.push(Near { spot, dfa: dfa(pattern, None)? });
        }
        Ok(made)
    }

    pub(super) fn scratch(&self) -> NearbyScratch {
        let caches = self.patterns.iter().map(|near| near.dfa.create_cache()).collect();
        NearbyScratch { caches, ..NearbyScratch::default() }
    }

    /// The concepts around whose atoms something is looked for.
    pub(super) fn concepts(&self) -> &[u16] {
        &self.concepts
    }

    /// Takes note of an atom.
    #[inline]
    pub(super) fn note(&self, event: Event, scratch: &mut NearbyScratch) {
        if self.at.get(usize::from(event.concept)).is_some_and(|patterns| !patterns.is_empty()) {
            scratch.places.push(event);
        }
    }

    /// Looks for the patterns that `is_wanted` around the atoms of `text` that were noted. Reports where each ends first, by its
    /// number. `all` asks the engine for every pattern that is anywhere in the text and where it ends first, and is told `false` by an
    /// engine that looks for them in any case.
    pub(super) fn search(
        &self,
        text: &[u8],
        scratch: &mut NearbyScratch,
        is_wanted: impl Fn(usize, Spot) -> bool,
        all: impl FnOnce(&mut dyn FnMut(usize, usize)) -> bool,
        mut report: impl FnMut(usize, usize),
    ) {
        let NearbyScratch { caches, places, searches } = scratch;
        places.sort_unstable_by_key(|place| (place.concept, place.start, place.end));
        searches.clear();
        let (mut from, mut work) = (0, 0);
        for some in places.chunk_by(|one, other| one.concept == other.concept) {
            let here = from..from + some.len();
            from = here.end;
            for number in self.at[usize::from(some[0].concept)].iter().copied() {
                let spot = self.patterns[number as usize].spot;
                if is_wanted(number as usize, spot) {
                    let each = spot.around.map_or(FOLLOWED, |(before, after)| before + after);
                    work += (some.len() * each).min(text.len());
                    searches.push((number, here.clone()));
                }
            }
        }
        if work > text.len() + AT_ONCE {
            self.ask(searches, all, &mut report);
        }
        for (number, here) in searches.drain(..) {
            let (near, cache) = (&self.patterns[number as usize], &mut caches[number as usize]);
            if let Some(end) = near.search(text, &places[here], cache) {
                report(number as usize, end);
            }
        }
    }

    /// Has the engine look for all of them, reports those that have anchors, and leaves of the others those that may be there.
    fn ask(
        &self,
        searches: &mut Vec<(u32, Range<usize>)>,
        all: impl FnOnce(&mut dyn FnMut(usize, usize)) -> bool,
        report: &mut impl FnMut(usize, usize),
    ) {
        let mut there = Vec::new();
        let is_asked = all(&mut |number, end| {
            there.push(number);
            if self.patterns[number].spot.is_anchored
                && searches.iter().any(|(wanted, _)| *wanted as usize == number)
            {
                report(number, end);
            }
        });
        if is_asked {
            searches.retain(|(number, _)| {
                let number = *number as usize;
                !self.patterns[number].spot.is_anchored && there.contains(&number)
            });
        }
    }
}

impl Near {
    /// Where the pattern ends first at these places, which are in the order in which they begin.
    fn search(&self, text: &[u8], places: &[Event], cache: &mut Cache) -> Option<usize> {
        let Some((before, after)) = self.spot.around else {
            return places.iter().find_map(|place| {
                let input =
                    Input::new(text).range(place.start as usize..).anchored(Anchored::Yes).earliest(true);
                let found = self.dfa.try_search_fwd(cache, &input).expect(NEVER_FAILS);
                found.map(|found| found.offset())
            });
        };
        let mut windows = places.iter().map(|place| {
            let from = (place.start as usize).saturating_sub(before);
            from..(place.end as usize + after).min(text.len())
        });
        let mut window = windows.next()?;
        loop {
            let next = windows.next();
            if let Some(next) = next.as_ref().filter(|next| next.start <= window.end) {
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
