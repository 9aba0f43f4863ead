//! The engine for speed. Literals that begin words are looked up in a table; the others, which are those of
//! scripts without word boundaries, and all patterns are Hyperscan's. For whole texts there are two databases:
//! patterns and ASCII, and the rest, which a text in ASCII is never scanned for.

use std::sync::Arc;

use ring::digest;

use super::super::hyperscan::{Database, Error, Expression, Found, Scratch, Stream, platform};
use super::super::words::{Unfinished, Words};
use super::dialect::for_hyperscan;
use super::{Mode, Piece, Unfit, Wanted};

/// Literals and patterns, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Fast {
    words: Words,
    /// For every text.
    patterns: Option<Arc<Database>>,
    /// For texts that are not ASCII; never there in stream mode, where all is in the first.
    scripts: Option<Arc<Database>>,
    name: [u8; digest::SHA256_OUTPUT_LEN],
}

/// What one thread needs.
#[derive(Debug)]
pub(crate) struct FastScratch {
    hyperscan: Option<Scratch>,
    found: Vec<Found>,
}

/// How far the search of a text in pieces is.
#[derive(Debug)]
pub(crate) struct FastStream {
    hyperscan: Option<Stream>,
    /// Where the next word to look up begins, in the whole text.
    next_word: u64,
    /// Literals that the end of the last piece cut in two, their starts in the whole text.
    unfinished: Vec<(u64, u32)>,
}

/// Matches kept for the next text. A text with more of them gives the memory back.
const KEPT: usize = 1 << 16;

/// The first bytes of what is saved; the number changes with the layout.
const MAGIC: &[u8; 8] = b"tollgsc1";

pub(super) fn cache_name(wanted: Wanted<'_>) -> String {
    name(&recipe(wanted), wanted.mode).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The expressions of each database.
fn recipe(wanted: Wanted<'_>) -> [Vec<Expression>; 2] {
    let mut recipe = [Vec::new(), Vec::new()];
    let literals = (0..).zip(&wanted.literals.all).skip(wanted.literals.words);
    for (number, literal) in literals {
        let text = literal.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let is_other = wanted.mode == Mode::Block && !literal.is_ascii();
        recipe[usize::from(is_other)].push(Expression { text, number, caseless: true, once: false });
    }
    let patterns = (wanted.literals.all.len() as u32..).zip(wanted.patterns);
    for (number, pattern) in patterns {
        let text = for_hyperscan(pattern);
        recipe[0].push(Expression { text, number, caseless: false, once: true });
    }
    recipe
}

fn name(recipe: &[Vec<Expression>; 2], mode: Mode) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(MAGIC);
    context.update(platform().as_bytes());
    context.update(&[0, u8::from(mode == Mode::Stream)]);
    for expressions in recipe {
        for expression in expressions {
            context.update(&expression.number.to_le_bytes());
            context.update(&[u8::from(expression.caseless), u8::from(expression.once)]);
            context.update(expression.text.as_bytes());
            context.update(&[0]);
        }
        context.update(&[1]);
    }
    let mut name = [0; digest::SHA256_OUTPUT_LEN];
    name.copy_from_slice(context.finish().as_ref());
    name
}

impl Fast {
    pub(super) fn new(wanted: Wanted<'_>, saved: Option<&[u8]>) -> Result<Self, Unfit> {
        let literals = wanted.literals;
        let words = Words::new(&literals.all[..literals.words], &literals.open)
            .map_err(|message| Unfit { pattern: None, message })?;
        let recipe = recipe(wanted);
        let name = name(&recipe, wanted.mode);
        let databases = match saved.and_then(|saved| load(saved, &name)) {
            Some(databases) => databases,
            None => {
                let compile = |expressions: &[Expression]| {
                    if expressions.is_empty() {
                        return Ok(None);
                    }
                    let made = Database::compile(expressions, wanted.mode);
                    made.map(Some).map_err(|error| unfit(error, expressions, literals.all.len()))
                };
                [compile(&recipe[0])?, compile(&recipe[1])?]
            }
        };
        let [patterns, scripts] = databases.map(|database| database.map(Arc::new));
        Ok(Self { words, patterns, scripts, name })
    }

    fn databases(&self) -> impl Iterator<Item = &Database> {
        self.patterns.iter().chain(&self.scripts).map(|database| &**database)
    }

    pub(super) fn save(&self) -> Option<Vec<u8>> {
        let mut saved = MAGIC.to_vec();
        saved.extend(self.name);
        for database in [&self.patterns, &self.scripts] {
            let bytes = match database {
                Some(database) => database.save().ok()?,
                None => Vec::new(),
            };
            saved.extend((bytes.len() as u64).to_le_bytes());
            saved.extend(digest::digest(&digest::SHA256, &bytes).as_ref());
            saved.extend(bytes);
        }
        Some(saved)
    }

