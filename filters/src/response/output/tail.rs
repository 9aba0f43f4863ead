//! From where on a text may still become something to replace, or to stop for. Every byte may begin a match: each beginning that is
//! still alive is a state of one table over all patterns, so that the text from the first of them on is what must
//! be held back, and not a byte more. A match is replaced from its beginning to its longest end.
//!
//! A scan for matches alone (Hyperscan's) tells an end and not that a match has begun; this tells both, over the same
//! parsed patterns. Beginnings in the same state have the same future, so only the first of them is kept, and
//! there are never more than states.
//!
//! Cost: one lookup for a byte that begins nothing, one more for each beginning that is alive; mostly there is none.

use std::ops::Range;

use regex_automata::Anchored;
use regex_automata::MatchKind;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::Hir;

/// The largest table, and what making it may take. The shipped rules need one of about one megabyte.
const MOST_BYTES: usize = 32 << 20;

/// The patterns that are replaced, as one table.
#[derive(Debug)]
pub(super) struct Redactor {
    dfa: dense::DFA<Vec<u32>>,
    /// The number of the rule that each pattern is.
    rules: Vec<u32>,
    /// By what stands before (see [`Redactor::before`]) and the first byte: the state after that byte.
    first: Vec<StateID>,
    /// By a byte what it is to the one after it.
    kinds: [u8; 256],
    dead: StateID,
    /// By pattern: whether it does not look at what follows, so that an end is sure as soon as it is there.
    is_prompt: Vec<bool>,
}

/// What may stand before a beginning, as examples: nothing, a letter, a line end, anything else.
const BEFORE: [Option<u8>; 5] = [None, Some(b'a'), Some(b'\n'), Some(b' '), Some(b'\r')];

impl Redactor {
    /// `None` if there are none, or the table would be too large. `rules` are the numbers of the `patterns`.
    pub(super) fn new(rules: &[u32], patterns: &[Hir]) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let nfa = thompson::Compiler::new()
            .configure(thompson::Config::new().utf8(false).which_captures(thompson::WhichCaptures::None))
            .build_many_from_hir(patterns)
            .ok()?;
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(MOST_BYTES))
            .determinize_size_limit(Some(MOST_BYTES));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let mut first = Vec::with_capacity(BEFORE.len() * 256);
        for before in BEFORE {
            let config = start::Config::new().anchored(Anchored::Yes).look_behind(before);
            let begin = dfa.start_state(&config).ok()?;
            first.extend((0..=u8::MAX).map(|byte| dfa.next_state(begin, byte)));
        }
        let dead = first.iter().copied().find(|state| dfa.is_dead_state(*state))?;
        let mut kinds = [3; 256];
        for byte in 0..=u8::MAX {
            kinds[usize::from(byte)] = match byte {
                b'\n' => 2,
                b'\r' => 4,
                b'_' => 1,
                byte if byte.is_ascii_alphanumeric() => 1,
                _ => 3,
            };
        }
        let is_prompt =
            patterns.iter().map(|hir| hir.properties().look_set_suffix_any().is_empty()).collect();
        Some(Self { dfa, rules: rules.to_vec(), first, kinds, dead, is_prompt })
    }

    /// Bytes of its table.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.dfa.memory_usage()
    }

    /// Whether it replaces what this rule finds.
    pub(super) fn has(&self, rule: u32) -> bool {
        self.rules.contains(&rule)
    }
}

impl Redactor {
    /// Notes the rules that match in a state, of the patterns that are sure and the rules that count; whether there
    /// is one.
    fn note(
        &self,
        found: &mut Vec<u32>,
        state: StateID,
        is_sure: impl Fn(usize) -> bool,
        counts: &impl Fn(u32) -> bool,
    ) -> bool {
        let mut is_one = false;
        for index in 0..self.dfa.match_len(state) {
            let pattern = self.dfa.match_pattern(state, index).as_usize();
            let rule = self.rules[pattern];
            if is_sure(pattern) && counts(rule) {
                is_one = true;
                if !found.contains(&rule) {
                    found.push(rule);
                }
            }
        }
        is_one
    }
}

