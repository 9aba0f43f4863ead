//! The examples of rules, run.

use std::borrow::Cow;

use super::super::View;
use super::super::pack::{PackFault, Views};
use super::{Mode, Patterns, Subject};

impl Patterns {
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
                let subject = Subject {
                    views: rule.views,
                    role: rule.roles.first(),
                    has_borders: true,
                    is_joined: false,
                };
                match self.mode {
                    Mode::Block => self.scan(&text, subject, &mut scratch, &mut hits),
                    Mode::Stream => {
                        let mut stream = self.open(subject);
                        self.scan_piece(text.as_bytes(), true, &mut stream, &mut scratch, &mut hits);
                    }
                }
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
