//! Rules over atoms that do not come from one text: what the last texts left behind, read together. And literals in texts
//! whose words stand together.

use regex_syntax::hir::Hir;

use super::{Event, PatternScratch, Patterns, Reference, Subject, Trigger};

/// Shorter literals stand inside every other word.
const SHORTEST_INSIDE: usize = 3;

/// Finds literals anywhere, for texts without borders between words. Those are made of Latin letters, so that other literals are
/// left out.
#[derive(Debug)]
pub(super) struct Borderless {
    engine: Reference,
    /// For each literal of the engine which one it is.
    literals: Vec<u32>,
}

impl Borderless {
    fn new(literals: &[Box<[u8]>]) -> Option<Self> {
        let fits = |literal: &[u8]| literal.is_ascii() && literal.len() >= SHORTEST_INSIDE;
        let (numbers, texts): (Vec<u32>, Vec<Box<[u8]>>) =
            (0..).zip(literals.iter().cloned()).filter(|(_, literal)| fits(literal)).unzip();
        // The same literals made another engine already; should this one fail, such texts are read less well.
        Some(Self { engine: Reference::new(&texts, &[]).ok()?, literals: numbers })
    }

    /// Reports each literal, and where it ends.
    pub(super) fn scan(&self, text: &[u8], mut report: impl FnMut(u32, usize)) {
        let report = |number: u32, end| report(self.literals[number as usize], end);
        self.engine.scan(text, &mut self.engine.scratch(), report);
    }
}

impl Patterns {
    /// The numbers of the rules that these atoms, in the order of their ends, make fire.
    ///
    /// # Cost
    /// As for a text with these atoms; one small allocation where there is a rule.
    #[must_use]
    pub fn rules_in(&self, events: &[Event], subject: Subject, scratch: &mut PatternScratch) -> Vec<u32> {
        if scratch.number != self.number {
            *scratch = self.scratch();
        }
        let mut hits = Vec::new();
        scratch.workspace.begin();
        // An atom may come from elsewhere, where there are other rules.
        for event in events.iter().filter(|event| self.is_of_packs(**event)) {
            if scratch.workspace.push(*event) {
                break;
            }
        }
        self.proximity.settle(&mut scratch.workspace, u32::MAX, subject, &mut hits);
        let mut rules: Vec<u32> = hits.into_iter().map(|hit| hit.rule).collect();
        rules.sort_unstable();
        rules
    }

    /// The engine that finds a literal wherever it stands, also inside a word.
    pub(super) fn borderless(&self) -> Option<&Borderless> {
        self.borderless.get_or_init(|| Borderless::new(&self.lexicon.literals.all)).as_ref()
    }

    /// Makes what texts without borders between words need, some tens of milliseconds of work, so that no request waits for it.
    pub fn prepare(&self) {
        self.borderless();
    }

    /// The pattern of a rule that is one, parsed, if it is of ASCII characters alone: it finds the same in a text as it
    /// stands and in its normalised form.
    pub(crate) fn ascii_pattern(&self, rule: u32) -> Option<Hir> {
        match &self.rules[rule as usize].trigger {
            Trigger::Pattern { text, .. } if text.is_ascii() => super::regex::parse(text).ok(),
            _ => None,
        }
    }

    /// Why the rule of this id exists.
    #[must_use]
    pub fn reason(&self, id: &str) -> Option<&str> {
        self.rules.iter().find(|rule| *rule.id == *id).map(|rule| &*rule.reason)
    }

    /// Whether a rule reads the raw view and not the normalised one.
    #[must_use]
    pub fn has_raw_rules(&self) -> bool {
        self.has_raw_rules
    }
}

impl PatternScratch {
    /// The atoms of the text that was searched last; of a very long one, those of its last part.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.workspace.events()
    }
}
