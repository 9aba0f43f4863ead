//! Findings → one score → allow, flag or block. The score is the same for everybody; a policy says from where on it
//! marks and from where on it refuses, for which categories and for whose words. A category or a role that a policy
//! only flags still counts towards the mark, never towards the block.
//!
//! The score of a text is 1 − ∏(1 − weight) over the different rules that fired: one high finding blocks, two
//! medium ones do, low ones only tip the balance. It is never summed over the texts of a request: ten harmless
//! documents do not make an attack.

use std::sync::Arc;

use crate::units::Day;

use super::{Category, Finding, Role, Severity};

/// The id under which the learned layer stands beside the rules.
pub const LEARNED_RULE: &str = "learned.wording";

/// The learned layer's opinion from which on it marks a text in which nothing else was found.
const MARKS_ALONE: f32 = 0.6;

/// What may be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It does not count.
    Off,
    /// It marks the request.
    Flag,
    /// It refuses the request.
    Block,
}

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Action {
    /// It passes.
    #[default]
    Allow,
    /// It passes, marked.
    Flag,
    /// It is refused.
    Block,
}

impl Action {
    /// Its name in records, metrics and verdicts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Flag => "flag",
            Self::Block => "block",
        }
    }
}

/// What counts, and from where on.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most that is done at all.
    pub mode: Mode,
    /// Scores from here on are marked.
    pub flag_at: f32,
    /// Scores from here on are refused.
    pub block_at: f32,
    /// The most that is done about each category, by its place in [`Category::ALL`].
    pub categories: [Mode; Category::ALL.len()],
    /// The most that is done about the words of the operator's own application.
    pub system: Mode,
    /// Of the person asking.
    pub user: Mode,
    /// Of the model in earlier turns.
    pub assistant: Mode,
    /// Of tools and documents.
    pub tool: Mode,
    /// Rules (by id) and categories (by name) that do not count for now.
    pub exempt: Vec<Exemption>,
}

/// A rule (by id) or a category (by name) that does not count, up to a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemption {
    /// What does not count.
    pub what: Arc<str>,
    /// The last day.
    pub until: Day,
}

impl Default for Policy {
    /// Block, but for the operator's own words, which are marked.
    fn default() -> Self {
        Self {
            mode: Mode::Block,
            flag_at: 0.5,
            block_at: 0.75,
            categories: [Mode::Block; Category::ALL.len()],
            system: Mode::Flag,
            user: Mode::Block,
            assistant: Mode::Block,
            tool: Mode::Block,
            exempt: Vec::new(),
        }
    }
}

/// What was found and did not count, and why not: what is switched off is never silently so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Aside {
    /// Rules that an exemption kept from counting.
    pub exempt: Vec<Arc<str>>,
    /// The exemptions that did: ids of rules, names of categories.
    pub exemptions: Vec<Arc<str>>,
    /// Rules of categories that the policy ignores.
    pub ignored: Vec<Arc<str>>,
}

/// What a policy makes of one text.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// What is done.
    pub action: Action,
    /// The score of everything that counts, 0 to 1.
    pub score: f32,
    /// Whether an exemption kept something from counting.
    pub is_exempt: bool,
    /// Whether something was found of a category that is ignored.
    pub is_ignored: bool,
}

impl Policy {
    /// Judges one text by what was found in it. `learned` is what the learned layer adds, 0 to 1.
    #[must_use]
    pub fn judge(&self, role: Role, findings: &[Finding], learned: f32, today: Day) -> Judgement {
        let most = self.mode.min(self.mode_of_role(role));
        let mut marking = Score::default();
        let mut blocking = Score::default();
        let (mut is_exempt, mut is_ignored) = (false, false);
        for (at, finding) in findings.iter().enumerate() {
            if is_outdone(findings, at) {
                continue;
            }
            let mode = most.min(self.mode_of(finding.category));
            if mode == Mode::Off {
                is_ignored |= most > Mode::Off;
                continue;
            }
            if self.exempts(finding, today) {
                is_exempt = true;
                continue;
            }
            let weight = weight(finding);
            marking.add(weight, finding.severity);
            if mode == Mode::Block {
                blocking.add(weight, finding.severity);
            }
        }
        let mut learned = learned;
        let learned_mode = most.min(self.mode_of(Category::Learned));
        if self.exempts_named(&["learned", LEARNED_RULE], today) {
            is_exempt |= learned >= self.flag_at;
            learned = 0.0;
        }
        // Wording alone, with nothing else found, must be well over the line: a mark that means little is soon ignored.
        if marking.value() == 0.0 && learned < MARKS_ALONE {
            learned = 0.0;
        }
        is_ignored |= learned_mode == Mode::Off && most > Mode::Off && learned >= self.flag_at;
        if learned_mode >= Mode::Flag {
            marking.add_learned(learned);
        }
        if learned_mode == Mode::Block {
            blocking.add_learned(learned);
        }
        let action = if blocking.value() >= self.block_at {
            Action::Block
        } else if marking.value() >= self.flag_at {
            Action::Flag
        } else {
            Action::Allow
        };
        Judgement { action, score: marking.value(), is_exempt, is_ignored }
    }

