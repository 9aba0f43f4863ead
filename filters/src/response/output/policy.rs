//! What is done about a finding in an answer, by its category.

use crate::request::scan::policy::Exemption;
use crate::request::scan::{Category, Severity};
use crate::units::Day;

/// What is done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Action {
    /// It does not count.
    #[default]
    Off,
    /// The answer is marked.
    Flag,
    /// The words are replaced.
    Redact,
    /// The answer ends there.
    Stop,
}

impl Action {
    /// Its name in configuration, records and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Flag => "flag",
            Self::Redact => "redact",
            Self::Stop => "stop",
        }
    }
}

/// What is done about answers. Nothing by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputPolicy {
    /// By the place of the category in [`Category::ALL`].
    pub categories: [Action; Category::ALL.len()],
    /// Rules (by id) and categories (by name) that do not count for now.
    pub exempt: Vec<Exemption>,
}

impl OutputPolicy {
    /// Whether anything is looked for at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.categories.iter().any(|action| *action > Action::Off)
    }

    /// What is done about a finding. One that says little marks and does no more.
    #[must_use]
    pub fn of(&self, category: Category, severity: Severity) -> Action {
        // The variants stand in the order of `Category::ALL`, which a test holds.
        let action = self.categories[category as usize];
        if severity == Severity::Low { action.min(Action::Flag) } else { action }
    }

    /// Whether a rule does not count on this day.
    pub(super) fn exempts(&self, rule: &str, category: Category, today: Day) -> bool {
        let fits = |what: &str| what == rule || what == category.name();
        self.exempt.iter().any(|exemption| today <= exemption.until && fits(&exemption.what))
    }
}
