//! The engine that finds literals and patterns. Two of them, which report the same: one for speed (a word table
//! and Hyperscan, see [`super::words`] for why both), one in Rust with no tricks, which is the fallback where
//! Hyperscan is not built in and the oracle of the other's tests.

#[cfg(feature = "hyperscan")]
mod dialect;
#[cfg(feature = "hyperscan")]
mod fast;
mod plain;

use regex_syntax::hir::Hir;

use super::pattern::Literals;
use super::reference::{Reference, ReferenceScratch, ReferenceStream};
#[cfg(feature = "hyperscan")]
use fast::{Fast, FastScratch, FastStream};
pub(crate) use plain::{is_plain, only};

/// The longest literal, in bytes: the longest atom. A stream keeps as much of its text.
pub(crate) const MAX_LITERAL: usize = 200;

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// A word table and Hyperscan.
    #[cfg(feature = "hyperscan")]
    #[default]
    Hyperscan,
    /// Rust alone, several times slower.
    #[cfg_attr(not(feature = "hyperscan"), default)]
    Reference,
}

/// What an engine found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The literal of this number or, numbered after all literals, a pattern.
    Number(u32),
    /// The literal of one of [`Literals::pairs`] beside what may be the other word, by its place.
    #[cfg_attr(
        not(feature = "hyperscan"),
        expect(dead_code, reason = "the engine in Rust finds literals only")
    )]
    Beside(u32),
}

/// How texts come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Whole.
    #[default]
    Block,
    /// In pieces.
    Stream,
}

/// What an engine looks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    /// Numbered from 0.
    pub(crate) literals: &'w Literals,
    /// Numbered after the literals. The first ones are looked for in every text, the next in texts that are not plain, and the others
    /// where [`Matcher::scan_rest`] is asked to.
    pub(crate) patterns: &'w [Hir],
    /// How many are looked for in every text.
    pub(crate) everywhere: usize,
    /// How many are looked for in texts that are not plain.
    #[cfg_attr(
        not(feature = "hyperscan"),
        expect(dead_code, reason = "the engine in Rust makes no difference")
    )]
    pub(crate) not_plain: usize,
    #[cfg_attr(not(feature = "hyperscan"), expect(dead_code, reason = "the engine in Rust does both alike"))]
    pub(crate) mode: Mode,
}

/// Why there is no matcher.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The pattern at fault, if it is one.
    pub(crate) pattern: Option<usize>,
    pub(crate) message: String,
}

/// Literals and patterns in the form of one engine.
#[derive(Debug)]
pub(crate) enum Matcher {
    #[cfg(feature = "hyperscan")]
    Hyperscan(Box<Fast>),
    Reference(Box<Reference>),
}

/// What one thread needs to search.
#[derive(Debug)]
pub(crate) enum MatcherScratch {
    #[cfg(feature = "hyperscan")]
    Hyperscan(FastScratch),
    Reference(ReferenceScratch),
}

/// How far the search of one text that comes in pieces is.
#[derive(Debug)]
pub(crate) enum MatcherStream {
    #[cfg(feature = "hyperscan")]
    Hyperscan(FastStream),
    Reference(Box<ReferenceStream>),
}

/// The part of a text in pieces that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'t> {
    /// What is kept of the text, the new bytes last.
    pub(crate) text: &'t [u8],
    /// How many bytes of the text came before it.
    #[cfg_attr(
        not(feature = "hyperscan"),
        expect(dead_code, reason = "the engine in Rust counts from the piece")
    )]
    pub(crate) base: u64,
    /// How many of its bytes are new.
    pub(crate) new: usize,
    /// Whether nothing comes after it.
    pub(crate) is_final: bool,
}

impl Engine {
    /// Whether patterns may be left to [`Matcher::scan_rest`].
    pub(crate) fn has_rest(self) -> bool {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan => true,
            Self::Reference => false,
        }
    }

    /// The name under which a saved database of this engine fits: another version, another processor or other
    /// packs have another. `None` if this engine has nothing worth saving.
    pub(crate) fn cache_name(self, wanted: Wanted<'_>) -> Option<String> {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan => Some(fast::cache_name(wanted)),
            Self::Reference => {
                let _ = wanted;
                None
            }
        }
    }
}