    /// Adds to `aside` what did not count of what was found in a text. Worth asking only where the judgement says that
    /// there is something.
    pub fn put_aside(&self, findings: &[Finding], learned: f32, today: Day, aside: &mut Aside) {
        let learned = (learned >= self.flag_at).then_some((LEARNED_RULE, Category::Learned));
        let found = findings.iter().map(|finding| (&*finding.rule, finding.category)).chain(learned);
        for (rule, category) in found {
            if self.mode_of(category) == Mode::Off {
                add_once(&mut aside.ignored, rule);
            } else if let Some(exemption) = self.exemption(&[rule, category.name()], today) {
                add_once(&mut aside.exempt, rule);
                add_once(&mut aside.exemptions, &exemption.what);
            }
        }
    }

    /// Whether a finding counts at all.
    #[must_use]
    pub fn counts(&self, finding: &Finding, today: Day) -> bool {
        self.mode_of(finding.category) > Mode::Off && !self.exempts(finding, today)
    }

    fn mode_of(&self, category: Category) -> Mode {
        // The variants stand in the order of `Category::ALL`, which a test holds.
        self.categories[category as usize]
    }

    fn mode_of_role(&self, role: Role) -> Mode {
        match role {
            Role::System => self.system,
            Role::User => self.user,
            // An answer has a policy of its own; where it is read as a prompt it is one of the model's turns.
            Role::Assistant | Role::Output => self.assistant,
            Role::Tool => self.tool,
        }
    }

    fn exempts(&self, finding: &Finding, today: Day) -> bool {
        self.exempts_named(&[&finding.rule, finding.category.name()], today)
    }

    fn exempts_named(&self, names: &[&str], today: Day) -> bool {
        self.exemption(names, today).is_some()
    }

    fn exemption(&self, names: &[&str], today: Day) -> Option<&Exemption> {
        let fits = |exemption: &Exemption| names.iter().any(|name| *exemption.what == **name);
        self.exempt.iter().find(|exemption| today <= exemption.until && fits(exemption))
    }
}

fn add_once(names: &mut Vec<Arc<str>>, name: &str) {
    if names.iter().all(|known| **known != *name) {
        names.push(name.into());
    }
}

/// Each rule counts once, however often it fired: where it says the most, and there the first time.
fn is_outdone(findings: &[Finding], at: usize) -> bool {
    let weight_here = weight(&findings[at]);
    let is_same = |other: &Finding| other.rule == findings[at].rule;
    findings[..at].iter().any(|other| is_same(other) && weight(other) >= weight_here)
        || findings[at + 1..].iter().any(|other| is_same(other) && weight(other) > weight_here)
}

/// How much of a block one finding is.
fn weight(finding: &Finding) -> f32 {
    match finding.severity {
        Severity::High => 0.9,
        Severity::Medium => 0.5,
        Severity::Low => 0.15,
    }
}

/// 1 − ∏(1 − weight).
struct Score {
    rest: f32,
    lows: u32,
}

impl Default for Score {
    fn default() -> Self {
        Self { rest: 1.0, lows: 0 }
    }
}

impl Score {
    /// Low findings beyond three say no more: long harmless texts collect them.
    const MOST_LOWS: u32 = 3;

    fn add(&mut self, weight: f32, severity: Severity) {
        if severity == Severity::Low {
            self.lows += 1;
            if self.lows > Self::MOST_LOWS {
                return;
            }
        }
        self.rest *= 1.0 - weight;
    }

    fn add_learned(&mut self, learned: f32) {
        self.rest *= 1.0 - learned.clamp(0.0, 1.0);
    }

