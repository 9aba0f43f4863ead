//! The atoms of a text, in order, and by concept. Memory is kept from text to text and nothing is cleared: what is
//! left over from another is told by its number.

use super::super::pack::Languages;

/// Atoms kept before they are judged. More than any prompt has; longer texts are judged piece by piece.
const MAX_EVENTS: usize = 1 << 14;

/// Literals kept before it is asked which of them can matter; of a longer text all do.
const MAX_POSSIBLE: usize = 1 << 16;

/// Atoms that end this near to an end of a text that is read together with others are told whether they matter or not; half as
/// near where a letter is one byte.
pub const EDGE: u32 = 240;

/// The bits of an `unless` and of an `except` concept in [`Workspace::colours`]; those below are the concepts of the rule.
pub(super) const FORBIDS: u8 = 1 << 7;
pub(super) const EXCEPTS: u8 = 1 << 6;

/// An atom that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) concept: u16,
    pub(crate) languages: Languages,
}

impl Event {
    /// The same, counted from that many bytes earlier.
    pub(crate) fn moved(self, by: u64) -> Self {
        Self { start: self.start + by as u32, end: self.end + by as u32, ..self }
    }
}

/// Adds an atom in the order of their ends. A phrase is found before what its last words are, so a few have to
/// be moved, past no more than the atoms inside a phrase.
#[inline]
fn insert(events: &mut Vec<Event>, event: Event) {
    let key = |event: &Event| (event.end, event.start, event.concept);
    let mut at = events.len();
    while at > 0 && key(&events[at - 1]) > key(&event) {
        at -= 1;
    }
    events.insert(at, event);
}

/// A use of a literal that was found; whether it is there in full has not been looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Possible {
    pub(super) place: u32,
    pub(super) end: u32,
}

/// The atoms of one text, and what judging them needs. Kept between texts, so that nothing is allocated; a
/// number that counts texts marks what is left over from another.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(super) events: Vec<Event>,
    /// What may be an atom, in the order in which it was found.
    pub(super) possible: Vec<Possible>,
    /// By concept the text in which it may be, and in which languages.
    maybe: Vec<(u32, Languages)>,
    /// Concepts that may be in this text.
    pub(super) candidates: Vec<u16>,
    /// By concept the text in which a rule may need it.
    needed: Vec<u32>,
    /// For each event that is being judged the next one of its concept.
    pub(super) next: Vec<u32>,
    seen: Vec<Seen>,
    /// Which concepts have been seen.
    pub(super) touched: Vec<u16>,
    /// All atoms that end here or later are still there.
    pub(super) kept_from: u32,
    /// The number of the text, and of each judgement of a part of it.
    pub(super) text: u32,
    judgement: u32,
    /// By rule, the text in which it fired last.
    fired: Vec<u32>,
    /// By concept, what it is to the rule that is being judged.
    pub(super) colours: Vec<u8>,
}

/// The atoms of a text that comes in pieces, between two of them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    events: Vec<Event>,
    from: u32,
    judged_until: u32,
}

impl Kept {
    /// Notes an atom.
    pub(crate) fn push(&mut self, event: Event) {
        insert(&mut self.events, event);
    }

    /// Whether there is something to judge now that all is known up to here.
    pub(crate) fn is_due(&mut self, until: u32) -> bool {
        let new = |event: &&Event| event.end > self.judged_until;
        let is_due = self.events.iter().rev().take_while(new).any(|event| event.end <= until);
        self.judged_until = self.judged_until.max(until);
        is_due
    }
}

pub(super) const NONE: u32 = u32::MAX;

/// A concept in a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    judgement: u32,
    pub(super) count: u32,
    pub(super) first: u32,
    last: u32,
    /// Languages that any of its atoms belongs to, and that all of them do.
    pub(super) in_any: Languages,
    pub(super) in_all: Languages,
}

impl Workspace {
    /// For this many concepts and rules in all.
    pub(crate) fn new(concepts: usize, rules: usize) -> Self {
        Self {
            seen: vec![Seen::default(); concepts],
            maybe: vec![(0, Languages::NONE); concepts],
            needed: vec![0; concepts],
            fired: vec![0; rules],
            colours: vec![0; concepts],
            ..Self::default()
        }
    }

    /// Begins another text.
    pub(crate) fn begin(&mut self) {
        self.events.clear();
        self.possible.clear();
        self.candidates.clear();
        self.kept_from = 0;
        self.text = self.text.wrapping_add(1);
        if self.text == 0 {
            self.fired.fill(0);
            self.maybe.fill((0, Languages::NONE));
            self.needed.fill(0);
            self.text = 1;
        }
    }

