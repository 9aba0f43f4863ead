//! Layer 2: the rule packs, compiled, and the search of one view of a text for them. An engine finds literals
//! and patterns ([`super::matcher`]); the [`lexicon`] tells which atoms they stand for; [`proximity`] tells which
//! rules those atoms make fire.
//!
//! How a text is compared with an atom is in [`lexicon`], when a rule fires in [`proximity`], what a pattern may
//! say in [`regex`].
//!
//! What always holds: the hits of a text depend on its bytes, its views and its role alone, not on the engine and
//! not on what was scanned before. A rule fires at most once in a text.
//!
//! Cost: nothing is allocated once a [`PatternScratch`] has seen texts of the size.

mod cut;
mod lexicon;
mod pieces;
mod proximity;
mod regex;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use regex_automata::hybrid::dfa::Cache;
use regex_syntax::hir::Hir;

pub use super::matcher::Engine;
use super::matcher::{Matcher, MatcherScratch};
use super::pack::{Languages, LinkedRule, PackFault, Packs, Roles, Trigger, Views};
use super::reference::Starts;
use super::{Category, Severity, View};
use lexicon::{Lexicon, Window};
pub use proximity::{Event, Hit, Subject};
use proximity::{Proximity, Workspace};

/// All rule packs in a form that texts can be searched for.
#[derive(Debug)]
pub struct Patterns {
    /// Tells this set from every other, so that a scratch is never used with the wrong one.
    number: u64,
    rules: Vec<LinkedRule>,
    lexicon: Lexicon,
    proximity: Proximity,
    /// The rules that are patterns, in the order of the engine's numbers.
    pattern_rules: Vec<u32>,
    starts: Option<Starts>,
    matcher: Matcher,
}

/// What one thread keeps between texts.
#[derive(Debug)]
pub struct PatternScratch {
    number: u64,
    matcher: MatcherScratch,
    workspace: Workspace,
    starts: Option<Cache>,
    /// For each pattern where it ended first; `usize::MAX` if it did not.
    pattern_ends: Vec<usize>,
}

