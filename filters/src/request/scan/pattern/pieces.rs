//! Rules over atoms that do not come from one text: what the last texts left behind, read together.

use regex_syntax::hir::Hir;

use super::{Event, PatternScratch, Patterns, Reference, Subject, Trigger};

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
    pub(super) fn borderless(&self) -> Option<&Reference> {
        // The same literals made another engine already; should this one fail, such texts are read less well.
        self.borderless.get_or_init(|| Reference::new(&self.lexicon.literals.all, &[]).ok()).as_ref()
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