    /// Goes on with a text that was put aside: its atoms and the rules that have fired in it. The atoms are
    /// taken; [`Self::put_aside`] gives them back.
    pub(crate) fn resume(&mut self, kept: &mut Kept, fired: &[u32]) {
        self.begin();
        std::mem::swap(&mut self.events, &mut kept.events);
        self.kept_from = kept.from;
        fired.iter().for_each(|rule| self.set_fired(*rule));
    }

    /// Ends what [`Self::resume`] began.
    pub(crate) fn put_aside(&mut self, kept: &mut Kept) {
        std::mem::swap(&mut self.events, &mut kept.events);
        kept.from = self.kept_from;
    }

    /// Whether a rule has fired in this text.
    pub(crate) fn has_fired(&self, rule: u32) -> bool {
        self.fired[rule as usize] == self.text
    }

    /// Notes that it has.
    pub(crate) fn set_fired(&mut self, rule: u32) {
        self.fired[rule as usize] = self.text;
    }

    /// Notes what may be an atom. `true` if there is no more room.
    #[inline]
    pub(crate) fn note(&mut self, place: u32, end: usize, (concept, languages): (u16, Languages)) -> bool {
        self.possible.push(Possible { place, end: end as u32 });
        let maybe = &mut self.maybe[usize::from(concept)];
        if maybe.0 != self.text {
            *maybe = (self.text, Languages::NONE);
            self.candidates.push(concept);
        }
        maybe.1 = maybe.1.or(languages);
        self.possible.len() >= MAX_POSSIBLE
    }

    /// The languages in which a concept may be in this text.
    #[inline]
    pub(super) fn maybe(&self, concept: u16) -> Languages {
        let (text, languages) = self.maybe[usize::from(concept)];
        if text == self.text { languages } else { Languages::NONE }
    }

    /// Says that a rule may need a concept.
    pub(super) fn need(&mut self, concept: u16) {
        self.needed[usize::from(concept)] = self.text;
    }

    /// Whether a rule may.
    #[inline]
    pub(super) fn needs(&self, concept: u16) -> bool {
        self.needed[usize::from(concept)] == self.text
    }

    /// Notes an atom. `true` if it is time to judge and then to [`Self::forget`].
    #[inline]
    pub(crate) fn push(&mut self, event: Event) -> bool {
        insert(&mut self.events, event);
        self.events.len() >= MAX_EVENTS
    }

    /// The atoms since the last [`Self::forget`].
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Keeps only what ends at most `reach` before the last, which is what atoms to come can be near to, and never more than half of what there is
    /// room for.
    pub(crate) fn forget(&mut self, reach: u32) {
        let Some(last) = self.events.last() else { return };
        let oldest = last.end.saturating_sub(reach);
        let near = self.events.partition_point(|event| event.end < oldest);
        let near = near.max(self.events.len().saturating_sub(MAX_EVENTS / 2));
        if near > 0 {
            self.kept_from = self.events[near - 1].end + 1;
            self.events.drain(..near);
        }
    }

    /// Finds the events of each concept, up to a place in the text.
    pub(super) fn index(&mut self, until: u32) {
        self.judgement = self.judgement.wrapping_add(1);
        if self.judgement == 0 {
            self.seen.fill(Seen::default());
            self.judgement = 1;
        }
        self.touched.clear();
        self.next.clear();
        for (at, event) in (0..).zip(self.events.iter().take_while(|event| event.end <= until)) {
            let seen = &mut self.seen[usize::from(event.concept)];
            if seen.judgement == self.judgement {
                self.next[seen.last as usize] = at;
                seen.count += 1;
                seen.last = at;
                seen.in_any = seen.in_any.or(event.languages);
                seen.in_all = seen.in_all.and(event.languages);
            } else {
                let (judgement, languages) = (self.judgement, event.languages);
                *seen =
                    Seen { judgement, count: 1, first: at, last: at, in_any: languages, in_all: languages };
                self.touched.push(event.concept);
            }
            self.next.push(NONE);
        }
    }

    pub(super) fn seen(&self, concept: u16) -> Option<&Seen> {
        Some(&self.seen[usize::from(concept)]).filter(|seen| seen.judgement == self.judgement)
    }

    /// Marks the concepts of a rule, or unmarks them.
    pub(super) fn paint(&mut self, concepts: &[u16], unless: &[u16], except: &[u16], on: bool) {
        for (bit, concept) in concepts.iter().enumerate() {
            let colour = &mut self.colours[usize::from(*concept)];
            *colour = if on { *colour | 1 << bit } else { 0 };
        }
        for (of_kind, bit) in [(unless, FORBIDS), (except, EXCEPTS)] {
            for concept in of_kind {
                self.colours[usize::from(*concept)] = if on { bit } else { 0 };
            }
        }
    }
}