/// What a rule says of itself.
#[derive(Debug, Clone, Copy)]
pub struct RuleInfo<'p> {
    /// Its unique name.
    pub id: &'p Arc<str>,
    /// What it speaks of.
    pub category: Category,
    /// How much it says.
    pub severity: Severity,
    /// The languages it is tried in.
    pub languages: Languages,
    /// The views it reads.
    pub views: Views,
    /// Whose texts it reads.
    pub roles: Roles,
    /// Why it exists.
    pub reason: &'p str,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Patterns {
    /// Compiles linked packs. `normalise` is what makes the normalised view of a text; atoms go through it too.
    ///
    /// # Errors
    /// Atoms that come to nothing, and patterns that not every engine can do. Examples are not run; see
    /// [`Self::check_examples`].
    pub fn compile(
        packs: &Packs,
        engine: Engine,
        normalise: impl for<'t> Fn(&'t str) -> Cow<'t, str>,
    ) -> Result<Self, Vec<PackFault>> {
        let mut faults = Vec::new();
        let mut pattern_rules = Vec::new();
        let mut patterns: Vec<Hir> = Vec::new();
        for (number, rule) in (0..).zip(&packs.rules) {
            let Trigger::Pattern(pattern) = &rule.trigger else { continue };
            match regex::parse(pattern) {
                Ok(hir) => {
                    pattern_rules.push(number);
                    patterns.push(hir);
                }
                Err(message) => faults.push(rule.fault(format!("the rule `{}`: {message}", rule.id))),
            }
        }
        let lexicon = match Lexicon::new(packs, normalise) {
            Ok(lexicon) if faults.is_empty() => lexicon,
            Ok(_) => return Err(faults),
            Err(more) => {
                faults.extend(more);
                return Err(faults);
            }
        };
        let whole = |message: String| {
            let (file, path) = (String::new(), String::new());
            vec![PackFault { file, line: 0, path, message: format!("all packs together: {message}") }]
        };
        let matcher = Matcher::new(engine, &lexicon.literals, &patterns).map_err(whole)?;
        let starts = if patterns.is_empty() { None } else { Some(Starts::new(&patterns).map_err(whole)?) };
        let proximity = Proximity::new(&packs.rules, &lexicon.shortest_atoms(packs.concepts.len()));
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, rules: packs.rules.clone(), lexicon, proximity, pattern_rules, starts, matcher })
    }

    /// What one thread needs to search with these patterns.
    #[must_use]
    pub fn scratch(&self) -> PatternScratch {
        PatternScratch {
            number: self.number,
            matcher: self.matcher.scratch(),
            workspace: Workspace::new(&self.proximity),
            starts: self.starts.as_ref().map(Starts::cache),
            pattern_ends: vec![usize::MAX; self.pattern_rules.len()],
        }
    }

    /// Adds the rules that fire in one view of a text to `hits`, in the order of their numbers. A scratch that
    /// belongs to other patterns (after a reload, say) is made anew.
    ///
    /// # Cost
    /// One pass over the text and a little for each atom in it. Nothing is allocated after the first texts.
    pub fn scan(&self, text: &str, subject: Subject, scratch: &mut PatternScratch, hits: &mut Vec<Hit>) {
        if scratch.number != self.number {
            *scratch = self.scratch();
        }
        // Spans are counted in 32 bits. No body of that size is accepted, long before it comes here.
        let text = &text.as_bytes()[..text.len().min(u32::MAX as usize)];
        let window = Window { bytes: text, is_final: true, has_borders: subject.has_borders };
        let before = hits.len();
        let PatternScratch { matcher, workspace, starts, pattern_ends, .. } = scratch;
        workspace.begin();
        pattern_ends.fill(usize::MAX);
        let literal_count = self.lexicon.literals.len();
        self.matcher.scan(text, matcher, |number, end| {
            if let Some(pattern) = (number as usize).checked_sub(literal_count) {
                pattern_ends[pattern] = pattern_ends[pattern].min(end);
                return;
            }
            for place in self.lexicon.uses(number) {
                if let Ok(event) = self.lexicon.check(place, end, window)
                    && workspace.push(event)
                {
                    self.proximity.settle(workspace, subject, hits);
                    workspace.forget(&self.proximity);
                }
            }
        });
        self.proximity.settle(workspace, subject, hits);
        if let (Some(finder), Some(cache)) = (&self.starts, starts) {
            for (pattern, end) in pattern_ends.iter().enumerate().filter(|(_, end)| **end != usize::MAX) {
                let rule = self.pattern_rules[pattern];
                let info = &self.rules[rule as usize];
                if info.views.meets(subject.views) && info.roles.has(subject.role) {
                    let start = finder.of(pattern, *end, text, cache);
                    hits.push(Hit { rule, start: start as u32, end: *end as u32 });
                }
            }
        }
        hits[before..].sort_unstable();
    }

    /// How many rules there are. Their numbers are those below.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// What a rule says of itself.
    ///
    /// # Panics
    /// If there is no rule of that number.
    #[must_use]
    pub fn rule(&self, number: u32) -> RuleInfo<'_> {
        let rule = &self.rules[number as usize];
        RuleInfo {
            id: &rule.id,
            category: rule.category,
            severity: rule.severity,
            languages: rule.languages,
            views: rule.views,
            roles: rule.roles,
            reason: &rule.reason,
        }
    }

    /// How many literals and patterns the engine looks for.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.lexicon.literals.len(), self.pattern_rules.len())
    }

    /// Runs the examples of every rule. A rule for the raw view alone reads them raw, the others normalised.
    #[must_use]
    pub fn check_examples(&self, normalise: impl for<'t> Fn(&'t str) -> Cow<'t, str>) -> Vec<PackFault> {
        let mut scratch = self.scratch();
        let mut hits = Vec::new();
        let mut faults = Vec::new();
        for (number, rule) in (0..).zip(&self.rules) {
            let raw_only = rule.views == Views::only(View::Raw);
            for example in &rule.examples {
                let text =
                    if raw_only { Cow::Borrowed(example.text.as_str()) } else { normalise(&example.text) };
                hits.clear();
                let subject = Subject { views: rule.views, role: rule.roles.first(), has_borders: true };
                self.scan(&text, subject, &mut scratch, &mut hits);
                let fired = hits.iter().any(|hit| hit.rule == number);
                if fired != example.must_match {
                    let short: String = example.text.chars().take(60).collect();
                    let what =
                        if fired { "fires in an example that must pass" } else { "misses its example" };
                    let message = format!("the rule `{}` {what}: {short:?}", rule.id);
                    faults.push(rule.example_fault(example, message));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests;