    fn value(&self) -> f32 {
        1.0 - self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::scan::View;

    fn plain(rule: &str, severity: Severity) -> Finding {
        let (category, view) = (Category::Persona, View::Normalised);
        Finding { rule: rule.into(), category, severity, view, span: 0..1 }
    }

    #[test]
    fn categories_stand_in_the_order_of_their_list() {
        assert!(Category::ALL.into_iter().enumerate().all(|(at, category)| category as usize == at));
    }

    #[test]
    fn one_high_or_two_mediums_block() {
        use Severity::{High, Low, Medium};
        for (name, severities, action) in [
            ("nothing", vec![], Action::Allow),
            ("lows", vec![Low; 9], Action::Allow),
            ("a medium", vec![Medium], Action::Flag),
            ("a medium and lows", vec![Medium, Low, Low, Low], Action::Flag),
            ("two mediums", vec![Medium, Medium], Action::Block),
            ("a high", vec![High], Action::Block),
        ] {
            let findings: Vec<_> = severities
                .iter()
                .enumerate()
                .map(|(number, severity)| plain(&number.to_string(), *severity))
                .collect();
            let judgement = Policy::default().judge(Role::User, &findings, 0.0, Day(9));
            assert_eq!(judgement.action, action, "{name}: {}", judgement.score);
        }
    }

    #[test]
    fn a_rule_counts_once() {
        let twice = [plain("a", Severity::Medium), plain("a", Severity::Medium)];
        assert_eq!(Policy::default().judge(Role::User, &twice, 0.0, Day(9)).action, Action::Flag);
        let worse = [plain("a", Severity::Medium), plain("a", Severity::High)];
        assert_eq!(Policy::default().judge(Role::User, &worse, 0.0, Day(9)).action, Action::Block);
    }

    #[test]
    fn a_policy_bounds_what_is_done() {
        let high = [plain("persona.dan", Severity::High)];
        let judge = |policy: &Policy, role| policy.judge(role, &high, 0.0, Day(9));
        let default = Policy::default();
        assert_eq!(judge(&default, Role::System).action, Action::Flag);
        let flag = Policy { mode: Mode::Flag, ..Policy::default() };
        assert_eq!(judge(&flag, Role::User).action, Action::Flag);
        let off = Policy { mode: Mode::Off, ..Policy::default() };
        assert_eq!(
            judge(&off, Role::User),
            Judgement { action: Action::Allow, score: 0.0, is_exempt: false, is_ignored: false }
        );
        for what in ["persona.dan", "persona"] {
            for (until, action) in [(9, Action::Allow), (8, Action::Block)] {
                let exempt = vec![Exemption { what: what.into(), until: Day(until) }];
                let judgement = judge(&Policy { exempt, ..Policy::default() }, Role::User);
                assert_eq!((judgement.action, judgement.is_exempt), (action, until == 9), "{what} {until}");
            }
        }
        let strict = Policy { block_at: 0.97, ..Policy::default() };
        assert_eq!(judge(&strict, Role::User).action, Action::Flag);
    }

    #[test]
    fn what_does_not_count_is_named() {
        let finding = |rule: &str, category| Finding { category, ..plain(rule, Severity::High) };
        let findings = [
            finding("persona.dan", Category::Persona),
            finding("persona.dan", Category::Persona),
            finding("refusal.none", Category::RefusalSuppression),
            finding("hijack.new", Category::InstructionOverride),
        ];
        let exempt = |what: &str, until| Exemption { what: what.into(), until: Day(until) };
        let mut policy = Policy {
            exempt: vec![exempt("refusal_suppression", 9), exempt("hijack.new", 8), exempt("learned", 9)],
            ..Policy::default()
        };
        policy.categories[Category::Persona as usize] = Mode::Off;
        let judgement = policy.judge(Role::User, &findings, 0.9, Day(9));
        assert!(judgement.is_exempt && judgement.is_ignored);
        assert_eq!(judgement.action, Action::Block, "the last one still counts");
        let mut aside = Aside::default();
        policy.put_aside(&findings, 0.9, Day(9), &mut aside);
        let names = |list: &[Arc<str>]| list.join(" ");
        assert_eq!(names(&aside.ignored), "persona.dan");
        assert_eq!(names(&aside.exempt), "refusal.none learned.wording");
        assert_eq!(names(&aside.exemptions), "refusal_suppression learned");
        let judgement = policy.judge(Role::User, &findings[3..], 0.1, Day(9));
        assert!(!judgement.is_exempt && !judgement.is_ignored);
    }

    #[test]
    fn the_learned_layer_only_adds() {
        let medium = [plain("a", Severity::Medium)];
        let policy = Policy::default();
        assert_eq!(policy.judge(Role::User, &medium, 0.5, Day(9)).action, Action::Block);
        assert_eq!(policy.judge(Role::User, &[], 0.8, Day(9)).action, Action::Block);
        assert!(
            policy.judge(Role::User, &medium, 0.1, Day(9)).score
                >= policy.judge(Role::User, &medium, 0.0, Day(9)).score
        );
    }
}
