//! The engine that finds literals and patterns: Hyperscan where it is built in, else the one in Rust. Both report
//! the same things; which one runs is a matter of speed.

use regex_syntax::hir::Hir;

use super::reference::{Reference, ReferenceScratch};

/// Which engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Rust alone.
    #[default]
    Reference,
}

/// Literals and patterns in the form of one engine.
#[derive(Debug)]
pub(crate) enum Matcher {
    Reference(Box<Reference>),
}

/// What one thread needs to search.
#[derive(Debug)]
pub(crate) enum MatcherScratch {
    Reference(ReferenceScratch),
}

impl Matcher {
    /// # Errors
    /// What the engine cannot do.
    pub(crate) fn new(engine: Engine, literals: &[Box<[u8]>], patterns: &[Hir]) -> Result<Self, String> {
        match engine {
            Engine::Reference => Ok(Self::Reference(Box::new(Reference::new(literals, patterns)?))),
        }
    }

    pub(crate) fn scratch(&self) -> MatcherScratch {
        match self {
            Self::Reference(engine) => MatcherScratch::Reference(engine.scratch()),
        }
    }

    /// Reports the number of each literal, or of each pattern after them, and where it ends.
    #[inline]
    pub(crate) fn scan(&self, text: &[u8], scratch: &mut MatcherScratch, report: impl FnMut(u32, usize)) {
        match (self, scratch) {
            (Self::Reference(engine), MatcherScratch::Reference(scratch)) => {
                engine.scan(text, scratch, report)
            }
        }
    }
}
