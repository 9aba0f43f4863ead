//! The search of a text that comes in pieces: a model's answer. Cutting a text makes no difference to the rules
//! that fire, wherever it is cut; some fire a little later, since a word's end shows with what follows it.
//!
//! A stream keeps a few hundred bytes of its text (a phrase or a word may be cut), the atoms that others can
//! still be near to, and the engine's state.

use super::super::matcher::{MAX_LITERAL, MatcherStream, Piece};
use super::phrase::{Not, Window};
use super::proximity::{Hit, Subject};
use super::workspace::Kept;
use super::{PatternScratch, Patterns};

/// Bytes of the text that may pile up beyond what is needed: moving a few hundred for every token would cost more than
/// finding what is in it.
const SLACK: u64 = 512;

/// How far the search of one text is.
#[derive(Debug)]
pub struct PatternStream {
    number: u64,
    subject: Subject,
    matcher: MatcherStream,
    /// The end of the text so far.
    window: Vec<u8>,
    /// How many bytes came before it.
    base: u64,
    /// Atoms that wait for more of the text: where their literal ends in the whole, and the use of it.
    waiting: Vec<(u64, u32)>,
    kept: Kept,
    fired: Vec<u32>,
}

impl Patterns {
    /// Begins a text that comes in pieces. These patterns must have been built for [`super::Mode::Stream`].
    #[must_use]
    pub fn open(&self, subject: Subject) -> PatternStream {
        PatternStream {
            number: self.number,
            subject,
            matcher: self.matcher.open(),
            window: Vec::with_capacity(self.lexicon.reach() + MAX_LITERAL + 2 * SLACK as usize),
            base: 0,
            waiting: Vec::new(),
            kept: Kept::default(),
            fired: Vec::new(),
        }
    }

    /// Adds the rules that fire with this piece to `hits`, their spans counted in the whole text. `is_final` says
    /// that nothing follows.
    ///
    /// # Panics
    /// If the stream was opened by other patterns.
    ///
    /// # Cost
    /// The engine's pass over the piece, plus looking at a few atoms if the piece completes one.
    pub fn scan_piece(
        &self,
        piece: &[u8],
        is_final: bool,
        stream: &mut PatternStream,
        scratch: &mut PatternScratch,
        hits: &mut Vec<Hit>,
    ) {
        assert!(stream.number == self.number, "a stream goes on with the patterns that opened it");
        if scratch.number != self.number {
            *scratch = self.scratch();
        }
        // Places are counted in 32 bits; no answer comes near that.
        if stream.base + (stream.window.len() + piece.len()) as u64 > u64::from(u32::MAX) {
            return;
        }
        stream.window.extend_from_slice(piece);
        let before = hits.len();
        let PatternStream { matcher, window, base, waiting, kept, fired, subject, .. } = stream;
        let PatternScratch { matcher: engine, workspace, starts, .. } = scratch;
        let shown = Window { bytes: window, is_final, has_borders: true };
        let mut look = |place: u32, end: usize| match self.lexicon.check(place, end, shown) {
            Ok(event) => {
                if self.is_of_packs(event) {
                    kept.push(event.moved(*base));
                }
                None
            }
            Err(Not::Here) => None,
            Err(Not::Yet) => Some((*base + end as u64, place)),
        };
        waiting.retain(|(end, place)| look(*place, (end - *base) as usize).is_some());
        let piece = Piece { text: window, base: *base, new: piece.len(), is_final };
        let literal_count = self.lexicon.literals.all.len();
        self.matcher.scan_piece(piece, matcher, engine, |number, end| {
            match (number as usize).checked_sub(literal_count) {
                None => {
                    self.lexicon.uses(number, end, false, shown, |place| waiting.extend(look(place, end)));
                }
                Some(pattern) => {
                    let rule = self.pattern_rules[pattern];
                    if let (Some(finder), Some(cache)) = (&self.starts, &mut *starts)
                        && self.reads(rule, *subject)
                        && !fired.contains(&rule)
                    {
                        let start = finder.of(pattern, end, window, cache) as u64 + *base;
                        hits.push(Hit { rule, start: start as u32, end: (end as u64 + *base) as u32 });
                        fired.push(rule);
                    }
                }
            }
        });
        // What ends with the text so far may be longer than it, or forbidden by what ends there too.
        let end = *base + window.len() as u64;
        let until = if is_final { u64::MAX } else { matcher.known_until().min(end.saturating_sub(1)) };
        let until = u32::try_from(until).unwrap_or(u32::MAX);
        if kept.is_due(until) {
            workspace.resume(kept, fired);
            let patterns = hits.len();
            self.proximity.settle(workspace, until, *subject, hits);
            self.proximity.forget(workspace);
            workspace.put_aside(kept);
            fired.extend(hits[patterns..].iter().map(|hit| hit.rule));
        }
        hits[before..].sort_unstable();
        stream.trim(self.lexicon.reach());
    }
}

impl PatternStream {
    /// Drops the part of the text that nothing can ask for any more.
    fn trim(&mut self, reach: usize) {
        let end = self.base + self.window.len() as u64;
        let waiting = self.waiting.iter().map(|(end, _)| *end).min().unwrap_or(end);
        let needed = waiting.min(self.matcher.needs_from()).min(end);
        let keep = needed.saturating_sub((reach + MAX_LITERAL) as u64);
        if keep > self.base + SLACK {
            self.window.drain(..(keep - self.base) as usize);
            self.base = keep;
        }
    }
}
