//! The answer, searched on its way to the client: for credentials, for the request's own system prompt, and for what
//! the operator does not want said. The same packs as for prompts; a rule reads answers if `output` is among its roles.
//! What is done about a finding is policy, by category: mark the answer, replace the words, or stop it.
//!
//! Three things look at each text, piece by piece as it comes: the rules (`pattern/stream.rs`), a table that tells from
//! where on a text may still become something to replace (`tail`), and the comparison with the system prompt (`leak`).
//! `texts` finds the texts in an event or a body, `channel` keeps how far each one is, `gate` holds back events that
//! are not decided and edits those that are. Off by default; where it is off, nothing of it runs.
//!
//! What always holds: a text is searched as a whole, wherever events, characters and escapes were cut; what is
//! not replaced goes out byte for byte and in order; what cannot be replaced where that is the policy is stopped.
//!
//! Cost: one more walk over each event, one pass of each of the three over its text; no allocation once the buffers
//! have grown, unless something is found.

mod channel;
mod gate;
mod leak;
mod policy;
mod tail;
mod texts;
mod whole;

use std::sync::{Arc, Mutex, PoisonError};

pub use gate::OutputGate;
pub use leak::Leak;
pub use policy::{Action, OutputPolicy};
pub use whole::{WholeOutcome, scan_whole};

use crate::request::scan::pattern::Patterns;
use crate::request::scan::{Category, Severity};
use crate::units::Day;
use tail::Redactor;

/// What stands in the place of what was replaced.
pub const MARK: &str = "[redacted]";

/// The id under which the system prompt's words stand beside the rules.
pub const LEAK_RULE: &str = "output.system-prompt";

/// The id under which an answer is stopped that cannot be read, or not decided.
pub const UNREADABLE_RULE: &str = "output.unreadable";

/// The rules that read answers, ready to be used by any policy.
#[derive(Debug)]
pub struct OutputScanner {
    patterns: Patterns,
    leak_rule: Arc<str>,
    unreadable_rule: Arc<str>,
    /// By the rules whose beginnings they know. Policies are many, sets of rules few.
    redactors: Mutex<Vec<Made>>,
}

/// What was made of a set of rules; nothing where its table would be too large.
#[derive(Debug)]
struct Made {
    rules: Vec<u32>,
    redactor: Option<Arc<Redactor>>,
}

/// What is done about one tenant's and model's answers, worked out.
#[derive(Debug)]
pub struct OutputPlan {
    scanner: Arc<OutputScanner>,
    policy: OutputPolicy,
    redactor: Option<Arc<Redactor>>,
}

/// What was found in an answer so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputVerdict {
    /// The most that was done.
    pub action: Action,
    /// The rules that counted, each once, in the order in which they fired.
    pub rules: Vec<Arc<str>>,
    /// Whether an exemption kept a rule from counting.
    pub is_exempt: bool,
    /// The rule that stopped the answer.
    pub stopped_by: Option<Arc<str>>,
}

impl OutputVerdict {
    fn note(&mut self, rule: &Arc<str>, action: Action) {
        if action == Action::Off {
            return;
        }
        self.action = self.action.max(action);
        if !self.rules.contains(rule) {
            self.rules.push(Arc::clone(rule));
        }
        if action == Action::Stop && self.stopped_by.is_none() {
            self.stopped_by = Some(Arc::clone(rule));
        }
    }
}

impl OutputScanner {
    /// Of the rules that read answers, compiled for texts in pieces.
    #[must_use]
    pub fn new(patterns: Patterns) -> Self {
        crate::request::scan::view::prepare();
        Self {
            patterns,
            leak_rule: LEAK_RULE.into(),
            unreadable_rule: UNREADABLE_RULE.into(),
            redactors: Mutex::default(),
        }
    }

    /// The rules.
    #[must_use]
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// What a policy comes to; `None` if it asks for nothing.
    #[must_use]
    pub fn plan(self: &Arc<Self>, policy: &OutputPolicy) -> Option<Arc<OutputPlan>> {
        if !policy.is_on() {
            return None;
        }
        let held: Vec<u32> = (0..self.patterns.rule_count() as u32)
            .filter(|rule| {
                let rule = self.patterns.rule(*rule);
                policy.of(rule.category, rule.severity) >= Action::Redact
            })
            .filter(|rule| self.patterns.ascii_pattern(*rule).is_some())
            .collect();
        let redactor = self.redactor(held);
        Some(Arc::new(OutputPlan { scanner: Arc::clone(self), policy: policy.clone(), redactor }))
    }

    fn redactor(&self, rules: Vec<u32>) -> Option<Arc<Redactor>> {
        let mut known = self.redactors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known.iter().find(|made| made.rules == rules) {
            return made.redactor.clone();
        }
        let patterns: Vec<_> = rules.iter().filter_map(|rule| self.patterns.ascii_pattern(*rule)).collect();
        // Tables that are too large: these rules stop an answer instead.
        let redactor = Redactor::new(&rules, &patterns).map(Arc::new);
        known.push(Made { rules, redactor: redactor.clone() });
        redactor
    }
}

impl OutputPlan {
    /// Whether the request's system prompt is looked for, so that it is worth making a [`Leak`].
    #[must_use]
    pub fn wants_leak(&self, today: Day) -> bool {
        self.leak_action(today) > Action::Off
    }

    /// Whether something may be replaced or stopped: an answer that cannot be read must not pass then.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.policy.categories.iter().any(|action| *action >= Action::Redact)
    }

    fn leak_action(&self, today: Day) -> Action {
        if self.policy.exempts(LEAK_RULE, Category::SystemPromptLeak, today) {
            return Action::Off;
        }
        self.policy.of(Category::SystemPromptLeak, Severity::High)
    }

    /// For each rule what is done when it fires, and whether that is nothing because of an exemption.
    fn actions(&self, today: Day) -> Vec<(Action, bool)> {
        let patterns = &self.scanner.patterns;
        let action = |number: u32| {
            let rule = patterns.rule(number);
            let action = self.policy.of(rule.category, rule.severity);
            let can_replace = self.redactor.as_ref().is_some_and(|redactor| redactor.has(number));
            match action {
                Action::Off => (Action::Off, false),
                _ if self.policy.exempts(rule.id, rule.category, today) => (Action::Off, true),
                Action::Redact if !can_replace => (Action::Stop, false),
                action => (action, false),
            }
        };
        (0..patterns.rule_count() as u32).map(action).collect()
    }
}

#[cfg(test)]
mod tests;
