//! The engine in Rust alone: where Hyperscan cannot be had, and the oracle that it is held against. Literals by
//! Aho-Corasick, each pattern by a lazily built DFA; both read a byte once, whatever it is.
//!
//! Cost: about 3 ns a byte for the literals, and up to one more for each pattern: one DFA for all of them has so
//! many states that it would be rebuilt all the time.

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous;
use aho_corasick::{Anchored, MatchKind};
use regex_automata::Input;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::prefilter::Prefilter;
use regex_syntax::hir::Hir;

use super::matcher::Piece;

/// Memory of one thread for the DFA states of one pattern, at most. Past it they are dropped and built anew.
const CACHE_BYTES: usize = 2 << 20;

/// Literals and patterns, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Reference {
    literals: contiguous::NFA,
    literal_count: u32,
    patterns: Vec<DFA>,
}

/// How far the search of a text in pieces is.
#[derive(Debug)]
pub(crate) struct ReferenceStream {
    literals: StateID,
    /// States belong to the cache they were made in, so each stream has its own.
    patterns: Vec<(LazyStateID, Cache)>,
}

/// What one thread needs.
#[derive(Debug, Default)]
pub(crate) struct ReferenceScratch {
    caches: Vec<Cache>,
}

impl Reference {
    /// # Errors
    /// What the engine says it cannot do, which is a limit of size.
    pub(crate) fn new(literals: &[Box<[u8]>], patterns: &[Hir]) -> Result<Self, String> {
        let automaton = contiguous::NFA::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(literals)
            .map_err(|error| error.to_string())?;
        let prefilter =
            |pattern| Prefilter::from_hir_prefix(regex_automata::MatchKind::LeftmostFirst, pattern);
        let patterns = patterns.iter().map(|pattern| dfa(pattern, prefilter(pattern), CACHE_BYTES));
        let patterns = patterns.collect::<Result<_, _>>()?;
        let literal_count = u32::try_from(literals.len()).map_err(|error| error.to_string())?;
        Ok(Self { literals: automaton, literal_count, patterns })
    }

    pub(crate) fn scratch(&self) -> ReferenceScratch {
        ReferenceScratch { caches: self.patterns.iter().map(DFA::create_cache).collect() }
    }

    /// Reports every literal, and every pattern (numbered after the literals) once, with where it ends (first).
    pub(crate) fn scan(
        &self,
        text: &[u8],
        scratch: &mut ReferenceScratch,
        mut report: impl FnMut(u32, usize),
    ) {
        let mut state = self.start();
        for (at, byte) in text.iter().enumerate() {
            state = self.step(state, *byte, |literal| report(literal, at + 1));
        }
        let input = Input::new(text).earliest(true);
        for ((number, dfa), cache) in (self.literal_count..).zip(&self.patterns).zip(&mut scratch.caches) {
            let found = dfa.try_search_fwd(cache, &input).expect(NEVER_FAILS);
            if let Some(found) = found {
                report(number, found.offset());
            }
        }
    }
}

pub(super) const NEVER_FAILS: &str =
    "a lazy DFA fails on bytes it was told to quit at, or if it was told to give up";

impl Reference {
    pub(crate) fn open(&self) -> ReferenceStream {
        let begin = |dfa: &DFA| {
            let mut cache = dfa.create_cache();
            let start = dfa.start_state_forward(&mut cache, &Input::new(b"")).expect(NEVER_FAILS);
            (start, cache)
        };
        ReferenceStream { literals: self.start(), patterns: self.patterns.iter().map(begin).collect() }
    }

    pub(crate) fn scan_piece(
        &self,
        piece: Piece<'_>,
        stream: &mut ReferenceStream,
        mut report: impl FnMut(u32, usize),
    ) {
        let from = piece.text.len() - piece.new;
        for (at, byte) in piece.text.iter().enumerate().skip(from) {
            stream.literals = self.step(stream.literals, *byte, |literal| report(literal, at + 1));
        }
        let states = (self.literal_count..).zip(&self.patterns).zip(&mut stream.patterns);
        for ((number, dfa), (state, cache)) in states {
            // A match shows in the state after the byte that follows it.
            for (at, byte) in piece.text.iter().enumerate().skip(from) {
                *state = dfa.next_state(cache, *state, *byte).expect(NEVER_FAILS);
                if state.is_match() {
                    report(number, at);
                }
            }
            if piece.is_final {
                *state = dfa.next_eoi_state(cache, *state).expect(NEVER_FAILS);
                if state.is_match() {
                    report(number, piece.text.len());
                }
            }
        }
    }

    fn start(&self) -> StateID {
        let start = self.literals.start_state(Anchored::No);
        start.expect("the automaton is built for searches that are not anchored")
    }

    #[inline]
    fn step(&self, state: StateID, byte: u8, mut report: impl FnMut(u32)) -> StateID {
        let automaton = &self.literals;
        let state = automaton.next_state(Anchored::No, state, byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for index in 0..automaton.match_len(state) {
                report(automaton.match_pattern(state, index).as_u32());
            }
        }
        state
    }
}

/// A pattern as it is searched for from its beginning, and how much memory of a thread its states may take.
pub(super) fn dfa(pattern: &Hir, prefilter: Option<Prefilter>, cache_bytes: usize) -> Result<DFA, String> {
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().utf8(false).which_captures(thompson::WhichCaptures::None))
        .build_from_hir(pattern)
        .map_err(|error| error.to_string())?;
    let config = DFA::config()
        .match_kind(regex_automata::MatchKind::All)
        .prefilter(prefilter)
        .cache_capacity(cache_bytes)
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).map_err(|error| error.to_string())
}

/// Finds where a match that ends at a known place begins: as far back as it can, within [`Starts::FARTHEST`].
/// Only asked about rules that fired.
#[derive(Debug)]
pub(crate) struct Starts {
    dfa: DFA,
}

impl Starts {
    /// How many bytes a span of a pattern can have.
    const FARTHEST: usize = 4096;

    /// # Errors
    /// As [`Reference::new`].
    pub(crate) fn new(patterns: &[Hir]) -> Result<Self, String> {
        let config =
            thompson::Config::new().utf8(false).reverse(true).which_captures(thompson::WhichCaptures::None);
        let nfa = thompson::Compiler::new()
            .configure(config)
            .build_many_from_hir(patterns)
            .map_err(|error| error.to_string())?;
        let config = DFA::config()
            .match_kind(regex_automata::MatchKind::All)
            .starts_for_each_pattern(true)
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa).map_err(|error| error.to_string())?;
        Ok(Self { dfa })
    }

    pub(crate) fn cache(&self) -> Cache {
        self.dfa.create_cache()
    }

    /// The beginning of the longest match of a pattern that ends at `end`.
    pub(crate) fn of(&self, pattern: usize, end: usize, text: &[u8], cache: &mut Cache) -> usize {
        let pattern = regex_automata::PatternID::must(pattern);
        let input = Input::new(text)
            .range(end.saturating_sub(Self::FARTHEST)..end)
            .anchored(regex_automata::Anchored::Pattern(pattern));
        match self.dfa.try_search_rev(cache, &input) {
            Ok(Some(found)) => found.offset(),
            _ => end.saturating_sub(1),
        }
    }
}