/// A match that may have begun.
#[derive(Debug, Clone, Copy)]
struct Begun {
    start: u64,
    state: StateID,
    /// Where it ended, if it was one already; it may be longer.
    end: Option<u64>,
}

/// How far one text is.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// In the order of their starts.
    begun: Vec<Begun>,
    /// What the last byte is to the next.
    before: u8,
    at: u64,
    /// The rules that have found something.
    found: Vec<u32>,
}

impl Tail {
    /// The rules that have found something so far, in the order in which they did.
    pub(super) fn found(&self) -> &[u32] {
        &self.found
    }

    /// Goes on with more of the text and adds what is to be replaced to `ranges`. `counts` says which rules do.
    pub(super) fn feed(
        &mut self,
        redactor: &Redactor,
        text: &[u8],
        counts: impl Fn(u32) -> bool,
        ranges: &mut Vec<Range<u64>>,
    ) {
        for byte in text {
            if !self.begun.is_empty() {
                self.step(redactor, *byte, &counts, ranges);
            }
            let state = redactor.first[usize::from(self.before) * 256 + usize::from(*byte)];
            if state != redactor.dead && self.begun.iter().all(|other| other.state != state) {
                self.begun.push(Begun { start: self.at, state, end: None });
            }
            self.before = redactor.kinds[usize::from(*byte)];
            self.at += 1;
        }
        if !self.begun.is_empty() {
            self.end_here(redactor, false, &counts, ranges);
        }
    }

    /// The text has ended, or nothing goes on with it: what is undecided is nothing.
    pub(super) fn finish(
        &mut self,
        redactor: &Redactor,
        counts: impl Fn(u32) -> bool,
        ranges: &mut Vec<Range<u64>>,
    ) {
        self.end_here(redactor, true, &counts, ranges);
        self.begun.clear();
    }

    /// The first byte of the text that may still become a part of something to replace.
    pub(super) fn undecided_from(&self) -> u64 {
        self.begun.iter().map(|begun| begun.end.unwrap_or(begun.start)).min().unwrap_or(u64::MAX)
    }

    fn step(
        &mut self,
        redactor: &Redactor,
        byte: u8,
        counts: &impl Fn(u32) -> bool,
        ranges: &mut Vec<Range<u64>>,
    ) {
        let mut kept = 0;
        for number in 0..self.begun.len() {
            let mut begun = self.begun[number];
            begun.state = redactor.dfa.next_state(begun.state, byte);
            // The table knows of a match one byte after its end.
            if redactor.dfa.is_match_state(begun.state)
                && redactor.note(&mut self.found, begun.state, |_| true, counts)
            {
                begun.end = Some(self.at);
                join(ranges, begun.start..self.at);
            }
            let is_alive = begun.state != redactor.dead && !redactor.dfa.is_dead_state(begun.state);
            if is_alive && self.begun[..kept].iter().all(|other| other.state != begun.state) {
                self.begun[kept] = begun;
                kept += 1;
            }
        }
        self.begun.truncate(kept);
    }

    /// Notes the matches that end where the text does so far: where it `is_final` all of them, else those that do not
    /// depend on what follows.
    fn end_here(
        &mut self,
        redactor: &Redactor,
        is_final: bool,
        counts: &impl Fn(u32) -> bool,
        ranges: &mut Vec<Range<u64>>,
    ) {
        for begun in &mut self.begun {
            let state = redactor.dfa.next_eoi_state(begun.state);
            if redactor.dfa.is_match_state(state)
                && redactor.note(
                    &mut self.found,
                    state,
                    |pattern| is_final || redactor.is_prompt[pattern],
                    counts,
                )
            {
                begun.end = Some(self.at);
                join(ranges, begun.start..self.at);
            }
        }
    }
}

/// Adds a range to others, which stay apart and in order.
pub(super) fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut at = ranges.len();
    while at > 0 && ranges[at - 1].end >= range.start {
        at -= 1;
    }
    let mut until = at;
    while until < ranges.len() && ranges[until].start <= range.end {
        range.start = range.start.min(ranges[until].start);
        range.end = range.end.max(ranges[until].end);
        until += 1;
    }
    ranges.splice(at..until, [range]);
}