impl Matcher {
    /// `saved` is what [`Self::save`] gave, if there is something of that name.
    ///
    /// # Errors
    /// What the engine cannot do.
    pub(crate) fn new(engine: Engine, wanted: Wanted<'_>, saved: Option<&[u8]>) -> Result<Self, Unfit> {
        match engine {
            #[cfg(feature = "hyperscan")]
            Engine::Hyperscan => Ok(Self::Hyperscan(Box::new(Fast::new(wanted, saved)?))),
            Engine::Reference => {
                let _ = saved;
                let made = Reference::new(&wanted.literals.all, &wanted.patterns[..wanted.everywhere]);
                made.map(|engine| Self::Reference(Box::new(engine)))
                    .map_err(|message| Unfit { pattern: None, message })
            }
        }
    }

    /// What may be saved to be built faster next time.
    pub(crate) fn save(&self) -> Option<Vec<u8>> {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(engine) => engine.save(),
            Self::Reference(_) => None,
        }
    }

    /// Whether it was made of what was saved.
    pub(crate) fn is_loaded(&self) -> bool {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(engine) => engine.is_loaded(),
            Self::Reference(_) => false,
        }
    }

    pub(crate) fn scratch(&self) -> MatcherScratch {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(engine) => MatcherScratch::Hyperscan(engine.scratch()),
            Self::Reference(engine) => MatcherScratch::Reference(engine.scratch()),
        }
    }

    /// Whether [`Literals::pairs`] are found as such, and their literals need not be asked for them.
    pub(crate) fn finds_pairs(&self) -> bool {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(_) => true,
            Self::Reference(_) => false,
        }
    }

    /// Reports each literal and each pattern, and where it ends; a pattern at least where it ends first. Nearly in the order of
    /// the ends.
    #[inline]
    pub(crate) fn scan(
        &self,
        text: &[u8],
        scratch: &mut MatcherScratch,
        mut report: impl FnMut(Sign, usize),
    ) {
        match (self, scratch) {
            #[cfg(feature = "hyperscan")]
            (Self::Hyperscan(engine), MatcherScratch::Hyperscan(scratch)) => {
                engine.scan(text, scratch, report)
            }
            (Self::Reference(engine), MatcherScratch::Reference(scratch)) => {
                engine.scan(text, scratch, |number, end| report(Sign::Number(number), end));
            }
            #[cfg(feature = "hyperscan")]
            _ => unreachable!("a scratch is made by the matcher it is used with"),
        }
    }

    /// Reports each pattern that [`Self::scan`] leaves out, where it ends first. `false` if it leaves none out.
    pub(crate) fn scan_rest(
        &self,
        text: &[u8],
        scratch: &mut MatcherScratch,
        report: impl FnMut(u32, usize),
    ) -> bool {
        match (self, scratch) {
            #[cfg(feature = "hyperscan")]
            (Self::Hyperscan(engine), MatcherScratch::Hyperscan(scratch)) => {
                engine.scan_rest(text, scratch, report);
                true
            }
            _ => {
                let _ = (text, report);
                false
            }
        }
    }

    /// Begins a text that comes in pieces. The matcher must have been made for [`Mode::Stream`].
    pub(crate) fn open(&self) -> MatcherStream {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(engine) => MatcherStream::Hyperscan(engine.open()),
            Self::Reference(engine) => MatcherStream::Reference(Box::new(engine.open())),
        }
    }

    /// Reports as [`Self::scan`] does what the new bytes of a piece decide, with ends in `piece.text`.
    pub(crate) fn scan_piece(
        &self,
        piece: Piece<'_>,
        stream: &mut MatcherStream,
        scratch: &mut MatcherScratch,
        report: impl FnMut(u32, usize),
    ) {
        match (self, stream, scratch) {
            #[cfg(feature = "hyperscan")]
            (
                Self::Hyperscan(engine),
                MatcherStream::Hyperscan(stream),
                MatcherScratch::Hyperscan(scratch),
            ) => {
                engine.scan_piece(piece, stream, scratch, report);
            }
            (Self::Reference(engine), MatcherStream::Reference(stream), _) => {
                engine.scan_piece(piece, stream, report);
            }
            #[cfg(feature = "hyperscan")]
            _ => unreachable!("stream and scratch are made by the matcher they are used with"),
        }
    }
}

impl MatcherStream {
    /// Where literals may still be missing, counted in the whole text: from here on.
    pub(crate) fn known_until(&self) -> u64 {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(stream) => stream.known_until(),
            Self::Reference(_) => u64::MAX,
        }
    }

    /// The first byte of `piece.text`, counted in the whole text, that is still needed.
    pub(crate) fn needs_from(&self) -> u64 {
        match self {
            #[cfg(feature = "hyperscan")]
            Self::Hyperscan(stream) => stream.needs_from(),
            Self::Reference(_) => u64::MAX,
        }
    }
}