    pub(super) fn scratch(&self) -> FastScratch {
        let is_needed = self.databases().next().is_some();
        let hyperscan = is_needed.then(|| Scratch::new(self.databases()));
        FastScratch { hyperscan, found: Vec::new() }
    }

    #[inline]
    pub(super) fn scan(&self, text: &[u8], scratch: &mut FastScratch, mut report: impl FnMut(u32, usize)) {
        let FastScratch { hyperscan, found } = scratch;
        found.clear();
        if let Some(hyperscan) = hyperscan {
            if let Some(database) = &self.patterns {
                database.scan(text, hyperscan, found);
            }
            if let Some(database) = &self.scripts
                && !text.is_ascii()
            {
                database.scan(text, hyperscan, found);
            }
        }
        if !found.is_sorted_by_key(|found| found.end) {
            found.sort_unstable_by_key(|found| (found.end, found.number));
        }
        // Both in the order of their ends, as far as words have one.
        let mut others = found.iter().peekable();
        self.words.scan(text, |number, end| {
            while let Some(other) = others.next_if(|other| other.end as usize <= end) {
                report(other.number, other.end as usize);
            }
            report(number, end);
        });
        others.for_each(|other| report(other.number, other.end as usize));
        if found.len() > KEPT {
            *found = Vec::new();
        }
    }

    pub(super) fn open(&self) -> FastStream {
        debug_assert!(self.scripts.is_none(), "made for streams");
        let hyperscan = self.patterns.as_ref().map(Stream::open);
        FastStream { hyperscan, next_word: 0, unfinished: Vec::new() }
    }

    pub(super) fn scan_piece(
        &self,
        piece: Piece<'_>,
        stream: &mut FastStream,
        scratch: &mut FastScratch,
        mut report: impl FnMut(u32, usize),
    ) {
        let Piece { text, base, new, is_final } = piece;
        scratch.found.clear();
        if let (Some(hyperscan), Some(scan)) = (&mut scratch.hyperscan, &mut stream.hyperscan) {
            scan.scan(&text[text.len() - new..], base, hyperscan, &mut scratch.found);
        }
        if is_final && let (Some(hyperscan), Some(scan)) = (&mut scratch.hyperscan, stream.hyperscan.take()) {
            scan.close(base, hyperscan, &mut scratch.found);
        }
        for found in &scratch.found {
            report(found.number, found.end as usize);
        }
        stream.unfinished.retain(|(start, literal)| {
            let cut = Unfinished { start: (start - base) as usize, literal: *literal };
            let told = self.words.finish(cut, text, is_final);
            if let Some(Some(end)) = told {
                report(*literal, end);
            }
            told.is_none()
        });
        let mut unfinished = Vec::new();
        let from = (stream.next_word - base) as usize;
        let done = self.words.scan_piece(text, from, is_final, &mut unfinished, report);
        stream.next_word = base + done as u64;
        stream.unfinished.extend(unfinished.iter().map(|cut| (base + cut.start as u64, cut.literal)));
    }
}

impl FastStream {
    /// Words are looked up when they are whole.
    pub(super) fn known_until(&self) -> u64 {
        self.next_word
    }

    /// The word that is not looked up yet, with the byte that tells it begins one, and those that are cut.
    pub(super) fn needs_from(&self) -> u64 {
        let cut = self.unfinished.iter().map(|(start, _)| *start).min().unwrap_or(u64::MAX);
        cut.min(self.next_word.saturating_sub(1))
    }
}

fn unfit(error: Error, expressions: &[Expression], literals: usize) -> Unfit {
    let pattern = match &error {
        Error::Compile { expression: Some(index), .. } => {
            expressions.get(*index).and_then(|found| (found.number as usize).checked_sub(literals))
        }
        _ => None,
    };
    Unfit { pattern, message: error.to_string() }
}

/// The databases of what [`Fast::save`] gave, if they are of that name and whole.
fn load(saved: &[u8], name: &[u8]) -> Option<[Option<Database>; 2]> {
    let mut rest = saved.strip_prefix(MAGIC)?.strip_prefix(name)?;
    let mut databases = [None, None];
    for database in &mut databases {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let (sum, after) = after.split_at_checked(digest::SHA256_OUTPUT_LEN)?;
        let (bytes, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        if digest::digest(&digest::SHA256, bytes).as_ref() != sum {
            return None;
        }
        if !bytes.is_empty() {
            *database = Some(Database::load(bytes)?);
        }
        rest = after;
    }
    rest.is_empty().then_some(databases)
}
